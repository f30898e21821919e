"""Many sessions at once: when each begins, and their events merged by time. Pure, lazy, bounded in memory."""

import heapq
import random
from collections.abc import Iterable, Iterator

import msgspec

from detector.contract.events import SessionAction
from producer.behaviour.session import SimulatedSession

PAUSE_MEAN_MS = 30_000


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """What a schedule amounts to."""

    sessions: int
    events: int
    duration_ms: int
    """From simulated time 0 to the last event."""


def schedule(
    sessions: Iterable[SimulatedSession], *, live_sessions: int, rng: random.Random
) -> Iterator[tuple[int, SimulatedSession]]:
    """Yield each session with its beginning in milliseconds of simulated time, in order of beginning.

    A closed system of `live_sessions` places: a session takes the place that is free first, and the place rests
    for an exponential pause (mean `PAUSE_MEAN_MS`) before each session, the first included. So at most
    `live_sessions` sessions are open at any time, and they don't begin in step.

    Raises:
        ValueError: `live_sessions` below 1.
    """
    if live_sessions < 1:
        raise ValueError(f"live_sessions is {live_sessions}: expected 1 or more")

    def pause_ms() -> int:
        # At least 1, so that a place's last event and the next session's first never share a moment.
        return 1 + round(rng.expovariate(1 / PAUSE_MEAN_MS))

    free_at_ms = [pause_ms() for _ in range(live_sessions)]
    heapq.heapify(free_at_ms)
    for session in sessions:
        start_ms = free_at_ms[0]
        yield start_ms, session
        heapq.heapreplace(free_at_ms, start_ms + session.duration_ms + pause_ms())


def interleave(
    scheduled: Iterable[tuple[int, SimulatedSession]], *, start_ms: int = 0
) -> Iterator[SessionAction]:
    """Merge the events of scheduled sessions by time, simulated time 0 being `start_ms` (Unix milliseconds).

    A session is taken from `scheduled` at most one ahead of its turn, and dropped after its last event: memory
    is that of the sessions open at one time. Events of the same millisecond keep the order of their sessions.
    """
    waiting: list[tuple[int, int, SessionAction, Iterator[SessionAction]]] = []

    def pop() -> SessionAction:
        _, order, event, following = waiting[0]
        succeeding = next(following, None)
        if succeeding is None:
            heapq.heappop(waiting)
        else:
            heapq.heapreplace(waiting, (succeeding.occurred_at_ms, order, succeeding, following))
        return event

    for order, (begins_ms, session) in enumerate(scheduled):
        while waiting and waiting[0][0] < start_ms + begins_ms:
            yield pop()
        events = session.events(start_ms + begins_ms)
        first = next(events)
        heapq.heappush(waiting, (first.occurred_at_ms, order, first, events))
    while waiting:
        yield pop()


def measure(scheduled: Iterable[tuple[int, SimulatedSession]]) -> Timeline:
    """Run through a schedule for its totals, without making an event."""
    sessions = events = duration_ms = 0
    for begins_ms, session in scheduled:
        sessions += 1
        events += len(session.actions)
        duration_ms = max(duration_ms, begins_ms + session.duration_ms)
    return Timeline(sessions=sessions, events=events, duration_ms=duration_ms)
