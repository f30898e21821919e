"""`python -m producer replay`."""

import math
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from rich.console import Console

from detector.contract.events import MAX_AHEAD_MS
from detector.formats.options import format_options, wire_format_of
from producer.commands.options import errors_reported, kafka_options, key_option, publish, say
from producer.publisher import Record, RecordKey, at_speed
from producer.recording import Recording
from producer.tables import FIELDS, Table, TimeUnit, is_table


class _Ahead:
    """Counts events that are ahead of the clock as they are published."""

    def __init__(self) -> None:
        self.count = 0

    def counted(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the same records."""
        for record in records:
            self.count += record.event.occurred_at_ms > time.time() * 1_000 + MAX_AHEAD_MS
            yield record


class _Speed(click.ParamType[float]):
    name = "X|max"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            speed = math.inf if value == "max" else float(str(value))
        except ValueError:
            speed = math.nan
        if not speed > 0:
            self.fail(f"{value!r} is no speed: expected a number above 0, or max.", param, ctx)
        return speed


def _pairs(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for value in values:
        name, equals, what = value.partition("=")
        if not (equals and name and what):
            raise click.BadParameter(f"{value!r}: expected two names with = between them.")
        pairs[name] = what
    return pairs


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--speed",
    envvar="PRODUCER_SPEED",
    type=_Speed(),
    default="1",
    show_default=True,
    show_envvar=True,
    help="How many times as fast as the events happened; max for as fast as the broker takes them.",
)
@click.option(
    "--skip-bad-lines",
    envvar="PRODUCER_SKIP_BAD_LINES",
    is_flag=True,
    show_envvar=True,
    help="Leave out lines that are no event, and report them at the end.  [default: stop at the first]",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="FIELD=COLUMN",
    callback=_pairs,
    help=f"Of a CSV or Parquet file, the column of a field: {', '.join(FIELDS)}.  [default: those of these names]",
)
@click.option(
    "--rename",
    "renames",
    multiple=True,
    metavar="NAME=ACTION",
    callback=_pairs,
    help="Of a CSV or Parquet file, what an action is to be called; may be given more than once.",
)
@click.option(
    "--time-unit",
    type=click.Choice([unit.value for unit in TimeUnit]),
    default=TimeUnit.MILLISECONDS.value,
    show_default=True,
    help="Of a CSV or Parquet file, what times that are numbers count since 1970; texts are ISO 8601.",
)
@format_options
@key_option
@kafka_options
def replay(
    *,
    file: Path,
    speed: float,
    skip_bad_lines: bool,
    columns: dict[str, str],
    renames: dict[str, str],
    time_unit: str,
    input_format: str,
    field: tuple[str, ...],
    key: str,
    topic: str,
    bootstrap_servers: str,
) -> None:
    """Publish the events of FILE: JSON lines as `simulate --out` writes them, or a CSV or Parquet export.

    The suffix says which: .csv, .csv.gz, .parquet; anything else is JSON lines, with .gz unpacked. A JSON line is
    published byte for byte. A row of an export becomes the event that --column, --rename and --time-unit make of it.
    The file's order is kept, its times are untouched. Event ids are the file's too, or its name and the row's number:
    so a detector that has seen them repeats no alert in a second replay, for a time (docs/interfaces.md).
    """
    console = Console(stderr=True)
    if not is_table(file) and (columns or renames):
        raise click.UsageError(
            f"{file}: --column and --rename are for CSV and Parquet files, by their suffix"
        )
    with (
        errors_reported(),
        Table(file, columns, renames=renames, time_unit=TimeUnit(time_unit), skip_bad_lines=skip_bad_lines)
        if is_table(file)
        else Recording(
            file, skip_bad_lines=skip_bad_lines, wire=wire_format_of(input_format, field)
        ) as recording,
    ):
        pace = None if math.isinf(speed) else at_speed(speed)
        ahead = _Ahead()
        exit_code = publish(
            console,
            ahead.counted(recording.records()),
            bootstrap_servers,
            topic,
            key=RecordKey(key),
            pace=pace,
            total=recording.size_bytes,
            done=lambda: recording.position_bytes,
        )
        if recording.skipped_count:
            shown = ", ".join(map(str, recording.skipped))
            more = ", …" if recording.skipped_count > len(recording.skipped) else ""
            say(console, f"skipped {recording.skipped_count:,} lines that are no event: {shown}{more}")
        if ahead.count:
            say(
                console,
                f"{ahead.count:,} events lie more than {MAX_AHEAD_MS // 60_000} minutes ahead of this machine's clock: detectors "
                "score such events at the broker's time, all at once. Check the unit and the zone of the times",
            )
    sys.exit(exit_code)
