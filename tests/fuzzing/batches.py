"""Batches as an attacker, or a broken producer, would make them; and what has to hold for each."""

import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.record.memory_records import MemoryRecords

from detector.client.consumer import _Fetcher
from detector.client.records import Unreadable, Withheld
from tests.client.batches import COMPRESSED, Written, batch, body, varint

SOURCE = TopicPartition("t", 0)
MAX_BATCH_BYTES = 256 * 1024
MAX_POLL_BYTES = 4_000
MAX_GROWTH_BYTES = 16 * MAX_BATCH_BYTES
"""Of the process while a batch is read. The largest bomb holds ten times as much."""
MAX_SECONDS = 5.0
"""For a batch, on a busy machine; most take a millisecond."""
_PLAIN = [Written(b"key", b"value %d" % number, [(b"name", b"text")]) for number in range(3)]


@dataclass(frozen=True, slots=True)
class FuzzedBatch:
    """One batch between two that are nothing special. Without `spoiled`, all of it has to come out.

    Attributes:
        records: those in it.
        whole: its bytes.
        spoiled: whether anything but its records was changed.
        offsets: how many it takes.
    """

    records: list[Written]
    whole: bytes
    spoiled: bool
    offsets: int


_TEXTS = st.binary(max_size=40) | st.sampled_from([b"", bytes(2_000), b"\xff" * 300])
_RECORDS = st.lists(
    st.builds(
        Written,
        key=st.none() | _TEXTS,
        value=st.none() | _TEXTS,
        headers=st.lists(st.tuples(_TEXTS, st.none() | _TEXTS), max_size=3),
        attributes=st.integers(0, 255),
    ),
    min_size=1,
    max_size=12,
)
_NUMBERS = st.integers(-9, 9) | st.sampled_from([2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 10**6])
_TOKENS = st.sampled_from(
    [
        *(
            b"\x82SNAPPY\0" + bytes(8),
            b"\x1f\x8b\x08",
            b"\x04\x22\x4d\x18",
            b"\x28\xb5\x2f\xfd",
            b"\x50\x2a\x4d\x18",
        ),
        *(struct.pack(">i", -4), struct.pack(">i", 0), struct.pack("<I", 2**31), b"\xff" * 11, bytes(9)),
    ]
) | _NUMBERS.map(varint)


@st.composite
def _spoiled(draw: st.DrawFn, data: bytes) -> bytes:
    """Draw what is left of data after bytes of it were replaced, inserted, repeated or cut away."""
    spoiled = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, min(len(spoiled), 40)) | st.integers(0, len(spoiled)))
        match draw(st.sampled_from(["flip", "replace", "insert", "cut", "remove", "repeat", "append"])):
            case "flip" if at < len(spoiled):
                spoiled[at] ^= 1 << draw(st.integers(0, 7))
            case "replace":
                token = draw(_TOKENS)
                spoiled[at : at + len(token)] = token
            case "insert":
                spoiled[at:at] = draw(_TOKENS | st.binary(max_size=8))
            case "cut":
                del spoiled[at:]
            case "remove":
                del spoiled[at : at + draw(st.integers(1, 16))]
            case "repeat":
                spoiled[at:at] = bytes(spoiled[at : at + 64]) * draw(st.integers(1, 20))
            case _:
                spoiled += draw(_TOKENS | st.binary(max_size=60))
    return bytes(spoiled)


@st.composite
def _batches(draw: st.DrawFn) -> FuzzedBatch:
    records = draw(_RECORDS)
    gaps = draw(st.just(0) | st.integers(0, 5))
    offsets = [number + draw(st.integers(0, gaps)) * (number > 0) for number in range(len(records))]
    offsets = [max(offsets[: number + 1]) + number for number in range(len(records))] if gaps else offsets
    takes = offsets[-1] + 1 + (draw(st.integers(0, 3)) if gaps else 0)
    codec = draw(st.sampled_from(list(COMPRESSED)))
    number, compress = COMPRESSED[codec]
    what = draw(
        st.sampled_from(["nothing", "records", "compressed", "both", "codec", "count", "offsets", "bomb"])
    )
    data = body(records, offsets)
    if what == "offsets":
        data = body(records, [draw(_NUMBERS) for _ in records])
    if what in {"records", "both"}:
        data = draw(_spoiled(data))
    if what == "bomb":
        return FuzzedBatch(_PLAIN, _bomb(codec, draw(st.sampled_from([1, 160]))), spoiled=False, offsets=3)
    packed = compress(data)
    if what in {"compressed", "both"}:
        packed = draw(_spoiled(packed))
    if what == "codec":
        number = draw(st.integers(0, 7))
    count = draw(_NUMBERS.filter(lambda one: -(2**31) <= one < 2**31)) if what == "count" else len(records)
    whole = batch(packed, count, codec=number, base_offset=3, offsets=takes)
    return FuzzedBatch(records, whole, what != "nothing", takes)


@cache
def _bomb(codec: str, times: int) -> bytes:
    """Return three records and zeros behind them, so many times what a batch may come to."""
    number, compress = COMPRESSED["gzip" if codec == "snappy of Java, small blocks" else codec]
    packed = compress(body(_PLAIN) + bytes(times * MAX_BATCH_BYTES if number else 0))
    return batch(packed, len(_PLAIN), codec=number, base_offset=3)


BATCHES = _batches()


@contextmanager
def bounded_s(seconds: float) -> Iterator[None]:
    """End what takes longer by a TimeoutError, loops in C aside."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def bounded_bytes(most: int) -> Iterator[None]:
    """Fail if the process had more than so many bytes more resident meanwhile, C code and all."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak (proc(5))
    before = _peak_bytes()
    yield
    assert (grown := _peak_bytes() - before) <= most, f"{grown} bytes more resident"


def _peak_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1_024
    raise AssertionError("no peak of the memory")


def outcome(fuzzed: FuzzedBatch) -> str:
    """Read a batch between two others, check all that has to hold, and return what became of it.

    Raises:
        AssertionError: something does not hold. Any other exception is a failure, too: it would end the service.
    """
    behind = 3 + fuzzed.offsets
    log = batch(body(_PLAIN), 3) + fuzzed.whole + batch(body(_PLAIN), 3, base_offset=behind)
    part = _Fetcher.PartitionRecords(0, SOURCE, MemoryRecords(log))
    part.max_batch_bytes = MAX_BATCH_BYTES
    found: list[Any] = []
    with bounded_s(MAX_SECONDS), bounded_bytes(MAX_GROWTH_BYTES):
        while part:
            part.left_bytes = MAX_POLL_BYTES
            taken = part.take(5)
            sizes = [len(one.key or b"") + len(one.value or b"") for one in taken]
            assert sum(sizes[:-1]) < MAX_POLL_BYTES
            for one in taken:
                assert sum(len(name) + len(text or b"") for name, text in one.headers) <= MAX_BATCH_BYTES
            found += taken
    offsets = [one.offset for one in found]
    assert offsets == sorted(set(offsets)), "each offset once, in order"
    assert part.next_fetch_offset == behind + 3
    assert offsets[:3] == [0, 1, 2]
    assert offsets[-3:] == [behind, behind + 1, behind + 2]
    assert [one.value for one in (*found[:3], *found[-3:])] == [one.value for one in _PLAIN] * 2
    inside = found[3:-3]
    assert all(3 <= one.offset < behind for one in inside)
    marks = [one.value for one in inside if isinstance(one.value, Unreadable)]
    assert all(mark.why for mark in marks)
    if any(isinstance(mark, Withheld) for mark in marks):
        assert len(inside) == 1
        return "too large"
    if not fuzzed.spoiled:
        assert [(one.key, one.value) for one in inside] == [(one.key, one.value) for one in fuzzed.records]
        return "read"
    if not marks:
        return "read, spoiled"
    if len(inside) == 1 and inside[0].offset == behind - 1:
        return "one mark for all"
    return "marks among records"
