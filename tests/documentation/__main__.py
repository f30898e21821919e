"""Every page's walk, on a broker of its own each: `python -m tests.documentation [PAGE …]`, or `make docs-check`."""

import gzip
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copy

import click
import msgspec
from rich.console import Console
from rich.table import Table

from detector.contract.events import decode_event
from tests.documentation.pages import PAGES, ROOT, Command, commands
from tests.documentation.walkthrough import Walkthrough, WalkthroughError

_PREPARED = (
    "python -m producer simulate --preset realistic --attack-rate 0.1 --sessions 3000 --seed 5 --out events.jsonl.gz --labels labels.jsonl.gz",
    "gunzip --keep labels.jsonl.gz",
    "python -m trainer train --preset realistic --sessions 3000 --epochs 2 --like default --no-report --out new.onnx",
)
"""What makes the files that pages take for granted: a history with its labels, and models."""


@click.command()
@click.argument("names", nargs=-1, metavar="[PAGE]…")
def main(names: tuple[str, ...]) -> None:
    """Run the commands of all pages, or of those whose path contains one of the names; print what each took."""
    screen, failed = Console(), 0
    table = Table("page", "command", "seconds")
    with tempfile.TemporaryDirectory() as prepared:
        _prepare(Path(prepared))
        for page in PAGES:
            name = str(page.relative_to(ROOT))
            shown = [command for command in commands(page) if not command.reason]
            if not shown or (names and not any(one in name for one in names)):
                continue
            screen.print(name)
            with tempfile.TemporaryDirectory() as folder:
                seconds, error = _walk(Path(folder), Path(prepared), shown)
            for text, took_s in seconds:
                table.add_row(name, text, f"{took_s:.1f}")
            if error:
                failed += 1
                screen.print(str(error), style="red", markup=False)
    screen.print(table)
    reasons = Counter(one.reason for page in PAGES for one in commands(page) if one.reason)
    for reason, count in reasons.most_common():
        screen.print(f"not run, {count}: {reason}", markup=False)
    screen.print(f"{table.row_count} commands run, {failed} pages failed")
    sys.exit(1 if failed else 0)


def _prepare(folder: Path) -> None:
    with Walkthrough(folder, "127.0.0.1:1") as walk:
        for text in _PREPARED:
            walk.run(Command(folder, text, (), ""))
    for name in ("old.onnx", "model.onnx"):
        copy(ROOT / "detector/model/default.onnx", folder / name)
    sessions: dict[str, list[tuple[str, int]]] = {}
    with gzip.open(folder / "events.jsonl.gz") as lines:
        for line in lines:
            event = decode_event(line)
            sessions.setdefault(event.session_id, []).append((event.action, event.occurred_at_ms))
    with gzip.open(folder / "labels.jsonl.gz") as lines, gzip.open(folder / "sessions.jsonl.gz", "wb") as out:
        for line in lines:
            label = msgspec.json.decode(line)
            actions, times_ms = zip(*sessions[label["session_id"]], strict=True)
            row = {"session_id": label["session_id"], "actions": actions, "timestamps_ms": times_ms}
            out.write(msgspec.json.encode(row | {"label": label["label"]}) + b"\n")


def _walk(
    folder: Path, prepared: Path, shown: list[Command]
) -> tuple[list[tuple[str, float]], WalkthroughError | None]:
    """Walk a page beside a detector that has already scored the history."""
    for path in prepared.iterdir():
        if path.is_file() and not path.is_symlink():
            copy(path, folder / path.name)
    with (
        _broker(folder) as bootstrap_servers,
        Walkthrough(folder, bootstrap_servers, {"DETECTOR_GROUP": "beside"}) as beside,
    ):
        for text in ("python -m detector run", "python -m producer replay events.jsonl.gz --speed max"):
            beside.run(Command(folder, text, (), ""))
        with Walkthrough(folder, bootstrap_servers, metrics_port=beside.metrics_port) as walk:
            try:
                for command in shown:
                    walk.run(command)
                walk.end()
                beside.end()
            except WalkthroughError as error:
                return walk.seconds, error
            return walk.seconds, None


@contextmanager
def _broker(folder: Path) -> Iterator[str]:
    with (folder / "broker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "broker", "up", "--port", "0"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().decode().strip()
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
