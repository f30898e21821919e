"""The consumer: kafka-python's, with our reader of batches in it and a bound in bytes on what a poll returns."""

import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import IsolationLevel

from detector.client.records import FORMAT, MAX_BATCH_BYTES, Batch

MAX_POLL_BYTES: Final = 16 * 1024 * 1024
_IDLE_S: Final = 0.05


class Consumer(KafkaConsumer):  # type: ignore[misc]  # kafka-python is untyped
    """A KafkaConsumer that reads every batch a broker takes, and returns so much of it at a time.

    Where something can't be read, the value is `records.Unreadable`, and the consumer goes on behind it.

    Args:
        topics: as KafkaConsumer's.
        max_poll_bytes: most bytes of keys, values and headers that a poll returns, or one record that has more.
            What is behind stays fetched: the compressed data of one fetch, and one batch expanded.
        max_batch_bytes: a batch with more, once expanded, comes as `records.Withheld`.
        settings: as KafkaConsumer's.
    """

    def __init__(
        self,
        *topics: str,
        max_poll_bytes: int = MAX_POLL_BYTES,
        max_batch_bytes: int = MAX_BATCH_BYTES,
        **settings: Any,
    ) -> None:
        try:
            super().__init__(*topics, **settings)
        except BaseException:
            # KafkaConsumer starts its thread and then looks for a broker: at one that is away it would leave it behind.
            if hasattr(self, "_net"):
                self._client.close()
            raise
        # KafkaConsumer makes its own fetcher and takes none. That one has fetched nothing yet; it keeps the metrics
        # registered, at zero.
        self._fetcher = _Fetcher(
            max_poll_bytes, max_batch_bytes, self._client, self._subscription, **self.config
        )

    def close(self, *arguments: Any, **settings: Any) -> None:
        """Close, as KafkaConsumer does. Not as Python ends: its thread is gone by then, and would be waited for without end.

        That is where a generator comes to that holds a consumer open and was left halfway, for an error of who reads it.
        """
        if not sys.is_finalizing():
            super().close(*arguments, **settings)

    def poll(self, *arguments: Any, **settings: Any) -> Any:
        """Return what was fetched, as KafkaConsumer does, up to the bound in bytes."""
        self._fetcher.left_bytes = self._fetcher.max_poll_bytes
        return super().poll(*arguments, **settings)

    def read_on(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]:
        """Fetch as `poll` does, and up to what that left of the bound, without looking after the group: nothing joins.

        Raises:
            KafkaError: as `poll`.
        """
        records, idle = self._fetcher.fetch_records(max_records, timeout_ms=timeout_ms)
        if idle and not records:  # no leader is known or reachable: nothing was waited for
            time.sleep(min(_IDLE_S, timeout_ms / 1_000))
        return dict(records)

    def known_position(self, source: TopicPartition) -> int | None:
        """Return the offset that is read next; None if the group gave `source` away, or none was set yet.

        KafkaConsumer.position asks the brokers, without a limit, for whatever position any partition lacks, and raises
        where there is none: for a partition that was assigned a moment ago, and is not the one asked about.
        """
        state = self._subscription.assignment.get(source)
        return None if state is None or state.position is None else int(state.position.offset)

    @property
    def wants_join(self) -> bool:
        """Whether the next poll would join the group: a heartbeat told of a rebalance, say."""
        return bool(self._coordinator.need_rejoin())

    def rejoin(self) -> None:
        """Join the group anew at the next poll; there is no public way to ask for it."""
        self._coordinator.request_rejoin()

    @property
    def refused_topics(self) -> set[str]:
        """The topics that the broker does not let this client know of, as its last answer told.

        KafkaConsumer waits for them as for topics that are not there yet.
        """
        return set(self._cluster.unauthorized_topics)


class _Fetcher(Fetcher):  # type: ignore[misc]  # as above
    """Reads batches by `records.Batch`, and ends a poll at a bound in bytes beside that in records."""

    def __init__(self, max_poll_bytes: int, max_batch_bytes: int, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.max_poll_bytes = self.left_bytes = max_poll_bytes
        self._max_batch_bytes = max_batch_bytes

    def _parse_fetched_data(self, completed_fetch: Any) -> Any:
        part = super()._parse_fetched_data(completed_fetch)
        if part is not None:
            part.max_batch_bytes = self._max_batch_bytes
        return part

    def _append(self, drained: Any, part: Any, max_records: int, update_offsets: bool) -> int:  # noqa: FBT001  its own
        part.left_bytes = self.left_bytes
        count: int = super()._append(drained, part, max_records, update_offsets)
        self.left_bytes = part.left_bytes
        # Counting as many as there may be ends the loop of the caller, which takes this count off.
        return count if self.left_bytes > 0 else max_records

    class PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]  # as above
        """The records of one partition that one fetch brought."""

        left_bytes = MAX_POLL_BYTES
        max_batch_bytes = MAX_BATCH_BYTES

        def take(self, n: int) -> list[Any]:
            """Return the next records, at most `n` and up to the one with which `left_bytes` are used up."""
            self._maybe_raise_next_inline_exception()
            records: list[Any] = []
            before = self.bytes_read
            try:
                for record in self.record_iterator:
                    records.append(record)
                    if len(records) >= n or self.bytes_read - before >= self.left_bytes:
                        break
            except Exception as error:
                if not records:
                    raise
                self._next_inline_exception = error  # for the next call, behind the records before it
            self.left_bytes -= self.bytes_read - before
            return records

        def _unpack_records(self, tp: Any, batches: Any, *_: Any) -> Iterator[Any]:
            """Yield the records, of committed transactions alone if that is asked for.

            As its model in Fetcher, for message format 2 and without deserializers. `next_fetch_offset` is where
            to go on behind what was taken.
            """
            for batch in batches:
                if self.check_crcs and not batch.validate_crc():
                    raise CorruptRecordError(
                        f"{tp}: the batch at offset {batch.base_offset} fails its checksum"
                    )
                if batch.magic != FORMAT or not self._passed_over(batch):
                    for record in Batch(batch, tp, self.max_batch_bytes):
                        self.records_read += 1
                        self.bytes_read += 2 + sum(
                            record[-3:]
                        )  # of key, value and headers; -1 where there is none
                        self.next_fetch_offset = record.offset + 1
                        yield record
                if batch.magic == FORMAT:  # compaction may have left out its last records
                    self.leader_epoch, self.next_fetch_offset = batch.leader_epoch, batch.next_offset
            self.drain()

        def _passed_over(self, batch: Any) -> bool:
            """Tell whether a batch holds a transaction's end, or records of one that was aborted."""
            if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
                self._consume_aborted_transactions_up_to(batch.last_offset)
                if self._contains_abort_marker(batch):
                    self.aborted_producer_ids.discard(batch.producer_id)
                elif self._is_batch_aborted(batch):
                    return True
            return bool(batch.is_control_batch)
