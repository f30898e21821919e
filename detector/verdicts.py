"""The commands `python -m detector verdict` and `relay-verdicts`: what a session was found to be, and its way to the detector."""

import logging
import time
from datetime import datetime
from typing import Any

import click
from kafka.errors import KafkaError

from detector.contract.alerts import Alert
from detector.contract.verdicts import (
    Finding,
    MalformedVerdictError,
    Verdict,
    decode_verdict,
    encode_verdict,
    new_verdict_id,
)
from detector.options import config_of, settings
from detector.runtime.config import DetectorConfig
from detector.runtime.explanations import alerts_on_topic
from detector.runtime.health import Heartbeat
from detector.runtime.metrics import RelayMetrics
from detector.runtime.recovery import TopicsUnfitError
from detector.runtime.relaying import VerdictRelay
from detector.runtime.verdicts import publish_verdict
from detector.stopping import stop_on_signals
from detector.terminal import printable
from detector.watching import watched

_FINDINGS = {one.value.lower(): one for one in Finding}


class _Moment(click.ParamType[datetime]):
    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            moment: datetime | None = datetime.fromisoformat(str(value))
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            self.fail(
                f"{value!r}: expected a time with its zone, such as 2026-11-26T14:00:00+01:00.", param, ctx
            )
        return moment


@click.command()
@settings(
    "bootstrap_servers", "alerts_topic", "verdicts_topic", "create_topics", "partitions", "replication_factor"
)
@click.option("--alert", "alert_id", help="The alert that the verdict is on; looked up on the alerts topic.")
@click.option("--session", "session_id", help="The session instead, with --account.")
@click.option("--account", "account_id", help="The account that the session is of.")
@click.option("--by", required=True, help="Who decided: a person or a system.")
@click.option("--why", default="", help="For people.")
@click.option("--type", "fraud_type", help="Family of the attack.")
@click.option("--first-event", "first_event_id", help="Id of the first event that was not the customer's.")
@click.option(
    "--since",
    type=_Moment(),
    help="When that happened, such as 2026-11-26T14:00:00+01:00: what the account learned since is forgotten.",
)
@click.argument("finding", metavar="FRAUD|LAWFUL", type=click.Choice(list(_FINDINGS), case_sensitive=False))
def verdict(
    *,
    alert_id: str | None,
    session_id: str | None,
    account_id: str | None,
    by: str,
    why: str,
    fraud_type: str | None,
    first_event_id: str | None,
    since: datetime | None,
    finding: str,
    **where: Any,
) -> None:
    """Say what a session was: FRAUD or LAWFUL. A later verdict on the same session takes its place.

    It goes to the verdicts topic, and from there into the input by `relay-verdicts`. detector_verdicts_total and
    detector_alerted_sessions say what came of it.
    """
    logging.getLogger("kafka").setLevel(logging.ERROR)
    if [one is not None for one in (alert_id, session_id, account_id)] not in (
        [True, False, False],
        [False, True, True],
    ):
        raise click.UsageError("expected --alert, or --session and --account")
    config = config_of(where)
    try:
        if alert_id is not None:
            alert = _alert(config, alert_id)
            session_id, account_id = alert.session_id, alert.account_id
        given = Verdict(
            verdict_id=new_verdict_id(),
            account_id=account_id or "",
            session_id=session_id or "",
            verdict=_FINDINGS[finding.lower()],
            by=by,
            decided_at_ms=time.time_ns() // 1_000_000,
            why=why,
            alert_id=alert_id,
            fraud_type=fraud_type,
            first_event_id=first_event_id,
            first_event_at_ms=None if since is None else int(since.timestamp() * 1000),
        )
        decode_verdict(encode_verdict(given))  # its bounds
        is_alerted = alert_id is not None or _is_alerted(config, given)
        publish_verdict(config, given)
    except (MalformedVerdictError, UnicodeEncodeError) as error:
        raise click.UsageError(str(error)) from error
    except (TopicsUnfitError, KafkaError) as error:
        raise click.ClickException(f"{type(error).__name__}: {error}") from error
    click.echo(printable(f"{given.verdict} session {given.session_id}: verdict {given.verdict_id}"))
    if not is_alerted:
        click.echo(
            f"no alert on {config.alerts_topic} is on that session of that account: right where nothing was alerted, else look "
            "whether both ids are as meant; the verdict was published",
            err=True,
        )


def _is_alerted(config: DetectorConfig, given: Verdict) -> bool:
    try:
        return any(
            (one.account_id, one.session_id) == (given.account_id, given.session_id)
            for one in alerts_on_topic(config)
        )
    except TopicsUnfitError:  # no alerts, as long as there is no topic of them
        return False


def _alert(config: DetectorConfig, alert_id: str) -> Alert:
    found = next((one for one in alerts_on_topic(config) if one.alert_id == alert_id), None)
    if found is None:
        raise click.ClickException(
            f"no alert {printable(alert_id)} on {config.alerts_topic}: expected the id of one that is still there; give "
            "--session and --account otherwise"
        )
    return found


@click.command(name="relay-verdicts")
@settings(
    "bootstrap_servers",
    "instance_id",
    "input_topic",
    "verdicts_topic",
    "create_topics",
    "replication_factor",
    "session_timeout_ms",
    "max_poll_interval_ms",
    "transaction_timeout_ms",
    "stall_timeout_ms",
    "metrics_host",
    "log_level",
    metrics_port=-1,
)
@click.option("--max", "most", type=click.IntRange(min=1), help="End after so many records.")
def relay_verdicts(*, most: int | None, **given: Any) -> None:
    """Take verdicts from their topic into every partition of the input, each once, until SIGTERM or SIGINT.

    What is no verdict goes to <verdicts-topic>.dlq with its reason. Several share the work.
    """
    config = config_of(given)
    logging.basicConfig(level=config.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("kafka").setLevel(logging.ERROR)
    metrics, heartbeat = RelayMetrics(), Heartbeat()
    relay = VerdictRelay(config, metrics, heartbeat)
    try:
        with watched(config, metrics.registry, heartbeat):
            relay.run(stop_on_signals(), most)
    except (TopicsUnfitError, KafkaError) as error:
        raise click.ClickException(f"{type(error).__name__}: {error}") from error
    click.echo(f"{relay.relayed} verdicts relayed, {relay.refused} refused")
