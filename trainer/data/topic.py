"""The topic as a source: the events that are on it now."""

import itertools
from collections.abc import Collection, Iterator
from contextlib import closing
from typing import NamedTuple

from kafka.errors import KafkaError

from detector.client.reading import committed_span, log_reader, read
from detector.contract.events import MalformedEventError, decode_event
from detector.contract.relaxed import relaxed
from detector.formats.wire import AS_IT_COMES, WireFormat
from trainer.data.description import Description
from trainer.data.reading import Table, read_lines
from trainer.data.sessions import DataError


class Topic(NamedTuple):
    """A topic, where it is, and how its values carry events."""

    bootstrap_servers: str
    name: str
    wire: WireFormat = AS_IT_COMES

    def __str__(self) -> str:
        return f"topic {self.name} on {self.bootstrap_servers}"


def read_topic(topic: Topic, description: Description, elsewhere: Collection[str] = ()) -> Table:
    """Read the committed events that are on a topic now, partition by partition, each in order; others are passed over.

    Brokers send the partitions in turns that nobody knows before, on which no training may depend.

    Raises:
        DataError: the topic cannot be read.
    """
    table = read_lines(events_of(topic), str(topic), description, elsewhere=elsewhere)
    return table._replace(frame=table.frame.sort("partition", maintain_order=True))


def events_of(topic: Topic) -> Iterator[tuple[int, int, bytes]]:
    """Yield number, partition and value of each event on a topic.

    Raises:
        DataError: the topic cannot be read.
    """
    number = 0
    try:
        with closing(log_reader(topic.bootstrap_servers)) as consumer:
            spans = committed_span(consumer, topic.name)
            if not spans:
                raise DataError(f"{topic} is not there: expected the topic of the events")
            for batch in read(consumer, spans):
                for record in itertools.chain.from_iterable(batch.values()):
                    try:
                        value = topic.wire.json(record.value or b"")
                        decode_event(value)
                    except MalformedEventError:
                        continue  # a dead letter when serving; no session is made of it
                    number += 1
                    yield number, record.partition, relaxed(value)
    except KafkaError as error:
        raise DataError(
            f"{topic} cannot be read: {error}; expected a topic that can be read, on the broker "
            "that --bootstrap-servers or KAFKA_BOOTSTRAP_SERVERS names"
        ) from error
