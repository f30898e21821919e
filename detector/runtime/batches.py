"""Batches of the input as others write them: what kafka-python's own reader does not survive.

A broker takes batches that kafka-python (3.0.12) can't read or that fill its memory; a worker that can't read one ends,
starts anew and ends again. So importing this module puts a class of ours in the place of its `DefaultRecordBatch`:

- Every compression of Kafka is read, and a batch expands to `MAX_BATCH_BYTES` at most. Some kilobytes can stand for
  gigabytes, of which kafka-python makes three copies. Beyond the limit each record comes as `Withheld`.
- A header's name that is no UTF-8, which librdkafka writes and Java reads, has its spoiled bytes replaced.
"""

import struct
from typing import Any, Final

import cramjam
import kafka.record.memory_records
from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from kafka.record.util import decode_varint

MAX_BATCH_BYTES: Final = 64 * 1024 * 1024
"""Of a batch once decompressed: five of the largest record that the input topic takes uncompressed."""
_LIKELY_EXPANSION: Final = 16
_MIN_BUFFER_BYTES: Final = 64 * 1024
_XERIAL: Final = b"\x82SNAPPY\x00"
"""Begins snappy's data as Java frames it: two versions, then blocks behind their sizes, all of four bytes."""
_XERIAL_HEADER_BYTES: Final = 16


class Withheld(bytes):
    """In place of a value: its batch expands beyond `MAX_BATCH_BYTES`. It is whole on its topic only."""

    __slots__ = ()


class BoundedBatch(DefaultRecordBatch):  # type: ignore[misc]  # kafka-python is untyped
    """A batch (KIP-98) whose records are read, or withheld."""

    _buffer: bytearray
    _pos: int
    _decompressed: bool

    def __init__(self, buffer: Any) -> None:
        super().__init__(buffer)
        self._withheld = False

    def _maybe_uncompress(self) -> None:
        if self._decompressed:
            return
        self._decompressed = True
        if self.compression_type != self.CODEC_NONE:
            expanded = _expanded(self.compression_type, bytes(self._buffer[self._pos :]))
            self._withheld = expanded is None
            self._buffer, self._pos = expanded or bytearray(), 0

    def _read_msg(self) -> Any:
        if self._withheld:
            append_time = self.timestamp_type == self.LOG_APPEND_TIME
            timestamp_ms = self.max_timestamp if append_time else self.first_timestamp
            # A broker numbers the records of a batch one by one; only compaction leaves some out.
            offset = self.base_offset + self._next_record_index
            return DefaultRecord(0, offset, timestamp_ms, self.timestamp_type, None, Withheld(), [])
        try:
            return super()._read_msg()
        except UnicodeDecodeError:
            self._mend_header_names()
            return super()._read_msg()

    def _mend_header_names(self) -> None:
        """Replace what is no ASCII in the header names of the record at hand, in place."""
        buffer, pos = self._buffer, self._pos
        for _ in ("length", "attributes", "timestamp", "offset"):
            _, pos = decode_varint(buffer, pos)
        for _ in ("key", "value"):
            pos = _behind(buffer, pos)
        count, pos = decode_varint(buffer, pos)
        for _ in range(count):
            begin, pos = decode_varint(buffer, pos)[1], _behind(buffer, pos)
            buffer[begin:pos] = bytes(byte if byte < 0x80 else ord("?") for byte in buffer[begin:pos])  # noqa: PLR2004
            pos = _behind(buffer, pos)


def _behind(buffer: bytearray, pos: int) -> int:
    """Return where the text at `pos` ends, which lies behind its size; none at all has size -1."""
    size, begin = decode_varint(buffer, pos)
    return int(begin + max(0, size))


def _expanded(codec: int, data: bytes) -> bytearray | None:
    """Decompress the records of a batch; None if they come to more than the limit."""
    if codec == DefaultRecordBatch.CODEC_SNAPPY:
        return _expanded_snappy(data)
    decompress_into = {
        DefaultRecordBatch.CODEC_GZIP: cramjam.gzip.decompress_into,
        DefaultRecordBatch.CODEC_LZ4: cramjam.lz4.decompress_into,
        DefaultRecordBatch.CODEC_ZSTD: cramjam.zstd.decompress_into,
    }[codec]
    size = max(_MIN_BUFFER_BYTES, _LIKELY_EXPANSION * len(data))
    while True:
        buffer = bytearray(min(size, MAX_BATCH_BYTES))
        try:
            del buffer[decompress_into(data, buffer) :]
        except cramjam.DecompressionError as error:
            if _TOO_SMALL not in str(error):
                raise CorruptRecordError(f"compressed records can't be read: {error}") from error
            if size >= MAX_BATCH_BYTES:
                return None
            size *= 4
        else:
            return buffer


_TOO_SMALL: Final = "failed to write whole buffer"


def _expanded_snappy(data: bytes) -> bytearray | None:
    blocks, pos = [data], _XERIAL_HEADER_BYTES
    if data.startswith(_XERIAL):
        blocks = []
        while pos < len(data):
            (size,) = struct.unpack_from(">i", data, pos)
            blocks.append(data[pos + 4 : pos + 4 + size])
            pos += 4 + size
    try:
        if sum(map(cramjam.snappy.decompress_raw_len, blocks)) > MAX_BATCH_BYTES:
            return None
        return bytearray().join(map(cramjam.snappy.decompress_raw, blocks))
    except cramjam.DecompressionError as error:
        raise CorruptRecordError(f"compressed records can't be read: {error}") from error


kafka.record.memory_records.DefaultRecordBatch = BoundedBatch
