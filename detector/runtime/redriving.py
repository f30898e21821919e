"""Redriving: dead letters go back to the input topic after a fix, once each.

What was redriven is remembered in a compacted topic: for each reason and each partition of the dead-letter topic
the offset up to which letters of that reason are done. The positions are written in the transaction that
publishes the events, so that a crash neither loses nor doubles one. They are not a consumer group's offsets,
which the broker forgets when the group has been idle for `offsets.retention.minutes` (KIP-211, 7 days by default):
the next run would publish everything again. A second run fences the first by its transactional id (KIP-98).
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from detector.client.consumer import Consumer
from detector.client.reading import log_reader, read
from detector.connection import AccessRefusedError, client_options, right_missing
from detector.contract.dead_letters import (
    DeadLetter,
    NoDeadLetterError,
    Reason,
    original_headers,
    read_dead_letter,
    redriven_headers,
)
from detector.contract.topics import MAX_RECORD_BYTES, redriven_specification, redriven_topic
from detector.runtime.config import DetectorConfig
from detector.runtime.recovery import TopicsUnfitError
from detector.runtime.topics import create_missing
from detector.runtime.transaction import OutputRecord, Transactor

_LOG = logging.getLogger(__name__)
_MAX_TRANSACTION_BYTES = 16 * 1024 * 1024
_BATCH_OVERHEAD_BYTES = 256
"""Header of a record batch (61 bytes) and lengths within the record, with room to spare: the broker holds the batch
against max.message.bytes, not the value."""

_NOT_READ = {Reason.BATCH_TOO_LARGE, Reason.DESERIALIZATION}
REDRIVABLE = tuple(reason for reason in Reason if reason not in {Reason.NULL_VALUE, *_NOT_READ})
"""A null value has nothing to score: whatever is fixed, it would be dead-lettered again. Of a batch that could not be
read there is nothing to publish."""

Positions = dict[tuple[str, int], int]
"""Next offset of the dead-letter topic, by reason and partition."""


class Kept(StrEnum):
    """Why a dead letter was not redriven. It stays on its topic."""

    NULL_VALUE = "null values, with nothing to score"
    NOT_READ = "of records or batches that could not be read"
    SOURCE_GONE = "cut, and not whole on the input topic any more"
    TOO_LARGE = "with their history larger than the input topic takes"
    UNKNOWN = "no dead letters of this version"


@dataclass(slots=True)
class Outcome:
    """What became of the dead letters of one run.

    Attributes:
        redriven: how many were published to the input, by reason.
        kept: how many were passed over for good.
    """

    redriven: Counter[Reason] = field(default_factory=Counter)
    kept: Counter[Kept] = field(default_factory=Counter)


@dataclass(slots=True)
class _Batch:
    """What the next transaction publishes, and how far that gets."""

    records: list[OutputRecord] = field(default_factory=list)
    size_bytes: int = 0
    progress: dict[int, int] = field(default_factory=dict)
    outcome: Outcome = field(default_factory=Outcome)


class Redriver:
    """One run over the dead-letter topic, from where earlier runs left it to its end as of now.

    Letters that arrive meanwhile wait for the next run, so that an event that fails again is not tried in a circle.

    Args:
        config: names broker and topics, and bounds the transactions.
        reasons: letters of other reasons are passed over, and stay for a later run.
        dry_run: read everything, publish and remember nothing.
        most: end after so many events.
        alive: called whenever the run got further.
    """

    def __init__(
        self,
        config: DetectorConfig,
        reasons: Collection[Reason] = REDRIVABLE,
        *,
        dry_run: bool = False,
        most: int | None = None,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._reasons = [reason for reason in REDRIVABLE if reason in reasons]
        self._only_some = len(self._reasons) < len(REDRIVABLE)
        self._dry_run = dry_run
        self._most = most
        self._alive = alive
        self._ledger = redriven_topic(config.input_topic)

    def run(self) -> Outcome:
        """Redrive; return what became of the letters.

        Raises:
            TopicsUnfitError: a topic is missing.
            BatchAbortedError: the last transaction was aborted; those before are committed.
            OutcomeUnknownError: whether the last transaction was committed is unknown; the next run finds out.
            KafkaError: the broker can't be reached or refuses.
        """
        config = self._config
        with ExitStack() as stack:
            admin = KafkaAdminClient(
                **client_options(config.bootstrap_servers), client_id=f"{config.dead_letter_topic}.redrive"
            )
            stack.enter_context(closing(admin))
            topic_id = _topic_id(admin, config.dead_letter_topic)
            self._input_partitions = _partition_numbers(admin, config.input_topic)
            self._max_record_bytes = _max_message_bytes(admin, config.input_topic)
            transactor = None
            if not self._dry_run:
                create_missing(admin, config, [redriven_specification(config.input_topic)])
                # Opened before the positions are read: from then on no other run can move them.
                transactor = stack.enter_context(Transactor(config, f"{config.dead_letter_topic}.redrive"))
            letters, originals, ledger = (
                stack.enter_context(closing(_consumer(config, name)))
                for name in ("letters", "originals", "positions")
            )
            self._originals = originals
            positions: Positions = {}
            if self._ledger in admin.list_topics():
                positions = self._read_positions(ledger, topic_id)
            outcome = Outcome()
            for batch in self._batches(letters, positions):
                if transactor is not None:
                    moved = self._moved(positions, batch.progress)
                    transactor.commit([*batch.records, *self._remember(topic_id, moved)], {}, None)
                    positions |= moved
                outcome.redriven += batch.outcome.redriven
                outcome.kept += batch.outcome.kept
                self._alive()
            return outcome

    def _batches(self, consumer: Consumer, positions: Positions) -> Iterator[_Batch]:
        """Yield transactions' worth of letters, the last one perhaps with nothing to publish."""
        topic = self._config.dead_letter_topic
        sources = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
        ends = consumer.end_offsets(sources)
        spans = {
            source: (
                min(positions.get((reason, source.partition), 0) for reason in self._reasons),
                ends[source],
            )
            for source in sources
        }
        batch, planned = _Batch(), 0
        for polled in read(consumer, spans):
            for record in (record for records in polled.values() for record in records):
                self._plan(record, positions, batch)
                batch.progress[record.partition] = record.offset + 1
                if planned + len(batch.records) == self._most:
                    yield batch
                    return
                if (
                    len(batch.records) >= self._config.batch_max_events
                    or batch.size_bytes >= _MAX_TRANSACTION_BYTES
                ):
                    planned += len(batch.records)
                    yield batch
                    batch = _Batch()
            self._alive()
        yield batch

    def _plan(self, record: Any, positions: Positions, batch: _Batch) -> None:
        """Add what is to become of one record of the dead-letter topic to the batch."""
        try:
            letter = read_dead_letter(record.key, record.value, record.headers)
        except NoDeadLetterError as error:
            _LOG.warning("%s[%d] at offset %d: %s", record.topic, record.partition, record.offset, error)
            batch.outcome.kept[Kept.UNKNOWN] += 1
            return
        if letter.reason not in self._reasons and (letter.reason in REDRIVABLE or self._only_some):
            return
        if letter.reason in _NOT_READ:
            batch.outcome.kept[Kept.NOT_READ] += 1
            return
        if letter.reason == Reason.NULL_VALUE or letter.value_bytes is None:
            batch.outcome.kept[Kept.NULL_VALUE] += 1
            return
        if record.offset < positions.get((letter.reason, record.partition), 0):
            return
        event = self._event(letter)
        if isinstance(event, Kept):
            _LOG.warning(
                "%s[%d] at offset %d is kept: %s", record.topic, record.partition, record.offset, event
            )
            batch.outcome.kept[event] += 1
            return
        batch.records.append(event)
        batch.size_bytes += event.size_bytes
        batch.outcome.redriven[letter.reason] += 1

    def _event(self, letter: DeadLetter) -> OutputRecord | Kept:
        """Return the record that goes back to the input, or why none can."""
        key, value, headers = letter.key, letter.value, redriven_headers(letter)
        if letter.is_cut or letter.headers_omitted:
            original = self._original(letter)
            if original is not None:
                key, value = original.key, original.value
                headers = [*original_headers(original.headers), *headers]
            elif letter.is_cut:
                return Kept.SOURCE_GONE
        # The partition it came from and not the key's: its session lies there, whichever partitioner was used.
        partition = letter.partition if letter.partition in self._input_partitions else None
        event = OutputRecord(self._config.input_topic, key, value, headers, partition)
        return Kept.TOO_LARGE if event.size_bytes + _BATCH_OVERHEAD_BYTES > self._max_record_bytes else event

    def _original(self, letter: DeadLetter) -> Any | None:
        """Fetch the record that a cut letter was made of; None if it is gone."""
        source, consumer = TopicPartition(letter.topic, letter.partition), self._originals
        if letter.topic != self._config.input_topic or letter.partition not in self._input_partitions:
            return None
        begin, end = consumer.beginning_offsets([source])[source], consumer.end_offsets([source])[source]
        if not begin <= letter.offset < end:
            return None
        for polled in read(consumer, {source: (letter.offset, letter.offset + 1)}):
            for record in polled.get(source, ()):
                key, value = record.key or b"", record.value or b""
                same = len(value) == letter.value_bytes and value.startswith(letter.value or b"")
                return record if same and key.startswith(letter.key or b"") else None
        return None

    # The positions.

    def _read_positions(self, consumer: Consumer, topic_id: str) -> Positions:
        source = TopicPartition(self._ledger, 0)
        positions: Positions = {}
        for polled in read(consumer, {source: (0, consumer.end_offsets([source])[source])}):
            for record in polled.get(source, ()):
                of_topic, reason, partition = record.key.decode().split("/")
                if of_topic == topic_id:  # a dead-letter topic that was made anew counts its offsets anew
                    positions[reason, int(partition)] = int(record.value)
        return positions

    def _moved(self, positions: Positions, progress: Mapping[int, int]) -> Positions:
        """Return the positions that change when the run got as far as `progress`."""
        return {
            (reason, partition): offset
            for partition, offset in progress.items()
            for reason in self._reasons
            if offset > positions.get((reason, partition), 0)
        }

    def _remember(self, topic_id: str, moved: Positions) -> list[OutputRecord]:
        return [
            OutputRecord(self._ledger, f"{topic_id}/{reason}/{partition}".encode(), b"%d" % offset, [], 0)
            for (reason, partition), offset in moved.items()
        ]


def _consumer(config: DetectorConfig, purpose: str) -> Consumer:
    return log_reader(
        config.bootstrap_servers,
        client_id=f"{config.dead_letter_topic}.redrive-{purpose}",
        max_poll_records=config.batch_max_events,
        fetch_max_bytes=MAX_RECORD_BYTES + 1024 * 1024,
        max_partition_fetch_bytes=2 * 1024 * 1024,
    )


def _topic_id(admin: KafkaAdminClient, topic: str) -> str:
    described = _described(admin, topic)
    return str(described["topic_id"])


def _partition_numbers(admin: KafkaAdminClient, topic: str) -> range:
    return range(len(_described(admin, topic)["partitions"]))


def _described(admin: KafkaAdminClient, topic: str) -> dict[str, Any]:
    described: dict[str, Any] = admin.describe_topics([topic])[0]
    if described["error_code"]:
        raise TopicsUnfitError(
            f"no topic {topic!r}: expected that of a detector that has run. See --bootstrap-servers and --input-topic"
        )
    return described


def _max_message_bytes(admin: KafkaAdminClient, topic: str) -> int:
    name = "max.message.bytes"
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs={name: None})
    settings = admin.describe_configs([resource], config_filter="all")["topic"][topic]
    if name not in settings:  # kafka-python leaves out what is refused
        raise AccessRefusedError(right_missing(f"to read the settings of topic {topic}", "redrive"))
    return int(settings[name]["value"])
