"""Publishing while the broker fails: nothing lost, nothing doubled, nothing claimed that did not happen."""

import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

from broker import EmbeddedBroker
from detector.contract.events import SessionEvent, encode_event
from producer import publisher
from producer.interrupt import Interrupt
from producer.publisher import Publisher, PublishError, Record, at_rate

TOPIC = "actions"


@pytest.fixture
def own_broker() -> Iterator[EmbeddedBroker]:
    """Start a broker that may be killed, with an empty topic of two partitions."""
    soon = {"broker.session.timeout.ms": "3000"}  # how long it is refused after a crash
    with EmbeddedBroker(properties=soon) as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        admin.create_topics({TOPIC: {"num_partitions": 2, "replication_factor": 1}}, wait_for_metadata=True)
        admin.close()
        yield broker


def records(count: int) -> Iterator[Record]:
    """Yield events of ten accounts, of one session each."""
    for number in range(count):
        event = SessionEvent(
            event_id=f"e{number}",
            session_id=f"s{number % 10}",
            account_id=f"a{number % 10}",
            action="LOGIN",
            occurred_at_ms=number,
        )
        yield Record(event, encode_event(event))


def consume(broker: EmbeddedBroker) -> list[tuple[bytes, bytes]]:
    """Return key and value of all records, in order within each partition."""
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest")
    try:
        partitions = [TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        found: list[tuple[bytes, bytes]] = []
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            for batch in consumer.poll(timeout_ms=500).values():
                found += [(record.key, record.value) for record in batch]
        return found
    finally:
        consumer.close()


def test_a_broker_killed_and_restarted_loses_and_doubles_nothing(own_broker: EmbeddedBroker) -> None:
    """Events published across a broker's crash are on the topic once each, in every session's order."""
    count = 12_000
    crash = threading.Event()
    crashed: list[int] = []

    def crash_and_restart() -> None:
        crash.wait()
        own_broker.kill()
        crashed.append(1)
        own_broker.start()

    operator = threading.Thread(target=crash_and_restart)
    operator.start()
    try:
        with Publisher(own_broker.bootstrap_servers, TOPIC) as connected:

            def progress(sent: int) -> None:
                if sent > 2_000:
                    crash.set()

            # Paced, so that the crash falls among the events and not after them.
            connected.publish(records(count), stop=Interrupt(), pace=at_rate(2_000), progress=progress)
            assert (connected.sent, connected.acknowledged) == (count, count)
    finally:
        crash.set()
        operator.join()
    assert crashed == [1]
    found = consume(own_broker)
    expected = [(record.event.account_id.encode(), record.value) for record in records(count)]
    assert Counter(found) == Counter(expected)
    for number in range(10):
        key = f"a{number}".encode()
        assert [value for k, value in found if k == key] == [value for k, value in expected if k == key]


def test_a_broker_gone_for_good_is_reported_with_exact_counts(
    own_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error counts what was not acknowledged; what was acknowledged is on the topic when the broker is back."""
    monkeypatch.setattr(publisher, "REQUEST_TIMEOUT_MS", 2_000)
    monkeypatch.setattr(publisher, "DELIVERY_TIMEOUT_MS", 4_000)

    def progress(sent: int) -> None:
        if sent > 2_000 and own_broker.running:
            own_broker.kill()

    with Publisher(own_broker.bootstrap_servers, TOPIC) as connected:
        with pytest.raises(PublishError, match="not acknowledged") as error:
            connected.publish(records(1_000_000), stop=Interrupt(), pace=at_rate(2_000), progress=progress)
        sent, acknowledged = connected.sent, connected.acknowledged
    assert 0 < acknowledged < sent
    assert f"{sent - acknowledged:,} of {sent:,} events sent" in str(error.value)
    own_broker.start()
    found = Counter(consume(own_broker))
    # The broker may hold more than it could confirm, never less.
    assert acknowledged <= sum(found.values()) <= sent
    assert max(found.values()) == 1
