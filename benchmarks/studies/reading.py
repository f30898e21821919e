"""Data of one's own: time and memory to read a Parquet file of events, beside polars reading it as it is; and to train.

The file is a simulation of 50,000 sessions, tiled: each tile has the same sessions and accounts at other times, under
other ids. With `train` that command trains on it, from the file to the model, by its defaults or the options given. An
account's copies are in one part.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import polars as pl
import pyarrow.parquet as pq

from detector.core.encoding import Encoding
from trainer.data.description import Columns, Description
from trainer.data.loading import load
from trainer.data.simulated import simulate
from trainer.data.splitting import split
from trainer.data.windows import pack

TILE = 50_000
TILE_MS = 300_000_000
BEGIN_MS = 1_700_000_000_000
COLUMNS = {"session": "visit", "account": "customer", "action": "event", "time": "at", "label": "fraud"}


def write(path: Path, count: int) -> int:
    """Write so many sessions, a simulation tiled, as events in the order of time; return how many events."""
    sessions = simulate(TILE * 19 // 20, TILE // 20, seed=5)
    number = np.repeat(np.arange(TILE), sessions.lengths)
    assert sessions.times_ms is not None  # noqa: S101  for mypy: simulated sessions have times
    ids, names = pl.Series(sessions.ids.tolist()), pl.Series(sessions.names)
    writer = None
    for tile in range(count // TILE):
        begins = np.random.RandomState(tile).randint(0, TILE_MS, TILE)[number] + tile * TILE_MS + BEGIN_MS
        order = np.argsort(sessions.times_ms + begins, kind="stable")
        table = pl.DataFrame(
            {
                "visit": ids.gather(number[order]) + f"-{tile}",
                "customer": (number[order] // 2).astype(str),
                "event": names.gather(sessions.actions[order].astype(np.int64)),
                "at": pl.Series((sessions.times_ms + begins)[order]).cast(pl.Datetime("ms")),
                "fraud": sessions.targets[order].astype(bool),
            }
        ).to_arrow()
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()
    return len(number) * (count // TILE)


def measured(what: Callable[[], Any], name: str, events: int, of: int = resource.RUSAGE_SELF) -> Any:
    """Run it; print its time, and the most memory that the process, or its child, has had so far."""
    begun = time.perf_counter()
    result = what()
    took_s = time.perf_counter() - begun
    peak_gib = resource.getrusage(of).ru_maxrss / 2**20
    print(
        f"{name}: {took_s:.1f} s, {1e6 * took_s / events:.2f} s a million events, {peak_gib:.2f} GiB at most"
    )
    return result


def train(path: Path, options: Sequence[str]) -> None:
    """Train by the command."""
    columns = [part for field, name in COLUMNS.items() for part in ("--column", f"{field}={name}")]
    command = [sys.executable, "-m", "trainer", "train", "--data", str(path), *columns]
    command += ["--out", str(path.with_name("model.onnx")), *options]
    if failed := subprocess.run(command, check=False).returncode:
        raise click.exceptions.Exit(failed)


@click.command(
    help=__doc__, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("sessions", type=click.IntRange(min=TILE), help=f"As many times {TILE:,} as go into it.")
@click.argument("command", type=click.Choice(["train"]), required=False)
@click.argument("arguments", type=click.UNPROCESSED, nargs=-1, help="Of the command, such as --steps 2000.")
def main(sessions: int, command: str | None, arguments: tuple[str, ...]) -> None:
    """Measure each step for so many sessions, or the training."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "history.parquet"
        events = write(path, sessions)
        print(f"{events:,} events of {sessions:,} sessions, {path.stat().st_size / 2**30:.2f} GiB")
        if command:
            measured(lambda: train(path, arguments), "train by the command", events, resource.RUSAGE_CHILDREN)
            return
        loaded = measured(lambda: load(path, Description(columns=Columns(**COLUMNS))), "load", events)
        parts = measured(lambda: split(loaded.sessions), "split", events)
        encoding = Encoding(loaded.sessions.names, 20, [1_000 * 2**power for power in range(12)])
        measured(lambda: pack(parts.train, encoding, 1_800_000), "pack the training part", events)
        measured(lambda: pl.read_parquet(path), "polars, the file as it is", events)


if __name__ == "__main__":
    main()
