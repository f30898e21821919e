"""The embedded broker under the hands of a test: stopped, killed, frozen, brought back."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic
from kafka.errors import KafkaError

from broker import EmbeddedBroker
from broker.errors import BrokerDiedError, PortInUseError

_TOPIC = "kept"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A broker of the test's own, in a named folder."""
    soon = {"broker.session.timeout.ms": "3000"}  # how long it is refused after a crash
    with EmbeddedBroker(data_dir=tmp_path / "data", properties=soon) as broker:
        yield broker


def _cluster_id(broker: EmbeddedBroker) -> str:
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    try:
        return str(admin.describe_cluster()["cluster_id"])
    finally:
        admin.close()


def _append(broker: EmbeddedBroker, value: bytes) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    producer.send(_TOPIC, value).get(timeout=60)
    producer.close()


def _read(broker: EmbeddedBroker, count: int) -> list[bytes]:
    consumer = KafkaConsumer(
        _TOPIC,
        bootstrap_servers=broker.bootstrap_servers,
        auto_offset_reset="earliest",
        consumer_timeout_ms=60_000,
    )
    try:
        return [next(consumer).value for _ in range(count)]
    finally:
        consumer.close()


def test_data_and_address_outlive_a_stop_a_kill_and_a_new_owner(own: EmbeddedBroker) -> None:
    """After a graceful restart, a crash, and by another object on the same folder, it is the same cluster with all its records."""
    admin = KafkaAdminClient(bootstrap_servers=own.bootstrap_servers)
    admin.create_topics([NewTopic(_TOPIC, 1, 1)])
    admin.close()
    address, cluster_id = own.bootstrap_servers, _cluster_id(own)
    _append(own, b"before the restart")
    own.restart()
    _append(own, b"before the crash")
    java = psutil.Process(own.pid)
    own.kill()
    assert not java.is_running()
    assert not own.running
    own.start()
    assert own.bootstrap_servers == address
    own.stop()
    with EmbeddedBroker(data_dir=own.data_dir) as heir:
        assert _cluster_id(heir) == cluster_id
        assert _read(heir, 2) == [b"before the restart", b"before the crash"]


def test_a_paused_broker_is_silent_until_resumed(own: EmbeddedBroker) -> None:
    """Frozen, it answers no request though its port accepts; resumed, it answers; a frozen one can be stopped."""
    cluster_id = _cluster_id(own)
    own.pause()
    with pytest.raises(KafkaError):
        KafkaAdminClient(bootstrap_servers=own.bootstrap_servers, bootstrap_timeout_ms=1000)
    assert psutil.Process(own.pid).status() == psutil.STATUS_STOPPED
    own.resume()
    assert _cluster_id(own) == cluster_id
    own.pause()
    java = psutil.Process(own.pid)
    own.stop()
    assert not java.is_running()


def test_misuse_is_refused(own: EmbeddedBroker) -> None:
    """A second start, a port already served, and orders to a broker that does not run raise."""
    with pytest.raises(RuntimeError, match="already runs"):
        own.start()
    port = int(own.bootstrap_servers.rpartition(":")[2])
    with pytest.raises(PortInUseError, match=str(port)), EmbeddedBroker(port=port):
        pass
    own.kill()
    for order in (own.pause, own.resume, lambda: own.pid, lambda: own.wait(0)):
        with pytest.raises(RuntimeError, match="does not run"):
            order()
    own.stop()  # nothing to stop: no effect


def test_a_start_that_fails_tells_why_and_leaves_nothing(tmp_path: Path) -> None:
    """A broker that dies while starting raises with Kafka's own reason; its processes are gone."""
    broker = EmbeddedBroker(
        data_dir=tmp_path,
        properties={"metric.reporters": "com.example.Absent"},
    )
    with pytest.raises(BrokerDiedError, match=r"(?s)ended by itself.*com\.example\.Absent"):
        broker.start()
    assert not broker.running
    assert not [
        p
        for p in psutil.Process().children(recursive=True)
        if p.name() == "java" and str(tmp_path) in " ".join(p.cmdline())
    ]
