"""What the demo publishes first, what it shows, and which lawful sessions look like attacks."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from demo.traffic import looks_like_an_attack, parted
from detector.contract.events import SessionEvent


def event(session: str, at_ms: int, number: int) -> bytes:
    """Make an event's line."""
    return msgspec.json.encode(
        SessionEvent(
            event_id=f"{number}", session_id=session, account_id="a", action="LOGIN", occurred_at_ms=at_ms
        )
    )


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 100))), st.integers(0, 100))
def test_a_recording_is_parted_by_time_and_whoever_was_under_way_is_not_counted(
    events: list[tuple[str, int]], at_ms: int
) -> None:
    """Both parts together are the recording, in its order; counted are the sessions of the second part alone."""
    lines = [
        event(session, time_ms, number)
        for number, (session, time_ms) in enumerate(sorted(events, key=lambda one: one[1]))
    ]
    traffic = parted(lines, at_ms)
    assert [*traffic.before, *traffic.shown] == lines
    before = {session for session, time_ms in events if time_ms < at_ms}
    assert traffic.actions.keys() == {session for session, _ in events} - before
    times_ms = [time_ms for _, time_ms in events if time_ms >= at_ms]
    assert traffic.span_ms == (max(times_ms) - min(times_ms) if times_ms else 0)


def test_the_part_shown_comes_at_the_rate_wanted() -> None:
    """Played so many times as fast as it happened, it has so many events a second; what has no length comes at once."""
    lines = [event("s", 1000 * number, number) for number in range(11)]
    assert parted(lines, 0).speed(110) == "100.000"
    assert parted(lines[:1], 0).speed(110) == parted([], 0).speed(110) == "max"


def test_attacks_change_an_account_and_take_much() -> None:
    """A large transfer beside a new recipient or password looks like an attack; either alone does not."""
    assert looks_like_an_attack(["LOGIN", "TRANSFER_LARGE", "ADD_RECIPIENT"])
    assert looks_like_an_attack(["CHANGE_PASSWORD", "TRANSFER_LARGE"])
    assert not looks_like_an_attack(["LOGIN", "ADD_RECIPIENT", "TRANSFER_SMALL"])
    assert not looks_like_an_attack(["LOGIN", "TRANSFER_LARGE"])
