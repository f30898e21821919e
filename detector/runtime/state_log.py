"""The state log: what each committed batch changed and, in slices, what it did not; each record follows the one before.

Record n of the log's partition belongs to partition n of the input. A record is

    format (1 byte) · CRC-32 of the rest (4 bytes, big-endian) · StateRecord (MessagePack)

A transaction writes one record or more of each partition that it read, its parts. They say which input offset they
follow, so that what is missing is seen. A snapshot is written beside the changes, a slice with each transaction: the
sessions that have not changed since it began, the longest untouched first. Once it is whole, everything before its
first record is needless, and may be deleted: the records after it say from which input offset on the log suffices.
"""

import zlib
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import msgspec

from detector.core.alerted import Alerted
from detector.core.breaker import BreakerState
from detector.core.listed import Listed
from detector.core.partition import Delta
from detector.runtime.recovery import StateRefusedError

FORMAT = 4
CHAINED = (3, FORMAT)
"""Format 3 knows of no probation and of no challenges: its breakers begin anew."""
OLD_FORMATS = (1, 2)
"""Without a chain: what they hold is believed. Format 1 has neither listed accounts nor circuit breakers."""
MAX_RECORD_BYTES = 512 * 1024
"""Of a record, but for its head and for a session larger by itself: half of what a topic takes by Kafka's default."""
_PREFIX_BYTES = 5
_Key = TypeVar("_Key")
_Entry = TypeVar("_Entry")


class StateRecord(msgspec.Struct, array_like=True, gc=False):
    """One record of the state log.

    Attributes:
        encoding: fingerprint of the encoding the steps were made with.
        follows: input offset that the partition was at before the transaction.
        next_offset: the one that it is at after it.
        snapshot_from: input offset that the snapshot under way began at; None if none is.
        complete_from: input offset from which on the log suffices, this transaction included.
        stream_time_ms: the partition's stream time after it.
        breaker: the circuit breaker after it.
        part: number of the record among the transaction's of this partition, from 0.
        parts: how many there are.
        is_carried: whether it is of a snapshot, and not of what the batch changed.
        removed: keys of what the batch drops, before it writes others.
        sessions: packed sessions by their keys, and packed profiles by their accounts': of a batch in the order of their
            last touch; of a snapshot those that have not changed since it began, the longest untouched first.
        listed: listed accounts, None for cleared ones.
        alerted: sessions that alerts were published on, None for those that went. Absent in records of before 1.7, and
            passed over by a detector of then.
        heard_at_ms: the broker's time of the latest event; absent in older records as well.
    """

    encoding: bytes
    follows: int
    next_offset: int
    snapshot_from: int | None
    complete_from: int
    stream_time_ms: int
    breaker: BreakerState
    part: int
    parts: int
    is_carried: bool
    removed: list[str]
    sessions: dict[str, bytes]
    listed: dict[str, Listed | None]
    alerted: dict[bytes, Alerted | None] = {}
    heard_at_ms: int = 0


class OldRecord(msgspec.Struct, array_like=True, gc=False):
    """A record of formats 1 and 2; `chunk` 0 begins a snapshot, 1 and up continue it, None is a delta."""

    encoding: bytes
    chunk: int | None
    next_offset: int
    stream_time_ms: int
    removed: list[str]
    sessions: dict[str, bytes]
    listed: dict[str, Listed | None] = {}
    breaker: BreakerState = BreakerState()


class Part(NamedTuple):
    """What becomes one record: its own fields, named as in StateRecord, and about their encoded size."""

    is_carried: bool
    removed: list[str]
    sessions: dict[str, bytes]
    listed: dict[str, Listed | None]
    alerted: dict[bytes, Alerted | None]
    size_bytes: int = 0


class Chain(NamedTuple):
    """Where a transaction stands in the log: what all of its records say alike, named as in StateRecord."""

    encoding: bytes
    follows: int
    next_offset: int
    snapshot_from: int | None
    complete_from: int
    stream_time_ms: int
    breaker: BreakerState
    heard_at_ms: int


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(StateRecord)
_OLD_DECODER = msgspec.msgpack.Decoder(OldRecord)


def snapshot_parts(
    sessions: dict[str, bytes], listed: dict[str, Listed | None], alerted: dict[bytes, Alerted | None]
) -> list[Part]:
    """Cut a slice of a snapshot; none if it is empty."""
    if not (sessions or listed or alerted):
        return []
    return _cut(Part(True, [], sessions, listed, alerted))  # noqa: FBT003  named in Part


def delta_parts(delta: Delta) -> list[Part]:
    """Cut what a batch changed; one part at least, since it moves the partition on."""
    removed, written = [*delta.removed, *delta.forgotten], {**delta.touched, **delta.profiles}
    return _cut(Part(False, removed, written, dict(delta.listed), dict(delta.alerted)))  # noqa: FBT003  named in Part


def _cut(part: Part) -> list[Part]:
    """Cut a part by its encoded size: sessions removed first, listed accounts and alerted sessions last."""
    size_bytes = len(_ENCODER.encode(part))
    if size_bytes <= MAX_RECORD_BYTES:
        return [part._replace(size_bytes=size_bytes)]
    kinds = [
        *(Part(part.is_carried, list(half), {}, {}, {}) for half in _halves(dict.fromkeys(part.removed))),
        *(Part(part.is_carried, [], half, {}, {}) for half in _halves(part.sessions)),
        *(Part(part.is_carried, [], {}, half, {}) for half in _halves(part.listed)),
        *(Part(part.is_carried, [], {}, {}, half) for half in _halves(part.alerted)),
    ]
    if len(kinds) == 1:
        return [part._replace(size_bytes=size_bytes)]  # a single entry, however large
    return [smaller for one in kinds for smaller in _cut(one)]


def _halves(entries: dict[_Key, _Entry]) -> list[dict[_Key, _Entry]]:
    items = list(entries.items())
    middle = len(items) // 2
    return [dict(half) for half in (items[:middle], items[middle:]) if half]


def encode_records(chain: Chain, parts: Sequence[Part]) -> list[bytes]:
    """Encode all that a transaction writes of one partition, in the order of the log."""
    return [
        _encode(StateRecord(*chain[:-1], number, len(parts), *part[:-1], chain.heard_at_ms))
        for number, part in enumerate(parts)
    ]


def _encode(record: StateRecord) -> bytes:
    payload = _ENCODER.encode(record)
    return bytes([FORMAT]) + zlib.crc32(payload).to_bytes(4, "big") + payload


def decode_state(value: bytes, encoding: bytes) -> StateRecord | OldRecord:
    """Decode one record.

    Raises:
        StateRefusedError: damaged, of another format, or made with another encoding.
    """
    form = value[0] if value else None
    if form not in (*OLD_FORMATS, *CHAINED):
        seen, expected = (
            value[:1].hex() or "none",
            ", ".join(f"{one:02x}" for one in (*OLD_FORMATS, *CHAINED)),
        )
        raise StateRefusedError(f"state record of format {seen}, expected one of {expected}")
    payload = value[_PREFIX_BYTES:]
    if zlib.crc32(payload).to_bytes(4, "big") != value[1:_PREFIX_BYTES]:
        raise StateRefusedError(f"damaged state record of {len(value)} bytes: its checksum does not match")
    try:
        record = (_DECODER if form in CHAINED else _OLD_DECODER).decode(payload)
    except msgspec.DecodeError as error:
        raise StateRefusedError(f"damaged state record of {len(value)} bytes: {error}") from error
    if record.encoding != encoding:
        raise StateRefusedError(
            f"state was written with another model's vocabulary, window, gap buckets, signals or ends of sessions "
            f"(encoding {record.encoding.hex()}, the model has {encoding.hex()})",
            record.next_offset,
        )
    return record
