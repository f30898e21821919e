"""Many sessions at once: schedules, and events merged by time."""

import gc
import itertools
import tracemalloc
from collections import defaultdict
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.behaviour import seed
from producer.behaviour.interleave import interleave, measure, schedule
from producer.behaviour.session import SimulatedSession, stream

cases = st.tuples(
    st.integers(min_value=1, max_value=120),  # sessions
    st.integers(min_value=1, max_value=40),  # live at once
    st.integers(min_value=0, max_value=2**32),  # seed
    st.integers(min_value=0, max_value=2_000_000_000_000),  # start
)


def scheduled(count: int, live: int, chosen: int) -> Iterator[tuple[int, SimulatedSession]]:
    """Schedule sessions of the seed preset, all of one seed."""
    return schedule(seed.sessions(count, chosen), live_sessions=live, rng=stream(chosen, "schedule"))


@settings(max_examples=60, deadline=None)
@given(cases)
def test_events_come_by_time_and_every_session_whole_and_in_order(case: tuple[int, int, int, int]) -> None:
    """The merged stream is sorted by time, and split by session it gives back each session's own events."""
    count, live, chosen, start_ms = case
    events = list(interleave(scheduled(count, live, chosen), start_ms=start_ms))
    assert [event.occurred_at_ms for event in events] == sorted(event.occurred_at_ms for event in events)
    by_session: dict[str, list[object]] = defaultdict(list)
    for event in events:
        by_session[event.session_id].append(event)
    expected = {
        session.session_id: list(session.events(start_ms + begins_ms))
        for begins_ms, session in scheduled(count, live, chosen)
    }
    assert by_session == expected


@settings(max_examples=60, deadline=None)
@given(cases)
def test_no_more_sessions_are_open_than_allowed(case: tuple[int, int, int, int]) -> None:
    """Between a session's first and last event, at most the allowed number of sessions are open."""
    count, live, chosen, _ = case
    spans = [(begins, begins + session.duration_ms) for begins, session in scheduled(count, live, chosen)]
    edges = sorted([(begin, 1) for begin, _ in spans] + [(end + 1, -1) for _, end in spans])
    assert max(itertools.accumulate(step for _, step in edges)) <= live


def test_sessions_do_interleave() -> None:
    """With many places open, neighbours in the stream are mostly of different sessions."""
    events = list(interleave(scheduled(500, 100, 1)))
    changes = sum(one.session_id != two.session_id for one, two in itertools.pairwise(events))
    assert changes / len(events) > 0.9


@settings(max_examples=40, deadline=None)
@given(cases)
def test_a_schedule_is_measured_as_it_is_played(case: tuple[int, int, int, int]) -> None:
    """The totals of a schedule are those of its events: sessions, events, and the time of the last."""
    count, live, chosen, _ = case
    timeline = measure(scheduled(count, live, chosen))
    events = list(interleave(scheduled(count, live, chosen)))
    assert timeline.sessions == count == len({event.session_id for event in events})
    assert timeline.events == len(events)
    assert timeline.duration_ms == events[-1].occurred_at_ms


def test_a_session_is_taken_only_when_it_begins() -> None:
    """Drawing events pulls at most the next session, which tells when to stop, ahead of those already seen."""
    taken = 0

    def counted() -> Iterator[tuple[int, SimulatedSession]]:
        nonlocal taken
        for pair in scheduled(10**12, 50, 3):
            taken += 1
            yield pair

    seen = set()
    for event in itertools.islice(interleave(counted()), 5_000):
        seen.add(event.session_id)
        assert taken <= len(seen) + 2  # the one whose first event is next, and the one after it


def test_memory_does_not_grow_with_the_run() -> None:
    """Ten times the events take no more memory: what is held is the open sessions."""

    def held_bytes(events: int) -> int:
        tracemalloc.start()
        stream_of_events = interleave(scheduled(10**12, 50, 3))
        for _ in itertools.islice(stream_of_events, events):
            pass
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return held

    assert held_bytes(40_000) < 1.5 * held_bytes(4_000)


def test_no_live_session_at_all_is_refused() -> None:
    """A schedule without a place is an error, not an endless wait."""
    with pytest.raises(ValueError, match="live_sessions is 0"):
        next(schedule(seed.sessions(1, 1), live_sessions=0, rng=stream(1, "schedule")))
