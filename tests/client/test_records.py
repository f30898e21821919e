"""The reader of batches: what clients of any kind write is read, and what can't be is marked where it lies."""

import gzip
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.legacy_records import LegacyRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords

from detector.client.codecs import TooLargeError, expanded
from detector.client.records import Batch, Unreadable, Withheld
from tests.client.batches import (
    COMPRESSED,
    GZIP,
    LZ4,
    NOW_MS,
    SNAPPY,
    ZSTD,
    Written,
    batch,
    body,
    lz4,
    snappy,
    varint,
    xerial,
    zstd,
)

SOURCE = TopicPartition("t", 3)
SIX = [Written(b"key", b"value %d" % number, [(b"name", b"text"), (b"", None)]) for number in range(6)]
LIMIT_BYTES = 64 * 1024
REAL = [one for one in COMPRESSED if one not in {"none", "zstd, a frame that breaks off"}]


def read(whole: bytes, limit_bytes: int = LIMIT_BYTES) -> list[Any]:
    """Return the records of one batch."""
    return list(Batch(DefaultRecordBatch(whole), SOURCE, limit_bytes))


def marked(found: Sequence[Any]) -> list[tuple[int, str]]:
    """Return offset and reason of what could not be read."""
    return [(one.offset, one.value.why) for one in found if isinstance(one.value, Unreadable)]


@pytest.mark.parametrize("codec", COMPRESSED)
def test_every_compression_is_read(codec: str) -> None:
    """Keys, values and headers come out as they went in, with place, offsets and times in their order."""
    number, compress = COMPRESSED[codec]
    found = read(batch(compress(body(SIX)), len(SIX), codec=number, base_offset=40))
    assert [(one.key, one.value) for one in found] == [(one.key, one.value) for one in SIX]
    assert all(list(one.headers) == [("name", b"text"), ("", None)] for one in found)
    assert [one.offset for one in found] == list(range(40, 46))
    assert [one.timestamp for one in found] == list(range(NOW_MS, NOW_MS + 6))
    assert {(one.topic, one.partition, one.timestamp_type) for one in found} == {(*SOURCE, 0)}


@pytest.mark.parametrize("codec", REAL)
def test_a_batch_is_read_up_to_the_limit(codec: str) -> None:
    """One that comes to the limit is read whole; one byte more, and it is too large."""
    number, compress = COMPRESSED[codec]
    data = bytes(range(250)) * (LIMIT_BYTES // 250) + bytes(LIMIT_BYTES % 250)
    assert bytes(expanded(number, compress(data), LIMIT_BYTES))[: len(data)] == data
    with pytest.raises(TooLargeError):
        expanded(number, compress(data + b"1"), LIMIT_BYTES)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "snappy of Java", "lz4", "zstd"])
def test_one_mark_stands_for_a_batch_that_is_too_large(codec: str) -> None:
    """It lies at the batch's last offset, so that whoever goes on behind it reads nothing of the batch again."""
    number, compress = COMPRESSED[codec]
    large = compress(body([*SIX, Written(b"key", bytes(LIMIT_BYTES))]))
    (one,) = read(batch(large, 7, codec=number, base_offset=40))
    assert isinstance(one.value, Withheld)
    assert (one.offset, one.key, list(one.headers), one.timestamp) == (46, None, [], NOW_MS)
    assert (
        one.value.why == f"more than {LIMIT_BYTES} bytes decompressed: none of it was read; offsets 40 to 46"
    )


SPOILED = {
    "gzip cut": (GZIP, gzip.compress(body(SIX))[:-20], "gzip: it ends within a member"),
    "gzip of nothing": (GZIP, b"", "gzip: unpack_from requires"),
    "no gzip": (GZIP, b"\xff" * 50, "gzip: a member begins with ffffff, expected 1f8b08"),
    "a snappy block of negative size": (
        SNAPPY,
        xerial(body(SIX)) + struct.pack(">i", -4),
        "snappy: a block of -4 bytes, of which 0",
    ),
    "a snappy block beyond the data": (SNAPPY, xerial(body(SIX)) + struct.pack(">i", 9), "of which 0 are"),
    "snappy cut": (SNAPPY, snappy(body(SIX))[:-1], "snappy: "),
    "lz4 cut": (LZ4, lz4(body(SIX))[:-9], "lz4: "),
    "lz4 of linked blocks": (LZ4, b"\x04\x22\x4d\x18\x40\x40" + bytes(9), "lz4: flags 0x40"),
    "no lz4": (LZ4, b"\xff" * 50, "lz4: it begins with ffffffff, expected a frame"),
    "no zstd": (ZSTD, b"\xff" * 50, "zstd: Unknown frame descriptor"),
    "zstd cut": (ZSTD, zstd(body(SIX))[:-3], "a record of 0 bytes at byte 1 of 65536"),
    "a codec of tomorrow": (5, body(SIX), "compression 5: expected one of 1, 2, 3, 4"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_one_mark_stands_for_a_batch_that_can_not_be_expanded(kind: str) -> None:
    """Sizes that lead nowhere included: an end and a reason, never a loop."""
    number, data, why = SPOILED[kind]
    ((offset, told),) = marked(read(batch(data, 6, codec=number, base_offset=40)))
    assert offset == 45
    assert why in told
    assert told.endswith("; offsets 40 to 45")


def spoiled_third(record: bytes) -> bytes:
    """Return six records, of which the third is what is given."""
    before, behind = body(SIX[:2]), body(SIX)[len(body(SIX[:3])) :]
    return before + varint(len(record)) + record + behind


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (
            b"\0\0\4" + varint(2**31 - 1) + b"k\1\0",
            "a record of 11 bytes: index out of range",
        ),  # a key beyond everything
        (b"\0\0\4\1" + varint(40) + b"v\0", "a record of 7 bytes: "),  # a value into the next record
        (b"\0\0\4\1\1" + varint(-1), "a record of 6 bytes: a key of -1, a value of -1, -1 headers"),
        (b"\0\0\4\1\1" + varint(10**9), "1000000000 headers"),
        (b"\0\0\4\1\1\0more", "a value of -1, 0 headers"),
        (b"\0" + b"\xff" * 11, "Out of int64 range"),
        (b"\0" + varint(2**63 - 1) + b"\4\1\1\0", f"timestamp {2**63 - 1 + NOW_MS}"),
    ],
)
def test_a_record_that_can_not_be_read_is_isolated(record: bytes, why: str) -> None:
    """It is marked at its own offset; those beside it are read."""
    found = read(batch(spoiled_third(record), 6))
    assert [one.offset for one in found] == list(range(6))
    ((offset, told),) = marked(found)
    assert offset == 2
    assert why in told
    assert [one.value for one in found if one.offset != 2] == [
        one.value for number, one in enumerate(SIX) if number != 2
    ]


@pytest.mark.parametrize("length", [b"\x80" * 12, varint(-1), varint(5), varint(10**6), b""])
def test_where_the_next_record_begins_can_not_be_told_one_mark_stands_for_the_rest(length: bytes) -> None:
    """What came before it is read."""
    found = read(batch(body(SIX[:2]) + length, 6, base_offset=40))
    assert [one.offset for one in found] == [40, 41, 45]
    ((offset, told),) = marked(found)
    assert offset == 45
    assert told.endswith("; offsets 42 to 45")


@pytest.mark.parametrize("offsets", [[0] * 6, [-5, 3, 2, 1, 0, 2**31 - 1], [5, 4, 3, 2, 1, 0], [6] * 6])
def test_the_broker_numbers_the_records_whatever_they_say(offsets: list[int]) -> None:
    """Uncompressed, no broker looks at what they say. An offset below its place would be read for ever."""
    found = read(batch(body(SIX, offsets), 6, base_offset=40))
    assert [(one.offset, one.value) for one in found] == list(
        zip(range(40, 46), (one.value for one in SIX), strict=True)
    )


def test_offsets_that_compaction_left_are_kept() -> None:
    """A batch may hold fewer records than it takes offsets."""
    found = read(batch(body(SIX, [0, 3, 4, 7, 8, 9]), 6, base_offset=40, offsets=12))
    assert [one.offset for one in found] == [40, 43, 44, 47, 48, 49]


def test_a_byte_of_attributes_says_nothing() -> None:
    """kafka-python takes it for a varint, and the batch for spoiled."""
    found = read(batch(body([one._replace(attributes=255) for one in SIX]), 6))
    assert [one.value for one in found] == [one.value for one in SIX]


def test_more_records_than_offsets_are_none() -> None:
    """Nor are fewer than none."""
    assert [offset for offset, _ in marked(read(batch(body(SIX), 6, offsets=4)))] == [3]
    assert [offset for offset, _ in marked(read(batch(body(SIX), -1, offsets=4)))] == [3]


def test_header_names_that_are_no_utf_8_are_read() -> None:
    """Their spoiled bytes are replaced, as Java does; librdkafka writes any."""
    (one,) = read(batch(body([Written(None, b"v", [(b"caf\xe9", b"1"), (b"\xff", None)])]), 1))
    assert list(one.headers) == [("caf\ufffd", b"1"), ("\ufffd", None)]
    assert (one.key, len(one.headers)) == (None, 2)


def test_headers_end_where_they_can_not_be_read() -> None:
    """Nobody is ended by what nobody needed."""
    record = b"\0\0\0\1\1" + varint(3) + varint(1) + b"a" + varint(1) + b"b" + varint(-7) + b"rest"
    (one,) = read(batch(varint(len(record)) + record, 1))
    assert next(name for name, _ in one.headers) == "a"
    assert len(one.headers) == 3


def test_a_million_headers_cost_nothing_until_they_are_looked_at() -> None:
    """They take two bytes each, expanded, and some hundred as objects."""
    of_many = body([Written(b"k", b"v", [(b"", None)] * 1_000_000)])
    (one,) = read(batch(gzip.compress(of_many), 1, codec=GZIP), 4 * 1024 * 1024)
    assert (one.value, len(one.headers)) == (b"v", 1_000_000)
    assert next(iter(one.headers)) == ("", None)


def test_a_message_of_an_older_format_is_marked() -> None:
    """Brokers since 4.0 have none."""
    builder = LegacyRecordBatchBuilder(1, 0, 10_000)
    builder.append(7, NOW_MS, b"key", b"value")
    (old,) = MemoryRecords(bytes(builder.build()))
    assert marked(list(Batch(old, SOURCE))) == [(7, "message format 1: expected 2, Kafka's since 0.11")]


def test_a_mark_is_an_empty_value() -> None:
    """Whoever looks for nothing but values meets no bytes that could be taken for something."""
    assert Unreadable("reason") == b""
    assert Withheld("reason").why == "reason"
