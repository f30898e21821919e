"""What the page says when something is away or wrong, and that it goes on when that is over."""

import socket
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from selenium.webdriver import Chrome

from broker import Broker, EmbeddedBroker
from detector.runtime.health import HealthServer, Heartbeat
from detector.runtime.metrics import DetectorMetrics
from tests.console.alerts import alert, publish
from tests.console.browser import DESKTOP, complaints, missing, resize
from tests.console.conftest import Commit
from tests.console.looking import open_alert, shown, shows, text, texts
from tests.console.serving import console
from tests.machine import skip_without
from tests.waiting import PATIENCE_S, wait_for

pytestmark = [skip_without(missing()), pytest.mark.long]


def test_the_page_tells_that_its_broker_is_away(browser: Chrome, tmp_path: Path) -> None:
    """While the broker is away the page says so; when it is back it is live again, and shows what came since."""
    resize(browser, DESKTOP)
    with EmbeddedBroker() as broker:
        servers, topic = broker.bootstrap_servers, "session-alerts"
        admin = KafkaAdminClient(bootstrap_servers=servers)
        admin.create_topics([NewTopic(topic, 1, 1)])
        admin.close()
        publish(servers, topic, [alert("before")], "before")
        arguments = ["--bootstrap-servers", servers, "--topic", topic]
        with console(arguments, tmp_path / "console.log") as own:
            browser.get(own.url)
            wait_for(shows(browser, "before"), "the first alert")
            broker.stop()
            wait_for(lambda: "Kafka unreachable since" in text(browser, "#link"), "the page to say so")
            wait_for(lambda: "be read since" in text(browser, "#judging"), "the page to say so")
            broker.start()
            publish(servers, topic, [alert("after")], "after")
            wait_for(shows(browser, "before", "after"), "the alert after")
            wait_for(lambda: text(browser, "#link") == "Live", "a live page")
            assert sorted(shown(browser)) == ["after", "before"]
            wait_for(lambda: text(browser, "#judging") == "", "the verdicts to be read again")
        wait_for(lambda: "Console unreachable" in text(browser, "#link"), "the page to say so")
        browser.get("about:blank")
    complaints(browser)  # of the connection that was refused at the end


def test_the_page_outlives_its_console(
    browser: Chrome, kafka: Broker, topic: str, commit: Commit, tmp_path: Path
) -> None:
    """While the console is away the page says so; when it is back the page shows what it missed, and what was open."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    arguments = ["--bootstrap-servers", kafka.bootstrap_servers, "--topic", topic, "--port", port]
    with console(arguments, tmp_path / "first.log") as first:
        commit(alert("open before"))
        browser.get(first.url)
        wait_for(shows(browser, "open before"), "the alert")
        open_alert(browser, "open before")
        before = shown(browser)
    wait_for(lambda: "Console unreachable" in text(browser, "#link"), "the page to say so")
    assert text(browser, "#detail h2") == "open before"
    commit(alert("missed"))
    with console(arguments, tmp_path / "second.log"):
        wait_for(shows(browser, "missed"), "the alert that was missed")
        wait_for(lambda: text(browser, "#link") == "Live", "a live page")
        assert sorted(shown(browser)) == sorted([*before, "missed"])
        assert text(browser, "#detail h2") == "open before"
        wait_for(
            lambda: texts(browser, "#alerts a[aria-current] .who") == ["open before"], "its row to be marked"
        )
        browser.get("about:blank")
    complaints(browser)  # of the connections that were refused meanwhile


def test_what_is_wrong_is_said_first(browser: Chrome, kafka: Broker, topic: str, tmp_path: Path) -> None:
    """An open breaker, a challenger and a worker that goes away are told by what a worker exposes, and end with it."""
    resize(browser, DESKTOP)
    metrics, heartbeat = DetectorMetrics(), Heartbeat()
    heartbeat.ready = True
    metrics.assigned_partitions.set(2)
    metrics.model.info({"name": "example", "version": "7", "sha256": "ab" * 32})
    health = HealthServer("127.0.0.1", 0, metrics.registry, heartbeat, PATIENCE_S)
    servers = ["--bootstrap-servers", kafka.bootstrap_servers, "--topic", topic]
    try:
        url = f"http://127.0.0.1:{health.port}/metrics"
        with console([*servers, "--metrics-url", url], tmp_path / "console.log") as watching:
            browser.get(watching.url)
            wait_for(lambda: text(browser, "#model") == "example 7 · abababab", "the model")
            assert texts(browser, ".condition, #shadow:not([hidden])") == []
            metrics.shadow_model.info({"name": "next", "version": "8", "sha256": "cd" * 32})
            metrics.shadow_scores.labels("reached", "below").inc(3)
            metrics.breaker_open.labels("1").set(1)  # the last: a reading may come at any time
            said = "Critical Circuit breaker open: blocks are held back as challenges on 1 of 2 partitions. "
            said += "Runbook: DetectorBreakerOpen"
            wait_for(lambda: texts(browser, ".condition") == [said], "the breaker")
            assert "3 the deciding model’s only" in text(browser, "#shadow")  # noqa: RUF001
            metrics.breaker_open.labels("1").set(0)
            wait_for(lambda: texts(browser, ".condition") == [], "the breaker to close")
            health.close()
            wait_for(lambda: "No worker answers" in text(browser, "#conditions"), "the worker to be missed")
            assert text(browser, "#workers-ready") == "0 of 1"
            browser.get("about:blank")
    finally:
        health.close()
