"""What the alerts topic says of one input partition, and so what its events led to when they were decided."""

import sys
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from detector.contract.alerts import Alert, Cause, Decision
from detector.core.alerted import Alerted, key_of
from detector.core.decision import Judged, Suppression, graver, id_of, lighter
from detector.core.encoding import Encoding
from detector.core.judging import AlertedSessions, Remembered
from detector.core.limits import SessionLimits
from detector.core.session import session_key
from detector.core.staging import Candidate


class _Told(NamedTuple):
    """An alert on a session: where its event lies, when that was, what was decided, and whether it ended the session."""

    offset: int
    occurred_at_ms: int
    judged: Judged
    ended: bool


@cache
def _judged(decision: Decision, cause: Cause) -> Judged:
    """Return one object for all alike: of alerts there may be millions."""
    return Judged(decision, cause)


@dataclass(slots=True)
class Published:
    """Alerts of one input partition.

    Attributes:
        encoding: of the model.
        begin: where what is left of the input begins.
        offsets: what was decided, by deciding offset.
        events: the first deciding offset of the alerts on an event, by account, session and event: one that comes again
            may block without another alert.
        sessions: alerts by what their sessions are kept under.
        models: that the last alert of each session was of, by the session's key.
        before: alerts whose events the input holds no more, and when those were.
        next_offset: the input was read up to there at least.
        complete_from_ms: alerts older than that may have been deleted by retention; 0 if none was.
    """

    encoding: Encoding
    begin: int = 0
    offsets: dict[int, Judged] = field(default_factory=dict)
    events: dict[tuple[str, str, str], int] = field(default_factory=dict)
    sessions: dict[str, list[_Told]] = field(default_factory=lambda: defaultdict(list))
    models: dict[bytes, tuple[int, str]] = field(default_factory=dict)
    before: list[tuple[int, Remembered]] = field(default_factory=list)
    next_offset: int = 0
    complete_from_ms: int = 0
    _begins: dict[str, int] = field(default_factory=dict)

    def add(self, alert: Alert) -> None:
        """Take note of an alert. They come in any order: an input's lie in several partitions of their topic."""
        offset, remembered = alert.source.offset, Remembered.of(alert)
        judged = _judged(alert.decision, alert.cause)
        self.offsets[offset] = judged
        event = alert.account_id, alert.session_id, alert.event_id
        self.events[event] = min(offset, self.events.get(event, offset))
        session = session_key(*event[:2]) if self.encoding.signals else alert.session_id
        ended = alert.action in self.encoding.ends_session
        self.sessions[session].append(_Told(offset, alert.occurred_at_ms, judged, ended))
        model = self.models.get(remembered.key, (-1, ""))
        self.models[remembered.key] = max(model, (offset, sys.intern(remembered.model)))
        if offset < self.begin:
            self.before.append((alert.occurred_at_ms, remembered))
        self.next_offset = max(self.next_offset, offset + 1)

    def alerted_before(self, limits: SessionLimits) -> dict[bytes, Alerted]:
        """Return the sessions whose alerts were remembered where the input begins, as far as alerts tell the time."""
        alerted = AlertedSessions({}, limits.max_alerted, limits.alert_memory_ms, {})
        now_ms = 0
        for occurred_at_ms, alert in sorted(self.before, key=lambda one: one[1].offset):
            now_ms = max(now_ms, occurred_at_ms)
            alerted.remember(alert, now_ms)
        return {key: one for key, one in alerted.changed.items() if one is not None}

    def is_unsure(self, candidate: Candidate) -> bool:
        """Tell whether what an event led to can't be read from the alerts: they were deleted, or not published again."""
        if candidate.offset in self.offsets:
            return False
        event = candidate.event
        first = self.events.get((event.account_id, event.session_id, event.event_id), candidate.offset)
        return self.complete_from_ms > 0 or first < candidate.offset

    def led_to(
        self,
        candidate: Candidate,
        judged: Judged | Suppression | None,
        alerted: AlertedSessions,
        idle_timeout_ms: int,
    ) -> tuple[Judged | Suppression | None, bool]:
        """Return what an event led to, and whether an alert on it was published.

        Args:
            candidate: the event. A session's come in the order of the log, and each may come again.
            judged: what it would lead to now.
            alerted: sessions that alerts were published on, before it.
            idle_timeout_ms: a session without an action for longer has ended.
        """
        before = self._begun_with(candidate, idle_timeout_ms)
        if (told := self.offsets.get(candidate.offset)) is not None:
            return told, True
        wanted = judged.decision if isinstance(judged, Judged) else None
        if wanted is not None and candidate.received_at_ms >= self.complete_from_ms:
            # What would have been published was not: it led to nothing, or to no more than an alert that it repeats.
            event = candidate.event
            key, alert_id = key_of(event.account_id, event.session_id), id_of(event, self.encoding)
            wanted = lighter(wanted, alerted.published(key, alert_id, candidate.stream_time_ms))
        earlier = None if before is None else before.decision
        if before is not None and graver(wanted, earlier) == earlier:
            return before, False
        if isinstance(judged, Judged):
            return (None if wanted is None else judged._replace(decision=wanted)), True
        return judged, True

    def _begun_with(self, candidate: Candidate, idle_timeout_ms: int) -> Judged | None:
        """Return what a session had led to, where an event is the first of it that is left and does not begin it."""
        session = candidate.key
        if session not in self.sessions or not candidate.begins:
            return None
        if self._begins.setdefault(session, candidate.offset) != candidate.offset:
            return None
        earlier = (one for one in self.sessions[session] if one.offset < candidate.offset)
        last = max(earlier, key=lambda one: one.offset, default=None)
        if last is None or last.ended:
            return None
        return (
            last.judged if candidate.event.occurred_at_ms - last.occurred_at_ms <= idle_timeout_ms else None
        )
