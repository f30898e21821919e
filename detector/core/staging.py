"""Staging: from a partition and its next events to the windows to score, without changing the partition.

Stage, commit, apply: everything a batch would change is collected beside the partition, so that a batch whose
transaction fails leaves nothing behind. Which window an event gets depends on the log alone, not on how the
log was cut into batches.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from msgspec.structs import replace

from detector.contract.actions import StepUp
from detector.contract.control import Control
from detector.contract.dead_letters import Reason
from detector.contract.events import SessionEvent
from detector.contract.fields import Value
from detector.contract.listings import AccountListing, Listing
from detector.contract.verdicts import Finding, Verdict
from detector.core.clocks import Told, in_order, leap, others_than
from detector.core.encoding import Encoding
from detector.core.histories import Histories
from detector.core.judging import AlertedSessions, Taken
from detector.core.limits import SessionLimits
from detector.core.listed import ListedAccounts
from detector.core.partition import Delta, LongestIdle, Partition
from detector.core.session import (
    BLOCKED,
    ENDED,
    EVENT_HASH_BYTES,
    EXPIRED,
    NONE,
    before_in,
    event_hash,
    pack,
    session_key,
    touched_ms,
    with_touched_ms,
)

NO_STEP_UPS: Mapping[str, StepUp] = MappingProxyType({})


class Entry(NamedTuple):
    """An event or a control record, and what its record says of it.

    Attributes:
        offset: where it lies in the log.
        received_at_ms: its timestamp; 0 if it has none.
        event: itself.
        vouched: its timestamp, if any, is the broker's; else it is only what its producer says (CreateTime).
        fields: values of those that the model's signals read, in their order, and of those that rules read beside them.
    """

    offset: int
    received_at_ms: int
    event: SessionEvent | Control
    vouched: bool = True
    fields: tuple[Value, ...] = ()


class Candidate(NamedTuple):
    """One event to be scored.

    Attributes:
        offset: of the event, as is `received_at_ms`, the time of its record.
        event: itself, at the time that decides.
        action_number: its number in its session, from 1.
        steps: of its window.
        stream_time_ms: of the partition, this event included.
        listing: its account's.
        marks: that its session had before the batch; 0 if it begins.
        key: what its session is kept under.
        step_up: what it says of a second factor, if it does.
        is_step: whether it is a step of its window. What says something of a second factor and is not in the model's
            vocabulary is none: the window is that of the action before, and so are its score and number.
        gap_ms: since the session's last action; None where it begins, and of what is no step.
        fields: of its entry.
    """

    offset: int
    received_at_ms: int
    event: SessionEvent
    action_number: int
    steps: bytes
    stream_time_ms: int
    listing: Listing | None
    marks: int
    key: str
    step_up: StepUp | None = None
    is_step: bool = True
    gap_ms: int | None = None
    fields: tuple[Value, ...] = ()

    @property
    def begins(self) -> bool:
        """Whether its session begins with it, or begins again."""
        return self.action_number == 1 and self.is_step


class Failure(NamedTuple):
    """An entry that comes to nothing but a dead letter: where it lies, and why."""

    offset: int
    reason: Reason
    detail: str


@dataclass(slots=True)
class Staged:
    """What a batch of one partition comes to, before it is scored.

    `cut_at` is the offset of a verdict that may find what events of the batch before it come to, None if none does: nothing
    from there on was staged.
    """

    stream_time_ms: int
    heard_at_ms: int
    histories: Histories
    listed: ListedAccounts
    alerted: AlertedSessions
    cut_at: int | None = None
    candidates: list[Candidate] = field(default_factory=list)
    touched: dict[str, bytes] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    failures: list[Failure] = field(default_factory=list)
    listings: int = 0
    verdicts: Counter[Taken] = field(default_factory=Counter)
    unscored: int = 0
    duplicates: int = 0
    clamped: int = 0
    ahead: int = 0
    late: int = 0

    def hear(self, told: Told, now_ms: int, broker_ms: int) -> None:
        """Take note of what time an event says it is; with stream time that it comes to, and its broker's."""
        self.stream_time_ms, self.heard_at_ms = now_ms, max(self.heard_at_ms, broker_ms)
        self.ahead += told.is_ahead
        self.late += told.is_late

    expired: int = 0
    evicted: int = 0


def stage(
    partition: Partition,
    entries: Iterable[Entry],
    encoding: Encoding,
    limits: SessionLimits,
    pending: Delta | None = None,
    step_ups: Mapping[str, StepUp] = NO_STEP_UPS,
) -> Staged:
    """Stage the next events of a partition.

    A repeated event id within the session's window is a duplicate: counted, and otherwise ignored. A time
    before the session's last counts as so much after it. After an action that ends its session the next one begins a new one. A
    listing or verdict holds for the events after it.

    Stream time is the highest event time read, or moves on with the broker's clock as well (ADR 0042). An event that nobody vouches for moves it by at most a step; a leap,
    as after a quiet night, takes a quorum: it goes to what QUORUM of the WITNESSES sessions touched last have
    reached. So no single clock ends others' sessions, and none can hold time where it is (ADR 0024).

    Args:
        partition: the committed state; not changed.
        entries: in the order of the log; every action is in the encoding's vocabulary, or one of `step_ups`.
        encoding: of the model that will score.
        limits: of sessions.
        pending: what earlier events of the same batch come to; what is returned is that and what these add to it.
        step_ups: actions that say what came of a second factor. One that is not in the vocabulary keeps its session
            alive and is no step of it; where there is no session it comes to nothing.

    Raises:
        UnknownActionError: an action is not in the vocabulary.
    """
    reads_signals = bool(encoding.signals)
    histories = Histories(
        partition,
        encoding.signals,
        limits.max_accounts,
        limits.account_timeout_ms,
        limits.over_after_ms or limits.idle_timeout_ms,
        pending,
    )
    staged = _begun(partition, histories, limits, pending)
    committed, touched, removed = partition.sessions, staged.touched, staged.removed
    longest_idle = LongestIdle(committed, (touched, removed))
    window_bytes, hashes_bytes, ends_session = (
        encoding.window_bytes,
        encoding.window * EVENT_HASH_BYTES,
        encoding.ends_session,
    )
    _expire(longest_idle, staged, len(committed), limits, 0 if pending else limits.max_expired)
    live = len(committed) - len(removed) + sum(one in removed or one not in committed for one in touched)
    for offset, received_at_ms, event, vouched, fields in entries:
        if not isinstance(event, SessionEvent):
            if _control(staged, offset, event, limits):
                continue
            break
        action, broker_ms = event.action, received_at_ms if vouched else 0
        session_id = session_key(event.account_id, event.session_id) if reads_signals else event.session_id
        told = limits.time_of(event.occurred_at_ms, broker_ms, staged.stream_time_ms, staged.heard_at_ms)
        occurred_at_ms, now_ms, stream_time_ms = told.at_ms, told.now_ms, staged.stream_time_ms
        ahead: Sequence[str] = ()
        if not vouched and now_ms - stream_time_ms > limits.max_step_ms:
            now_ms, ahead = leap(
                others_than(session_id, committed, touched, removed),
                stream_time_ms,
                occurred_at_ms,
                limits.idle_timeout_ms,
                limits.max_step_ms,
            )
        packed = touched.get(session_id) or (None if session_id in removed else committed.get(session_id))
        hashed = event_hash(event.event_id)
        before = (
            NONE
            if packed is None
            else before_in(
                packed,
                hashed,
                occurred_at_ms,
                now_ms if vouched else stream_time_ms,
                limits.idle_timeout_ms,
            )
        )
        step_up = step_ups.get(action)
        is_step = step_up is None or encoding.names(action)
        if before is None or not (is_step or before.number):
            staged.duplicates += before is None
            staged.unscored += before is not None
            continue
        marks, hashes = before.marks, (before.hashes + hashed)[-hashes_bytes:]
        if is_step:
            staged.expired += before is EXPIRED
            last_ms = in_order(occurred_at_ms, before.last_ms, now_ms + limits.tolerance_ms)
            gap_ms = last_ms - before.last_ms if before.number else None
            staged.clamped += last_ms != occurred_at_ms
            ended = ENDED if action in ends_session else 0
            seen = (
                histories.observe(
                    event, now_ms, last_ms, gap_ms, fields, ends=ended > 0, is_blocked=marks & BLOCKED > 0
                )
                if reads_signals
                else None
            )
            number, steps = (
                before.number + 1,
                (before.steps + encoding.step(action, gap_ms, seen))[-window_bytes:],
            )
        else:
            staged.unscored += 1
            histories.pass_over(event, now_ms)
            last_ms, ended, number, steps, gap_ms = before.last_ms, 0, before.number, before.steps, None
        staged.hear(told, now_ms, broker_ms)
        for one in ahead:  # they were where time has come to now, and are not idle since where it was
            moved = touched.pop(one, None) or committed[one]
            touched[one] = with_touched_ms(moved, now_ms)

        if packed is None:
            live += 1 - _make_room(live, longest_idle, staged, committed, limits)
        touched.pop(session_id, None)  # to the end: `touched` is in the order of the last touch
        touched[session_id] = pack(last_ms, now_ms, number, marks | ended, b"" if ended else steps, hashes)
        staged.candidates.append(
            Candidate(
                offset,
                received_at_ms,
                _at(event, occurred_at_ms),
                number,
                steps,
                now_ms,
                staged.listed.of(event.account_id, now_ms),
                marks,
                session_id,
                step_up,
                is_step,
                gap_ms,
                fields,
            )
        )
    return staged


def _at(event: SessionEvent, at_ms: int) -> SessionEvent:
    return event if at_ms == event.occurred_at_ms else replace(event, occurred_at_ms=at_ms)


def _begun(
    partition: Partition, histories: Histories, limits: SessionLimits, pending: Delta | None
) -> Staged:
    before = pending or partition.unchanged(partition.next_offset)
    begun = Staged(
        before.stream_time_ms,
        before.heard_at_ms,
        histories,
        ListedAccounts(partition.listed, partition.listed_bytes, limits.max_listed_bytes, before.listed),
        AlertedSessions(partition.alerted, limits.max_alerted, limits.alert_memory_ms, before.alerted),
        touched=dict(before.touched),
        removed=set(before.removed),
    )
    for table in (begun.histories, begun.alerted):
        table.expire(begun.stream_time_ms, 0 if pending else limits.max_expired)
    return begun


def _control(staged: Staged, offset: int, control: Control, limits: SessionLimits) -> bool:
    """Take over a control record; tell whether that is possible yet."""
    if isinstance(control, AccountListing):
        _list(staged, offset, control, limits)
        return True
    if staged.candidates and _is_of_here(staged, control):
        staged.cut_at = offset
    else:
        _judge(staged, offset, control, limits)
    return staged.cut_at is None


def _is_of_here(staged: Staged, verdict: Verdict) -> bool:
    """Tell whether a verdict's account or session is known here. It lies in every partition, and is nobody's in most."""
    account_id = verdict.account_id
    return (
        staged.histories.knows(account_id)
        or staged.alerted.knows(verdict)
        or any(one.event.account_id == account_id for one in staged.candidates)
    )


def _list(staged: Staged, offset: int, event: AccountListing, limits: SessionLimits) -> None:
    """Take over a listing. One more than there is room for is refused: an older one must not go without a word."""
    if staged.listed.put(event.account_id, event.listing, staged.stream_time_ms):
        staged.listings += 1
    else:
        staged.failures.append(_no_room(offset, limits))


def _judge(staged: Staged, offset: int, verdict: Verdict, limits: SessionLimits) -> None:
    """Take over a verdict, unless one is known that was decided later."""
    now_ms = staged.stream_time_ms
    since_ms = staged.alerted.since_ms(verdict, now_ms)
    taken = staged.alerted.judge(verdict, offset, now_ms)
    staged.verdicts[taken] += 1
    if taken is Taken.SUPERSEDED:
        return
    staged.histories.judge(verdict, now_ms, since_ms)
    is_fraud = verdict.verdict is Finding.FRAUD
    if not staged.listed.judge(
        verdict, now_ms, limits.fraud_listing_ms if is_fraud else limits.cleared_listing_ms
    ):
        staged.failures.append(_no_room(offset, limits))


def _no_room(offset: int, limits: SessionLimits) -> Failure:
    detail = (
        f"no room for one more listed account: expected at most {limits.max_listed_bytes} bytes a partition"
    )
    return Failure(offset, Reason.LISTING_REFUSED, detail)


def _expired(packed: bytes, stream_time_ms: int, limits: SessionLimits) -> bool:
    return stream_time_ms - touched_ms(packed) > limits.idle_timeout_ms


def _expire(
    longest_idle: LongestIdle[str, bytes], staged: Staged, live: int, limits: SessionLimits, most: int
) -> None:
    """Remove what has expired before the batch, and what there is no room for any more, so many at most."""
    while len(staged.removed) < most and (oldest := longest_idle.peek()):
        if _expired(oldest[1], staged.stream_time_ms, limits):
            staged.expired += 1
        elif live - len(staged.removed) > limits.max_sessions:
            staged.evicted += 1
        else:
            return
        staged.removed.add(oldest[0])


def _make_room(
    live: int,
    longest_idle: LongestIdle[str, bytes],
    staged: Staged,
    committed: dict[str, bytes],
    limits: SessionLimits,
) -> int:
    """Remove the longest idle session if one more would be too many; return how many were removed."""
    if live < limits.max_sessions:
        return 0
    oldest = longest_idle.peek()
    if oldest is not None:
        session_id, packed = oldest
    elif staged.touched:  # all that is left was touched by this very batch
        session_id, packed = next(iter(staged.touched.items()))
        del staged.touched[session_id]
    else:
        return 0
    if session_id in committed:
        staged.removed.add(session_id)
    if _expired(packed, staged.stream_time_ms, limits):
        staged.expired += 1
    else:
        staged.evicted += 1
    return 1
