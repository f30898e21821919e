"""A topic of alerts and a console on it, for a module's tests."""

from collections.abc import Callable, Iterator

import pytest

from broker import Broker
from detector.contract.alerts import Alert
from tests.conftest import CreateTopic, UniqueName
from tests.console.alerts import publish
from tests.console.serving import Console, console

TOKEN = "a-token-of-some-length-4711"  # noqa: S105  of these tests
Commit = Callable[..., None]


@pytest.fixture(scope="module")
def topic(create_topic: CreateTopic) -> str:
    """A topic of alerts with two partitions."""
    return create_topic("console-alerts", partitions=2)


@pytest.fixture(scope="module")
def served(kafka: Broker, topic: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A console on the topic, on loopback, that asks for no token."""
    arguments = ["--bootstrap-servers", kafka.bootstrap_servers, "--topic", topic]
    with console(arguments, tmp_path_factory.mktemp("console") / "console.log") as running:
        yield running


@pytest.fixture(scope="module")
def commit(kafka: Broker, topic: str, unique_name: UniqueName) -> Commit:
    """Commit alerts to the topic."""

    def committed(*alerts: Alert, partition: int | None = None) -> None:
        publish(kafka.bootstrap_servers, topic, alerts, unique_name("alerts"), partition)

    return committed
