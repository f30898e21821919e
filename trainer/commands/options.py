"""Options that several commands share, and the sessions they name."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from trainer.data.sessions import Sessions, read_sessions
from trainer.data.sources import BASE_RATE, events_of_file, events_of_topic, labelled_sessions, read_labels

FILE = click.Path(dir_okay=False, path_type=Path)


def data_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say where labelled sessions come from."""
    options = [
        click.option("--data", type=FILE, help="Labelled sessions, JSON lines (.gz too); see docs/model.md."),
        click.option("--events", type=FILE, help="Recorded events (JSON lines, .gz too); needs --labels."),
        click.option("--topic", help="Kafka topic of events; needs --labels."),
        click.option("--labels", type=FILE, help="Label file, as the producer writes it."),
        click.option("--bootstrap-servers", default="127.0.0.1:9092", envvar="KAFKA_BOOTSTRAP_SERVERS"),
        click.option("--skip-bad-lines", is_flag=True, help="Leave out lines of --data that are no session."),
        click.option(
            "--base-rate",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            help=f"Share of attacks where the model serves.  [default: the data's own; realistic: {BASE_RATE:g}]",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def has_data(options: dict[str, Any]) -> bool:
    """Tell whether the options name data of one's own."""
    return any(options[name] is not None for name in ("data", "events", "topic"))


def sessions_of(options: dict[str, Any]) -> Sessions:
    """Read the sessions that the options name.

    Raises:
        click.UsageError: they name no source, or several.
        DataError: the source has no sessions to give.
    """
    sources = [name for name in ("preset", "data", "events", "topic") if options[name] is not None]
    if len(sources) != 1:
        raise click.UsageError(
            f"{sources or 'no source'} given: expected one of --preset, --data, --events, --topic"
        )
    if options["data"] is not None:
        sessions, bad = read_sessions(options["data"], skip_bad_lines=options["skip_bad_lines"])
        for number, reason in itertools.islice(bad, 20):
            click.echo(f"line {number} left out: {reason}", err=True)
        return sessions
    if options["labels"] is None:
        raise click.UsageError("events without --labels: expected a label file beside them")
    labels = read_labels(options["labels"])
    if options["events"] is not None:
        return labelled_sessions(events_of_file(options["events"]), labels)
    return labelled_sessions(events_of_topic(options["bootstrap_servers"], options["topic"]), labels)
