"""The command line: `python -m producer simulate` and `python -m producer replay`."""

import math
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from detector.contract.events import encode_event
from detector.contract.topics import ACTIONS_TOPIC
from producer.behaviour import realistic as realistic_preset
from producer.behaviour import seed as seed_preset
from producer.behaviour.interleave import Timeline, interleave, measure, schedule
from producer.behaviour.realistic import RealisticBehaviour
from producer.behaviour.session import SimulatedSession, stream
from producer.interrupt import Interrupt
from producer.progress import ProgressReport
from producer.publisher import Pace, Publisher, PublishError, Record, at_rate, at_speed
from producer.recording import Recording, RecordingError, create, labelled
from producer.tables import FIELDS, Table, TimeUnit, is_table

FILE: Final = click.Path(dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Publish session actions to Kafka: simulated, or recorded earlier.

    Every option can be given as an environment variable, named in its help.
    """


def _kafka_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option(
            "--topic",
            envvar="PRODUCER_TOPIC",
            default=ACTIONS_TOPIC,
            show_default=True,
            show_envvar=True,
            help="Topic to publish to; it must exist.",
        ),
        click.option(
            "--bootstrap-servers",
            envvar="KAFKA_BOOTSTRAP_SERVERS",
            default="localhost:9092",
            show_default=True,
            show_envvar=True,
            help="Kafka brokers to begin with, HOST:PORT, comma-separated.",
        ),
    ):
        command = option(command)
    return command


@main.command()
@click.option(
    "--sessions",
    "count",
    metavar="N",
    envvar="PRODUCER_SESSIONS",
    type=click.IntRange(min=1),
    default=11_000,
    show_default=True,
    show_envvar=True,
    help="Sessions to simulate.",
)
@click.option(
    "--seed",
    metavar="S",
    envvar="PRODUCER_SEED",
    type=int,
    default=None,
    show_envvar=True,
    help="Seed of all that is drawn: the same seed gives the same sessions.  [default: drawn, and printed]",
)
@click.option(
    "--preset",
    envvar="PRODUCER_PRESET",
    type=click.Choice(["seed", "realistic"]),
    default="seed",
    show_default=True,
    show_envvar=True,
    help="Which behaviour to simulate: the notebook's three kinds of session, or customers and ten attack families.",
)
@click.option(
    "--attack-rate",
    metavar="SHARE",
    envvar="PRODUCER_ATTACK_RATE",
    type=click.FloatRange(min=0, max=1),
    default=None,
    show_envvar=True,
    help="Attacks among all sessions of the realistic preset, 0 to 1.  [default: 0.01]",
)
@click.option(
    "--live-sessions",
    metavar="L",
    envvar="PRODUCER_LIVE_SESSIONS",
    type=click.IntRange(min=1),
    default=1_000,
    show_default=True,
    show_envvar=True,
    help="Sessions open at once, at most.",
)
@click.option(
    "--rate",
    metavar="EVENTS_PER_S",
    envvar="PRODUCER_RATE",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    show_envvar=True,
    help="Events published a second. Changes when events are published, never their times.  [default: as fast as the broker takes them]",
)
@click.option(
    "--real-time",
    envvar="PRODUCER_REAL_TIME",
    is_flag=True,
    show_envvar=True,
    help="Publish each event at the moment it happens: simulated time begins now and runs with the clock.",
)
@click.option(
    "--start-time",
    metavar="YYYY-MM-DD[THH:MM:SS]",
    envvar="PRODUCER_START_TIME",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d"]),
    default=None,
    show_envvar=True,
    help="When simulated time begins (UTC).  [default: so that the last event happens now]",
)
@click.option(
    "--out",
    envvar="PRODUCER_OUT",
    type=FILE,
    default=None,
    show_envvar=True,
    help="Write the events to this file as JSON lines, as they would be published, and publish nothing; .gz compresses.",
)
@click.option(
    "--labels",
    envvar="PRODUCER_LABELS",
    type=FILE,
    default=None,
    show_envvar=True,
    help="Write each session's truth to this file as JSON lines; .gz compresses.",
)
@_kafka_options
def simulate(
    *,
    count: int,
    seed: int | None,
    preset: str,
    attack_rate: float | None,
    live_sessions: int,
    rate: float | None,
    real_time: bool,
    start_time: datetime | None,
    out: Path | None,
    labels: Path | None,
    topic: str,
    bootstrap_servers: str,
) -> None:
    """Simulate sessions and publish their actions, interleaved as they happen.

    Event times are simulated times: what a session's owner waits between two actions is part of how it behaves,
    so --rate never bends it. They end at the present, unless --start-time or --real-time says otherwise.
    """
    if real_time and (rate is not None or start_time is not None or out is not None):
        raise click.UsageError(
            "--real-time sets the pace and the times itself: give it without --rate, --start-time and --out."
        )
    if out is not None and rate is not None:
        raise click.UsageError("--rate paces publishing, and --out writes a file: give one of them.")
    chosen_seed = secrets.randbits(32) if seed is None else seed

    def planned() -> Iterator[tuple[int, SimulatedSession]]:
        sessions = _sessions(preset, count, chosen_seed, attack_rate)
        return schedule(sessions, live_sessions=live_sessions, rng=stream(chosen_seed, "schedule"))

    console = Console(stderr=True)
    with _errors_reported(), ExitStack() as files:
        timeline = measure(planned())
        start_ms = _start_ms(start_time, timeline, real_time=real_time, published=out is None)
        _say(
            console,
            f"{timeline.sessions:,} sessions, {timeline.events:,} events, simulated time {_utc(start_ms)} to "
            f"{_utc(start_ms + timeline.duration_ms)}, seed {chosen_seed}",
        )
        sessions: Iterable[tuple[int, SimulatedSession]] = planned()
        if labels is not None:
            sessions = labelled(sessions, files.enter_context(create(labels)))
        records = (Record(event, encode_event(event)) for event in interleave(sessions, start_ms=start_ms))
        if out is not None:
            exit_code = _write(console, records, out, timeline)
        else:
            pace = at_rate(rate) if rate is not None else at_speed(1.0, start_ms) if real_time else None
            exit_code = _publish(console, records, bootstrap_servers, topic, pace=pace, total=timeline.events)
    sys.exit(exit_code)


def _sessions(preset: str, count: int, seed: int, attack_rate: float | None) -> Iterator[SimulatedSession]:
    if preset == "realistic":
        behaviour = (
            RealisticBehaviour() if attack_rate is None else RealisticBehaviour(attack_rate=attack_rate)
        )
        return realistic_preset.sessions(count, seed, behaviour)
    if attack_rate is not None:
        raise click.UsageError(
            "--attack-rate is for --preset realistic: the seed preset has the notebook's mix."
        )
    return seed_preset.sessions(count, seed)


def _start_ms(start_time: datetime | None, timeline: Timeline, *, real_time: bool, published: bool) -> int:
    """Return when simulated time begins, such that no event is published before it happens."""
    now_ms = time.time_ns() // 1_000_000
    if real_time:
        return now_ms
    if start_time is None:
        return max(0, now_ms - timeline.duration_ms)
    start_ms = round(start_time.replace(tzinfo=UTC).timestamp() * 1_000)
    if published and start_ms + timeline.duration_ms > now_ms:
        raise click.UsageError(
            f"the last event would happen at {_utc(start_ms + timeline.duration_ms)}, which is in the future, and "
            "detectors refuse such events: give an earlier --start-time, more --live-sessions (simulated time is "
            f"then shorter; it is {timeline.duration_ms / 1_000:,.0f} s now), or --real-time."
        )
    return start_ms


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


@main.command()
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
@_kafka_options
def replay(
    *,
    file: Path,
    speed: float,
    skip_bad_lines: bool,
    columns: dict[str, str],
    renames: dict[str, str],
    time_unit: str,
    topic: str,
    bootstrap_servers: str,
) -> None:
    """Publish the events of FILE: JSON lines as `simulate --out` writes them, or a CSV or Parquet export.

    The suffix says which: .csv, .csv.gz, .parquet; anything else is JSON lines, with .gz unpacked. A JSON line is
    published byte for byte. A row of an export becomes the event that --column, --rename and --time-unit make of it.
    The file's order is kept, its times are untouched. Event ids are the file's too, or its name and the row's number:
    so a detector that has seen them takes a second replay for repeats.
    """
    console = Console(stderr=True)
    if not is_table(file) and (columns or renames):
        raise click.UsageError(
            f"{file}: --column and --rename are for CSV and Parquet files, by their suffix"
        )
    with (
        _errors_reported(),
        Table(file, columns, renames=renames, time_unit=TimeUnit(time_unit), skip_bad_lines=skip_bad_lines)
        if is_table(file)
        else Recording(file, skip_bad_lines=skip_bad_lines) as recording,
    ):
        pace = None if math.isinf(speed) else at_speed(speed)
        exit_code = _publish(
            console,
            recording.records(),
            bootstrap_servers,
            topic,
            pace=pace,
            total=recording.size_bytes,
            done=lambda: recording.position_bytes,
        )
        if recording.skipped_count:
            shown = ", ".join(map(str, recording.skipped))
            more = ", …" if recording.skipped_count > len(recording.skipped) else ""
            _say(console, f"skipped {recording.skipped_count:,} lines that are no event: {shown}{more}")
    sys.exit(exit_code)


def _publish(
    console: Console,
    records: Iterable[Record],
    bootstrap_servers: str,
    topic: str,
    *,
    pace: Pace | None,
    total: int,
    done: Callable[[], int] | None = None,
) -> int:
    """Publish `records`; return the exit code. `done` tells how much of `total` is, where that isn't events."""
    with Publisher(bootstrap_servers, topic) as publisher, Interrupt() as interrupt:
        started_s = time.monotonic()
        with ProgressReport(console, "published", total) as report:
            publisher.publish(
                records,
                stop=interrupt,
                pace=pace,
                progress=lambda sent: report.update(sent, sent if done is None else done()),
            )
        seconds = time.monotonic() - started_s
        _say(
            console,
            f"{_stopped(interrupt)}published {publisher.acknowledged:,} events to {topic!r} in {seconds:,.1f} s "
            f"({publisher.acknowledged / seconds:,.0f} events/s), all acknowledged",
        )
        return interrupt.exit_code


def _write(console: Console, records: Iterable[Record], path: Path, timeline: Timeline) -> int:
    """Write `records` to `path`; return the exit code."""
    written = 0
    with (
        Interrupt() as interrupt,
        create(path) as file,
        ProgressReport(console, "wrote", timeline.events) as report,
    ):
        for record in records:
            if interrupt:
                break
            file.write(record.value + b"\n")
            written += 1
            if written % 1_000 == 0:
                report.update(written, written)
    _say(console, f"{_stopped(interrupt)}wrote {written:,} events to {path}")
    return interrupt.exit_code


@contextmanager
def _errors_reported() -> Iterator[None]:
    """Turn expected failures into one message and exit code 1, and Ctrl-C before any event is sent into 130."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("stopped by SIGINT", err=True)
        sys.exit(128 + signal.SIGINT)
    except (PublishError, RecordingError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _stopped(interrupt: Interrupt) -> str:
    return f"stopped by {interrupt.signal.name}: " if interrupt.signal is not None else ""


def _utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)
