"""Alerts to show: as the detector publishes them, with everything filled in."""

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaProducer
from msgspec import UNSET

from detector.contract.alerts import (
    Alert,
    Decision,
    ModelReference,
    SourcePosition,
    encode_alert,
)
from detector.model.artifact import Model

NOW_MS = 1_790_000_000_000
WINDOW = ["LOGIN", "VIEW_BALANCE", "CHANGE_PASSWORD", "TRANSFER_LARGE"]
GAPS: list[tuple[int, int | None] | None] = [None, (1_000, 5_000), (60_000, 300_000), (3_600_000, None)]
SCORES = [0.01, 0.004, 0.55, 0.97]


def alert(session_id: str, **changes: Any) -> Alert:
    """Return an alert of a session that took a minute and then an hour between its actions."""
    fields: dict[str, Any] = {
        "alert_id": str(uuid.uuid4()),
        "decision": Decision.BLOCK,
        "session_id": session_id,
        "account_id": f"account of {session_id}",
        "score": SCORES[-1],
        "threshold": 0.8,
        "action": WINDOW[-1],
        "event_id": f"{session_id}-4",
        "action_number": 4,
        "window": WINDOW,
        "model": ModelReference(name="example", version="7", sha256="ab" * 32),
        "source": SourcePosition(topic="session-actions", partition=2, offset=1234),
        "occurred_at_ms": NOW_MS,
        "received_at_ms": NOW_MS + 40,
        "detected_at_ms": NOW_MS + 55,
        "scores": SCORES,
        "gap_ranges_ms": GAPS,
        "explanation": ["TRANSFER_LARGE 1 h or more after CHANGE_PASSWORD: +0.60", "VIEW_BALANCE: -0.10"],
    }
    return Alert(**(fields | changes))


def explainable(session_id: str, model: Model, steps: bytes = b"", **changes: Any) -> Alert:
    """Return an alert that a model can explain: the session's window, gaps and signals as it reads them, and its score."""
    steps = steps or model.encoding.steps(WINDOW, [0, 2_000, 120_000, 7_500_000])
    fitting: dict[str, Any] = {
        "score": float(model.score(model.encoding.windows([steps]))[0]),
        "gap_ranges_ms": model.encoding.gap_ranges_ms(steps),
        "signals": model.encoding.signals_of(steps) if model.encoding.signals else UNSET,
        "model": model.reference,
    }
    return alert(session_id, **(fitting | changes))


def publish(
    bootstrap_servers: str, topic: str, alerts: Iterable[Alert], name: str, partition: int | None = None
) -> None:
    """Publish alerts in one transaction, and commit it; `name` is the transactional id."""
    with transaction(bootstrap_servers, topic, alerts, name, partition) as producer:
        producer.commit_transaction()


@contextmanager
def transaction(
    bootstrap_servers: str, topic: str, alerts: Iterable[Alert], name: str, partition: int | None = None
) -> Iterator[KafkaProducer]:
    """Publish alerts in a transaction that is open for the block, all of them on the broker."""
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers, transactional_id=name, retry_backoff_ms=20)
    try:
        producer.init_transactions()
        producer.begin_transaction()
        for one in alerts:
            producer.send(topic, key=one.session_id.encode(), value=encode_alert(one), partition=partition)
        producer.flush()
        yield producer
    finally:
        producer.close()
