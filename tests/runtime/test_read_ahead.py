"""What is read while a batch commits is the next batch: nothing twice, nothing left out."""

from collections.abc import Callable, Iterator

import pytest
from kafka import TopicPartition

from detector.runtime.membership import Membership
from tests.runtime.stack import Stack, wait_for

_BATCH = 4


@pytest.fixture
def membership(make_stack: Callable[..., Stack]) -> Iterator[tuple[Membership, TopicPartition]]:
    """A member that holds a partition of ten records, set to its start, and reads four at a time."""
    stack = make_stack(partitions=1, batch_max_events=_BATCH)
    stack.publish((b"key", b"%d" % number) for number in range(10))
    member, source = Membership(stack.config, stack.config.group), TopicPartition(stack.config.input_topic, 0)

    def holds() -> bool:
        member.poll()
        return source in member.settle(set())[1]

    wait_for(holds, "the partition to be assigned")
    member.seek(source, 0)
    yield member, source
    member.close()


def offsets(member: Membership, source: TopicPartition) -> list[int]:
    """Return the offsets of the next poll that brings any."""
    found: list[int] = []

    def read() -> bool:
        found.extend(record.offset for record in member.poll().get(source, []))
        return bool(found)

    wait_for(read, "records")
    return found


def test_what_was_read_ahead_comes_next(membership: tuple[Membership, TopicPartition]) -> None:
    """Polls give the log in order, whether or not they were begun ahead, and never more than a batch."""
    member, source = membership
    read: list[int] = []
    while len(read) < 10:
        batch = offsets(member, source)
        assert len(batch) <= _BATCH
        read += batch
        member.poll_ahead()
    assert read == list(range(10))


def test_a_seek_drops_what_was_read_ahead(membership: tuple[Membership, TopicPartition]) -> None:
    """After an aborted batch it is read again from its start, and not from where reading ahead had come."""
    member, source = membership
    first = offsets(member, source)
    member.poll_ahead()
    member.seek(source, first[0])
    assert offsets(member, source)[0] == first[0]
