"""A topic of alerts, a console on it and a browser, for a module's tests."""

from collections.abc import Callable, Iterator

import pytest
from selenium.webdriver import Chrome

from broker import Broker
from detector.contract.alerts import Alert
from tests.conftest import CreateTopic, UniqueName
from tests.console.alerts import publish
from tests.console.browser import DESKTOP, chromium, complaints, resize
from tests.console.looking import text
from tests.console.serving import Console, console
from tests.runtime.stack import wait_for

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


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A browser; at the end it has told of no error, nor of anything the policy forbade."""
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running
        assert complaints(running) == []


@pytest.fixture
def page(browser: Chrome, served: Console) -> Chrome:
    """The console's page, live, at a desktop's size."""
    resize(browser, DESKTOP)
    browser.get("about:blank")
    browser.get(served.url)
    wait_for(lambda: text(browser, "#link") == "Live", "a live page")
    return browser
