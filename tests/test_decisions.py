"""Facts of Kafka and kafka-python that decisions rest on (docs/adr): where one no longer holds, look there again."""

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewPartitions
from kafka.structs import ConsumerGroupMetadata, MemberState, OffsetAndMetadata

from broker import Broker
from detector.runtime.config import DetectorConfig
from detector.runtime.membership import Membership
from detector.runtime.recovery import BatchAbortedError, MemberFencedError, OutcomeUnknownError
from detector.runtime.transaction import OutputRecord, Transactor
from tests.conftest import CreateTopic, UniqueName
from tests.waiting import wait_for

PATIENCE_S = 60.0


@pytest.fixture
def producer(kafka: Broker, unique_name: UniqueName) -> Iterator[Any]:
    """A transactional producer, as the detector's in what matters here."""
    made = KafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, transactional_id=unique_name(), linger_ms=1_000
    )
    made.init_transactions()
    yield made
    made.close(timeout=5)


@pytest.fixture
def member(kafka: Broker, create_topic: CreateTopic, unique_name: UniqueName) -> Iterator[KafkaConsumer]:
    """A consumer that has joined its group and is its only member."""
    consumer = KafkaConsumer(
        create_topic(),
        bootstrap_servers=kafka.bootstrap_servers,
        group_id=unique_name("group"),
        enable_auto_commit=False,
        isolation_level="read_committed",  # committed() waits for the markers of a transaction that has ended
    )
    deadline_s = time.monotonic() + PATIENCE_S
    while consumer.group_metadata().state != MemberState.STABLE:
        assert time.monotonic() < deadline_s, "the consumer did not join its group"
        consumer.poll(timeout_ms=100)
    yield consumer
    consumer.close()


def committed_values(kafka: Broker, topic: str) -> tuple[list[bytes], int]:
    """Read a topic of one partition as its subscribers do; return the values and the end offset."""
    consumer = KafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers, isolation_level="read_committed", enable_auto_commit=False
    )
    source = TopicPartition(topic, 0)
    consumer.assign([source])
    consumer.seek_to_beginning(source)
    end: int = consumer.end_offsets([source])[source]
    values = []
    deadline_s = time.monotonic() + PATIENCE_S
    while consumer.position(source) < end:
        assert time.monotonic() < deadline_s, f"{topic} could not be read to {end}"
        for records in consumer.poll(timeout_ms=100).values():
            values += [record.value for record in records]
    consumer.close()
    return values, end


def lose_sequence(client: Any) -> None:
    """Have the broker answer the next batch with OUT_OF_ORDER_SEQUENCE_NUMBER, upon which the epoch is bumped."""
    sequences = client._transaction_manager._sequence_numbers
    for source in sequences:
        sequences[source] += 5


def test_adr_0003_a_commit_may_succeed_without_its_records(
    kafka: Broker, producer: Any, create_topic: CreateTopic
) -> None:
    """Asked to commit while a batch is under way that fails, kafka-python says that it did: nothing can be read."""
    topic = create_topic()
    producer.begin_transaction()
    producer.send(topic, b"first", partition=0)
    producer.flush()
    lose_sequence(producer)
    second = producer.send(topic, b"second", partition=0)
    producer.commit_transaction()  # raises nothing
    assert second.failed()
    assert committed_values(kafka, topic)[0] == []


def test_adr_0003_our_transaction_does_not(
    kafka: Broker, create_topic: CreateTopic, member: KafkaConsumer, unique_name: UniqueName
) -> None:
    """The same failure makes our commit raise: each record is known to be published before it is asked for."""
    topic = create_topic()
    source = TopicPartition(next(iter(member.subscription())), 0)
    record = OutputRecord(topic, None, b"value", [], 0)
    config = DetectorConfig(bootstrap_servers=kafka.bootstrap_servers)
    with Transactor(config, unique_name()) as transactor:
        assert transactor.commit([record], {source: 1}, member.group_metadata()) == [0]
        lose_sequence(transactor._producer)
        with pytest.raises((BatchAbortedError, OutcomeUnknownError)):
            transactor.commit([record], {source: 2}, member.group_metadata())
    assert committed_values(kafka, topic)[0] == [b"value"]
    # The broker tells of no offset for a moment after a group's very first commit.
    wait_for(lambda: member.committed(source) is not None, "the first offsets of the group")
    assert member.committed(source) == 1


def test_adr_0002_a_commit_in_the_name_of_nobody_is_not_fenced(producer: Any, member: KafkaConsumer) -> None:
    """A group with a live member takes the offsets of a producer that names no member: KIP-447 fences none such."""
    source = TopicPartition(next(iter(member.subscription())), 0)
    nobody = ConsumerGroupMetadata(group_id=member.group_metadata().group_id)
    assert nobody.generation_id < 0
    producer.begin_transaction()
    producer.send_offsets_to_transaction({source: OffsetAndMetadata(7)}, nobody)
    producer.commit_transaction()
    assert member.committed(source) == 7


def test_adr_0002_a_commit_of_an_earlier_generation_is_fenced(
    kafka: Broker, member: KafkaConsumer, unique_name: UniqueName
) -> None:
    """With the generation of a poll before the last rebalance nothing is committed, and the error says what it was."""
    source = TopicPartition(next(iter(member.subscription())), 0)
    now = member.group_metadata()
    earlier = ConsumerGroupMetadata(now.group_id, now.generation_id - 1, now.member_id, now.group_instance_id)
    config = DetectorConfig(bootstrap_servers=kafka.bootstrap_servers)
    with Transactor(config, unique_name()) as transactor, pytest.raises(MemberFencedError):
        transactor.commit([], {source: 7}, earlier)
    assert member.committed(source) is None


def test_adr_0002_a_partition_just_added_is_written_at_the_second_try(
    kafka: Broker, create_topic: CreateTopic, unique_name: UniqueName
) -> None:
    """kafka-python refuses a partition that its metadata lacks and does not ask again: our transaction does."""
    topic = create_topic()
    config = DetectorConfig(bootstrap_servers=kafka.bootstrap_servers)
    with Transactor(config, unique_name()) as transactor:
        transactor.commit([OutputRecord(topic, None, b"first", [], 0)], {}, None)
        admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
        admin.create_partitions({topic: NewPartitions(total_count=2)})
        admin.close()
        added = OutputRecord(topic, None, b"second", [], 1)
        with pytest.raises(BatchAbortedError, match="Unrecognized partition 1"):
            transactor.commit([added], {}, None)
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                assert transactor.commit([added], {}, None) == [0]
                break
            except BatchAbortedError:
                assert time.monotonic() < deadline_s
                time.sleep(0.1)


def test_adr_0002_a_rejoin_that_outlasts_a_poll_is_finished(
    kafka: Broker, admin: KafkaAdminClient, create_topic: CreateTopic, unique_name: UniqueName
) -> None:
    """kafka-python forgets a rejoin that new metadata began if a poll ends in the middle of it; our membership does not.

    What was forgotten: nobody gets the new partition, and no heartbeat is sent any more.
    """
    topic = create_topic(partitions=1)
    config = DetectorConfig(
        bootstrap_servers=kafka.bootstrap_servers,
        group=unique_name("group"),
        input_topic=topic,
        poll_timeout_ms=1,  # every join outlasts it
        max_poll_interval_ms=600_000,  # after which it would join anew in any case
    )
    held: set[TopicPartition] = set()

    def poll_until_held(partitions: int) -> None:
        nonlocal held
        deadline_s = time.monotonic() + PATIENCE_S
        while len(held) < partitions:
            assert time.monotonic() < deadline_s, (
                f"assigned {held or 'nothing'}, {membership.consumer.group_metadata()}"
            )
            membership.poll()
            dropped, gained = membership.settle(held)
            held = held - dropped | gained

    with closing(Membership(config, unique_name())) as membership:
        poll_until_held(1)
        admin.create_partitions({topic: NewPartitions(total_count=2)})
        while len(membership.consumer.partitions_for_topic(topic)) < 2:
            membership.consumer._client.cluster.request_update()
            time.sleep(0.05)
        poll_until_held(2)


def test_adr_0004_markers_take_offsets(kafka: Broker, producer: Any, create_topic: CreateTopic) -> None:
    """After a transaction of one record the log ends at 2: its last record is not at the end minus one."""
    topic = create_topic()
    producer.begin_transaction()
    producer.send(topic, b"value", partition=0)
    producer.commit_transaction()
    assert committed_values(kafka, topic) == ([b"value"], 2)
