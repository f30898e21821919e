"""The records of a batch (KIP-98), whatever lies in it: read, or marked as unreadable at the offset where they are.

What a broker takes can end a worker of kafka-python (3.0.12), which is started anew, reads the same and ends again:
compressed data that it can't expand, or expands without a limit; a header's name that is no UTF-8; an attribute byte of
128 or more, which it takes for a varint; offsets within the batch that no broker looks at when it is uncompressed.
"""

from collections.abc import Iterator
from typing import Any, Final, Self

from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.util import decode_varint

from detector.client.codecs import NotReadableError, TooLargeError, expanded

MAX_BATCH_BYTES: Final = 64 * 1024 * 1024
"""Of a batch once decompressed: five of the largest record that the input topic takes uncompressed."""
_MIN_RECORD_BYTES: Final = 6
"""Behind its length: attributes, time, offset, sizes of key and value, count of headers."""
_INT64: Final = 1 << 63
FORMAT: Final = 2
"""Of the messages (KIP-98): Kafka's since 0.11, and its only one since 4.0."""


class Unreadable(bytes):
    """In place of a value: a record, or all of a batch from some record on. What it is stays on its topic only.

    It is empty, for those who look for nothing but values.

    Attributes:
        why: what was seen and what was expected, for people.
    """

    why: str

    def __new__(cls, why: str) -> Self:
        """Return one for a reason."""
        made = super().__new__(cls)
        made.why = why
        return made


class Withheld(Unreadable):
    """Its batch expands beyond the limit: nothing of it was read."""


class Headers:
    """The headers of a record, read each time that somebody looks: nobody does of an event that is scored."""

    __slots__ = ("_count", "_data")

    def __init__(self, data: bytes, count: int) -> None:
        self._data = data
        self._count = count

    def __len__(self) -> int:
        """Return how many the record says that it has."""
        return self._count

    def __iter__(self) -> Iterator[tuple[str, bytes | None]]:
        """Yield names and values up to the first that can't be read; of a name that is no UTF-8, its letters."""
        data, pos = self._data, 0
        for _ in range(self._count):
            try:
                size, pos = decode_varint(data, pos)
                name = data[pos : (pos := pos + max(0, size))].decode(errors="replace")
                size, pos = decode_varint(data, pos)
            except (IndexError, ValueError):
                return
            yield name, None if size < 0 else data[pos : pos + size]
            pos += max(0, size)


_NO_HEADERS: Final = Headers(b"", 0)


class Batch:
    """The records of a batch, as kafka-python's ConsumerRecord: each offset once, in order.

    A record that can't be read comes as `Unreadable`. Where the next one begins can't be told any more, and for a
    batch that can't be expanded, one of these stands for all that is left, at the batch's last offset.

    Args:
        batch: of kafka-python, as a fetch brought it.
        source: where it lies.
        limit_bytes: of the batch once expanded.
    """

    def __init__(self, batch: Any, source: TopicPartition, limit_bytes: int = MAX_BATCH_BYTES) -> None:
        self._batch = batch
        self._source = source
        self._limit_bytes = limit_bytes
        self._known = batch.magic == FORMAT  # a LegacyRecordBatch lacks most of the properties
        self._epoch: int = batch.leader_epoch if self._known else -1
        self._base_offset: int = batch.base_offset
        self._last_offset: int = batch.last_offset if self._known else batch.base_offset
        self._append_time = self._known and batch.timestamp_type == DefaultRecordBatch.LOG_APPEND_TIME
        self._time_ms: int = -1
        if self._known:
            self._time_ms = batch.max_timestamp if self._append_time else batch.first_timestamp

    def __iter__(self) -> Iterator[Any]:
        """Read them; nothing is expanded before the first is asked for."""
        offset = self._base_offset
        try:
            data = self._data()
        except TooLargeError:
            why = f"more than {self._limit_bytes} bytes decompressed: none of it was read"
            yield self._rest(offset, why, Withheld)
            return
        except NotReadableError as error:
            yield self._rest(offset, str(error))
            return
        view, size, pos = memoryview(data), len(data), 0
        # A broker numbers the records one by one, whatever they say; only compaction leaves some out. So each has
        # a place between the one before and as many as are left.
        count = self._batch.records_count
        spare = self._last_offset + 1 - offset - count
        if count < 0 or spare < 0:
            yield self._rest(offset, f"{count} records at {count + spare} offsets")
            return
        for index in range(count):
            try:
                length, begin = decode_varint(data, pos)
            except (IndexError, ValueError) as error:
                yield self._rest(offset, f"no length of a record at byte {pos} of {size} ({error})")
                return
            pos = begin + length
            if length < _MIN_RECORD_BYTES or pos > size:
                yield self._rest(offset, f"a record of {length} bytes at byte {begin} of {size}")
                return
            try:
                record = self._record(data, view, begin, pos, offset, self._base_offset + index + spare)
            except (IndexError, ValueError) as error:
                record = self._unreadable(offset, Unreadable(f"a record of {length} bytes: {error}"))
            yield record
            offset = record.offset + 1

    def _data(self) -> bytes | bytearray:
        batch = self._batch
        if not self._known:
            raise NotReadableError(f"message format {batch.magic}: expected {FORMAT}, Kafka's since 0.11")
        data = bytes(memoryview(batch._buffer)[DefaultRecordBatch.HEADER_STRUCT.size :])  # noqa: SLF001  no other way
        if batch.compression_type == DefaultRecordBatch.CODEC_NONE:
            return data
        return expanded(batch.compression_type, data, self._limit_bytes)

    def _record(
        self, data: bytes | bytearray, view: memoryview, pos: int, end: int, first: int, last: int
    ) -> Any:
        """Read the record in data[pos:end], whose offset is from `first` to `last`.

        Raises:
            IndexError, ValueError: what is there is none.
        """
        delta_ms, pos = decode_varint(data, pos + 1)  # behind the attributes, a byte that says nothing yet
        offset_delta, pos = decode_varint(data, pos)
        key_bytes, key_at = decode_varint(data, pos)
        pos = key_at + key_bytes if key_bytes > 0 else key_at
        value_bytes, value_at = decode_varint(data, pos)
        pos = value_at + value_bytes if value_bytes > 0 else value_at
        headers, pos = decode_varint(data, pos)
        # Each header takes two bytes at least.
        if pos > end or not 0 <= headers <= (end - pos) // 2 or bool(headers) != (pos < end):
            raise ValueError(f"a key of {key_bytes}, a value of {value_bytes}, {headers} headers")
        time_ms = self._time_ms if self._append_time else self._time_ms + delta_ms
        if not -_INT64 <= time_ms < _INT64:
            raise ValueError(f"timestamp {time_ms}")
        offset = self._base_offset + offset_delta
        return ConsumerRecord(
            *self._source,
            self._epoch,
            offset if first <= offset <= last else first,
            time_ms,
            int(self._append_time),
            None if key_bytes < 0 else bytes(view[key_at : key_at + key_bytes]),
            None if value_bytes < 0 else bytes(view[value_at : value_at + value_bytes]),
            Headers(bytes(view[pos:end]), headers) if headers else _NO_HEADERS,
            None,  # a checksum, which single records have no more
            key_bytes,
            value_bytes,
            end - pos,
        )

    def _rest(self, offset: int, why: str, kind: type[Unreadable] = Unreadable) -> Any:
        """Return what stands for the records from an offset to the last one, so that all are read once."""
        told = f"{why}; offsets {offset} to {self._last_offset}" if offset < self._last_offset else why
        return self._unreadable(self._last_offset, kind(told))

    def _unreadable(self, offset: int, value: Unreadable) -> Any:
        place = (*self._source, self._epoch, offset, self._time_ms, int(self._append_time))
        return ConsumerRecord(*place, None, value, _NO_HEADERS, None, -1, -1, 0)
