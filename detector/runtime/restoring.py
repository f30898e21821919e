"""Restoring: a partition's live sessions come back from the state log."""

import logging
import time
from collections.abc import Callable, Iterator

from kafka import KafkaConsumer, TopicPartition

from detector.connection import client_options
from detector.core.partition import Partition
from detector.runtime.config import DetectorConfig
from detector.runtime.membership import Membership
from detector.runtime.reading import read
from detector.runtime.rebuilding import Tell
from detector.runtime.recovery import StateRefusedError
from detector.runtime.state_log import decode_state, replay

_LOG = logging.getLogger(__name__)
_MAX_POLL_RECORDS = 200
_TELL_INTERVAL_S = 2.0
_WAYS_OUT = "See 'State refused' in docs/operations.md for the ways out, --rebuild-from-input among them"


class Progress:
    """Shows how far a restore is, and keeps the worker alive meanwhile: a `Tell`.

    Args:
        membership: of this worker; what it held before stays its own, however long the restore takes.
        alive: called each time; what it raises ends the restore.
    """

    def __init__(self, membership: Membership, alive: Callable[[], None]) -> None:
        self._membership = membership
        self._alive = alive
        self._told_s = time.monotonic()

    def __call__(self, text: str, *args: object) -> None:
        """Take note that the work goes on."""
        self._alive()
        if time.monotonic() - self._told_s >= _TELL_INTERVAL_S:
            _LOG.info(text, *args)
            self._membership.stay()
            self._told_s = time.monotonic()


class StateReader:
    """Reads the state log of partitions newly assigned."""

    def __init__(self, config: DetectorConfig, client_id: str, encoding: bytes) -> None:
        self._topic = config.state_topic
        self._encoding = encoding
        self._consumer = KafkaConsumer(
            **client_options(config.bootstrap_servers),
            client_id=f"{client_id}-restore",
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            fetch_max_wait_ms=20,  # an empty log answers at once
            max_partition_fetch_bytes=8 * 1024 * 1024,
            max_poll_records=_MAX_POLL_RECORDS,
            allow_auto_create_topics=False,
        )

    def restore(
        self, membership: Membership, source: TopicPartition, tell: Tell = lambda *_: None
    ) -> tuple[Partition, int]:
        """Restore one partition.

        The group's committed offset is asked for first: the broker answers only once no transaction of an
        earlier owner is open on it (KIP-447), and from then on nobody but this worker can commit to the state
        log. What is in the log at that moment is all there is.

        Args:
            membership: of this worker.
            source: of the input.
            tell: told of the progress; what it raises ends the restore.

        Returns:
            the partition, and the size of what was read, in bytes.

        Raises:
            StateRefusedError: the state is damaged, of another model or format, or not where the group is.
        """
        started_s = time.monotonic()
        committed = membership.consumer.committed(source)
        target = TopicPartition(self._topic, source.partition)
        where = f"{target.topic}[{target.partition}]"
        partition = Partition()
        refusal: StateRefusedError | None = None
        read_bytes = 0
        read_up_to = committed or 0
        for offset, value in self._committed_values(target):
            read_bytes += len(value)
            try:
                record = decode_state(value, self._encoding)
            except StateRefusedError as error:
                refusal = refusal or StateRefusedError(f"{where} at offset {offset}: {error}. {_WAYS_OUT}")
                read_up_to = max(read_up_to, error.next_offset)
                continue
            if record.chunk == 0:
                refusal = None  # a snapshot replaces whatever came before it, damage included
            if refusal is None:
                replay(partition, [record])
            read_up_to = max(read_up_to, record.next_offset)
            tell(
                "restoring %s[%d]: %d sessions from %d bytes so far",
                *source,
                len(partition.sessions),
                read_bytes,
            )
        if refusal is not None:
            refusal.next_offset = read_up_to
            raise refusal
        if read_bytes == 0:
            partition.next_offset = membership.consumer.beginning_offsets([source])[source]
            if committed is not None:
                raise StateRefusedError(
                    f"group committed offset {committed} of {source.topic}[{source.partition}], but {where} "
                    f"holds no state: it was deleted. {_WAYS_OUT}",
                    committed,
                )
        elif committed is not None and committed != partition.next_offset:
            raise StateRefusedError(
                f"group committed offset {committed} of {source.topic}[{source.partition}], but {where} was "
                f"written at {partition.next_offset}: somebody moved the group's offsets. {_WAYS_OUT}",
                read_up_to,
            )
        end = membership.consumer.end_offsets([source])[source]
        if partition.next_offset > end:
            raise StateRefusedError(
                f"{where} was written at offset {partition.next_offset} of {source.topic}[{source.partition}], "
                f"which ends at {end}: it was made anew, or lost records. {_WAYS_OUT}",
                read_up_to,
            )
        _LOG.info(
            "restored %s[%d]: %d sessions from %d bytes in %.2f s, next offset %d",
            source.topic,
            source.partition,
            len(partition.sessions),
            read_bytes,
            time.monotonic() - started_s,
            partition.next_offset,
        )
        return partition, read_bytes

    def _committed_values(self, target: TopicPartition) -> Iterator[tuple[int, bytes]]:
        """Read the log from its start to its high watermark as of the first answer.

        The high watermark and not the last stable offset, which may still lie before a transaction whose
        offsets are committed already: markers reach the partitions one after the other.
        """
        (begin,) = self._consumer.beginning_offsets([target]).values()
        for polled in read(self._consumer, {target: (begin, None)}):
            for record in polled.get(target, ()):
                yield record.offset, record.value or b""

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()


def skip_lost(consumer: KafkaConsumer, source: TopicPartition, partition: Partition) -> int:
    """Go on after offsets that retention deleted unread, if there are any; tell the log, and return how many."""
    begin: int = consumer.beginning_offsets([source])[source]
    lost = max(0, begin - partition.next_offset)
    if lost:
        _LOG.error(
            "%s[%d]: offsets %d to %d were deleted by retention before they were read; going on after them. "
            "Raise the topic's retention above the longest time the detector may be down",
            *source,
            partition.next_offset,
            begin - 1,
        )
        partition.next_offset = begin
    return lost
