"""The producer whose broker is gone: it waits between attempts, and ends when it is told to."""

import time
from types import SimpleNamespace

import pytest
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from broker import EmbeddedBroker
from detector.client import producer as module
from detector.client.producer import Producer

TOPIC = "actions"
PATIENCE_S = 30.0


def test_a_producer_without_its_broker_waits_and_can_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread waits after each attempt; `close` tells that something is left, and the thread ends."""
    waits_s: list[float] = []

    def sleep(seconds: float) -> None:
        waits_s.append(seconds)
        time.sleep(seconds)

    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=sleep))
    with EmbeddedBroker() as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        admin.create_topics({TOPIC: {"num_partitions": 2, "replication_factor": 1}}, wait_for_metadata=True)
        admin.close()
        producer = Producer(
            bootstrap_servers=broker.bootstrap_servers, transactional_id="one", max_block_ms=2_000
        )
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(TOPIC, b"value", partition=0).get(PATIENCE_S)
        assert not waits_s
        broker.kill()
        producer.send(TOPIC, b"another", partition=1)  # of which the coordinator is to know first
        with pytest.raises(KafkaError):
            producer.close(timeout=3)
        assert waits_s
        producer._sender.join(PATIENCE_S)
        assert not producer._sender.is_alive()
