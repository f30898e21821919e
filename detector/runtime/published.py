"""What the alerts topic says of one input partition, and so what its events led to when they were decided."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec.structs import replace

from detector.contract.alerts import Alert
from detector.core.alerted import Alerted, key_of, model_of
from detector.core.decision import Judged, Suppression, graver, id_of, lighter
from detector.core.encoding import Encoding
from detector.core.judging import AlertedSessions
from detector.core.limits import SessionLimits
from detector.core.staging import Candidate


class _Told(NamedTuple):
    """An alert on a session: where its event lies, when that was, what was decided, and whether it ended the session."""

    offset: int
    occurred_at_ms: int
    judged: Judged
    ended: bool


@dataclass(slots=True)
class Published:
    """Alerts of one input partition.

    Attributes:
        encoding: of the model.
        begin: where what is left of the input begins.
        offsets: what was decided, by deciding offset.
        events: the first deciding offset of the alerts on an event, by account, session and event: one that comes again
            may block without another alert.
        sessions: alerts by account and session.
        models: that the last alert of each session was of, by the session's key.
        before: alerts whose events the input holds no more.
        next_offset: the input was read up to there at least.
        complete_from_ms: alerts older than that may have been deleted by retention; 0 if none was.
    """

    encoding: Encoding
    begin: int = 0
    offsets: dict[int, Judged] = field(default_factory=dict)
    events: dict[tuple[str, str, str], int] = field(default_factory=dict)
    sessions: dict[tuple[str, str], list[_Told]] = field(default_factory=lambda: defaultdict(list))
    models: dict[bytes, tuple[int, str]] = field(default_factory=dict)
    before: list[Alert] = field(default_factory=list)
    next_offset: int = 0
    complete_from_ms: int = 0
    _begins: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, alert: Alert) -> None:
        """Take note of an alert. They come in any order: an input's lie in several partitions of their topic."""
        session, offset = (alert.account_id, alert.session_id), alert.source.offset
        judged = Judged(alert.decision, alert.cause)
        self.offsets[offset] = judged
        event = (*session, alert.event_id)
        self.events[event] = min(offset, self.events.get(event, offset))
        ended = alert.action in self.encoding.ends_session
        self.sessions[session].append(_Told(offset, alert.occurred_at_ms, judged, ended))
        key = key_of(*session)
        self.models[key] = max(self.models.get(key, (-1, "")), (offset, model_of(alert)))
        if offset < self.begin:
            self.before.append(
                replace(alert, window=[], gap_ranges_ms=[], explanation=[])
            )  # lightly: they may be many
        self.next_offset = max(self.next_offset, offset + 1)

    def alerted_before(self, limits: SessionLimits) -> dict[bytes, Alerted]:
        """Return the sessions whose alerts were remembered where the input begins, as far as alerts tell the time."""
        alerted = AlertedSessions({}, limits.max_alerted, limits.alert_memory_ms, {})
        now_ms = 0
        for alert in sorted(self.before, key=lambda one: one.source.offset):
            now_ms = max(now_ms, alert.occurred_at_ms)
            alerted.add(alert, now_ms)
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
        if candidate.received_at_ms >= self.complete_from_ms:
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
        event = candidate.event
        session = event.account_id, event.session_id
        if session not in self.sessions or not candidate.begins:
            return None
        if self._begins.setdefault(session, candidate.offset) != candidate.offset:
            return None
        last = max((one for one in self.sessions[session] if one.offset < candidate.offset), default=None)
        if last is None or last.ended or event.occurred_at_ms - last.occurred_at_ms > idle_timeout_ms:
            return None
        return last.judged
