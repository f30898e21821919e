"""Restoring from the state log on a real broker."""

from collections.abc import Callable

import pytest
from kafka import KafkaProducer, TopicPartition

from detector.client import reading
from detector.core.partition import Delta, Partition
from detector.core.session import pack
from detector.runtime.link import KafkaLink
from detector.runtime.state_writer import StateWriter
from tests.runtime.stack import Stack
from tests.runtime.state_logs import ENCODING

PACKED = pack(0, 0, 1, 0, b"", b"")


def test_a_partition_restored_again_is_read_to_its_new_end(
    make_stack: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What others wrote since this worker last held the partition is read, however slow the broker's first answer."""
    # The first poll comes back before the broker answers, as it does under load.
    monkeypatch.setattr(reading, "_POLL_TIMEOUT_MS", 0)
    stack = make_stack(partitions=1)
    stack.publish((b"key", b"what the state was made of") for _ in range(900))
    source = TopicPartition(stack.config.input_topic, 0)
    producer = KafkaProducer(bootstrap_servers=stack.config.bootstrap_servers)
    link = KafkaLink(stack.config, ENCODING)
    live = Partition()
    writer = StateWriter(1, 10**9, ENCODING, live, None)
    try:
        for end in (300, 600, 900):  # more than one poll returns
            for number in range(end - 299, end + 1):
                delta = Delta(number, number, [], {f"session-{number}": PACKED})
                (value,) = writer.values(live, delta)[1]
                producer.send(stack.config.state_topic, value, partition=0)
                writer.committed([number])
            producer.flush()
            partition, _ = link.state_reader.restore(link.membership, source)
            assert partition.next_offset == end
            assert len(partition.sessions) == end
    finally:
        link.close()
        producer.close()
