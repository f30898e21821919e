"""`events`: data as it comes, as the events and labels that the detector and its commands read."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from detector.writing import keep_apart
from producer.recording import create
from trainer.commands.options import FILE, described_options, description_of, files_read
from trainer.data.events import labels_of_sessions, lines_of_events
from trainer.data.fields import columns_of
from trainer.data.loading import assembled, tables_of
from trainer.data.reading import new_codes
from trainer.data.sessions import DataError


@click.command("events")
@described_options
@click.option("--out", type=FILE, required=True, help="Events to write, JSON lines (.gz too).")
@click.option("--labels-out", type=FILE, help="Labels of the sessions to write, likewise.")
def events(*, out: Path, labels_out: Path | None, **options: Any) -> None:
    """Write --data as the events that `producer replay`, `detector replay` and `detector backtest` read.

    They carry what the description's signals read, by the contract's names, and rows of a table are put in the order of
    time.
    """
    data: Path | None = options["data"]
    if data is None:
        raise click.UsageError("--data is missing: expected the file to read")
    keep_apart({"--out": out, "--labels-out": labels_out}, files_read(options))
    try:
        description = description_of(options)
        fields = columns_of(description)
        table, beside, told = tables_of(
            data,
            description,
            options["labels"],
            skip_bad_lines=options["skip_bad_lines"],
            names=new_codes(fields, "event_id"),
        )
        made = None
        if labels_out is not None:
            made, more = assembled(str(data), table, beside, description)
            told += more
        for line in told:
            click.echo(line, err=True)
        wrote = f"{_write(out, lines_of_events(table, fields, data.name)):,} events"
        if labels_out is not None and made is not None:
            wrote += f", {_write(labels_out, labels_of_sessions(made)):,} labels"
    except (DataError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"wrote {wrote}")


def _write(path: Path, lines: Iterable[bytes]) -> int:
    count = 0
    with create(path) as file:
        for line in lines:
            file.write(line + b"\n")
            count += 1
    return count
