"""The transaction: the one place that produces, and the one that commits offsets."""

import logging
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from kafka import TopicPartition
from kafka.errors import (
    AuthorizationError,
    CommitFailedError,
    FencedInstanceIdError,
    KafkaError,
    UnknownError,
)
from kafka.structs import ConsumerGroupMetadata

from detector.client.producer import Producer, is_refused_for_its_size
from detector.connection import client_options
from detector.contract.topics import MAX_RECORD_BYTES
from detector.runtime.config import DetectorConfig
from detector.runtime.recovery import (
    BatchAbortedError,
    MemberFencedError,
    Origin,
    OutcomeUnknownError,
    RecordRefusedError,
)

_LOG = logging.getLogger(__name__)
_FLUSH_TIMEOUT_S = 30.0
_CLOSE_TIMEOUT_S = 5.0
_SPLIT_BACKOFF_S = 0.01


class OutputRecord(NamedTuple):
    """A record to publish. Without a partition, the key decides; the origin is the record of the input that it is of."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    partition: int | None = None
    origin: Origin | None = None

    @property
    def size_bytes(self) -> int:
        """About as many bytes as it takes in a batch, lengths within the record included."""
        headers = sum(len(name.encode()) + len(value) + 10 for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers


def in_every_partition(topic: str, key: bytes, value: bytes, partitions: int) -> list[OutputRecord]:
    """Return a record for each partition of the input: what holds for all its events from there on lies in all of them."""
    return [OutputRecord(topic, key, value, [], number) for number in range(partitions)]


class Transactor:
    """Publishes records and commits input offsets as one (KIP-98, KIP-447).

    Opening it fences whatever an earlier worker of the same transactional id left open.

    Raises:
        KafkaError: the coordinator could not be reached.
    """

    def __init__(self, config: DetectorConfig, transactional_id: str) -> None:
        self._producer = Producer(
            **client_options(config.bootstrap_servers),
            client_id=transactional_id,
            transactional_id=transactional_id,
            transaction_timeout_ms=config.transaction_timeout_ms,
            acks="all",
            # A new transaction waits for the previous one's markers (CONCURRENT_TRANSACTIONS) and the back-off
            # is the wait: 2 ms instead of the default 100 takes its 99th percentile from 212 ms to 13 ms.
            retry_backoff_ms=2,
            linger_ms=1_000,  # the flush ends the lingering: one request for all records of a batch
            batch_size=1024 * 1024,
            max_request_size=MAX_RECORD_BYTES + 1024 * 1024,
            delivery_timeout_ms=60_000,
        )
        try:
            self._producer.init_transactions()
        except BaseException:
            self.close()
            raise

    def commit(
        self,
        records: Sequence[OutputRecord],
        offsets: Mapping[TopicPartition, int],
        member: ConsumerGroupMetadata | None,
    ) -> list[int]:
        """Publish `records` and commit `offsets`, both or neither.

        Args:
            records: in the order in which they are to lie in their partitions.
            offsets: next input offset by partition.
            member: the group membership under which the input was read. Never a newer one: that of a worker
                that was thrown out since would lift the fence against it. None goes with no offsets.

        Returns:
            the offset of each record.

        Raises:
            AuthorizationError: nothing was published; the broker does not allow this client to.
            BatchAbortedError: nothing was published; the batch can be tried again.
            MemberFencedError: nothing was published; the partitions are another worker's.
            OutcomeUnknownError: published or not; this object can't be used any more.
            RecordRefusedError: nothing was published; a topic takes no record as large as one of these.
        """
        futures: list[Any] = []
        sent = None
        try:
            self._producer.begin_transaction()
            # First, and not waited for: while the coordinator answers, the partitions of all records come together
            # and are added to the transaction by one request, and not by one for the first and one for the others.
            sent = self._producer.send_offsets(offsets, member) if offsets else None
            futures += map(self._send, records)
            # Every record acknowledged before the commit is asked for: kafka-python answers a commit with
            # success if the producer's epoch was bumped while batches were still under way (ADR 0003).
            self._flush()
            published = [future.get(timeout=0).offset for future in futures]
            if sent is not None:
                sent.wait()
        except (KafkaError, ValueError) as error:
            # Offsets that are refused fail the records after them, which don't know why.
            cause = error if sent is None or sent.exception is None else sent.exception
            raise self._abort(cause, _too_large(records, futures)) from cause
        try:
            self._producer.commit_transaction()
        except KafkaError as error:
            raise OutcomeUnknownError(f"commit failed: {error}") from error
        return published

    def _send(self, record: OutputRecord) -> Any:
        return self._producer.send(
            record.topic,
            key=record.key,
            value=record.value,
            headers=record.headers,
            partition=record.partition,
        )

    def _flush(self) -> None:
        """Send what lingers, and wait until every record is acknowledged or has failed."""
        deadline_s = time.monotonic() + _FLUSH_TIMEOUT_S
        while True:
            try:
                self._producer.flush(timeout=max(0.0, deadline_s - time.monotonic()))
                break
            except UnknownError:
                # A batch was larger than its topic takes. kafka-python goes on with its halves, and waits here for
                # the whole, which is never done (ADR 0002).
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(_SPLIT_BACKOFF_S)

    def _abort(self, cause: Exception, too_large: Mapping[str, OutputRecord]) -> Exception:
        """Abort, and return the exception that names the recovery, or the cause if there is none."""
        refused = isinstance(cause, AuthorizationError)
        try:
            self._producer.abort_transaction()
        except KafkaError as error:
            if not refused:
                return OutcomeUnknownError(f"abort after '{cause}' failed: {error}")
        if refused:
            return cause
        if too_large:
            told = ", ".join(
                f"topic {one.topic} refuses a record whose value has {len(one.value or b''):,} bytes"
                for one in too_large.values()
            )
            return RecordRefusedError(
                f"{told}. Expected its max.message.bytes to be what docs/operations.md lists: raise it",
                {topic: one.size_bytes for topic, one in too_large.items()},
            )
        if isinstance(cause, CommitFailedError | FencedInstanceIdError):
            return MemberFencedError(str(cause))
        if isinstance(cause, ValueError):
            self._producer.refresh_metadata()  # of a partition that was just added
        return BatchAbortedError(str(cause))

    def close(self) -> None:
        """Close the producer. An open transaction is aborted by the next owner of the id, or times out."""
        try:
            self._producer.close(timeout=_CLOSE_TIMEOUT_S)
        except KafkaError as error:
            _LOG.warning("producer did not close cleanly: %s", error)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def _too_large(records: Sequence[OutputRecord], futures: Sequence[Any]) -> dict[str, OutputRecord]:
    """Return by topic the smallest record that it refuses for its size, which no retry mends."""
    least: dict[str, OutputRecord] = {}
    # Fewer futures than records, if sending was refused halfway.
    for record, future in zip(records, futures, strict=False):
        if is_refused_for_its_size(future):
            least[record.topic] = min(record, least.get(record.topic, record), key=lambda one: one.size_bytes)
    return least
