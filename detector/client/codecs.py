"""Compressed records expanded as Java's clients do it, up to a limit.

A broker takes what its own readers understand, and other clients write what theirs do: several gzip members or xerial
streams one after the other, bytes behind a gzip stream or an lz4 frame, which nobody looks at. kafka-python (3.0.12)
reads less than that, without any limit, and in three copies.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Final

import cramjam
from kafka.record.default_records import DefaultRecordBatch


class TooLargeError(Exception):
    """The data come to more than the limit."""


class NotReadableError(ValueError):
    """The data are not what the codec writes. The message says what was seen."""


def expanded(codec: int, data: bytes, limit_bytes: int) -> bytes | bytearray:
    """Return the records of a batch, expanded.

    Args:
        codec: as the batch's attributes tell (KIP-98, KIP-110).
        data: what follows the batch's header.
        limit_bytes: of the result.

    Returns:
        at least the records; zeros may follow.

    Raises:
        TooLargeError: they come to more.
        NotReadableError: no such codec, or none of its data.
    """
    if codec not in _CODECS:
        raise NotReadableError(f"compression {codec}: expected one of {', '.join(map(str, _CODECS))}")
    name, expand = _CODECS[codec]
    try:
        return expand(data, limit_bytes)
    except _FAILURES as error:
        raise NotReadableError(f"{name}: {error}") from error


_FAILURES: Final = (cramjam.DecompressionError, zlib.error, struct.error, ValueError)


def _gzip(data: bytes, limit_bytes: int) -> bytearray:
    """Expand the members of a gzip stream (RFC 1952). What lies behind the first and is none ends it."""
    found, pos = bytearray(), 0
    while pos < len(data) or not pos:
        whole = len(found)
        try:
            pos = _behind_gzip_member(data, _behind_gzip_header(data, pos), found, limit_bytes)
        except _FAILURES:
            if not pos:
                raise
            del found[whole:]
            break
    return found


def _behind_gzip_header(data: bytes, pos: int) -> int:
    """Return where the compressed data of a member begin. Reserved flags are passed over, which zlib refuses."""
    begin, flags = _GZIP_HEADER.unpack_from(data, pos)
    if begin != _GZIP_MAGIC:
        raise ValueError(f"a member begins with {begin.hex()}, expected {_GZIP_MAGIC.hex()}")
    pos += _GZIP_HEADER.size
    if flags & _GZIP_EXTRA:
        pos += 2 + struct.unpack_from("<H", data, pos)[0]
    for text in (_GZIP_NAME, _GZIP_COMMENT):
        if flags & text:
            pos = data.index(0, pos) + 1
    return pos + (2 if flags & _GZIP_HEADER_CRC else 0)


def _behind_gzip_member(data: bytes, pos: int, found: bytearray, limit_bytes: int) -> int:
    """Add to `found` what a member holds; return where it ends."""
    member, rest = zlib.decompressobj(-zlib.MAX_WBITS), data[pos:]
    while not member.eof:
        found += (part := member.decompress(rest, _PART_BYTES))
        if len(found) > limit_bytes:
            raise TooLargeError
        rest = member.unconsumed_tail
        if not part and not rest and not member.eof:
            raise ValueError("it ends within a member")
    # The checksum and size behind it are unchecked: the batch has a checksum of its own.
    return len(data) - len(member.unused_data) + _GZIP_TRAILER_BYTES


_GZIP_HEADER: Final = struct.Struct("<3sB6x")
_GZIP_MAGIC: Final = b"\x1f\x8b\x08"
_GZIP_HEADER_CRC, _GZIP_EXTRA, _GZIP_NAME, _GZIP_COMMENT = 0x02, 0x04, 0x08, 0x10
_GZIP_TRAILER_BYTES: Final = 8
_PART_BYTES: Final = 1024 * 1024


def _snappy(data: bytes, limit_bytes: int) -> bytearray:
    """Expand one block of snappy, or blocks as Java's streams frame them."""
    found = bytearray()
    for block in _xerial_blocks(data) if data.startswith(_XERIAL) else [data]:
        if len(found) + int(cramjam.snappy.decompress_raw_len(block)) > limit_bytes:
            raise TooLargeError
        found += cramjam.snappy.decompress_raw(block)
    return found


_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_BYTES: Final = 16
"""Begins a stream: the magic and two versions. Then come blocks, each behind its size in four bytes."""


def _xerial_blocks(data: bytes) -> Iterator[bytes]:
    pos = 0
    while len(data) - pos >= _SIZE.size:  # a rest too short for a size is passed over
        if data.startswith(_XERIAL[: _SIZE.size], pos) and len(data) - pos >= _XERIAL_BYTES:
            if not data.startswith(_XERIAL, pos):
                return
            pos += _XERIAL_BYTES
            continue
        (size,) = _SIZE.unpack_from(data, pos)
        pos += _SIZE.size
        if not 0 <= size <= len(data) - pos:
            raise ValueError(f"a block of {size} bytes, of which {len(data) - pos} are there")
        yield data[pos : pos + size]
        pos += size


_SIZE: Final = struct.Struct(">i")


def _lz4(data: bytes, limit_bytes: int) -> bytearray:
    """Expand the first frame of lz4, checksums unchecked: Java's reader ends there and leaves the content's out."""
    magic, flags, descriptor = _LZ4_HEADER.unpack_from(data)
    if magic != _LZ4_MAGIC:
        raise ValueError(f"it begins with {data[:4].hex()}, expected a frame")
    if flags & _LZ4_KIND != _LZ4_INDEPENDENT:
        raise ValueError(f"flags {flags:#x}, expected version 1 with independent blocks, as Java does")
    pos = _LZ4_HEADER.size + (8 if flags & _LZ4_CONTENT_SIZE else 0) + 1
    block_bytes = 1 << (8 + 2 * (descriptor >> 4 & 7))  # 4 to 7 stand for 64 KiB to 4 MiB
    found, scratch = bytearray(), bytearray(block_bytes)
    while size := _LZ4_SIZE.unpack_from(data, pos)[0]:
        pos += _LZ4_SIZE.size
        stored, size = size & _LZ4_STORED, size & ~_LZ4_STORED
        if not size <= min(block_bytes, len(data) - pos):
            raise ValueError(f"a block of {size} bytes, of which {len(data) - pos} are there")
        block = data[pos : pos + size]
        if stored:
            found += block
        else:
            scratch_bytes = cramjam.lz4.decompress_block_into(block, scratch, output_len=block_bytes)
            found += memoryview(scratch)[:scratch_bytes]
        if len(found) > limit_bytes:
            raise TooLargeError
        pos += size + (4 if flags & _LZ4_BLOCK_CHECKSUMS else 0)
    return found


_LZ4_HEADER: Final = struct.Struct("<IBB")
_LZ4_MAGIC: Final = 0x184D2204
_LZ4_KIND: Final = 0xE0
_LZ4_INDEPENDENT: Final = 0x60
_LZ4_CONTENT_SIZE: Final = 0x08
_LZ4_BLOCK_CHECKSUMS: Final = 0x10
_LZ4_SIZE: Final = struct.Struct("<I")
_LZ4_STORED: Final = 0x80000000


def _zstd(data: bytes, limit_bytes: int) -> bytearray:
    """Expand the frames of zstd (RFC 8878)."""
    size = max(_MIN_BUFFER_BYTES, _LIKELY_EXPANSION * len(data))
    while True:
        buffer = bytearray(min(size, limit_bytes + 1))  # one more: what fills it is too large
        try:
            found = cramjam.zstd.decompress_into(data, buffer)
        except cramjam.DecompressionError as error:
            if _INCOMPLETE in str(error):
                return buffer  # a last frame that breaks off is passed over; behind the others are zeros
            if _TOO_SMALL not in str(error):
                raise
            if size > limit_bytes:
                raise TooLargeError from error
            size *= 4
            del buffer
            continue
        if found > limit_bytes:
            raise TooLargeError
        del buffer[found:]
        return buffer


_LIKELY_EXPANSION: Final = 16
_MIN_BUFFER_BYTES: Final = 64 * 1024
_INCOMPLETE: Final = "incomplete frame"
_TOO_SMALL: Final = "failed to write whole buffer"

_CODECS: Final[dict[int, tuple[str, Callable[[bytes, int], bytearray]]]] = {
    DefaultRecordBatch.CODEC_GZIP: ("gzip", _gzip),
    DefaultRecordBatch.CODEC_SNAPPY: ("snappy", _snappy),
    DefaultRecordBatch.CODEC_LZ4: ("lz4", _lz4),
    DefaultRecordBatch.CODEC_ZSTD: ("zstd", _zstd),
}
