"""What a poll brings, and what it leaves alone: nothing twice, nothing left out, and no join under a batch in hand."""

from collections.abc import Callable, Iterator
from threading import Event, Thread

import pytest
from kafka import TopicPartition

from detector.runtime.membership import Membership
from detector.runtime.transaction import Transactor
from tests.runtime.stack import Stack
from tests.waiting import wait_for

_BATCH = 4


@pytest.fixture
def stack(make_stack: Callable[..., Stack]) -> Stack:
    """An input of one partition, read four records at a time."""
    return make_stack(partitions=1, batch_max_events=_BATCH)


@pytest.fixture
def membership(stack: Stack) -> Iterator[tuple[Membership, TopicPartition]]:
    """A member that holds the partition, of ten records, set to its start."""
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


def test_polls_give_the_log_in_order_a_batch_at_a_time(membership: tuple[Membership, TopicPartition]) -> None:
    """Every record once, in order, and never more than a batch."""
    member, source = membership
    read: list[int] = []
    while len(read) < 10:
        batch = offsets(member, source)
        assert len(batch) <= _BATCH
        read += batch
    assert read == list(range(10))


def test_after_a_seek_it_is_read_from_there(membership: tuple[Membership, TopicPartition]) -> None:
    """After an aborted batch it is read again from its start, and not from where fetching had come."""
    member, source = membership
    first = offsets(member, source)
    member.seek(source, first[0])
    assert offsets(member, source)[0] == first[0]


def test_a_poll_brings_what_has_come_since_the_last_one(
    stack: Stack, membership: tuple[Membership, TopicPartition], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was fetched behind a poll does not come alone: what arrived after it is in the same batch."""
    # A loaded machine may take longer to answer a fetch than the loop waits for it.
    monkeypatch.setattr("detector.runtime.membership._FRESH_MS", 1_000)
    member, source = membership
    while offsets(member, source)[-1] < 9:
        pass
    for _ in range(5):
        stack.publish([(b"key", b"leaves a fetch behind")])
        while len(offsets(member, source)) > 1:
            pass
        stack.publish([(b"key", b"fetched by it")])
        stack.publish([(b"key", b"come since")])
        assert len(offsets(member, source)) > 1
        while not member.at_end(source):
            offsets(member, source)


def test_no_join_begins_under_a_batch_in_hand(
    stack: Stack, membership: tuple[Membership, TopicPartition]
) -> None:
    """A batch read before the group began to rebalance is committed, and only the next poll joins."""
    member, source = membership
    batch = offsets(member, source)
    identity = member.identity()
    newcomer, stop = Membership(stack.config, "newcomer"), Event()

    def join() -> None:
        while not stop.is_set():
            newcomer.poll()

    joining = Thread(target=join)
    joining.start()
    try:
        wait_for(lambda: member.consumer.wants_join, "the heartbeat that tells of the newcomer")
        with Transactor(stack.config, stack.config.group) as transactor:
            transactor.commit([], {source: batch[-1] + 1}, identity)

        def settled() -> bool:
            member.poll()
            return member.joined and member.identity().generation_id > identity.generation_id

        wait_for(settled, "the rebalance to be over")
        assert member.identity().member_id == identity.member_id
    finally:
        stop.set()
        joining.join()
        newcomer.close()


def test_where_one_partition_is_read_does_not_depend_on_another(make_stack: Callable[..., Stack]) -> None:
    """A partition that came in the middle of a restore has no position yet, and none was ever committed of it."""
    stack = make_stack(partitions=2)
    held, new = (TopicPartition(stack.config.input_topic, number) for number in range(2))
    member = Membership(stack.config, stack.config.group)
    try:

        def has_both() -> bool:
            member.stay()
            return bool(member.consumer.assignment() == {held, new})

        wait_for(has_both, "both partitions")
        member.seek(held, 0)
        assert (member.position(held), member.position(new)) == (0, None)
        assert not member.at_end(held)
    finally:
        member.close()
