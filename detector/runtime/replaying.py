"""The oracle: the same processing over a log at rest, without groups, transactions or state."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from kafka import TopicPartition

from detector.client.reading import Batch, Span, committed_span, log_reader, opened, read
from detector.contract.control import is_control
from detector.contract.events import MalformedEventError, SessionEvent, decode_event
from detector.core.partition import Partition
from detector.runtime.config import DetectorConfig
from detector.runtime.partitioners import by_murmur2
from detector.runtime.processing import Processed, Processor
from detector.runtime.recovery import TopicsUnfitError

_BATCH_LINES = 10_000


class LoggedLine(NamedTuple):
    """A line of a file, in the shape of a consumed record."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_type: int | None = None


def replay(
    batches: Iterable[Batch], processor: Processor, partitions: dict[TopicPartition, Partition] | None = None
) -> Iterator[Processed]:
    """Yield what the detector must make of a log, in the order of each partition.

    Args:
        batches: records by partition, each partition's in the order of the log.
        processor: the detector's own, under its model and settings.
        partitions: live sessions to go on from, by partition; changed. New ones without it.

    Raises:
        ProcessingError: a record can't be processed, and is not to fail alone.
    """
    partitions = {} if partitions is None else partitions
    for batch in batches:
        for source in batch:
            partitions.setdefault(source, Partition())
        for processed in processor.process(batch, partitions):
            partitions[processed.source].apply(processed.outcome.delta)
            yield processed


def batches_of_topic(
    config: DetectorConfig, spans: Mapping[TopicPartition, Span] | None = None
) -> Iterator[Batch]:
    """Read the input topic, from its start to its end as of now.

    Args:
        config: names broker and topic.
        spans: what to read instead.

    Raises:
        TopicsUnfitError: there is no such topic.
        KafkaError: the broker can't be reached or refuses.
    """
    reader = log_reader(config.bootstrap_servers, max_poll_records=config.batch_max_events)
    with closing(reader) as consumer:
        spans = committed_span(consumer, config.input_topic) if spans is None else spans
        if not spans:
            raise TopicsUnfitError(
                f"no topic {config.input_topic!r} at {config.bootstrap_servers}: expected one to replay"
            )
        yield from read(consumer, spans)


_PARQUET: Final = b"PAR1"  # what such a file begins with


def batches_of_file(path: Path, config: DetectorConfig) -> Iterator[Batch]:
    """Read a file of JSON lines (.gz is unpacked) as if it had been published, in that order, to the input topic.

    A line has its account's id as the key, and lies in the partition that Kafka's default partitioner gives it, of
    `config.partitions`; a control record lies in all of them. A file has no broker's time: the times of its events
    are held against none.

    Raises:
        OSError: the file can't be read.
    """
    offsets: dict[int, Iterator[int]] = defaultdict(itertools.count)
    event_of = config.wire_format.event_of(decode_event)
    with opened(path) as lines:
        if lines.peek(4)[:4] == _PARQUET:
            raise OSError(
                f"{path} is a Parquet file: expected JSON lines, as `python -m trainer events` makes of it"
            )
        while chunk := list(itertools.islice(lines, _BATCH_LINES)):
            batch: dict[TopicPartition, list[LoggedLine]] = defaultdict(list)
            for line in chunk:
                value = line.rstrip(b"\r\n")
                key, numbers = _placed(value, config.partitions, event_of)
                for number in numbers:
                    source = TopicPartition(config.input_topic, number)
                    batch[source].append(
                        LoggedLine(config.input_topic, number, next(offsets[number]), -1, key, value)
                    )
            yield batch


def _placed(
    value: bytes, partitions: int, event_of: Callable[[bytes], SessionEvent]
) -> tuple[bytes | None, Iterable[int]]:
    """Return a line's key, and where it lies: an event in its account's partition, a control record in all."""
    try:
        key = event_of(value).account_id.encode()
    except MalformedEventError:
        return None, range(partitions) if is_control(value) else (_partition_of(b"", partitions),)
    return key, (_partition_of(key, partitions),)


@lru_cache(maxsize=100_000)
def _partition_of(key: bytes, partitions: int) -> int:
    return by_murmur2(key, partitions)
