"""Batches as an attacker, or a broken producer, would make them; and what has to hold for each."""

import random
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
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


_TEXTS = [None, b"", b"text", b"\xff\xfe", bytes(2_000), b"\xff" * 300]
_NUMBERS = [*range(-9, 10), 2**31 - 1, -(2**31), 10**6]
_TOKENS = [
    *(
        b"\x82SNAPPY\0" + bytes(8),
        b"\x1f\x8b\x08",
        b"\x04\x22\x4d\x18",
        b"\x28\xb5\x2f\xfd",
        b"\x50\x2a\x4d\x18",
    ),
    *(struct.pack(">i", -4), struct.pack(">i", 0), struct.pack("<I", 2**31), b"\xff" * 11, bytes(9)),
    *(varint(number) for number in (*_NUMBERS, 2**63 - 1, -(2**63))),
]


def _spoiled(rng: random.Random, data: bytes) -> bytes:
    """Return what is left of data after bytes of it were replaced, inserted, repeated or cut away."""
    spoiled = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 3])):
        at = rng.randint(0, rng.choice([len(spoiled), min(len(spoiled), 40)]))
        token = rng.choice([*_TOKENS, rng.randbytes(rng.randint(1, 8))])
        match rng.choice(["flip", "replace", "insert", "cut", "remove", "repeat", "append"]):
            case "flip" if at < len(spoiled):
                spoiled[at] ^= 1 << rng.randrange(8)
            case "replace":
                spoiled[at : at + len(token)] = token
            case "insert":
                spoiled[at:at] = token
            case "cut":
                del spoiled[at:]
            case "remove":
                del spoiled[at : at + rng.randint(1, 16)]
            case "repeat":
                spoiled[at:at] = bytes(spoiled[at : at + 64]) * rng.randint(1, 20)
            case _:
                spoiled += token
    return bytes(spoiled)


def _made(seed: int) -> FuzzedBatch:
    """Make a batch. By a generator of its own, which is many times faster than drawing each number is."""
    rng = random.Random(seed)
    codec = rng.choice(list(COMPRESSED))
    number, compress = COMPRESSED[codec]
    what = rng.choice(["nothing", "records", "compressed", "both", "codec", "count", "offsets", "bomb"])
    if what == "bomb":
        return FuzzedBatch(_PLAIN, _bomb(codec, rng.choice([1, 160])), spoiled=False, offsets=3)
    records = [
        Written(
            rng.choice(_TEXTS),
            rng.choice(_TEXTS),
            [(rng.choice(_TEXTS) or b"", rng.choice(_TEXTS)) for _ in range(rng.choice([0, 0, 1, 3]))],
            rng.randrange(256),
        )
        for _ in range(rng.randint(1, 12))
    ]
    gap = rng.choice([0, 0, 3])  # what compaction leaves
    offsets = [0, *accumulate(1 + rng.randint(0, gap) for _ in records)]
    data = body(records, [rng.choice(_NUMBERS) for _ in records] if what == "offsets" else offsets[:-1])
    if what in {"records", "both"}:
        data = _spoiled(rng, data)
    packed = compress(data)
    if what in {"compressed", "both"}:
        packed = _spoiled(rng, packed)
    if what == "codec":
        number = rng.randrange(8)
    count = rng.choice(_NUMBERS) if what == "count" else len(records)
    whole = batch(packed, count, codec=number, base_offset=3, offsets=offsets[-1])
    return FuzzedBatch(records, whole, what != "nothing", offsets[-1])


BATCHES = st.integers(0, 2**64).map(_made)


@cache
def _bomb(codec: str, times: int) -> bytes:
    """Return three records and zeros behind them, so many times what a batch may come to."""
    number, compress = COMPRESSED["gzip" if codec == "snappy of Java, small blocks" else codec]
    packed = compress(body(_PLAIN) + bytes(times * MAX_BATCH_BYTES if number else 0))
    return batch(packed, len(_PLAIN), codec=number, base_offset=3)


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
