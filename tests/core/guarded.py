"""A model that scores by the last action alone, and a log that grows: what guard rails are tried on."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detector.contract.alerts import Alert
from detector.contract.events import SessionEvent
from detector.contract.listings import AccountListing
from detector.core.decision import Policy
from detector.core.limits import SessionLimits
from detector.core.partition import Partition
from detector.core.pipeline import Outcome, Share
from detector.core.staging import Entry
from tests.core.strategies import ENCODING, SOURCE, pipeline

LIMITS = SessionLimits(idle_timeout_ms=10**12, max_sessions=10_000)
RISK = {"LOGIN": 0.0, "VIEW_BALANCE": 0.1, "TRANSFER_SMALL": 0.5, "TRANSFER_LARGE": 0.9, "LOGOUT": 0.0}
"""Score of a window by its last action."""


def score(windows: NDArray[np.void]) -> NDArray[np.float32]:
    """Score by the last action, an empty window with 0."""
    by_code = np.zeros(len(ENCODING.vocabulary) + 1, np.float32)
    for action, risk in RISK.items():
        by_code[1 + ENCODING.vocabulary.index(action)] = risk
    last = np.maximum((windows["action"] > 0).sum(axis=1) - 1, 0)
    return np.asarray(by_code[windows["action"][np.arange(len(windows)), last]], np.float32)


class Log:
    """A log that grows, and the partition behind it."""

    def __init__(self, policy: Policy) -> None:
        self.partition = Partition()
        self.policy = policy
        self.offset = 0

    def read(self, events: Sequence[SessionEvent | AccountListing]) -> Outcome:
        """Decide on the next events."""
        entries = [Entry(self.offset + at, 0, event) for at, event in enumerate(events)]
        self.offset += len(events)
        share = Share(SOURCE, self.partition, entries, self.offset)
        (outcome,) = pipeline(score, policy=self.policy, limits=LIMITS).run([share])
        self.partition.apply(outcome.delta)
        return outcome


def event(session: str, action: str, at_ms: int = 0, number: int = 0) -> SessionEvent:
    """Make an event; each session has an account of its own."""
    return SessionEvent(
        event_id=f"{session}-{action}-{at_ms}-{number}",
        session_id=session,
        account_id=f"account-{session}",
        action=action,
        occurred_at_ms=at_ms,
    )


def events(session: str, *actions: str) -> list[SessionEvent]:
    """Make a session's events."""
    return [event(session, action, number=number) for number, action in enumerate(actions)]


def verdicts(alerts: Sequence[Alert]) -> list[tuple[str, str, str]]:
    """Return session, decision and cause of each alert."""
    return [(alert.session_id, alert.decision.value, alert.cause.value) for alert in alerts]
