"""Batches made by hand, as clients that are not ours may make them, and their way to a broker."""

import gzip
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cramjam
from kafka.errors import InvalidMetadataError, NoError, for_code
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.util import calc_crc32c, encode_varint

NOW_MS = 1_790_000_000_000
_FAR_MS = 1 << 62
GZIP, SNAPPY, LZ4, ZSTD = (
    DefaultRecordBatch.CODEC_GZIP,
    DefaultRecordBatch.CODEC_SNAPPY,
    DefaultRecordBatch.CODEC_LZ4,
    DefaultRecordBatch.CODEC_ZSTD,
)
_HEADER = DefaultRecordBatch.HEADER_STRUCT
_TIMEOUT_S = 30.0


class Written(NamedTuple):
    """What a client writes of a record. `attributes` is a byte that says nothing."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[bytes, bytes | None]] = ()
    attributes: int = 0


def varint(number: int) -> bytes:
    """Return a number as Kafka writes sizes and differences."""
    data = bytearray()
    encode_varint(number, data.append)
    return bytes(data)


def _sized(text: bytes | None) -> bytes:
    return varint(-1) if text is None else varint(len(text)) + text


def body(
    of: Sequence[Written], offsets: Sequence[int] | None = None, after_ms: Sequence[int] | None = None
) -> bytes:
    """Return the records of a batch, uncompressed.

    Args:
        of: the records.
        offsets: what they say of their offsets within the batch; from 0 on if it is not given.
        after_ms: their times behind the batch's first; a millisecond after each other if it is not given.
    """
    written = bytearray()
    for number, (key, value, headers, attributes) in enumerate(of):
        offset = number if offsets is None else offsets[number]
        at_ms = number if after_ms is None else after_ms[number]
        record = bytes([attributes]) + varint(at_ms) + varint(offset) + _sized(key) + _sized(value)
        record += varint(len(headers)) + b"".join(_sized(name) + _sized(text) for name, text in headers)
        written += varint(len(record)) + record
    return bytes(written)


def batch(
    records: bytes,
    count: int,
    *,
    codec: int = 0,
    base_offset: int = 0,
    offsets: int | None = None,
    first_ms: int = NOW_MS,
) -> bytes:
    """Return a batch around records that are compressed already, with the checksum that fits.

    Args:
        records: what follows the header.
        count: of the records, as the header says.
        codec: as the header says.
        base_offset: of the first record.
        offsets: how many the batch takes; as many as records if it is not given.
        first_ms: its first time.
    """
    last = (count if offsets is None else offsets) - 1
    size = _HEADER.size + len(records)
    fields = (codec, last, first_ms, first_ms + max(0, last), -1, -1, -1, count)
    whole = bytearray(_HEADER.pack(base_offset, size - 12, 0, 2, 0, *fields) + records)
    struct.pack_into(">I", whole, 17, calc_crc32c(memoryview(whole)[21:]))
    return bytes(whole)


def xerial(data: bytes, block_bytes: int = 32 * 1024) -> bytes:
    """Compress by snappy as Java does, in blocks."""
    blocks = (data[begin : begin + block_bytes] for begin in range(0, len(data), block_bytes))
    packed = [bytes(cramjam.snappy.compress_raw(block)) for block in blocks]
    framed = b"".join(len(block).to_bytes(4, "big") + block for block in packed)
    return b"\x82SNAPPY\x00" + (1).to_bytes(4, "big") * 2 + framed


def lz4(data: bytes) -> bytes:
    """Compress by lz4 as Java does: its blocks know nothing of each other."""
    packer = cramjam.lz4.Compressor(level=1, content_checksum=True, block_linked=False)
    packer.compress(data)
    return bytes(packer.finish())


def snappy(data: bytes) -> bytes:
    """Compress by snappy as librdkafka does, in one block."""
    return bytes(cramjam.snappy.compress_raw(data))


def zstd(data: bytes) -> bytes:
    """Compress by zstd."""
    return bytes(cramjam.zstd.compress(data))


def halves(packed: Callable[[bytes], bytes], data: bytes) -> bytes:
    """Compress the two halves of data, and put them one behind the other."""
    middle = len(data) // 2
    return packed(data[:middle]) + packed(data[middle:])


ZSTD_SKIPPED = struct.pack("<II", 0x184D2A50, 5) + b"hello"

COMPRESSED: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "none": (0, bytes),
    "gzip": (GZIP, gzip.compress),
    "gzip, two members": (GZIP, lambda data: halves(gzip.compress, data)),
    "gzip, bytes behind": (GZIP, lambda data: gzip.compress(data) + b"bytes that nobody looks at"),
    "gzip, zeros behind": (GZIP, lambda data: halves(gzip.compress, data) + bytes(512)),
    "gzip, a name, reserved flags": (
        GZIP,
        lambda data: b"\x1f\x8b\x08\xe8" + bytes(6) + b"name\0" + gzip.compress(data)[10:],
    ),
    "snappy": (SNAPPY, snappy),
    "snappy of Java": (SNAPPY, xerial),
    "snappy of Java, small blocks": (SNAPPY, lambda data: xerial(data, 16)),
    "snappy of Java, two streams": (SNAPPY, lambda data: halves(xerial, data)),
    "snappy of Java, bytes behind": (SNAPPY, lambda data: xerial(data) + b"\1\2\3"),
    "lz4": (LZ4, lz4),
    "lz4, another frame behind": (LZ4, lambda data: lz4(data) + lz4(b"which Java does not read")),
    "zstd": (ZSTD, zstd),
    "zstd, two frames": (ZSTD, lambda data: halves(zstd, data)),
    "zstd, frames to skip": (ZSTD, lambda data: ZSTD_SKIPPED + zstd(data) + ZSTD_SKIPPED),
    "zstd, a frame that breaks off": (ZSTD, lambda data: zstd(data) + zstd(bytes(99))[:-3]),
}
"""How records are compressed, by those whose batches a broker takes."""


def overflowing(of: Sequence[Written]) -> bytes:
    """Return a batch that brokers take where times are the producers', and whose second time no 64 bits can hold."""
    after_ms = [NOW_MS - _FAR_MS] * len(of)
    after_ms[1] = _FAR_MS + _FAR_MS // 2
    return batch(body(of, after_ms=after_ms), len(of), first_ms=_FAR_MS)


def compressed(of: Sequence[Written], codec: str = "gzip") -> bytes:
    """Return a batch of records, compressed as `COMPRESSED` names it."""
    number, compress = COMPRESSED[codec]
    return batch(compress(body(of)), len(of), codec=number)


def publish_batch(bootstrap_servers: str, topic: str, whole: bytes, partition: int = 0) -> int:
    """Send one batch as it is; return the offset of its first record.

    Raises:
        KafkaError: the broker refuses it.
    """
    deadline_s = time.monotonic() + _TIMEOUT_S
    while True:
        error_code, offset = _produce(bootstrap_servers, topic, whole, partition)
        error = for_code(error_code)
        if error is NoError:
            return offset
        if not issubclass(error, InvalidMetadataError) or time.monotonic() > deadline_s:
            raise error
        time.sleep(0.05)  # a topic that was just created


def _produce(bootstrap_servers: str, topic: str, whole: bytes, partition: int) -> tuple[int, int]:
    """Send a Produce request of version 7; return the error code and the offset."""

    def text(of: str) -> bytes:
        return struct.pack(">h", len(of)) + of.encode()

    request = struct.pack(">hhi", 0, 7, 1) + text("by-hand") + struct.pack(">hhi", -1, -1, 10_000)
    request += struct.pack(">i", 1) + text(topic) + struct.pack(">iii", 1, partition, len(whole)) + whole
    host, _, port = bootstrap_servers.partition(",")[0].rpartition(":")
    with socket.create_connection((host, int(port)), _TIMEOUT_S) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answers = connection.makefile("rb")
        (size,) = struct.unpack(">i", answers.read(4))
        answer: bytes = answers.read(size)
    found: tuple[int, int] = struct.unpack_from(">hq", answer, 4 + 4 + 2 + len(topic) + 4 + 4)
    return found
