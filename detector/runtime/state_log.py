"""The state log: what each committed batch changed, and now and then the whole, one record each.

Record n of the log's partition belongs to partition n of the input. A record is

    format (1 byte) · CRC-32 of the rest (4 bytes, big-endian) · StateRecord (MessagePack)

Restoring reads the log from its start: a snapshot replaces what came before it, a delta adds to it.
"""

import itertools
import zlib
from collections.abc import Iterable, Iterator

import msgspec

from detector.contract.accounts import Listing
from detector.core.breaker import BreakerState
from detector.core.partition import Delta, Partition
from detector.runtime.recovery import StateRefusedError

FORMAT = 2
READABLE_FORMATS = (1, 2)
"""Format 1, of before there were listed accounts and circuit breakers, is read as a partition without them."""
_PREFIX_BYTES = 5
SNAPSHOT_CHUNK_SESSIONS = 2_000
SNAPSHOT_CHUNK_ACCOUNTS = 500
"""Sessions and listed accounts a snapshot record: about 400 kB, at most 900, below Kafka's default limit of a record."""


class StateRecord(msgspec.Struct, array_like=True, gc=False):
    """One record of the state log.

    Attributes:
        encoding: fingerprint of the encoding the steps were made with.
        chunk: 0 begins a snapshot, 1 and up continue it; None for a delta.
        next_offset: input offset the partition was read up to.
        stream_time_ms: the partition's stream time.
        removed: session ids a delta drops.
        sessions: packed sessions by id, the longest idle first.
        listed: listed accounts; of a delta those that changed, None for cleared.
        breaker: the circuit breaker.
    """

    encoding: bytes
    chunk: int | None
    next_offset: int
    stream_time_ms: int
    removed: list[str]
    sessions: dict[str, bytes]
    listed: dict[str, Listing | None] = {}
    breaker: BreakerState = BreakerState()


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(StateRecord)


def _encode(record: StateRecord) -> bytes:
    payload = _ENCODER.encode(record)
    return bytes([FORMAT]) + zlib.crc32(payload).to_bytes(4, "big") + payload


def encode_delta(delta: Delta, encoding: bytes) -> bytes:
    """Encode what a batch changed."""
    return _encode(
        StateRecord(
            encoding,
            None,
            delta.next_offset,
            delta.stream_time_ms,
            delta.removed,
            delta.touched,
            dict(delta.listed),
            delta.breaker,
        )
    )


def encode_snapshot(partition: Partition, encoding: bytes) -> Iterator[bytes]:
    """Encode a whole partition, in chunks that follow each other in the log."""
    sessions, listed = iter(partition.sessions.items()), iter(partition.listed.items())
    next_offset, stream_time_ms = partition.next_offset, partition.stream_time_ms
    for chunk in itertools.count():
        part = dict(itertools.islice(sessions, SNAPSHOT_CHUNK_SESSIONS))
        accounts: dict[str, Listing | None] = dict(itertools.islice(listed, SNAPSHOT_CHUNK_ACCOUNTS))
        if chunk and not part and not accounts:
            return
        yield _encode(
            StateRecord(encoding, chunk, next_offset, stream_time_ms, [], part, accounts, partition.breaker)
        )


def decode_state(value: bytes, encoding: bytes) -> StateRecord:
    """Decode one record.

    Raises:
        StateRefusedError: damaged, of another format, or made with another encoding.
    """
    if value[:1] not in [bytes([one]) for one in READABLE_FORMATS]:
        expected = " or ".join(f"{one:02x}" for one in READABLE_FORMATS)
        raise StateRefusedError(f"state record of format {value[:1].hex() or 'none'}, expected {expected}")
    payload = value[_PREFIX_BYTES:]
    if zlib.crc32(payload).to_bytes(4, "big") != value[1:_PREFIX_BYTES]:
        raise StateRefusedError(f"damaged state record of {len(value)} bytes: its checksum does not match")
    try:
        record = _DECODER.decode(payload)
    except msgspec.DecodeError as error:
        raise StateRefusedError(f"damaged state record of {len(value)} bytes: {error}") from error
    if record.encoding != encoding:
        raise StateRefusedError(
            f"state was written with another model's vocabulary, window or gap buckets "
            f"(encoding {record.encoding.hex()}, the model has {encoding.hex()})",
            record.next_offset,
        )
    return record


def replay(partition: Partition, records: Iterable[StateRecord]) -> None:
    """Bring a partition to where the records of its log leave it."""
    for record in records:
        if record.chunk == 0:
            partition.sessions.clear()
            partition.listed.clear()
        partition.apply(
            Delta(
                record.next_offset,
                record.stream_time_ms,
                record.removed,
                record.sessions,
                record.listed,
                record.breaker,
            )
        )
