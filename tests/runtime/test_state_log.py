"""The state log's records: what goes in comes out, and what was altered is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.contract.accounts import Listing
from detector.core.breaker import BreakerState
from detector.core.partition import Delta, Partition
from detector.runtime.recovery import StateRefusedError
from detector.runtime.state_log import (
    SNAPSHOT_CHUNK_ACCOUNTS,
    SNAPSHOT_CHUNK_SESSIONS,
    decode_state,
    encode_delta,
    encode_snapshot,
    replay,
)
from detector.runtime.state_writer import StateWriter

ENCODING = b"encoding"
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
SESSIONS = st.dictionaries(IDS, st.binary(max_size=40), max_size=8)
COUNTS = st.lists(st.tuples(st.integers(0, 2**60), st.integers(0, 99), st.integers(0, 99)), max_size=3)
DELTAS = st.builds(
    Delta,
    st.integers(0, 2**60),
    st.integers(0, 2**60),
    st.lists(IDS, max_size=4),
    SESSIONS,
    st.dictionaries(IDS, st.sampled_from([Listing.ALLOW, Listing.DENY, None]), max_size=3),
    st.builds(BreakerState, st.booleans(), COUNTS.map(tuple)),
)


def contents(partition: Partition) -> tuple[object, ...]:
    """Return all that a partition is, the order of its sessions included."""
    return (
        partition.next_offset, partition.stream_time_ms, list(partition.sessions.items()), partition.listed,
        partition.breaker,
    )  # fmt: skip


@given(st.lists(DELTAS, min_size=1, max_size=6), st.integers(0, 5))
def test_a_partition_comes_back_from_snapshot_and_deltas(deltas: list[Delta], snapshot_before: int) -> None:
    """Replaying what was written gives the partition that applied the same deltas, sessions in the same order."""
    live, restored = Partition(), Partition()
    log: list[bytes] = []
    for number, delta in enumerate(deltas):
        if number == snapshot_before:
            log = list(encode_snapshot(live, ENCODING))
        log.append(encode_delta(delta, ENCODING))
        live.apply(delta)
    replay(restored, (decode_state(value, ENCODING) for value in log))
    assert contents(restored) == contents(live)


@pytest.mark.parametrize("sessions", [0, 1, SNAPSHOT_CHUNK_SESSIONS, 2 * SNAPSHOT_CHUNK_SESSIONS + 1])
def test_a_snapshot_is_cut_into_records_and_replaces_what_came_before(sessions: int) -> None:
    """However many sessions there are, none of the older ones survives the snapshot, and all of its own are there."""
    partition = Partition(7)
    partition.sessions = {f"s{number}": number.to_bytes(4, "big") for number in range(sessions)}
    values = list(encode_snapshot(partition, ENCODING))
    assert len(values) == max(1, -(-sessions // SNAPSHOT_CHUNK_SESSIONS))
    restored = Partition()
    restored.sessions = {"older": b"x"}
    replay(restored, (decode_state(value, ENCODING) for value in values))
    assert contents(restored) == contents(partition)


def test_listed_accounts_are_cut_into_records_too() -> None:
    """A list longer than a record holds comes back whole, without any session."""
    partition = Partition(7)
    partition.listed = {f"a{number}": Listing.DENY for number in range(2 * SNAPSHOT_CHUNK_ACCOUNTS + 1)}
    partition.breaker = BreakerState(is_open=True, counts=((60_000, 3, 2),))
    values = list(encode_snapshot(partition, ENCODING))
    assert len(values) == 3
    restored = Partition()
    restored.listed = {"older": Listing.ALLOW}
    replay(restored, (decode_state(value, ENCODING) for value in values))
    assert contents(restored) == contents(partition)


def test_the_format_of_before_guard_rails_is_read() -> None:
    """A record as the first format had it, byte for byte, gives its sessions, no listed accounts, a closed breaker."""
    value = bytes.fromhex(
        "01" "8703ffa9" "96" "c408" "656e636f64696e67" "c0" "07" "09" "91" "a1" "67" "81" "a1" "73" "c401" "78"
    )  # fmt: skip
    restored = Partition()
    restored.sessions = {"g": b"gone"}
    replay(restored, [decode_state(value, ENCODING)])
    assert contents(restored) == (7, 9, [("s", b"x")], {}, BreakerState())


def test_a_format_of_the_future_is_refused_by_name() -> None:
    """A state of a newer detector is not guessed at."""
    value = encode_delta(Delta(0, 0, [], {}), ENCODING)
    with pytest.raises(StateRefusedError, match="format 03, expected 01 or 02"):
        decode_state(b"\x03" + value[1:], ENCODING)


@given(DELTAS, st.data())
def test_any_altered_bit_is_refused(delta: Delta, data: st.DataObject) -> None:
    """A record with one bit flipped, or cut short, is never read as something else."""
    value = encode_delta(delta, ENCODING)
    at = data.draw(st.integers(0, 8 * len(value) - 1))
    flipped = bytearray(value)
    flipped[at // 8] ^= 1 << at % 8  # of the format's byte too: 1 is readable, and 2 is it but for two bits
    with pytest.raises(StateRefusedError):
        decode_state(bytes(flipped), ENCODING)
    with pytest.raises(StateRefusedError):
        decode_state(value[: data.draw(st.integers(0, len(value) - 1))], ENCODING)


def test_another_encoding_is_refused_by_name() -> None:
    """State in another model's steps can't be read by this one."""
    with pytest.raises(StateRefusedError, match="another model's vocabulary"):
        decode_state(encode_delta(Delta(0, 0, [], {}), b"other"), ENCODING)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 4), st.integers(1, 100))
def test_a_snapshot_is_written_once_the_changes_outweigh_it(sizes: list[int], ratio: int, least: int) -> None:
    """The log never holds more changes than the ratio or the least allow, by more than one batch's."""
    writer, partition = StateWriter(ratio, least, ENCODING, 0), Partition()
    snapshot_bytes = changes = 0
    for number, size in enumerate(sizes):
        delta = Delta(number, 0, [], {f"s{number}": bytes(size)})
        snapshot, values = writer.values(partition, delta)
        assert bool(snapshot) == (changes > max(least, ratio * snapshot_bytes))
        if snapshot:
            snapshot_bytes, changes = sum(map(len, snapshot)), 0
        changes += sum(map(len, values))
        writer.committed(snapshot, values)
        partition.apply(delta)


def test_a_log_of_no_use_is_replaced_at_once() -> None:
    """A rebuilt partition's first transaction carries a snapshot, and only that one."""
    writer, partition, delta = StateWriter(3, 10**9, ENCODING, None), Partition(), Delta(0, 0, [], {})
    first, values = writer.values(partition, delta)
    assert first
    writer.committed(first, values)
    assert writer.values(partition, delta)[0] == []
