"""`python -m producer simulate`."""

import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click
from click.core import ParameterSource
from rich.console import Console

from detector.contract.events import END_MS, FIRST_MS, encode_event
from detector.ranges import NumberRange
from detector.writing import keep_apart
from producer.behaviour import realistic as realistic_preset
from producer.behaviour import seed as seed_preset
from producer.behaviour.interleave import Timeline, interleave, measure, schedule
from producer.behaviour.lives import stream as lives
from producer.behaviour.lives.hours import DAY_MS
from producer.behaviour.realistic import RealisticBehaviour
from producer.behaviour.session import SimulatedSession, stream
from producer.commands.options import FILE, errors_reported, kafka_options, key_option, publish, say, stopped
from producer.interrupt import Interrupt
from producer.progress import ProgressReport
from producer.publisher import Record, RecordKey, at_rate, at_speed
from producer.recording import create, labelled

DEFAULT_CUSTOMERS = 1_000

Planned = Callable[[int], Iterator[tuple[int, SimulatedSession]]]
"""From the start of simulated time (Unix milliseconds), sessions with their beginnings after it."""


@click.command()
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
    help="Which behaviour to simulate: the notebook's three kinds of session, or customers and ten attack families, which --days adds to.",
)
@click.option(
    "--attack-rate",
    metavar="SHARE",
    envvar="PRODUCER_ATTACK_RATE",
    type=NumberRange(min=0, max=1),
    default=None,
    show_envvar=True,
    help="Attacks among all sessions of the realistic preset, 0 to 1; with --days in the mean.  [default: 0.01]",
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
    "--days",
    metavar="D",
    envvar="PRODUCER_DAYS",
    type=click.IntRange(min=1),
    default=None,
    show_envvar=True,
    help="Days in the lives of --customers, who come by habits of their own (realistic preset): in place of --sessions and --live-sessions.  [default: sessions that know nothing of each other]",
)
@click.option(
    "--customers",
    metavar="N",
    envvar="PRODUCER_CUSTOMERS",
    type=click.IntRange(min=1),
    default=None,
    show_envvar=True,
    help=f"Accounts that live through --days.  [default: {DEFAULT_CUSTOMERS}]",
)
@click.option(
    "--rate",
    metavar="EVENTS_PER_S",
    envvar="PRODUCER_RATE",
    type=NumberRange(min=0, min_open=True),
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
@key_option
@kafka_options
@click.pass_context
def simulate(
    context: click.Context,
    *,
    count: int,
    seed: int | None,
    preset: str,
    attack_rate: float | None,
    live_sessions: int,
    days: int | None,
    customers: int | None,
    rate: float | None,
    real_time: bool,
    start_time: datetime | None,
    out: Path | None,
    labels: Path | None,
    key: str,
    topic: str,
    bootstrap_servers: str,
) -> None:
    """Simulate sessions and publish their actions, interleaved as they happen.

    Event times are simulated times: what a session's owner waits between two actions is part of how it behaves,
    so --rate never bends it. They end at the present, unless --start-time or --real-time says otherwise; with --days
    they are those of the calendar (UTC), and the last is the day before yesterday, whose sessions are all over.
    """
    if real_time and (rate is not None or start_time is not None or out is not None):
        raise click.UsageError(
            "--real-time sets the pace and the times itself: give it without --rate, --start-time and --out."
        )
    if out is not None and rate is not None:
        raise click.UsageError("--rate paces publishing, and --out writes a file: give one of them.")
    keep_apart({"--out": out, "--labels": labels}, {})
    chosen_seed = secrets.randbits(32) if seed is None else seed
    if days is None:
        if customers is not None:
            raise click.UsageError("--customers is for --days: expected both, or neither.")
        planned = partial(_sessions, preset, count, chosen_seed, attack_rate, live_sessions)
    else:
        told = [
            flag
            for name, flag in (("count", "--sessions"), ("live_sessions", "--live-sessions"))
            if context.get_parameter_source(name) is not ParameterSource.DEFAULT
        ]
        if told or preset != "realistic":
            raise click.UsageError(
                f"--days is for --preset realistic and stands in place of --sessions and --live-sessions: seen "
                f"{', '.join([f'--preset {preset}', *told])}."
            )
        planned = partial(_lives, days, customers or DEFAULT_CUSTOMERS, chosen_seed, attack_rate)
    console = Console(stderr=True)
    with errors_reported(), ExitStack() as files:
        start_ms, timeline = _timed(planned, start_time, days, real_time=real_time, published=out is None)
        say(
            console,
            f"{timeline.sessions:,} sessions, {timeline.events:,} events, simulated time {_utc(start_ms)} to "
            f"{_utc(start_ms + timeline.duration_ms)}, seed {chosen_seed}",
        )
        sessions: Iterable[tuple[int, SimulatedSession]] = planned(start_ms)
        if labels is not None:
            sessions = labelled(sessions, files.enter_context(create(labels)))
        records = (Record(event, encode_event(event)) for event in interleave(sessions, start_ms=start_ms))
        if out is not None:
            exit_code = _write(console, records, out, timeline)
        else:
            pace = at_rate(rate) if rate is not None else at_speed(1.0, start_ms) if real_time else None
            exit_code = publish(
                console,
                records,
                bootstrap_servers,
                topic,
                key=RecordKey(key),
                pace=pace,
                total=timeline.events,
            )
    sys.exit(exit_code)


def _sessions(
    preset: str, count: int, seed: int, attack_rate: float | None, live_sessions: int, _start_ms: int
) -> Iterator[tuple[int, SimulatedSession]]:
    """Schedule sessions that know nothing of each other, nor of the calendar."""
    if preset == "realistic":
        behaviour = (
            RealisticBehaviour() if attack_rate is None else RealisticBehaviour(attack_rate=attack_rate)
        )
        sessions = realistic_preset.sessions(count, seed, behaviour)
    elif attack_rate is not None:
        raise click.UsageError(
            "--attack-rate is for --preset realistic: the seed preset has the notebook's mix."
        )
    else:
        sessions = seed_preset.sessions(count, seed)
    return schedule(sessions, live_sessions=live_sessions, rng=stream(seed, "schedule"))


def _lives(
    days: int, customers: int, seed: int, attack_rate: float | None, start_ms: int
) -> Iterator[tuple[int, SimulatedSession]]:
    behaviour = (
        lives.LivesBehaviour() if attack_rate is None else lives.LivesBehaviour(attack_rate=attack_rate)
    )
    return lives.sessions(days=days, customers=customers, seed=seed, start_ms=start_ms, behaviour=behaviour)


def _timed(
    planned: Planned, start_time: datetime | None, days: int | None, *, real_time: bool, published: bool
) -> tuple[int, Timeline]:
    """Return when simulated time begins, such that no event is published before it happens, and what it amounts to."""
    now_ms = time.time_ns() // 1_000_000
    if real_time:
        return now_ms, measure(planned(now_ms))
    if start_time is None:
        if days is None:
            timeline = measure(planned(0))
            return max(0, now_ms - timeline.duration_ms), timeline
        # No session is longer than a day: from a midnight, so that all of them are over by now.
        start_ms = (now_ms // DAY_MS - days - 1) * DAY_MS
        _check_times(start_ms, now_ms)
        return start_ms, measure(planned(start_ms))
    start_ms = round(start_time.replace(tzinfo=UTC).timestamp() * 1_000)
    _check_times(start_ms, start_ms + (days or 0) * DAY_MS)
    timeline = measure(planned(start_ms))
    _check_times(start_ms, start_ms + timeline.duration_ms)
    if published and start_ms + timeline.duration_ms > now_ms:
        shorter = (
            "more --live-sessions (simulated time is then shorter; it is"
            if days is None
            else "fewer --days (they take"
        )
        raise click.UsageError(
            f"the last event would happen at {_utc(start_ms + timeline.duration_ms)}, which is in the future, and "
            f"detectors take the broker's time for theirs: give an earlier --start-time, {shorter} "
            f"{timeline.duration_ms / 1_000:,.0f} s now), or --real-time."
        )
    return start_ms, timeline


def _check_times(start_ms: int, end_ms: int) -> None:
    if start_ms < FIRST_MS or end_ms >= END_MS:
        raise click.UsageError(
            "simulated time would begin before 2000 or end after 2099, and detectors refuse such events: give another "
            "--start-time, or less to simulate"
        )


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
    say(console, f"{stopped(interrupt)}wrote {written:,} events to {path}")
    return interrupt.exit_code


def _utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
