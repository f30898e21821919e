"""The sessions in a batch that alerts or verdicts tell of, beside the committed ones, which are not changed.

They lie in their partition's state in the order in which they were last told of. So an alert that comes again is known as
one, and of two verdicts the one that holds.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, NamedTuple, Self
from uuid import UUID

from detector.contract.alerts import Alert, Decision
from detector.contract.verdicts import Verdict
from detector.core.alerted import Alerted, key_of, model_of
from detector.core.partition import LongestIdle

BEFORE_ALERT_MS: Final = 24 * 60 * 60 * 1000
"""What an account has learned within so long before a session's alert may be of it, where the verdict says no more."""
GRAVITY: Final[Mapping[Decision | None, int]] = {
    None: 0,
    Decision.REVIEW: 1,
    Decision.CHALLENGE: 2,
    Decision.BLOCK: 3,
}
MAX_ALERTS: Final = 8
"""Alerts of a session that are known: its last ones. It has more only if it ended and began again."""


class Taken(StrEnum):
    """What becomes of a verdict in a partition. Each lies in all of them, and one knows the session's alert at most."""

    APPLIED = "applied"
    SUPERSEDED = "superseded"  # one that was decided later is known, or the same
    UNKNOWN = "unknown"  # no alert on its session is: it forgets and lists all the same


class Remembered(NamedTuple):
    """What is remembered of an alert: its session's key, its id, the deciding offset, the decision and what the model is called."""

    key: bytes
    number: bytes
    offset: int
    decision: Decision
    model: str

    @classmethod
    def of(cls, alert: Alert) -> Self:
        """Return that of an alert."""
        key, number = key_of(alert.account_id, alert.session_id), UUID(alert.alert_id).bytes
        return cls(key, number, alert.source.offset, alert.decision, model_of(alert))


class AlertedSessions:
    """Those of a partition as a batch leaves them, beside the committed ones, which are not changed.

    Args:
        committed: of the partition, by key and in the order in which they were told of.
        most: so many are kept; beyond, the one longest not told of goes.
        timeout_ms: what was not told of for longer, by stream time, is as good as gone.
        pending: what earlier entries of the same batch have changed.

    Attributes:
        changed: by key, in the order in which they were told of; None for those that went.
    """

    def __init__(
        self,
        committed: Mapping[bytes, Alerted],
        most: int,
        timeout_ms: int,
        pending: Mapping[bytes, Alerted | None],
    ) -> None:
        self._committed, self._most, self._timeout_ms = committed, most, timeout_ms
        self.changed = dict(pending)
        self._longest_untold = LongestIdle(self._committed, (self.changed,))
        self._count = len(self._committed) + sum(
            (one is not None) - (key in self._committed) for key, one in self.changed.items()
        )

    def copied(self) -> "AlertedSessions":
        """Return the same, to be changed apart."""
        return AlertedSessions(self._committed, self._most, self._timeout_ms, self.changed)

    def expire(self, now_ms: int, most: int) -> None:
        """Drop so many at most of those that are too old, and of those that are too many, as under other settings."""
        while most > 0 and (oldest := self._longest_untold.peek()):
            if not self._is_old(oldest[1], now_ms) and self._count <= self._most:
                return
            self.changed[oldest[0]] = None
            self._count -= 1
            most -= 1

    def add(self, alert: Alert, now_ms: int) -> bool:
        """Take note of an alert; tell whether it is a new one. A graver one of the same id is."""
        return self.remember(Remembered.of(alert), now_ms)

    def remember(self, alert: "Remembered", now_ms: int) -> bool:
        """Take note of an alert by what is remembered of it, as `add` does."""
        key, number, decision = alert.key, alert.number, alert.decision
        known = self._of(key, now_ms)
        earlier = () if known is None else known.alerts
        if any(GRAVITY[was] >= GRAVITY[decision] for was in _decisions(earlier, number)):
            return False
        self._put(
            key,
            Alerted(
                alert.offset,
                now_ms,
                now_ms,
                decision,
                alert.model,
                (*earlier, (number, decision))[-MAX_ALERTS:],
                None if known is None else known.finding,
                0 if known is None else known.decided_at_ms,
            ),
        )
        return True

    def published(self, key: bytes, alert_id: str, now_ms: int) -> Decision | None:
        """Return the gravest decision of the alerts of an id that are remembered of the session kept under `key`."""
        known = self._of(key, now_ms)
        decisions = [] if known is None else _decisions(known.alerts, UUID(alert_id).bytes)
        return max(decisions, key=GRAVITY.__getitem__, default=None)

    def knows(self, verdict: Verdict) -> bool:
        """Tell whether alerts on a verdict's session are remembered, be it for too long."""
        return self._kept(key_of(verdict.account_id, verdict.session_id)) is not None

    def judge(self, verdict: Verdict, offset: int, now_ms: int) -> Taken:
        """Take note of a verdict; tell what becomes of it."""
        key = key_of(verdict.account_id, verdict.session_id)
        known = self._of(key, now_ms)
        if known is None:
            return Taken.UNKNOWN
        if (verdict.decided_at_ms, verdict.verdict) == (known.decided_at_ms, known.finding):
            return Taken.SUPERSEDED
        if known.decided_at_ms > verdict.decided_at_ms:
            return Taken.SUPERSEDED
        self._put(
            key,
            known._replace(
                offset=offset,
                touched_ms=now_ms,
                finding=verdict.verdict,
                decided_at_ms=verdict.decided_at_ms,
            ),
        )
        return Taken.APPLIED

    def since_ms(self, verdict: Verdict, now_ms: int) -> int | None:
        """Return since when what a verdict's account has learned may be of its session; None if nothing says so."""
        known = self._of(key_of(verdict.account_id, verdict.session_id), now_ms)
        if verdict.first_event_at_ms is not None or known is None:
            return verdict.first_event_at_ms
        return max(0, known.alerted_at_ms - BEFORE_ALERT_MS)

    def _of(self, key: bytes, now_ms: int) -> Alerted | None:
        one = self._kept(key)
        return None if one is None or self._is_old(one, now_ms) else one

    def _kept(self, key: bytes) -> Alerted | None:
        return self.changed[key] if key in self.changed else self._committed.get(key)

    def _is_old(self, one: Alerted, now_ms: int) -> bool:
        return now_ms - one.touched_ms > self._timeout_ms

    def _put(self, key: bytes, one: Alerted) -> None:
        if self._kept(key) is None:
            self._make_room()
        self.changed.pop(key, None)
        self.changed[key] = one

    def _make_room(self) -> None:
        if self._count < self._most:
            self._count += 1
            return
        oldest = self._longest_untold.peek()
        key = oldest[0] if oldest else next(key for key, one in self.changed.items() if one is not None)
        self.changed[key] = None


def _decisions(alerts: Iterable[tuple[bytes, Decision]], number: bytes) -> list[Decision]:
    """Return what the alerts of an id decided."""
    return [decision for one, decision in alerts if one == number]
