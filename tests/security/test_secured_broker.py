"""TLS, SASL and ACLs on a real broker: what connects, what the detector may, and what is refused how."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.errors import KafkaTimeoutError

from detector.connection import AccessRefusedError, access_explained, client_options
from detector.runtime.config import DetectorConfig
from detector.runtime.permissions import permissions
from detector.runtime.pseudonyms import Pseudonyms
from tests.conftest import UniqueName
from tests.runtime.stack import Stack, Worker, flags_of, without_clock
from tests.runtime.test_end_to_end import records, sessions
from tests.security.conftest import PASSWORD, SecuredBroker
from tests.waiting import wait_for

_BOOTSTRAP_TIMEOUT_MS = 2_000
_CLOSED = 2
_KEY = b"a-key-that-only-the-tests-know"


def _connects(environment: Mapping[str, str], timeout_ms: int = 60_000) -> None:
    with access_explained(environment):
        admin = KafkaAdminClient(
            **client_options(environment["KAFKA_BOOTSTRAP_SERVERS"], environment),
            bootstrap_timeout_ms=timeout_ms,
        )
    try:
        assert admin.describe_cluster()["brokers"]
    finally:
        admin.close()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"])
def test_sasl_over_tls_connects(secured: SecuredBroker, mechanism: str) -> None:
    """Each mechanism authenticates over TLS, from nothing but the variables."""
    _connects(secured.sasl_environment(mechanism))


def test_mutual_tls_connects_and_needs_the_certificate(secured: SecuredBroker) -> None:
    """The client's certificate authenticates it, and without one it is refused."""
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": secured.tls,
        "KAFKA_SECURITY_PROTOCOL": "SSL",
        "KAFKA_SSL_CA_FILE": str(secured.folder / "ca.pem"),
    }
    own = str(secured.folder / "client.pem")
    _connects(environment | {"KAFKA_SSL_CERTIFICATE_FILE": own, "KAFKA_SSL_KEY_FILE": own})
    with pytest.raises(AccessRefusedError, match="KAFKA_SSL_CERTIFICATE_FILE"):
        _connects(environment, _BOOTSTRAP_TIMEOUT_MS)


@contextmanager
def _worker(
    stack: Stack,
    secured: SecuredBroker,
    log: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Worker]:
    """Run a worker that authenticates itself by SCRAM over TLS, and creates nothing."""
    config = replace(stack.config, bootstrap_servers=secured.sasl)
    worker = Worker(
        ["--no-create-topics", *flags_of(config), *arguments],
        log,
        environment or secured.sasl_environment("SCRAM-SHA-512"),
    )
    try:
        yield worker
    finally:
        if worker.process.poll() is None:
            worker.kill()


def test_the_detector_works_with_least_privilege(
    secured: SecuredBroker, unique_name: UniqueName, tmp_path: Path
) -> None:
    """Over TLS and SCRAM, allowed what docs/security.md lists, the alerts are the oracle's; the log tells no ids.

    At DEBUG, the most that it tells, it holds pseudonyms of what was alerted, and neither ids nor the password.
    """
    stack = Stack(secured.plain, unique_name("secured"), tmp_path, snapshot_min_bytes=1, snapshot_ratio=1)
    secured.allow("detector", permissions(replace(stack.config, create_topics=False)))
    simulated = sessions(110)
    stack.publish(records(simulated))
    key, log = tmp_path / "key", tmp_path / "secured.log"
    key.write_bytes(_KEY)
    flags = ("--log-level", "DEBUG", "--pseudonym-key-file", str(key), "--batch-max-events", "50")
    with _worker(stack, secured, log, *flags) as worker:
        stack.wait_until_processed()
        assert worker.terminate() == 0, log.read_text()
    expected, _ = stack.expected()
    assert without_clock(stack.alerts()) == without_clock(expected) != []
    text, pseudonyms = log.read_text(), Pseudonyms(_KEY)
    assert "could not be cut" not in text
    for alert in expected:
        assert (
            f"session {pseudonyms.of(alert.session_id)} of account {pseudonyms.of(alert.account_id)}" in text
        )
    for session in simulated:
        assert session.session_id not in text
        assert session.account_id not in text
    assert PASSWORD not in text


def test_each_privilege_is_needed_and_its_lack_is_told(
    secured: SecuredBroker, unique_name: UniqueName, tmp_path: Path
) -> None:
    """Without any one of them the detector ends with exit code 1 and names what it lacks; nothing is alerted.

    Only cutting the state log is done without: its lack is a warning.
    """
    for number in range(len(permissions(DetectorConfig(create_topics=False)))):
        stack = Stack(secured.plain, unique_name("lack"), tmp_path, snapshot_min_bytes=1, snapshot_ratio=1)
        needed = permissions(replace(stack.config, create_topics=False))
        missing = needed.pop(number)
        secured.allow("detector", needed)
        stack.publish(records(sessions(22)))
        log = tmp_path / f"lacks-{number}.log"
        with _worker(stack, secured, log, "--batch-max-events", "20") as worker:
            if missing.operation == "Delete":
                worker.wait_until_logged("could not be cut")
                continue
            wait_for(lambda ended=worker.process: ended.poll() is not None, f"an end without {missing}")  # type: ignore[misc]
            text = log.read_text()
            assert worker.process.returncode == 1, text
            assert "Traceback" not in text
            told = text.splitlines()[-1]
            assert missing.name.rstrip("-") in told or "Authorization" in told, told
        assert stack.alerts() == []


@pytest.mark.parametrize(
    "reason",
    [
        "the events",
        "the alerts",
        "keeping live sessions",
        "sharing the partitions, committing offsets",
        "one transaction a batch",
    ],
)
def test_a_right_that_is_taken_away_ends_the_detector(
    secured: SecuredBroker, unique_name: UniqueName, tmp_path: Path, reason: str
) -> None:
    """While it runs, too: exit code 1 and what it lacks; given back, the next start misses and repeats nothing."""
    stack = Stack(secured.plain, unique_name("taken"), tmp_path)
    needed = permissions(replace(stack.config, create_topics=False))
    (taken,) = (one for one in needed if one.reason == reason)
    secured.allow("detector", needed)
    log = tmp_path / "taken.log"
    with _worker(stack, secured, log) as worker:
        stack.publish(records(sessions(44, number=1)))
        stack.wait_until_processed()
        secured.forbid("detector", taken)
        stack.publish(records(sessions(44, number=2)))
        wait_for(lambda: worker.process.poll() is not None, "the detector to end")
        assert worker.process.returncode == 1, log.read_text()
        told = log.read_text().splitlines()[-1]
        assert taken.name.rstrip("-") in told or "Authorization" in told, told
    secured.allow("detector", [taken])
    with _worker(stack, secured, log):
        stack.wait_until_processed()
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0]) != []


def test_a_password_that_is_rotated_counts_from_the_next_connection_on(
    secured: SecuredBroker, unique_name: UniqueName, tmp_path: Path
) -> None:
    """Changed on the broker and in its file, it lets a running detector in when a restart ended its connections."""
    stack, user = Stack(secured.plain, unique_name("rotated"), tmp_path), unique_name("user")
    secured.allow(user, permissions(replace(stack.config, create_topics=False)))
    secret = tmp_path / "password"
    environment = secured.sasl_environment("SCRAM-SHA-512", user) | {
        "KAFKA_SASL_PASSWORD_FILE": str(secret),
        "KAFKA_SASL_PASSWORD": "",
    }

    def rotate(password: str) -> None:
        secret.write_text(password)
        secured.set_password(user, password)

    rotate("first-password")
    log = tmp_path / "rotated.log"
    with _worker(stack, secured, log, environment=environment) as worker:
        stack.publish(records(sessions(44, number=1)))
        stack.wait_until_processed()
        rotate("second-password")
        secured.broker.restart()
        stack.publish(records(sessions(44, number=2)))
        stack.wait_until_processed()
        assert worker.terminate() == 0, log.read_text()
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0]) != []
    assert "password" not in log.read_text().replace(str(secret), "")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"KAFKA_SASL_PASSWORD": "wrong"}, "KAFKA_SASL_USERNAME and the password"),
        ({"KAFKA_SSL_CA_FILE": "other-ca.pem"}, "CERTIFICATE_VERIFY_FAILED.*KAFKA_SSL_CA_FILE"),
        ({"KAFKA_SASL_MECHANISM": "SCRAM-SHA-256", "KAFKA_SASL_USERNAME": "nobody"}, "KAFKA_SASL_USERNAME"),
    ],
    ids=["password", "authority", "user"],
)
def test_a_refused_connection_is_explained(secured: SecuredBroker, wrong: dict[str, str], named: str) -> None:
    """A wrong password, user or authority is told as such, where kafka-python tells of a timeout."""
    if "KAFKA_SSL_CA_FILE" in wrong:
        wrong = {"KAFKA_SSL_CA_FILE": str(secured.folder / wrong["KAFKA_SSL_CA_FILE"])}
    with pytest.raises(AccessRefusedError, match=named) as refused:
        _connects(secured.sasl_environment("SCRAM-SHA-512") | wrong, _BOOTSTRAP_TIMEOUT_MS)
    assert PASSWORD not in str(refused.value)


def test_a_broker_that_does_not_answer_refuses_nobody() -> None:
    """One that takes connections and answers none may come back: that is told as a timeout, which is tried again."""
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(KafkaTimeoutError):
        _connects({"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{silent.getsockname()[1]}"}, _BOOTSTRAP_TIMEOUT_MS)


class _Silent(socketserver.BaseRequestHandler):
    """Closes the first connections at once, and answers no later one before the client's time is up."""

    def handle(self) -> None:
        """Do so."""
        if len(self.server.seen) < _CLOSED:  # type: ignore[attr-defined]
            self.server.seen.append(self.client_address)  # type: ignore[attr-defined]
            return
        time.sleep(_BOOTSTRAP_TIMEOUT_MS / 1_000)


@pytest.mark.parametrize("handler", [socketserver.BaseRequestHandler, _Silent], ids=["all", "but the last"])
def test_a_refusal_without_a_word_is_explained(handler: type[socketserver.BaseRequestHandler]) -> None:
    """Each connection closed before it is ready is a refusal too: a loaded client loses the broker's last word.

    So it is if the last one was cut short by the end of the client's patience.
    """
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as closing:
        closing.seen = []  # type: ignore[attr-defined]
        threading.Thread(target=closing.serve_forever, daemon=True).start()
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{closing.server_address[1]}",
            "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_SASL_USERNAME": "detector",
            "KAFKA_SASL_PASSWORD": PASSWORD,
        }
        with pytest.raises(AccessRefusedError, match=r"closed all of .*KAFKA_SASL_USERNAME") as refused:
            _connects(environment, _BOOTSTRAP_TIMEOUT_MS)
        closing.shutdown()
    assert PASSWORD not in str(refused.value)


def test_a_refused_login_ends_the_detector(
    secured: SecuredBroker, unique_name: UniqueName, tmp_path: Path
) -> None:
    """A password that is not its user's ends the detector with exit code 1 and a message that names the settings."""
    stack = Stack(secured.plain, unique_name("refused"), tmp_path)
    config = replace(stack.config, bootstrap_servers=secured.sasl)
    log = tmp_path / "refused.log"
    environment = secured.sasl_environment("SCRAM-SHA-512") | {"KAFKA_SASL_PASSWORD": "another"}
    worker = Worker(flags_of(config), log, environment)
    try:
        wait_for(lambda: worker.process.poll() is not None, "the detector to end")
    finally:
        worker.kill()
    text = log.read_text()
    assert worker.process.returncode == 1, text
    assert "Traceback" not in text
    assert "AccessRefusedError" in text.splitlines()[-1]
    assert "KAFKA_SASL_USERNAME" in text.splitlines()[-1]
    assert "another" not in text
