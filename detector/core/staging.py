"""Staging: from a partition and its next events to the windows to score, without changing the partition.

Stage, commit, apply: everything a batch would change is collected beside the partition, so that a batch whose
transaction fails leaves nothing behind. Which window an event gets depends on the log alone, not on how the
log was cut into batches.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from detector.contract.accounts import AccountListing, Listing
from detector.contract.actions import Action
from detector.contract.events import SessionEvent
from detector.core.encoding import Encoding
from detector.core.partition import Delta, Partition
from detector.core.session import (
    ENDED,
    EVENT_HASH_BYTES,
    HEAD_BYTES,
    MARKS,
    event_hash,
    head,
    holds,
    pack,
    touched_ms,
)

_LOGOUT = Action.LOGOUT.value


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What bounds the life and number of sessions.

    Attributes:
        idle_timeout_ms: a session with no action for longer, by stream time, has expired.
        max_sessions: most sessions kept for one partition; beyond it the longest idle is evicted.
    """

    idle_timeout_ms: int = 30 * 60 * 1000
    max_sessions: int = 1_000_000


class Entry(NamedTuple):
    """An event or listing and where it lies in the log: its offset, and when the broker took it (its timestamp)."""

    offset: int
    received_at_ms: int
    event: SessionEvent | AccountListing


class Candidate(NamedTuple):
    """One event to be scored.

    Attributes:
        offset: of the event, as is `received_at_ms`, the time of its record.
        event: itself.
        action_number: its number in its session, from 1.
        steps: of its window.
        stream_time_ms: of the partition, this event included.
        listing: its account's.
        marks: that its session had before the batch; 0 if it begins.
    """

    offset: int
    received_at_ms: int
    event: SessionEvent
    action_number: int
    steps: bytes
    stream_time_ms: int
    listing: Listing | None
    marks: int


@dataclass(slots=True)
class Staged:
    """What a batch of one partition comes to, before it is scored."""

    stream_time_ms: int
    candidates: list[Candidate] = field(default_factory=list)
    touched: dict[str, bytes] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    listed: dict[str, Listing | None] = field(default_factory=dict)
    listings: int = 0
    duplicates: int = 0
    clamped: int = 0
    expired: int = 0
    evicted: int = 0


class _LongestIdle:
    """Walks the sessions of a partition that the batch has not touched or removed, the longest idle first.

    One walk serves a whole batch, since nothing is taken out of the partition before the commit.
    """

    def __init__(self, partition: Partition, staged: Staged) -> None:
        self._items: Iterator[tuple[str, bytes]] = iter(partition.sessions.items())
        self._staged = staged
        self._head = next(self._items, None)

    def peek(self) -> tuple[str, bytes] | None:
        staged = self._staged
        while self._head is not None and (self._head[0] in staged.touched or self._head[0] in staged.removed):
            self._head = next(self._items, None)
        return self._head


def stage(
    partition: Partition,
    entries: Iterable[Entry],
    encoding: Encoding,
    limits: SessionLimits,
    pending: Delta | None = None,
) -> Staged:
    """Stage the next events of a partition.

    A repeated event id within the session's window is a duplicate: counted, and otherwise ignored. A time
    before the session's last is clamped to it. LOGOUT ends the session: the next action begins a new one. A listing
    holds for the events after it.

    Args:
        partition: the committed state; not changed.
        entries: in the order of the log; every action is in the encoding's vocabulary.
        encoding: of the model that will score.
        limits: of sessions.
        pending: what earlier events of the same batch come to; what is returned is that and what these add to it.

    Raises:
        UnknownActionError: an action is not in the vocabulary.
    """
    staged = Staged(partition.stream_time_ms) if pending is None else _continued(pending)
    committed, touched, removed = partition.sessions, staged.touched, staged.removed
    longest_idle = _LongestIdle(partition, staged)
    window_bytes, hashes_bytes = encoding.window_bytes, encoding.window * EVENT_HASH_BYTES
    _expire(longest_idle, staged, limits)
    live = len(committed) - len(removed) + sum(one in removed or one not in committed for one in touched)
    stream_time_ms = staged.stream_time_ms

    for offset, received_at_ms, event in entries:
        if isinstance(event, AccountListing):
            staged.listed[event.account_id] = event.listing
            staged.listings += 1
            continue
        session_id, action, occurred_at_ms = event.session_id, event.action, event.occurred_at_ms
        now_ms = max(stream_time_ms, occurred_at_ms)
        packed = touched.get(session_id)
        if packed is None and session_id not in removed:
            packed = committed.get(session_id)
        known = packed is not None
        hashed = event_hash(event.event_id)

        begins, hashes = True, hashed
        if packed is not None:
            before_ms, touched_at_ms, number, steps_end, flags = head(packed)
            if now_ms - touched_at_ms > limits.idle_timeout_ms:
                staged.expired += 1
            elif holds(packed, steps_end, hashed):
                staged.duplicates += 1
                continue
            else:
                begins = flags & ENDED != 0
                hashes = (packed[steps_end:] + hashed)[-hashes_bytes:]
        if packed is None or begins:
            steps, number, last_ms, flags = encoding.step(action, None), 1, occurred_at_ms, 0
        else:
            last_ms = max(occurred_at_ms, before_ms)
            staged.clamped += last_ms != occurred_at_ms
            steps = (packed[HEAD_BYTES:steps_end] + encoding.step(action, last_ms - before_ms))[
                -window_bytes:
            ]
            number, flags = number + 1, flags & MARKS
        staged.stream_time_ms = stream_time_ms = now_ms

        if not known:
            live += 1 - _make_room(live, longest_idle, staged, committed, limits)
        touched.pop(session_id, None)  # to the end: `touched` is in the order of the last touch
        ended = ENDED if action == _LOGOUT else 0
        touched[session_id] = pack(last_ms, now_ms, number, flags | ended, b"" if ended else steps, hashes)
        listing = _listing(event.account_id, staged, partition)
        staged.candidates.append(
            Candidate(offset, received_at_ms, event, number, steps, now_ms, listing, flags)
        )
    return staged


def _continued(pending: Delta) -> Staged:
    return Staged(
        pending.stream_time_ms, [], dict(pending.touched), set(pending.removed), dict(pending.listed)
    )


def _listing(account_id: str, staged: Staged, partition: Partition) -> Listing | None:
    if account_id in staged.listed:
        return staged.listed[account_id]
    return partition.listed.get(account_id)


def _expired(packed: bytes, stream_time_ms: int, limits: SessionLimits) -> bool:
    return stream_time_ms - touched_ms(packed) > limits.idle_timeout_ms


def _expire(longest_idle: _LongestIdle, staged: Staged, limits: SessionLimits) -> None:
    """Remove what has expired before the batch."""
    while (oldest := longest_idle.peek()) and _expired(oldest[1], staged.stream_time_ms, limits):
        staged.removed.add(oldest[0])
        staged.expired += 1


def _make_room(
    live: int,
    longest_idle: _LongestIdle,
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
