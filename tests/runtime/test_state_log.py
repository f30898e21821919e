"""The state log's records: what goes in comes out, and what was altered is refused."""

import zlib
from contextlib import nullcontext

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.contract.alerts import Decision
from detector.contract.listings import Listing
from detector.contract.verdicts import Finding
from detector.core.alerted import Alerted
from detector.core.breaker import Breaker, BreakerLimits, BreakerState
from detector.core.listed import Timed
from detector.core.partition import Delta, Partition
from detector.core.session import PROFILE, pack, profile_key
from detector.runtime.recovery import StateRefusedError
from detector.runtime.state_log import FORMAT, MAX_RECORD_BYTES, decode_state
from tests.runtime.state_logs import ENCODING, LiveLog, contents, delta_values, replayed, state_values

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
STATES = st.builds(
    lambda stream_time_ms, flags, rest: pack(0, stream_time_ms, 1, flags, b"", rest),
    st.integers(0, 2**60),
    st.integers(0, PROFILE - 1),
    st.binary(max_size=40),
)
SESSIONS = st.dictionaries(IDS, STATES, max_size=8)
PROFILES = st.dictionaries(
    IDS.map(profile_key),
    st.binary(max_size=40).map(lambda rest: pack(0, 0, 1, PROFILE, b"", rest)),
    max_size=8,
)
ALERTED = st.builds(
    Alerted,
    st.just(0),
    st.integers(0, 2**60),
    st.integers(0, 2**60),
    st.sampled_from(Decision),
    IDS,
    st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.sampled_from(Decision)), max_size=2).map(
        tuple
    ),
    st.sampled_from([None, *Finding]),
    st.integers(0, 2**60),
)


def told(entries: dict[bytes, Alerted | None]) -> dict[bytes, Alerted | None]:
    """Let each be told of by a record of its own, in their order."""
    return {key: one and one._replace(offset=at) for at, (key, one) in enumerate(entries.items())}


COUNTS = st.lists(st.tuples(st.integers(0, 2**60), st.integers(0, 99), st.integers(0, 99)), max_size=3)
DELTAS = st.builds(
    Delta,
    st.integers(1, 2**60),
    st.integers(0, 2**60),
    st.lists(IDS, max_size=4),
    SESSIONS,
    st.dictionaries(
        IDS,
        st.sampled_from([Listing.ALLOW, Listing.DENY, Timed(Listing.ALLOW, 2**50, b"s", 3), None]),
        max_size=3,
    ),
    st.builds(
        BreakerState,
        st.booleans(),
        COUNTS.map(tuple),
        st.binary(max_size=8),
        st.integers(0, 2**40),
        st.floats(0, 100),
        st.booleans(),
    ),
    st.lists(IDS.map(profile_key), max_size=4),
    PROFILES,
    st.dictionaries(st.binary(min_size=16, max_size=16), st.none() | ALERTED, max_size=3).map(told),
    heard_at_ms=st.integers(0, 2**60),
)


_HEAD_BYTES = 512
"""What a record has beside its entries, at most."""


def batch(sessions: int, packed: bytes, name: str = "s{}") -> Delta:
    """Return a delta that touches so many sessions, and a profile of half as many accounts."""
    profile = pack(0, 0, 1, PROFILE, b"", bytes(230))
    profiles = {profile_key(name.format(number)): profile for number in range(sessions // 2)}
    touched = {name.format(number): packed for number in range(sessions)}
    return Delta(1, 0, [], touched, profiles=profiles)


@given(DELTAS)
def test_a_batch_comes_back(delta: Delta) -> None:
    """A record gives what was changed, sessions, profiles and alerted sessions in their order, each in its own table."""
    live = Partition()
    live.apply(delta)
    restored, _ = replayed(list(enumerate(delta_values(delta))))
    assert contents(restored) == contents(live)


@pytest.mark.parametrize(
    ("sessions", "packed_bytes", "name"),
    [
        (2_500, 203, "\N{GRINNING FACE}" * 252 + "{:04d}"),
        (5_000, 23 + 11 * 64, "{:036d}"),
        (40, 23 + 11 * 4096, "{}"),
    ],
    ids=["ids of 256 characters of four bytes", "window of 64", "window of 4096"],
)
def test_no_record_is_larger_than_its_bound(sessions: int, packed_bytes: int, name: str) -> None:
    """Changes and snapshots are cut by their encoded size, whatever ids and windows are; all of it comes back."""
    delta = batch(sessions, bytes(packed_bytes), name)
    live = Partition()
    live.apply(delta)
    for values in (delta_values(delta), state_values(live)):
        assert len(values) > 1
        assert max(map(len, values)) <= MAX_RECORD_BYTES + _HEAD_BYTES
        restored, _ = replayed(list(enumerate(values)))
        assert contents(restored)[2:] == contents(live)[2:]


def test_listed_accounts_and_alerted_sessions_are_cut_too() -> None:
    """A list longer than a record holds comes back whole, without any session."""
    partition = Partition(7)
    for number in range(3_000):
        partition.list(f"a{number:0250d}", Listing.DENY)
        one = Alerted(number, 1, 1, Decision.BLOCK, "m" * 100, ((bytes(16), Decision.BLOCK),))
        partition.tell(b"%016d" % number, one)
    partition.breaker = BreakerState(
        is_open=True, counts=((60_000, 3, 2),), epoch=b"of now", awaited=7, evidence=0.1 + 0.2, holds_all=True
    )
    values = state_values(partition)
    assert len(values) > 2
    assert max(map(len, values)) <= MAX_RECORD_BYTES + _HEAD_BYTES
    restored, _ = replayed(list(enumerate(values)))
    assert contents(restored)[2:] == contents(partition)[2:]


def old(form: int, chunk: int | None, next_offset: int, sessions: dict[str, bytes]) -> bytes:
    """Return a record as formats 1 and 2 had it."""
    fields: list[object] = [ENCODING, chunk, next_offset, 9, ["g"], sessions]
    payload = msgspec.msgpack.encode([*fields, {"a": "DENY"}, [True, []]] if form > 1 else fields)
    return bytes([form]) + zlib.crc32(payload).to_bytes(4, "big") + payload


def test_the_format_of_before_guard_rails_is_read() -> None:
    """A record as the first format had it, byte for byte, gives its sessions, no listed accounts, a closed breaker."""
    session = bytes(22) + b"\x01x"
    value = bytes.fromhex(
        "01" "8adfde0c" "96" "c408" "656e636f64696e67" "c0" "07" "09" "91" "a1" "67" "81" "a1" "73" "c418"
    ) + session  # fmt: skip
    assert value == old(1, None, 7, {"s": session})
    restored, _ = replayed([(0, value)])
    assert contents(restored) == (7, 9, 0, [("s", session)], {}, BreakerState(), [], [], 0)


@pytest.mark.parametrize("form", [1, 2])
def test_a_log_of_an_old_format_is_gone_on_with(form: int) -> None:
    """A snapshot in chunks replaces what came before, deltas add to it, and the records of today follow on.

    The chain begins there: what is lost of them is noticed.
    """
    log = LiveLog(1, 10**9)
    log.log = [
        (0, old(form, None, 3, {"gone": b"x"})),
        (1, old(form, 0, 5, {"s": pack(0, 9, 1, 0, b"", b"")})),
        (2, old(form, 1, 5, {"t": pack(0, 9, 1, 0, b"", b"")})),
        (3, old(form, None, 8, {"s": pack(0, 9, 2, 0, b"", b"")})),
    ]
    log.hand_over()
    assert list(log.live.sessions) == ["t", "s"]
    assert log.live.listed == ({"a": Listing.DENY} if form > 1 else {})
    for number in range(9, 12):
        log.batch(Delta(number, 9, [], {f"u{number}": pack(0, 9, 1, 0, b"", b"")}))
    restored, _ = replayed(log.log)
    assert contents(restored) == contents(log.live)
    for lost in (-1, -2):
        with pytest.raises(StateRefusedError, match="missing") if lost < -1 else nullcontext():
            assert replayed([one for one in log.log if one != log.log[lost]])[0].next_offset == 10


def test_the_format_of_before_probations_is_read() -> None:
    """A record of format 3 gives its sessions, and a breaker whose model is unknown: it goes on probation."""
    (value,) = delta_values(Delta(1, 0, [], {"s": pack(0, 9, 1, 0, b"", b"")}))
    fields = msgspec.msgpack.decode(value[5:])
    fields[6] = [True, [[60_000, 3, 2]]]  # the breaker, as it was then
    payload = msgspec.msgpack.encode(fields)
    restored, _ = replayed([(0, bytes([3]) + zlib.crc32(payload).to_bytes(4, "big") + payload)])
    assert list(restored.sessions) == ["s"]
    assert restored.breaker == BreakerState(is_open=True, counts=((60_000, 3, 2),))
    limits = BreakerLimits(0.25, 100, 600_000, 500)
    assert Breaker(limits, restored.breaker, b"of now").state == BreakerState(epoch=b"of now", awaited=500)


def test_a_format_of_the_future_is_refused_by_name() -> None:
    """A state of a newer detector is not guessed at."""
    (value,) = delta_values(Delta(1, 0, [], {}))
    with pytest.raises(StateRefusedError, match="format 05, expected one of 01, 02, 03, 04"):
        decode_state(bytes([FORMAT + 1]) + value[1:], ENCODING)


@given(DELTAS, st.data())
def test_any_altered_bit_is_refused(delta: Delta, data: st.DataObject) -> None:
    """A record with one bit flipped, or cut short, is never read as something else."""
    value = delta_values(delta)[0]
    at = data.draw(st.integers(0, 8 * len(value) - 1))
    flipped = bytearray(value)
    flipped[at // 8] ^= 1 << at % 8  # of the format's byte too: 3 is but one bit from each of the older ones
    with pytest.raises(StateRefusedError):
        decode_state(bytes(flipped), ENCODING)
    with pytest.raises(StateRefusedError):
        decode_state(value[: data.draw(st.integers(0, len(value) - 1))], ENCODING)


def test_another_encoding_is_refused_by_name() -> None:
    """State in another model's steps can't be read by this one."""
    with pytest.raises(StateRefusedError, match="another model's vocabulary"):
        decode_state(delta_values(Delta(1, 0, [], {}), b"other")[0], ENCODING)
