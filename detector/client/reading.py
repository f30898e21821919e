"""Reading a part of a log: partitions from an offset up to an offset, and no further; or a file."""

import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from kafka import TopicPartition

from detector.client.consumer import Consumer
from detector.connection import client_options

_POLL_TIMEOUT_MS = 20

Batch = Mapping[TopicPartition, Sequence[Any]]
"""Records by partition, each partition's in the order of the log."""
Span = tuple[int, int | None]
"""From an offset up to an offset; up to the high watermark as of the first answer without one."""


class DamagedFileError(OSError):
    """A compressed file is none, damaged or cut off."""


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader | gzip.GzipFile]:
    """Open a log in a file, compressed by the suffix .gz, for the block.

    Raises:
        OSError: the file can't be read.
        DamagedFileError: likewise, since it is damaged; in the block, where that is come upon.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DamagedFileError(
            f"{path}: the gzip data is damaged or cut off ({error}): fetch the file again, or name it without .gz if it is "
            "not compressed"
        ) from error


def log_reader(bootstrap_servers: str, **settings: Any) -> Consumer:
    """Return a consumer of committed records that belongs to no group; what retention deleted is passed over.

    Raises:
        KafkaError: the broker can't be reached or refuses.
    """
    defaults: dict[str, Any] = {
        "group_id": None,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",  # retention may overtake the reading
        "isolation_level": "read_committed",
        "allow_auto_create_topics": False,
    }
    return Consumer(**client_options(bootstrap_servers), **defaults | settings)


def read(consumer: Consumer, spans: Mapping[TopicPartition, Span]) -> Iterator[Batch]:
    """Yield what each poll brought of some partitions, and nothing where a poll brought nothing, up to their ends.

    A position passes markers and aborted records too, so that an end is reached once all transactions before it are
    decided. Records are those before the ends: never wait for the last one, which may be a marker.

    Args:
        consumer: assigned to no partitions, or to others; afterwards to these.
        spans: what to read of each.

    Raises:
        KafkaError: the broker can't be reached or refuses.
    """
    consumer.assign([])  # forgets the high watermarks of an earlier reading
    consumer.assign(list(spans))
    for source, (begin, _) in spans.items():
        consumer.seek(source, begin)
    ends = {source: end for source, (_, end) in spans.items() if end is not None}
    while any(source not in ends or consumer.position(source) < ends[source] for source in spans):
        polled: dict[TopicPartition, list[Any]] = consumer.poll(timeout_ms=_POLL_TIMEOUT_MS)
        for source in spans.keys() - ends.keys():
            if (highwater := consumer.highwater(source)) is not None:
                ends[source] = highwater
        yield {
            source: before
            for source, records in polled.items()
            if (before := [one for one in records if source not in ends or one.offset < ends[source]])
        }


def committed_span(consumer: Consumer, topic: str) -> dict[TopicPartition, Span]:
    """Return all that a topic holds now for a reader of committed records; nothing if there is no such topic.

    Raises:
        KafkaError: the broker can't be reached or refuses.
    """
    sources = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
    begins, ends = consumer.beginning_offsets(sources), consumer.end_offsets(sources)
    return {source: (begins[source], ends[source]) for source in sources}
