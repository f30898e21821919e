"""What the commands share: where to publish, under which key, how it is told."""

import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from detector.contract.topics import ACTIONS_TOPIC
from producer.interrupt import Interrupt
from producer.progress import ProgressReport
from producer.publisher import Pace, Publisher, PublishError, Record, RecordKey
from producer.recording import RecordingError

FILE: Final = click.Path(dir_okay=False, path_type=Path)


def kafka_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say where it publishes."""
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


key_option = click.option(
    "--key",
    envvar="PRODUCER_KEY",
    type=click.Choice([key.value for key in RecordKey]),
    default=RecordKey.ACCOUNT.value,
    show_default=True,
    show_envvar=True,
    help="What the records' keys are: account, so that an account's sessions lie in one partition in order, as a model "
    "that knows its history needs; or session, which is enough for one without.",
)
"""Gives a command the option that says what the records' keys are."""


def publish(
    console: Console,
    records: Iterable[Record],
    bootstrap_servers: str,
    topic: str,
    *,
    key: RecordKey,
    pace: Pace | None,
    total: int,
    done: Callable[[], int] | None = None,
) -> int:
    """Publish `records`; return the exit code. `done` tells how much of `total` is, where that isn't events.

    Raises:
        PublishError: publishing can't begin or go on.
        RecordingError: the records can't be read on; the message says what was published before.
    """
    first = last = ""

    def noted() -> Iterator[Record]:
        nonlocal first, last
        for record in records:
            last = record.event.event_id
            first = first or last
            yield record

    with Publisher(bootstrap_servers, topic, key) as publisher, Interrupt() as interrupt:
        started_s = time.monotonic()
        with ProgressReport(console, "published", total) as report:
            try:
                publisher.publish(
                    noted(),
                    stop=interrupt,
                    pace=pace,
                    progress=lambda sent: report.update(sent, sent if done is None else done()),
                )
            except RecordingError as error:
                if not last:
                    raise
                raise RecordingError(
                    f"{error} Published were the {publisher.acknowledged:,} events before it, with ids from {first!r} to "
                    f"{last!r}: give them the same ids when they are published again, or they are scored twice."
                ) from error
        seconds = time.monotonic() - started_s
        say(
            console,
            f"{stopped(interrupt)}published {publisher.acknowledged:,} events to {topic!r} in {seconds:,.1f} s "
            f"({publisher.acknowledged / seconds:,.0f} events/s), all acknowledged",
        )
        return interrupt.exit_code


@contextmanager
def errors_reported() -> Iterator[None]:
    """Turn expected failures into one message and exit code 1, and Ctrl-C before any event is sent into 130."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("stopped by SIGINT", err=True)
        sys.exit(128 + signal.SIGINT)
    except (PublishError, RecordingError, OSError) as error:
        raise click.ClickException(str(error)) from error


def stopped(interrupt: Interrupt) -> str:
    """Return what to say first if a signal ended the run."""
    return f"stopped by {interrupt.signal.name}: " if interrupt.signal is not None else ""


def say(console: Console, text: str) -> None:
    """Tell a line as it is."""
    console.print(text, highlight=False, soft_wrap=True, markup=False)
