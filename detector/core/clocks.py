"""Which time decides: an event's own, or the broker's where the two are too far apart (ADR 0042).

Where nobody vouches for events' times, stream time makes a leap once enough sessions' clocks say so (ADR 0024).
"""

import itertools
from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from detector.core.session import head, touched_ms

WITNESSES = 16
"""Sessions, the last touched ones, whose clocks are asked whether time has made a leap …"""
QUORUM = 12
"""… and so many of them have to say so. At 1 wrong clock in 10, chance alone brings that about once in 10^9 events."""


class Clock(StrEnum):
    """Whose time decides, where the broker's is known."""

    EVENT = "event"  # the event's own, unless it is ahead
    BOUNDED = "bounded"  # the event's own within a tolerance, else the broker's
    BROKER = "broker"


class Told(NamedTuple):
    """What time it is by an event.

    Attributes:
        at_ms: that it is decided at.
        now_ms: stream time with it.
        is_ahead: its own time was ahead of the broker's by more than it may be.
        is_late: … behind what time it is.
    """

    at_ms: int
    now_ms: int
    is_ahead: bool = False
    is_late: bool = False


def bounded(
    claimed_ms: int, broker_ms: int, stream_time_ms: int, heard_at_ms: int, tolerance_ms: int
) -> Told:
    """Return the time of an event by its own clock, as far as others bear it out.

    Stream time moves on with the broker's clock, and with events that are ahead of it, never beyond the broker's. So it is
    late by what the most punctual event was, by which also what is published long after it happened keeps its times.

    Args:
        claimed_ms: its time.
        broker_ms: its record's.
        stream_time_ms: before it.
        heard_at_ms: the broker's time of the event before it; 0 if not known.
        tolerance_ms: that an event may be behind stream time.
    """
    went_on_ms = stream_time_ms + max(0, broker_ms - heard_at_ms) if heard_at_ms else stream_time_ms
    now_ms = max(stream_time_ms, min(broker_ms, max(went_on_ms, claimed_ms)))
    is_late = now_ms - claimed_ms > tolerance_ms
    at_ms = now_ms if is_late else min(claimed_ms, now_ms)
    return Told(at_ms, now_ms, claimed_ms - broker_ms > tolerance_ms, is_late)


def by_broker(claimed_ms: int, broker_ms: int, stream_time_ms: int, tolerance_ms: int) -> Told:
    """Return the time of an event by the broker's clock alone; arguments as above."""
    ahead_ms = claimed_ms - broker_ms
    return Told(broker_ms, max(stream_time_ms, broker_ms), ahead_ms > tolerance_ms, -ahead_ms > tolerance_ms)


def by_event(claimed_ms: int, broker_ms: int, stream_time_ms: int, max_ahead_ms: int) -> Told:
    """Return the time of an event by its own clock, unless that is ahead of the broker's by more than it may be."""
    is_ahead = claimed_ms - broker_ms > max_ahead_ms
    at_ms = broker_ms if is_ahead else claimed_ms
    return Told(at_ms, max(stream_time_ms, at_ms), is_ahead)


def in_order(at_ms: int, last_ms: int, latest_ms: int) -> int:
    """Return when an action counts as done in its session, whose last one may lie behind it.

    Events that have changed places are as far apart as they were: one that lies 3 s before the last counts 3 s after it.
    A session's time goes no further than `latest_ms` by that, so it adds up to no more than went by and a tolerance.
    """
    return at_ms if at_ms >= last_ms else max(last_ms, min(2 * last_ms - at_ms, latest_ms))


def leap(
    others: Iterable[tuple[str, bytes]],
    stream_time_ms: int,
    occurred_at_ms: int,
    idle_timeout_ms: int,
    max_step_ms: int,
) -> tuple[int, list[str]]:
    """Return stream time with an event that is ahead of it by more than a step.

    Args:
        others: sessions than the event's, the last touched first.
        stream_time_ms: before it.
        occurred_at_ms: its time.
        idle_timeout_ms: what was not touched for longer may be in memory still or not, by how the log was cut.
        max_step_ms: as above.

    Returns:
        stream time, and, if it moves, the other sessions that were ahead of it, in the order of their last touch.
    """
    clocks_ms = {
        session_id: head(packed)[0]
        for session_id, packed in itertools.takewhile(
            lambda one: stream_time_ms - touched_ms(one[1]) <= idle_timeout_ms,
            itertools.islice(others, WITNESSES - 1),
        )
    }
    ahead = {one: at_ms for one, at_ms in clocks_ms.items() if at_ms - stream_time_ms > max_step_ms}
    if len(ahead) + 1 < QUORUM:
        return stream_time_ms, []
    return sorted([occurred_at_ms, *ahead.values()])[-QUORUM], list(ahead)[::-1]


def others_than(
    key: str, committed: dict[str, bytes], touched: dict[str, bytes], removed: Collection[str]
) -> Iterator[tuple[str, bytes]]:
    """Walk the other sessions as a batch has left them so far, the last touched first."""
    yield from (one for one in reversed(touched.items()) if one[0] != key)
    for session_id, packed in reversed(committed.items()):
        if session_id not in touched:
            if session_id in removed:
                return  # and so are all that were touched before it
            if session_id != key:
                yield session_id, packed
