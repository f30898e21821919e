"""What a session remembers, forgets and is scored on."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.contract.dead_letters import Reason
from detector.contract.events import SessionEvent
from detector.contract.listings import AccountListing, Listing
from detector.core.encoding import Encoding, UnknownActionError
from detector.core.limits import SessionLimits
from detector.core.listed import OVERHEAD_BYTES
from detector.core.partition import Delta, Partition
from detector.core.session import ENDED, MARKS, MAX_ACTIONS, head, pack, touched_ms, with_marks
from detector.core.staging import Entry, Staged, stage
from tests.core.strategies import ENCODING, logs

LIMITS = SessionLimits(idle_timeout_ms=60_000, max_sessions=3)


def event(session: str, action: str, at_ms: int, event_id: str | None = None) -> SessionEvent:
    """Make an event."""
    return SessionEvent(
        event_id=event_id or f"{session}-{action}-{at_ms}",
        session_id=session,
        account_id="account",
        action=action,
        occurred_at_ms=at_ms,
    )


def entries(*events: SessionEvent) -> list[Entry]:
    """Lay events at offsets from 0 on."""
    return [Entry(offset, event.occurred_at_ms, event) for offset, event in enumerate(events)]


def staged(
    *events: SessionEvent, partition: Partition | None = None, limits: SessionLimits = LIMITS
) -> Staged:
    """Stage events, at offsets from 0 on."""
    return stage(partition or Partition(), entries(*events), ENCODING, limits)


def windows(of: Staged) -> list[list[str]]:
    """Name the actions of the windows to be scored."""
    return [ENCODING.actions(candidate.steps) for candidate in of.candidates]


def applied(*events: SessionEvent, limits: SessionLimits = LIMITS) -> Partition:
    """Apply a batch, as after its commit."""
    partition = Partition()
    result = staged(*events, partition=partition, limits=limits)
    partition.apply(Delta(len(events), result.stream_time_ms, sorted(result.removed), result.touched))
    return partition


def test_every_action_is_scored_with_the_window_up_to_it() -> None:
    """Each action of a session is scored, with the last `window` actions, oldest first."""
    actions = ["LOGIN", "VIEW_BALANCE", "ADD_RECIPIENT", "TRANSFER_SMALL", "TRANSFER_LARGE"]
    result = staged(*(event("s", action, at) for at, action in enumerate(actions)))
    assert windows(result) == [actions[:1], actions[:2], actions[:3], actions[:4], actions[1:5]]
    assert [candidate.action_number for candidate in result.candidates] == [1, 2, 3, 4, 5]


def test_sessions_do_not_mix() -> None:
    """Interleaved sessions are scored each on its own actions."""
    result = staged(
        event("a", "LOGIN", 1), event("b", "LOGIN", 2), event("a", "LOGOUT", 3), event("b", "VIEW_BALANCE", 4)
    )
    assert windows(result) == [["LOGIN"], ["LOGIN"], ["LOGIN", "LOGOUT"], ["LOGIN", "VIEW_BALANCE"]]


def test_staging_leaves_the_partition_alone() -> None:
    """A batch whose transaction fails must leave nothing behind."""
    partition = applied(event("a", "LOGIN", 1))
    before = dict(partition.sessions), partition.stream_time_ms, partition.next_offset
    staged(event("a", "LOGOUT", 100_000), event("b", "LOGIN", 5), partition=partition)
    assert (partition.sessions, partition.stream_time_ms, partition.next_offset) == before


@pytest.mark.parametrize("ended", [False, True])
def test_a_repeated_event_is_ignored_and_counted(ended: bool) -> None:  # noqa: FBT001  a parameter of the test
    """An event id seen within the session's window is a duplicate, in the batch, across batches, after LOGOUT."""
    first = [event("s", "LOGIN", 1), event("s", "VIEW_BALANCE", 2)] + (
        [event("s", "LOGOUT", 3)] if ended else []
    )
    again = staged(*first, *first)
    assert (len(again.candidates), again.duplicates) == (len(first), len(first))
    later = staged(*first, partition=applied(*first))
    assert (len(later.candidates), later.duplicates, later.touched) == (0, len(first), {})


def test_a_duplicate_does_not_move_stream_time() -> None:
    """Nothing about a duplicate counts, its time neither."""
    result = staged(event("s", "LOGIN", 1, "x"), event("s", "LOGIN", 50_000, "x"))
    assert (result.stream_time_ms, result.duplicates) == (1, 1)


def test_time_that_runs_backwards_counts_as_so_much_later() -> None:
    """An event before its session's last is as far from it as it says, and time goes on from there."""
    result = staged(
        event("s", "LOGIN", 5_000), event("s", "VIEW_BALANCE", 1_000), event("s", "LOGOUT", 9_500)
    )
    assert [one.gap_ms for one in result.candidates] == [None, 4_000, 500]
    assert result.clamped == 1


def test_logout_ends_the_session() -> None:
    """What follows a LOGOUT under the same id is a new session, not blocked and with an empty window."""
    result = staged(event("s", "LOGIN", 1), event("s", "LOGOUT", 2), event("s", "LOGIN", 3))
    assert windows(result)[2] == ["LOGIN"]
    assert result.candidates[2].action_number == 1


def test_an_idle_session_expires_by_stream_time() -> None:
    """A session idle for longer than the limit has ended; at the limit it lives."""
    limit = LIMITS.idle_timeout_ms
    result = staged(
        event("s", "LOGIN", 0), event("s", "VIEW_BALANCE", limit), event("s", "LOGOUT", 2 * limit + 1)
    )
    assert windows(result) == [["LOGIN"], ["LOGIN", "VIEW_BALANCE"], ["LOGOUT"]]
    assert result.expired == 1


def test_a_late_session_does_not_expire_by_its_own_old_times() -> None:
    """Idleness is counted in stream time, so a session with old times is scored whole among newer ones."""
    result = staged(event("now", "LOGIN", 10_000_000), event("old", "LOGIN", 1), event("old", "LOGOUT", 2))
    assert windows(result)[2] == ["LOGIN", "LOGOUT"]


def test_expired_sessions_leave_memory() -> None:
    """What expired is removed, at the latest with the batch after, and counted once."""
    partition = applied(event("a", "LOGIN", 0), event("b", "LOGIN", 100_000))
    result = staged(event("b", "LOGOUT", 100_001), partition=partition)
    assert (result.removed, result.expired) == ({"a"}, 1)


def test_the_longest_idle_session_is_evicted_at_the_cap() -> None:
    """At the cap the session touched longest ago goes, and is counted."""
    partition = applied(*(event(name, "LOGIN", at) for at, name in enumerate("abc")))
    result = staged(event("a", "VIEW_BALANCE", 10), event("d", "LOGIN", 11), partition=partition)
    assert (result.removed, result.evicted, result.expired) == ({"b"}, 1, 0)
    within = staged(*(event(name, "LOGIN", at) for at, name in enumerate("abcd")))
    assert (list(within.touched), within.evicted) == (["b", "c", "d"], 1)


@given(logs(), st.integers(1, 3))
def test_the_cap_holds(log: list[Entry], most: int) -> None:
    """However the log looks, no more sessions than the cap are kept."""
    partition = Partition()
    result = stage(partition, log, ENCODING, SessionLimits(idle_timeout_ms=60_000, max_sessions=most))
    partition.apply(Delta(0, result.stream_time_ms, sorted(result.removed), result.touched))
    assert len(partition.sessions) <= most


@given(logs())
def test_every_event_is_scored_or_a_duplicate(log: list[Entry]) -> None:
    """No event is silently dropped."""
    result = stage(Partition(), log, ENCODING, LIMITS)
    assert len(result.candidates) + result.duplicates == len(log)


@given(logs())
def test_sessions_lie_in_the_order_of_their_last_touch(log: list[Entry]) -> None:
    """The front of the table is what expires, and is evicted, next."""
    result = stage(Partition(), log, ENCODING, LIMITS)
    touched = [touched_ms(packed) for packed in result.touched.values()]
    assert touched == sorted(touched)


def test_an_unknown_action_is_refused() -> None:
    """The core is given only actions of the vocabulary; anything else is an error that names it."""
    with pytest.raises(UnknownActionError, match="'FLY'"):
        staged(event("s", "FLY", 1))


def test_a_packed_session_is_small() -> None:
    """A session of the seed preset's window packs into less than 140 bytes."""
    encoding = Encoding(ENCODING.vocabulary, window=10)
    log = entries(*(event("s", "VIEW_BALANCE", at) for at in range(50)))
    assert len(stage(Partition(), log, encoding, LIMITS).touched["s"]) < 140


@given(
    st.lists(st.tuples(st.sampled_from("abcdefé"), st.sampled_from([*Listing, None])), max_size=40), st.data()
)
def test_listed_accounts_are_bounded_and_none_goes_without_a_word(
    log: list[tuple[str, Listing | None]], data: st.DataObject
) -> None:
    """Beyond the bound a new listing is refused, by name; the others hold, change and go, in any batches."""
    most = 3
    limits = replace(LIMITS, max_listed_bytes=most * (OVERHEAD_BYTES + 2))
    expected: dict[str, Listing] = {}
    refused = []
    for offset, (account, listing) in enumerate(log):
        if listing is None:
            expected.pop(account, None)
        elif account in expected or len(expected) < most:
            expected[account] = listing
        else:
            refused.append(offset)
    entries = [
        Entry(offset, 0, AccountListing(account_id=account, listing=listing))
        for offset, (account, listing) in enumerate(log)
    ]
    cuts = sorted(data.draw(st.sets(st.integers(0, len(log)), max_size=5)))
    partition, found = Partition(), []
    for begin, end in itertools.pairwise([0, *cuts, len(log)]):
        result = stage(partition, entries[begin:end], ENCODING, limits)
        partition.apply(Delta(end, 0, [], {}, result.listed.changed))
        found += result.failures
    assert partition.listed == expected
    assert [(one.offset, one.reason) for one in found] == [
        (offset, Reason.LISTING_REFUSED) for offset in refused
    ]


_MARKS = st.sets(st.sampled_from([1 << bit for bit in range(12) if MARKS >> bit & 1])).map(sum)


@given(
    st.integers(1, 2**33),
    _MARKS,
    _MARKS,
    st.sampled_from([0, ENDED]),
    st.binary(max_size=9),
    st.binary(max_size=9),
)
def test_a_session_is_packed_with_all_its_marks(
    actions: int, marks: int, more: int, ended: int, steps: bytes, hashes: bytes
) -> None:
    """Those beside its number of actions change neither it nor each other; beyond what there is room for it stays."""
    packed = pack(5, 7, actions, marks | ended, steps, hashes)
    last_ms, touched_at_ms, number, steps_end, hashes_at, flags = head(packed)
    assert (last_ms, touched_at_ms, number, flags) == (5, 7, min(actions, MAX_ACTIONS), marks | ended)
    assert (packed[steps_end - len(steps) : steps_end], packed[hashes_at:]) == (steps, hashes)
    assert head(with_marks(packed, more)) == (5, 7, number, steps_end, hashes_at, marks | more | ended)
