"""Stream time where nobody vouches for events' times: it makes a leap once enough sessions' clocks say so (ADR 0024)."""

import itertools
from collections.abc import Collection, Iterable, Iterator

from detector.core.session import head, touched_ms

WITNESSES = 16
"""Sessions, the last touched ones, whose clocks are asked whether time has made a leap …"""
QUORUM = 12
"""… and so many of them have to say so. At 1 wrong clock in 10, chance alone brings that about once in 10^9 events."""


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
