"""The oracle: the same decoding and the same core over a log at rest, without groups, transactions or state."""

import gzip
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple

from kafka import TopicPartition
from kafka.partitioner.default import murmur2

from detector.client.consumer import Consumer
from detector.connection import client_options
from detector.contract.accounts import is_listing
from detector.contract.alerts import Alert
from detector.contract.dead_letters import DeadLetter
from detector.contract.events import MalformedEventError, decode_event
from detector.core.decision import Policy
from detector.core.offline import detect
from detector.core.partition import Partition
from detector.core.shadowing import Challenger
from detector.core.staging import Entry, SessionLimits
from detector.model.artifact import Model
from detector.runtime.config import DetectorConfig
from detector.runtime.decoding import EventLimits, decode
from detector.runtime.recovery import TopicsUnfitError

_POLL_TIMEOUT_MS = 200
_BATCH_LINES = 10_000

Batch = Mapping[TopicPartition, Sequence[Any]]


class LoggedLine(NamedTuple):
    """A line of a file, in the shape of a consumed record."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def replay(
    batches: Iterable[Batch],
    model: Model,
    config: DetectorConfig,
    dead_letter: Callable[[DeadLetter], None] = lambda _: None,
    partitions: dict[TopicPartition, Partition] | None = None,
    *,
    policy: Policy | None = None,
    challenger: Challenger | None = None,
    shadow_alert: Callable[[Alert], object] = lambda _: None,
) -> Iterator[Alert]:
    """Yield the alerts that the detector must publish for a log, in the order of each partition.

    `detected_at_ms`, the one field that is not the log's, is 0.

    Args:
        batches: records by partition, each partition's in the order of the log.
        model: scores.
        config: limits and threshold, as the detector's.
        dead_letter: called with each record that can't be scored.
        partitions: live sessions to go on from, by partition; changed. New ones without it.
        policy: decides, instead of that of `config`.
        challenger: scores the same windows in shadow.
        shadow_alert: called with each alert of its.
    """
    event_limits = EventLimits(config.max_event_bytes, config.max_dead_letter_bytes, config.max_future_ms)
    policy = policy or config.policy(model.threshold, model.reference)
    partitions = {} if partitions is None else partitions
    for batch in batches:
        for source, records in batch.items():
            entries = []
            for record in records:
                decoded = decode(record, model.encoding.knows, event_limits)
                if isinstance(decoded, DeadLetter):
                    dead_letter(decoded)
                else:
                    entries.append(Entry(record.offset, max(0, record.timestamp), decoded))
            yield from detect(
                entries,
                source=source,
                encoding=model.encoding,
                score=model.score,
                policy=policy,
                limits=SessionLimits(config.idle_timeout_ms, config.max_sessions),
                now_ms=lambda: 0,
                partition=partitions.setdefault(source, Partition()),
                challenger=challenger,
                shadow_alert=shadow_alert,
            )


def batches_of_topic(
    config: DetectorConfig, ends: Mapping[TopicPartition, int] | None = None
) -> Iterator[Batch]:
    """Read the input topic from its start.

    Args:
        config: names broker and topic.
        ends: partitions to read and the offsets to end before; all, up to their ends as of now, without it.

    Raises:
        TopicsUnfitError: there is no such topic.
        KafkaError: the broker can't be reached or refuses.
    """
    consumer = Consumer(
        **client_options(config.bootstrap_servers),
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        max_poll_records=config.batch_max_events,
        allow_auto_create_topics=False,
    )
    try:
        if ends is None:
            numbers = consumer.partitions_for_topic(config.input_topic)
            if not numbers:
                raise TopicsUnfitError(
                    f"no topic {config.input_topic!r} at {config.bootstrap_servers}: expected one to replay"
                )
            ends = consumer.end_offsets(
                [TopicPartition(config.input_topic, number) for number in sorted(numbers)]
            )
        consumer.assign(list(ends))
        consumer.seek_to_beginning(*ends)
        while any(consumer.position(source) < end for source, end in ends.items()):
            polled = consumer.poll(timeout_ms=_POLL_TIMEOUT_MS)
            yield {
                source: [record for record in records if record.offset < ends[source]]
                for source, records in polled.items()
            }
    finally:
        consumer.close()


def batches_of_file(path: Path, config: DetectorConfig) -> Iterator[Batch]:
    """Read a file of JSON lines (.gz is unpacked) as if it had been published, in that order, to the input topic.

    A line lies in the partition that Kafka's default partitioner gives its session id, of `config.partitions`; an
    account's listing lies in all of them. A
    file has no broker's time: the times of its events are held against none.

    Raises:
        OSError: the file can't be read.
    """
    offsets: dict[int, Iterator[int]] = defaultdict(itertools.count)
    opener: Callable[..., IO[bytes]] = gzip.open if path.suffix == ".gz" else open  # type: ignore[assignment]
    with opener(path, "rb") as lines:
        while chunk := list(itertools.islice(lines, _BATCH_LINES)):
            batch: dict[TopicPartition, list[LoggedLine]] = defaultdict(list)
            for line in chunk:
                value = line.rstrip(b"\r\n")
                for number in _partitions_of(value, config.partitions):
                    source = TopicPartition(config.input_topic, number)
                    batch[source].append(
                        LoggedLine(config.input_topic, number, next(offsets[number]), -1, None, value)
                    )
            yield batch


def _partitions_of(value: bytes, partitions: int) -> Iterable[int]:
    """Return where a line lies: an event in its session's partition, an account's listing in all."""
    try:
        return (_partition_of(decode_event(value).session_id, partitions),)
    except MalformedEventError:
        return range(partitions) if is_listing(value) else (_partition_of("", partitions),)


@lru_cache(maxsize=100_000)
def _partition_of(session_id: str, partitions: int) -> int:
    number: int = (murmur2(session_id.encode()) & 0x7FFF_FFFF) % partitions
    return number
