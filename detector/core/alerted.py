"""A session that alerts were published on, what it was found to be, and the figures that follow: how good a model is, live."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from detector.contract.alerts import Alert, Cause, Decision, RuleReference
from detector.contract.verdicts import Finding
from detector.core.session import session_key

WINDOWS_MS: Final = {"day": 24 * 60 * 60 * 1000, "week": 7 * 24 * 60 * 60 * 1000}
"""Of the figures."""
_KEY_BYTES = 16
_SHORT_SHA256 = 12


class Alerted(NamedTuple):
    """A session that alerts were published on, and what it was found to be.

    Attributes:
        offset: of the record that was the last to tell of it, an event or a verdict.
        touched_ms: stream time then.
        alerted_at_ms: stream time at its last alert.
        decision: of that alert.
        model: that scored it, or the rule that held, as the figures name it; empty if neither mattered.
        alerts: ids of its last alerts, and what each decided.
        finding: of the verdict that holds; None as long as there is none.
        decided_at_ms: when that was decided, by its own clock.
    """

    offset: int
    touched_ms: int
    alerted_at_ms: int
    decision: Decision
    model: str
    alerts: tuple[tuple[bytes, Decision], ...] = ()
    finding: Finding | None = None
    decided_at_ms: int = 0


class Standing(NamedTuple):
    """What the figures tell apart: sessions by model, decision and verdict (None as long as there is none)."""

    model: str
    decision: Decision
    finding: Finding | None


def key_of(account_id: str, session_id: str) -> bytes:
    """Return what an alerted session is kept under."""
    return hashlib.blake2b(session_key(account_id, session_id).encode(), digest_size=_KEY_BYTES).digest()


def model_of(alert: Alert) -> str:
    """Return how the figures name the model, or the rule, that raised an alert; empty if neither did.

    Files of one name are told apart.
    """
    if isinstance(alert.rule, RuleReference):
        return f"rule:{alert.rule.name}"
    if alert.cause is Cause.DENY_LIST:
        return ""
    return f"{alert.model.name}:{alert.model.sha256[:_SHORT_SHA256]}"


def standings(alerted: Iterable[Alerted], now_ms: int, window_ms: int) -> Counter[Standing]:
    """Count the sessions that a model's score, or a rule, has raised an alert on, in a window that ends at `now_ms` of stream time."""
    return Counter(
        Standing(one.model, one.decision, one.finding)
        for one in alerted
        if one.model and now_ms - one.alerted_at_ms <= window_ms
    )
