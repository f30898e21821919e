"""A topic of alerts, a console on it and a browser, for a module's tests."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from broker import Broker
from detector.contract.alerts import Alert
from detector.contract.verdicts import Finding, Verdict, new_verdict_id
from detector.runtime.config import DetectorConfig
from detector.runtime.verdicts import publish_verdict
from tests.conftest import CreateTopic, UniqueName
from tests.console.alerts import publish
from tests.console.browser import DESKTOP, chromium, complaints, resize
from tests.console.looking import text
from tests.console.serving import Console, console
from tests.waiting import wait_for

TOKEN = "a-token-of-some-length-4711"  # noqa: S105  of these tests
ANALYST = "another-token-for-verdicts-0815"
Commit = Callable[..., None]
Say = Callable[..., Verdict]


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
def verdicts_topic(unique_name: UniqueName) -> str:
    """Where verdicts go; it is made by the first one."""
    return unique_name("console-verdicts")


@pytest.fixture(scope="module")
def say(kafka: Broker, verdicts_topic: str) -> Say:
    """Publish somebody's verdict on an alert's session."""
    where = DetectorConfig(bootstrap_servers=kafka.bootstrap_servers, verdicts_topic=verdicts_topic)

    def said(alert: Alert, finding: Finding, **changes: Any) -> Verdict:
        fields: dict[str, Any] = {
            "verdict_id": new_verdict_id(),
            "account_id": alert.account_id,
            "session_id": alert.session_id,
            "verdict": finding,
            "by": "somebody",
            "decided_at_ms": alert.detected_at_ms + 60_000,
        }
        verdict = Verdict(**(fields | changes))
        publish_verdict(where, verdict)
        return verdict

    return said


@pytest.fixture(scope="module")
def judging(
    kafka: Broker, topic: str, verdicts_topic: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Console]:
    """A console with a token for verdicts."""
    topics = ["--topic", topic, "--verdicts-topic", verdicts_topic]
    tokens = {"DETECTOR_CONSOLE_TOKEN": TOKEN, "DETECTOR_CONSOLE_ANALYST_TOKEN": ANALYST}
    log = tmp_path_factory.mktemp("judging") / "console.log"
    with console(["--bootstrap-servers", kafka.bootstrap_servers, *topics], log, **tokens) as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A browser; at the end it has told of no error, nor of anything the policy forbade."""
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running
        assert complaints(running) == []


@pytest.fixture
def page(browser: Chrome, served: Console) -> Iterator[Chrome]:
    """The console's page, live, at a desktop's size; left before its console may end, of which a page would complain."""
    resize(browser, DESKTOP)
    browser.get("about:blank")
    browser.get(served.url)
    wait_for(lambda: text(browser, "#link") == "Live", "a live page")
    yield browser
    browser.get("about:blank")


def sign_in(browser: Chrome, url: str, token: str) -> None:
    """Sign in anew, and wait for a live page."""
    browser.get(f"{url}/login")
    browser.delete_all_cookies()
    browser.get(f"{url}/login")
    browser.find_element(By.ID, "token").send_keys(token)
    browser.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
    wait_for(lambda: text(browser, "#link") == "Live", "a live page")
