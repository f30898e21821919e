"""Restoring: a partition's live sessions come back from the state log."""

import logging
import time
from collections.abc import Callable, Iterator

from kafka import TopicPartition

from detector.client.consumer import Consumer
from detector.client.reading import log_reader, read
from detector.core.partition import Partition
from detector.runtime.config import DetectorConfig
from detector.runtime.membership import Membership
from detector.runtime.rebuilding import Tell
from detector.runtime.recovery import StateRefusedError
from detector.runtime.restored_state import LogEnd, RestoredState

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
        self._consumer = log_reader(
            config.bootstrap_servers,
            client_id=f"{client_id}-restore",
            fetch_max_wait_ms=20,  # an empty log answers at once
            max_partition_fetch_bytes=8 * 1024 * 1024,
            max_poll_records=_MAX_POLL_RECORDS,
        )

    def restore(
        self, membership: Membership, source: TopicPartition, tell: Tell = lambda *_: None
    ) -> tuple[Partition, LogEnd | None]:
        """Restore one partition.

        The group's committed offset is asked for first: the broker answers only once no transaction of an
        earlier owner is open on it (KIP-447), and from then on nobody but this worker can commit to the state
        log. What is in the log at that moment is all there is.

        Args:
            membership: of this worker.
            source: of the input.
            tell: told of the progress; what it raises ends the restore.

        Returns:
            the partition, and what its log ends with; None if it is empty.

        Raises:
            StateRefusedError: the state is damaged, not all there, of another model or format, or not where the group is.
        """
        started_s = time.monotonic()
        committed = membership.consumer.committed(source)
        target = TopicPartition(self._topic, source.partition)
        where = f"{target.topic}[{target.partition}]"
        restored = RestoredState(self._encoding)
        for offset, value in self._committed_values(target):
            restored.add(offset, value)
            tell(
                "restoring %s[%d]: %d sessions and accounts from %d bytes so far",
                *source,
                restored.sessions,
                restored.log_bytes,
            )
        try:
            log = restored.end()
            if log is None:
                restored.partition.next_offset = membership.consumer.beginning_offsets([source])[source]
            self._check(membership.consumer, source, committed, log, restored.partition.next_offset)
        except StateRefusedError as error:
            read_up_to = max(committed or 0, restored.read_up_to)
            raise StateRefusedError(f"{where}: {error}. {_WAYS_OUT}", read_up_to) from error
        _LOG.info(
            "restored %s[%d]: %d sessions and %d accounts from %d bytes in %.2f s, next offset %d",
            *source,
            len(restored.partition.sessions),
            len(restored.partition.profiles),
            restored.log_bytes,
            time.monotonic() - started_s,
            restored.partition.next_offset,
        )
        return restored.partition, log

    @staticmethod
    def _check(
        consumer: Consumer, source: TopicPartition, committed: int | None, log: LogEnd | None, at: int
    ) -> None:
        """Hold where the state is, offset `at` of the input, against where the group and the input are."""
        group = f"group committed offset {committed} of {source.topic}[{source.partition}]"
        if committed is not None and log is None:
            raise StateRefusedError(
                f"holds no state, but the {group}: it was deleted, or somebody moved the group's offsets"
            )
        if committed is not None and committed != at:
            raise StateRefusedError(
                f"was written at {at}, but the {group}: somebody moved the group's offsets, or deleted the log's end"
            )
        if log is not None and at > (end := consumer.end_offsets([source])[source]):
            raise StateRefusedError(
                f"was written at offset {at} of {source.topic}[{source.partition}], which ends at {end}: it was made "
                "anew, or lost records"
            )

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


def skip_lost(consumer: Consumer, source: TopicPartition, partition: Partition) -> int:
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
