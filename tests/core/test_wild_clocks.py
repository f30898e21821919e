"""Times that nobody vouches for: no single clock ends others' sessions, and none holds time where it is."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from detector.contract.events import SessionEvent
from detector.core.clocks import QUORUM, WITNESSES
from detector.core.encoding import Encoding
from detector.core.limits import SessionLimits
from detector.core.partition import Delta, Partition
from detector.core.session import touched_ms
from detector.core.signals import FIRST, Kind, Signal
from detector.core.staging import Candidate, Entry, stage
from tests.core.strategies import ACTIONS, ENCODING, event_of

IDLE_MS, STEP_MS = 60_000, 5_000
LIMITS = SessionLimits(idle_timeout_ms=IDLE_MS, max_sessions=10_000, max_step_ms=STEP_MS)
WILD = "wild"
"""Begins the names of sessions whose clocks are."""
YEAR_9999_MS = 253_402_214_400_000
NOW_MS = 1_790_000_000_000
DAY_MS = 86_400_000


def entry(offset: int, session: str, at_ms: int) -> Entry:
    """Return an event that only its producer says the time of."""
    event = SessionEvent(
        event_id=f"e{offset}", session_id=session, account_id="a", action="VIEW_BALANCE", occurred_at_ms=at_ms
    )
    return Entry(offset, NOW_MS, event, vouched=False)


def run(log: Sequence[Entry], cuts: Iterable[int] = ()) -> tuple[list[Candidate], Partition]:
    """Stage and apply a log, cut into batches."""
    partition, candidates = Partition(), []
    for begin, end in itertools.pairwise([0, *sorted(cuts), len(log)]):
        staged = stage(partition, log[begin:end], ENCODING, LIMITS)
        partition.apply(Delta(end, staged.stream_time_ms, sorted(staged.removed), staged.touched))
        candidates += staged.candidates
    return candidates, partition


@st.composite
def honest(draw: st.DrawFn) -> list[Entry]:
    """Draw events in the order of their times, with quiet nights between them."""
    count = draw(st.integers(1, 120))
    sessions = draw(st.integers(1, 40))
    gaps = st.sampled_from(
        [0, 1, 500, 3_000, STEP_MS + 1, 20_000, IDLE_MS - STEP_MS, IDLE_MS + 1, 40_000_000]
    )
    times = itertools.accumulate(draw(st.lists(gaps, min_size=count, max_size=count)), initial=NOW_MS)
    return [
        entry(10 * number, f"s{draw(st.integers(1, sessions))}", at_ms)
        for number, at_ms in enumerate(itertools.islice(times, count))
    ]


@st.composite
def with_wild_clocks(draw: st.DrawFn) -> list[Entry]:
    """Draw such a log and up to as many sessions as a quorum does without, whose clocks are far ahead."""
    log = draw(honest())
    for number in draw(st.sets(st.integers(0, len(log)), min_size=1, max_size=9)):
        ahead_ms = draw(st.sampled_from([STEP_MS + 1, IDLE_MS + 1, 3_600_000, YEAR_9999_MS - NOW_MS]))
        at_ms = (log[number] if number < len(log) else log[-1])[2].occurred_at_ms + ahead_ms  # type: ignore[union-attr]
        wild = draw(st.integers(1, WITNESSES - QUORUM))
        log.append(entry(10 * number - 5, f"{WILD}{wild}", at_ms))
    return sorted(log)


def by_own_clock(log: Iterable[Entry]) -> Iterator[tuple[int, int]]:
    """Yield offset and action number of each event, were every session alone in its partition.

    Gaps between the time-out and a step below it are left to the rule: so much may stream time be ahead.
    """
    last: dict[str, tuple[int, int]] = {}
    for one in log:
        event = event_of(one)
        before_ms, number = last.get(event.session_id, (event.occurred_at_ms, 0))
        number = 1 if event.occurred_at_ms - before_ms > IDLE_MS else number + 1
        last[event.session_id] = event.occurred_at_ms, number
        yield one.offset, number


def ambiguous(log: Iterable[Entry]) -> bool:
    """Tell whether a session was idle for nearly as long as it may be."""
    last: dict[str, int] = {}
    for one in log:
        event = event_of(one)
        gap_ms = event.occurred_at_ms - last.get(event.session_id, event.occurred_at_ms)
        if IDLE_MS - STEP_MS < gap_ms <= IDLE_MS:
            return True
        last[event.session_id] = event.occurred_at_ms
    return False


def is_honest(one: Candidate) -> bool:
    """Tell whether an event is not of the wild clock."""
    return not one.event.session_id.startswith(WILD)


@settings(max_examples=600)
@given(with_wild_clocks())
def test_wild_clocks_end_nobodys_session_and_change_no_window(log: list[Entry]) -> None:
    """Each honest event has the number in its session that it would have were its session alone in the world."""
    candidates, _ = run(log)
    others = [one for one in log if not event_of(one).session_id.startswith(WILD)]
    if not ambiguous(others):
        found = [(one.offset, one.action_number) for one in candidates if is_honest(one)]
        assert found == list(by_own_clock(others))


@settings(max_examples=600)
@given(with_wild_clocks())
def test_stream_time_never_passes_what_honest_clocks_say(log: list[Entry]) -> None:
    """However wild some clocks are, stream time is at most a step ahead of the others, and never runs backwards."""
    candidates, _ = run(log)
    honest_ms = before_ms = 0
    for one in candidates:
        if is_honest(one):
            honest_ms = max(honest_ms, one.event.occurred_at_ms)
        assert before_ms <= one.stream_time_ms <= honest_ms + STEP_MS
        before_ms = one.stream_time_ms


@settings(max_examples=600)
@given(with_wild_clocks(), st.data())
def test_any_cut_into_batches_leaves_the_same(log: list[Entry], data: st.DataObject) -> None:
    """Whom time was moved by is a matter of the log: same windows, times and live sessions, in the same order."""
    cuts = data.draw(st.sets(st.integers(0, len(log)), max_size=8))
    (one, alone), (other, cut) = run(log), run(log, cuts)
    assert one == other
    assert alone.stream_time_ms == cut.stream_time_ms
    assert live(alone) == live(cut)


def live(partition: Partition) -> list[tuple[str, bytes]]:
    """Return the sessions that have not expired; those that have leave memory at the latest with the next batch."""
    return [
        one for one in partition.sessions.items() if partition.stream_time_ms - touched_ms(one[1]) <= IDLE_MS
    ]


@given(with_wild_clocks())
def test_sessions_lie_in_the_order_of_their_last_touch(log: list[Entry]) -> None:
    """The front of the table is what expires next, through leaps of time as well."""
    _, partition = run(log, range(0, len(log), 7))
    touched = [touched_ms(packed) for packed in partition.sessions.values()]
    assert touched == sorted(touched)


@given(st.integers(0, 12), st.sampled_from([2 * IDLE_MS, 40_000_000, YEAR_9999_MS - NOW_MS]))
def test_time_goes_on_after_a_wild_clock_and_a_quiet_night(position: int, night_ms: int) -> None:
    """A first record of the year 9999 does not hold it, and after a night a quorum of sessions takes it there."""
    evening = [entry(number, f"evening-{number}", NOW_MS + number) for number in range(20)]
    evening.insert(position, entry(99, WILD, YEAR_9999_MS + night_ms))
    morning = [
        entry(100 + number, f"morning-{number}", NOW_MS + night_ms + number) for number in range(WITNESSES)
    ]
    _, partition = run([*evening, *morning])
    assert 0 <= partition.stream_time_ms - (NOW_MS + night_ms) < WITNESSES
    _, after = run(
        [*evening, *morning, entry(200, "morning-1", NOW_MS + night_ms + 99)], [len(evening) + WITNESSES]
    )
    assert set(after.sessions) == {f"morning-{number}" for number in range(WITNESSES)}


def test_a_leap_takes_a_quorum_of_sessions() -> None:
    """One session fewer does not make it, however often they say so."""
    few = [entry(number, f"s{number % (QUORUM - 1)}", NOW_MS + number) for number in range(200)]
    assert run(few)[1].stream_time_ms == 0
    assert run([*few, entry(200, "one more", NOW_MS + 200)])[1].stream_time_ms > NOW_MS


def test_what_the_broker_vouches_for_moves_time_at_once() -> None:
    """Held against the broker's clock before, an event's time needs no other witness."""
    staged = stage(Partition(), [entry(0, "a", NOW_MS)._replace(vouched=True)], ENCODING, LIMITS)
    assert staged.stream_time_ms == NOW_MS


def test_a_wild_clock_is_the_accounts_latest_for_a_day_at_most() -> None:
    """A password changed in the year 9999 is one of today, and two days later one of long ago; so it is for counts."""
    signals = (
        Signal(name="since a look", kind=Kind.SINCE, of="action", bounds=(1.5 * DAY_MS,)),
        Signal(name="looks", kind=Kind.COUNT, of="action", bounds=(0.5,), half_life_ms=DAY_MS // 4),
    )
    encoding = Encoding(ACTIONS, window=1, signals=signals)
    times_ms = [NOW_MS, NOW_MS + 1, YEAR_9999_MS, NOW_MS + DAY_MS, NOW_MS + 3 * DAY_MS]
    log = [
        entry(number, f"s{number}", at_ms)._replace(vouched=not number)
        for number, at_ms in enumerate(times_ms)
    ]
    limits = SessionLimits(max_step_ms=4 * DAY_MS)
    told = [encoding.signals_of(one.steps)[0] for one in stage(Partition(), log, encoding, limits).candidates]
    assert told[3] == [FIRST, FIRST + 1]
    assert told[4] == [FIRST + 1, FIRST]
