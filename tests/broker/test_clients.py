"""The session's broker, whichever it is, serves what the product needs of it."""

import itertools

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from broker import Broker
from tests.conftest import CreateTopic, UniqueName

_DEADLINE_MS = 30_000


def _values(kafka: Broker, topic: str, count: int, isolation: str = "read_committed") -> list[bytes]:
    """The first `count` values of partition 0, or those that come within the deadline."""
    consumer = KafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers,
        isolation_level=isolation,
        auto_offset_reset="earliest",
        consumer_timeout_ms=_DEADLINE_MS,
        max_partition_fetch_bytes=32 * 1024 * 1024,
    )
    consumer.assign([TopicPartition(topic, 0)])
    try:
        return [record.value for record in itertools.islice(consumer, count)]
    finally:
        consumer.close()


def test_metadata_names_one_broker_at_the_bootstrap_address(kafka: Broker, admin: KafkaAdminClient) -> None:
    """What clients are told to connect to is where they connected: no name that only resolves elsewhere."""
    brokers = admin.describe_cluster()["brokers"]
    assert f"{brokers[0]['host']}:{brokers[0]['port']}" in kafka.bootstrap_servers


def test_records_come_back_in_order(kafka: Broker, create_topic: CreateTopic) -> None:
    """A partition returns exactly the bytes produced to it, in order."""
    topic = create_topic()
    sent = [b"%d" % n for n in range(500)]
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, enable_idempotence=True)
    for value in sent:
        producer.send(topic, value)
    producer.close()
    assert _values(kafka, topic, len(sent)) == sent


def test_only_committed_records_are_read(
    kafka: Broker, create_topic: CreateTopic, unique_name: UniqueName
) -> None:
    """Of an aborted and a committed transaction, a read_committed consumer sees the second alone."""
    topic = create_topic()
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id=unique_name())
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(topic, b"aborted").get(timeout=30)
    producer.abort_transaction()
    producer.begin_transaction()
    producer.send(topic, b"committed")
    producer.commit_transaction()
    producer.close()
    assert _values(kafka, topic, 1) == [b"committed"]
    assert _values(kafka, topic, 2, isolation="read_uncommitted") == [b"aborted", b"committed"]


def test_ten_megabytes_pass_where_the_topic_allows_them(kafka: Broker, create_topic: CreateTopic) -> None:
    """A record of more than 10 MB is stored and read back when its topic's limit admits it, else refused."""
    value = bytes(range(256)) * 44_000
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, max_request_size=2 * len(value))
    large = create_topic(configs={"max.message.bytes": str(2 * len(value))})
    producer.send(large, value).get(timeout=30)
    with pytest.raises(KafkaError):
        producer.send(create_topic(), value).get(timeout=30)
    producer.close()
    assert _values(kafka, large, 1) == [value]


def test_an_unknown_topic_is_not_created(kafka: Broker, unique_name: UniqueName) -> None:
    """Producing to a topic nobody created fails rather than creating it."""
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, max_block_ms=1000)
    with pytest.raises(KafkaError):
        producer.send(unique_name("absent"), b"x").get(timeout=30)
    producer.close()
