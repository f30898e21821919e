"""Which time decides: one that no single clock owns, be it a customer's or an attacker's (ADR 0042)."""

import itertools
from collections.abc import Iterable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from detector.contract.events import SessionEvent
from detector.core.clocks import Clock, bounded, by_broker, by_event, in_order
from detector.core.limits import SessionLimits
from detector.core.partition import Delta, Partition
from detector.core.staging import Candidate, Entry, Staged, stage
from tests.core.strategies import ENCODING

NOW_MS, IDLE_MS, TOLERANCE_MS, AHEAD_MS = 1_790_000_000_000, 600_000, 5_000, 60_000
TIMES_MS = st.integers(NOW_MS - 10**8, NOW_MS + 10**8)
CLAIMS_MS = st.sampled_from(
    [0, 1, -400, 900, -TOLERANCE_MS, -TOLERANCE_MS - 1, 8_000, -30_000, AHEAD_MS + 1, -(10**9), 10**9]
)


def limits(clock: Clock) -> SessionLimits:
    """Return limits under which this clock decides."""
    return SessionLimits(IDLE_MS, max_step_ms=AHEAD_MS, clock=clock, tolerance_ms=TOLERANCE_MS)


def entry(number: int, session: str, broker_ms: int, claimed_ms: int) -> Entry:
    """Return an event that its producer and the broker say the time of."""
    event = SessionEvent(
        event_id=f"e{number}",
        session_id=session,
        account_id="a",
        action="VIEW_BALANCE",
        occurred_at_ms=claimed_ms,
    )
    return Entry(number, broker_ms, event)


def run(log: Sequence[Entry], clock: Clock, cuts: Iterable[int] = ()) -> tuple[list[Candidate], list[Staged]]:
    """Stage and apply a log, cut into batches."""
    partition, candidates, batches = Partition(), list[Candidate](), list[Staged]()
    for begin, end in itertools.pairwise([0, *sorted(cuts), len(log)]):
        staged = stage(partition, log[begin:end], ENCODING, limits(clock))
        delta = Delta(
            end, staged.stream_time_ms, sorted(staged.removed), staged.touched, heard_at_ms=staged.heard_at_ms
        )
        partition.apply(delta)
        candidates += staged.candidates
        batches.append(staged)
    return candidates, batches


@st.composite
def live(draw: st.DrawFn, claims_ms: st.SearchStrategy[int] = CLAIMS_MS) -> list[Entry]:
    """Draw a live partition's log: others tell the broker's time, the session `wild` whatever it likes."""
    broker_ms, log = NOW_MS, [entry(0, "honest", NOW_MS, NOW_MS)]
    for number in range(1, draw(st.integers(2, 40))):
        broker_ms += draw(st.sampled_from([0, 3, 700, 4_000, 20_000, 200_000]))
        session = draw(st.sampled_from(["wild", "wild", "a", "b"]))
        claimed_ms = broker_ms + (draw(claims_ms) if session == "wild" else 0)
        log.append(entry(number, session, broker_ms, claimed_ms))
    return log


@given(TIMES_MS, TIMES_MS, TIMES_MS, st.integers(0, 10**7), st.integers(0, 10**6))
def test_what_is_decided_lies_between_stream_time_and_the_broker(
    claimed_ms: int, broker_ms: int, stream_ms: int, ago_ms: int, tolerance_ms: int
) -> None:
    """Stream time runs neither backwards nor slower than the broker's clock nor ahead of it; an event is in the tolerance of it.

    Only who is beyond the tolerance is counted; who is within it, and not ahead, is decided at its own time.
    """
    heard_at_ms = broker_ms - ago_ms
    before_ms = min(stream_ms, heard_at_ms)
    told = bounded(claimed_ms, broker_ms, before_ms, heard_at_ms, tolerance_ms)
    assert before_ms + ago_ms <= told.now_ms <= broker_ms
    assert told.now_ms - tolerance_ms <= told.at_ms <= told.now_ms
    assert told.is_ahead == (claimed_ms - broker_ms > tolerance_ms)
    assert told.is_late == (told.now_ms - claimed_ms > tolerance_ms)
    if not told.is_late and claimed_ms <= told.now_ms:
        assert told.at_ms == claimed_ms


@given(TIMES_MS, TIMES_MS, TIMES_MS, st.integers(0, 10**6))
def test_one_clock_alone_can_be_asked(claimed_ms: int, broker_ms: int, stream_ms: int, most_ms: int) -> None:
    """The broker's is never another; the event's own holds unless it is ahead by more than it may be, then the broker's."""
    told = by_broker(claimed_ms, broker_ms, stream_ms, most_ms)
    assert (told.at_ms, told.now_ms) == (broker_ms, max(stream_ms, broker_ms))
    assert told.is_ahead or told.is_late or abs(claimed_ms - broker_ms) <= most_ms
    own = by_event(claimed_ms, broker_ms, stream_ms, most_ms)
    assert own.at_ms == (broker_ms if own.is_ahead else claimed_ms)
    assert own.is_ahead == (claimed_ms - broker_ms > most_ms)
    assert own.now_ms == max(stream_ms, own.at_ms)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30), st.integers(0, 10**10), st.integers(0, 500))
def test_a_history_that_is_published_late_keeps_its_times(
    gaps_ms: list[int], delay_ms: int, pace_ms: int
) -> None:
    """In its order and faster than it happened, by whatever delay, within the tolerance of what publishing takes."""
    times_ms = [NOW_MS, *itertools.accumulate(gaps_ms, initial=NOW_MS)]
    end_ms = times_ms[-1] + delay_ms
    log = [
        entry(at, "s", end_ms + min(pace_ms, TOLERANCE_MS // len(times_ms)) * at, own)
        for at, own in enumerate(times_ms)
    ]
    candidates, _ = run(log, Clock.BOUNDED)
    assert [one.event.occurred_at_ms for one in candidates] == times_ms


@settings(max_examples=300)
@given(live())
def test_no_claim_makes_a_session_longer_than_it_is_by_more_than_two_tolerances(log: list[Entry]) -> None:
    """However its clock runs, its gaps since it began add up to no more than went by at the broker, and two tolerances."""
    for clock in (Clock.BOUNDED, Clock.BROKER):
        began_ms = gone_ms = 0
        for one in run(log, clock)[0]:
            if one.key != "wild":
                continue
            if one.gap_ms is None:
                began_ms, gone_ms = one.received_at_ms, 0
            gone_ms += one.gap_ms or 0
            assert gone_ms <= one.received_at_ms - began_ms + 2 * TOLERANCE_MS
            assert one.stream_time_ms == one.received_at_ms


@settings(max_examples=300)
@given(live())
def test_no_clock_changes_what_others_come_to(log: list[Entry]) -> None:
    """Whatever one session claims, all others have the very windows that they have without it."""
    for clock in (Clock.BOUNDED, Clock.BROKER):
        among = [(one.offset, one.steps) for one in run(log, clock)[0] if one.key != "wild"]
        alone = [one for one in log if one[2].session_id != "wild"]  # type: ignore[union-attr]
        assert among == [(one.offset, one.steps) for one in run(alone, clock)[0]]


@settings(max_examples=300)
@given(st.data(), live(), st.sampled_from(Clock))
def test_no_cut_changes_anything(data: st.DataObject, log: list[Entry], clock: Clock) -> None:
    """What is decided when, and what is counted, are those of the log in one batch."""
    cuts = data.draw(st.sets(st.integers(1, len(log)), max_size=6))
    (whole, (one,)), (cut, some) = run(log, clock), run(log, clock, cuts)
    assert cut == whole
    for name in ("ahead", "late", "clamped"):
        assert sum(getattr(batch, name) for batch in some) == getattr(one, name)


@given(TIMES_MS, TIMES_MS, TIMES_MS)
def test_what_changed_places_is_as_far_apart_as_it_was(at_ms: int, last_ms: int, latest_ms: int) -> None:
    """A late action counts as so much after the last as it lies before it, up to what may be; order costs nothing."""
    found_ms = in_order(at_ms, last_ms, latest_ms)
    assert found_ms >= last_ms
    if at_ms >= last_ms:
        assert found_ms == at_ms
    else:
        assert found_ms - last_ms == min(last_ms - at_ms, max(0, latest_ms - last_ms))


def test_disorder_within_the_tolerance_is_no_script() -> None:
    """Neither two events that changed places nor a clock that is behind at every second one makes a gap of next to nothing."""
    swapped = [(0, 0), (9_000, 9_000), (9_250, 5_000), (20_000, 20_000)]
    behind = [(at_ms, at_ms - 4_000 * (number % 2)) for number, at_ms in enumerate(range(0, 60_000, 6_000))]
    for told in (swapped, behind):
        log = [
            entry(number, "s", NOW_MS + broker_ms, NOW_MS + own_ms)
            for number, (broker_ms, own_ms) in enumerate(told)
        ]
        gaps_ms = [one.gap_ms for one in run(log, Clock.BOUNDED)[0]]
        assert all(gap_ms is None or gap_ms >= 2_000 for gap_ms in gaps_ms)


def test_an_alert_tells_the_time_that_decided() -> None:
    """A candidate's event has it in place of its own; of a file, or of a producer's own time, it keeps its own."""
    ahead = entry(0, "s", NOW_MS, NOW_MS + 6 * AHEAD_MS)
    for clock in Clock:
        ((found,), (staged,)) = run([ahead], clock)
        assert (found.event, staged.ahead) == (replace(ahead[2], occurred_at_ms=NOW_MS), 1)
        for nobodys in (ahead._replace(received_at_ms=0), ahead._replace(vouched=False)):
            ((found,), (staged,)) = run([nobodys], clock)
            assert (found.event, staged.ahead) == (ahead[2], 0)
