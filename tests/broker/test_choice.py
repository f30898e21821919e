"""The order of choice: the environment's broker, a container, the embedded one, or one clear error."""

import logging
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from broker import Broker, obtain
from broker.container import container
from broker.errors import BrokerUnresponsiveError, ContainerUnavailableError, NoBrokerError


@pytest.fixture
def no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No Docker engine where the environment says there is one."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")


def test_the_environment_wins_and_its_broker_is_left_alone(kafka: Broker) -> None:
    """A broker named by KAFKA_BOOTSTRAP_SERVERS is used as it is and answers on afterwards."""
    with obtain({"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}) as broker:
        assert broker == Broker(kafka.bootstrap_servers, "external")
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    assert admin.describe_cluster()["brokers"]
    admin.close()


def test_an_unreachable_named_broker_is_an_error() -> None:
    """The named broker or none: another one in its stead would be a surprise."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"127.0.0.1:{gone.getsockname()[1]}"
    with pytest.raises(BrokerUnresponsiveError, match=address), obtain({"KAFKA_BOOTSTRAP_SERVERS": address}):
        pass


@pytest.mark.usefixtures("no_engine")
def test_without_an_engine_it_is_embedded(caplog: pytest.LogCaptureFixture) -> None:
    """No engine: the embedded broker, with the reason in the log, gone after the block."""
    with caplog.at_level(logging.INFO, "broker"), obtain({}) as broker:
        assert broker.kind == "embedded"
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        assert admin.describe_cluster()["brokers"]
        admin.close()
    assert "no Docker engine answers" in caplog.text
    host, _, port = broker.bootstrap_servers.partition(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))


@pytest.mark.usefixtures("no_engine")
def test_with_no_way_left_all_three_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable, no engine, no jars and no network: one error that names each."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    (tmp_path / "jgo.conf").write_text(f"[repositories]\ncentral = http://127.0.0.1:{port}\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(tmp_path / "jgo.conf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(NoBrokerError) as caught, obtain({}):
        pass
    for way in ("KAFKA_BOOTSTRAP_SERVERS", "Docker engine", "could not fetch Apache Kafka"):
        assert way in str(caught.value)


class _Engine(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """An engine that answers by a table; one that is not in the table never is."""

    daemon_threads = True
    answers: dict[str, str]


class _Answer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while request := self.rfile.readline().decode().split():
            while self.rfile.readline().strip():
                pass
            assert isinstance(self.server, _Engine)
            path = request[1].partition("?")[0]
            body = next((text for end, text in self.server.answers.items() if path.endswith(end)), None)
            if body is None:
                threading.Event().wait(60)
                return
            self.wfile.write(
                f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            )


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Engine]:
    """Speaks just enough of the Docker engine's HTTP interface to be troublesome in reproducible ways."""
    path = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    with _Engine(str(path), _Answer) as server:
        server.answers = {}
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.timeout(60)
def test_a_silent_engine_is_given_up(engine: _Engine) -> None:
    """An engine that accepts connections and never answers does not hang the start."""
    assert engine.answers == {}
    with pytest.raises(ContainerUnavailableError, match="timed out"), container():
        pass


def test_an_image_that_cannot_be_pulled_is_told(engine: _Engine) -> None:
    """An engine without the image and without a way to its registry: its own words are passed on."""
    engine.answers = {
        "/version": '{"ApiVersion": "1.47"}',
        "/images/json": "[]",
        "/images/create": '{"error": "registry unreachable"}',
    }
    with (
        pytest.raises(ContainerUnavailableError, match=r"cannot be pulled: registry unreachable"),
        container(),
    ):
        pass
