"""The command `python -m detector explain`: what each action of an alert's window added to its score."""

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
from kafka.errors import KafkaError

from detector.contract.alerts import Alert, decode_alert
from detector.core.explaining import NotExplainableError
from detector.model.artifact import ModelRefusedError
from detector.model.at_hand import ModelMissingError, ModelsAtHand
from detector.options import config_of, settings
from detector.runtime.explanations import alerts_on_topic, explain_topic
from detector.runtime.recovery import TopicsUnfitError
from detector.stopping import stop_on_signals
from detector.terminal import printable


@click.command()
@settings("bootstrap_servers", "alerts_topic", "create_topics", "replication_factor")
@click.option(
    "--models",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of every model that was in service; the packaged ones are known.",
)
@click.option("--session", help="Explain this session's alerts, looked up on the alerts topic.")
@click.option(
    "--follow",
    is_flag=True,
    help="Explain every alert of the topic into <alerts-topic>.explanations, at least once, until SIGTERM or SIGINT.",
)
@click.option("--max", "most", type=click.IntRange(min=1), help="End after so many alerts.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True), default="-")
def explain(
    *, folder: Path | None, session: str | None, follow: bool, most: int | None, file: str, **where: Any
) -> None:
    """Explain alerts by the models that they name: Shapley values, the gaps' worth, and words.

    Alerts are read from FILE, or from the standard input: JSON documents, one a line, as `alerts --json` prints them.
    An explanation is one JSON document a line. A model is known by the SHA-256 of its file: without that very file
    nothing is explained.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("kafka").setLevel(logging.ERROR)
    if follow and session is not None:
        raise click.UsageError("--follow explains all sessions: expected it without --session")
    if file != "-" and (follow or session is not None):
        raise click.UsageError("--follow and --session read the alerts topic: expected them without a FILE")
    config, models = config_of(where), ModelsAtHand(folder)
    try:
        if follow:
            explained = explain_topic(config, models.explain, stop_on_signals().is_set, most)
            click.echo(f"{explained} alerts explained")
            return
        alerts = (
            _decoded(file)
            if session is None
            else (one for one in alerts_on_topic(config) if one.session_id == session)
        )
        explained = 0
        for alert in itertools.islice(alerts, most):
            click.echo(msgspec.json.encode(models.explain(alert)))
            explained += 1
    except (NotExplainableError, ModelMissingError, ModelRefusedError, TopicsUnfitError, KafkaError) as error:
        raise click.ClickException(printable(str(error))) from error
    if not explained:
        where_from = f"of session {session} on {config.alerts_topic}" if session else "in the input"
        raise click.ClickException(f"no alert {printable(where_from)}: expected one or more")


def _decoded(path: str) -> Iterator[Alert]:
    with click.open_file(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                if line.strip():
                    yield decode_alert(line)
            except msgspec.DecodeError as error:
                raise click.ClickException(
                    f"line {number} is no alert ({error}): expected one JSON document a line, as on the alerts topic"
                ) from error
