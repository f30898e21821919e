"""Verdicts from the page: a right of its own, off by default, out of other sites' reach; told to the topic once given."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import text_to_be_present_in_element
from selenium.webdriver.support.wait import WebDriverWait
from starlette.testclient import TestClient

from broker import Broker
from detector.console.app import create_app
from detector.console.workers import Worker, read_worker
from detector.contract.alerts import Decision
from detector.contract.verdicts import Finding, decode_verdict
from detector.core.alerted import Alerted
from detector.core.partition import Partition
from detector.runtime.config import ConfigurationError, DetectorConfig
from detector.runtime.health import HealthServer, Heartbeat
from detector.runtime.metrics import DetectorMetrics
from tests.conftest import UniqueName
from tests.console.alerts import alert
from tests.console.browser import chromium, missing
from tests.console.conftest import TOKEN, Commit
from tests.console.serving import Console, console
from tests.console.test_access import bearer, config
from tests.console.test_accessibility import violations
from tests.machine import skip_without
from tests.runtime.stack import PATIENCE_S, read_committed

_DAY_MS = 86_400_000
ANALYST = "another-token-for-verdicts-0815"


@pytest.fixture(scope="module")
def verdicts_topic(unique_name: UniqueName) -> str:
    """Where verdicts go; it is made by the first one."""
    return unique_name("console-verdicts")


@pytest.fixture(scope="module")
def judging(
    kafka: Broker, topic: str, verdicts_topic: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Console]:
    """A console with a token for verdicts."""
    named = [
        "--bootstrap-servers",
        kafka.bootstrap_servers,
        "--topic",
        topic,
        "--verdicts-topic",
        verdicts_topic,
    ]
    tokens = {"DETECTOR_CONSOLE_TOKEN": TOKEN, "DETECTOR_CONSOLE_ANALYST_TOKEN": ANALYST}
    with console(named, tmp_path_factory.mktemp("judging") / "console.log", **tokens) as running:
        yield running


def client(analyst_token: str | None = ANALYST) -> TestClient:
    """Return a client of a console that has no alerts."""
    app = create_app(config(token=TOKEN, analyst_token=analyst_token))
    return TestClient(app, base_url="https://console.example", follow_redirects=False)


def given(**changes: Any) -> dict[str, Any]:
    """Return what the page sends."""
    return {"alert_id": "some", "verdict": "FRAUD", "by": "jane", "why": "told"} | changes


def test_only_who_has_the_right_gives_verdicts() -> None:
    """Strangers are to sign in, viewers are told that it is not theirs; by default it is nobody's."""
    assert client().post("/verdicts", json=given()).status_code == 401
    assert client().post("/verdicts", json=given(), headers=bearer(TOKEN)).status_code == 403
    assert (
        client().post("/verdicts", json=given(), headers=bearer(ANALYST)).status_code == 404
    )  # no such alert
    assert client(None).post("/verdicts", json=given(), headers=bearer(ANALYST)).status_code == 401
    assert client(None).post("/verdicts", json=given(), headers=bearer(TOKEN)).status_code == 403


def test_the_cookie_carries_the_right_of_the_token_that_it_was_given_for() -> None:
    """Signing in with the one or the other token gives the one or the other right, which the page can ask for."""
    viewer = client()
    for token, rights, status in (
        (TOKEN, "viewer", 403),
        (ANALYST, "viewer analyst", 404),
        (TOKEN, "viewer", 403),
    ):
        assert viewer.post("/session", headers=bearer(token)).status_code == 204
        assert viewer.get("/session").headers["Console-Rights"] == rights
        assert viewer.post("/verdicts", json=given()).status_code == status
        assert viewer.get("/").status_code == 200


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({"data": given()}, 415),
        ({"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415),
        ({"json": given(verdict="MAYBE")}, 400),
        ({"content": b'{"x":' * 10_000, "headers": {"Content-Type": "application/json"}}, 400),
        ({"json": given(by="")}, 400),
        ({"json": given(why="x" * 2_001)}, 400),
        ({"json": given(why="x" * 70_000)}, 413),
        ({"json": given(), "headers": {"Sec-Fetch-Site": "cross-site"}}, 403),
        ({"json": given(), "headers": {"Sec-Fetch-Site": "same-site"}}, 403),
    ],
)
def test_other_sites_and_what_is_no_verdict_are_refused(how: dict[str, Any], status: int) -> None:
    """A form of another site can't send JSON, nor may its scripts; and what is sent is bounded."""
    analyst = client()
    analyst.post("/session", headers=bearer(ANALYST))
    assert analyst.post("/verdicts", **how).status_code == status


@pytest.mark.parametrize("token", [None, ANALYST])
def test_verdicts_need_a_token_of_their_own(token: str | None) -> None:
    """Without one for viewers everybody would have the right, and the same one is none of its own."""
    with pytest.raises(ConfigurationError, match="expected another one"):
        config(token=token, analyst_token=ANALYST)


@pytest.mark.parametrize("topic", ["a b", "session-alerts"])
def test_verdicts_go_to_a_topic_of_their_own(topic: str) -> None:
    """Where they are given; a console that only looks on asks for none."""
    config(topic="session-alerts", token=TOKEN, verdicts_topic=topic)
    with pytest.raises(ConfigurationError, match="expected"):
        config(topic="session-alerts", token=TOKEN, analyst_token=ANALYST, verdicts_topic=topic)


@skip_without(missing())
def test_a_verdict_is_given_on_the_page_and_lies_on_the_topic(
    kafka: Broker,
    judging: Console,
    verdicts_topic: str,
    commit: Commit,
    tmp_path: Path,
) -> None:
    """Who signed in with the token for it finds two buttons by the alert, and axe nothing; who looks on finds none."""
    judged = alert("to-be-judged")
    commit(judged)
    for token in (TOKEN, ANALYST):
        with chromium(tmp_path / token) as browser:
            browser.implicitly_wait(PATIENCE_S if token == ANALYST else 20)
            browser.get(f"{judging.url}/login")
            browser.find_element(By.ID, "token").send_keys(token)
            browser.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
            browser.find_element(By.ID, "alerts")
            browser.get(f"{judging.url}/#alert={judged.alert_id}")
            browser.find_element(By.CSS_SELECTOR, ".facts")
            if token == TOKEN:
                browser.implicitly_wait(0)
                assert not browser.find_elements(By.ID, "verdict")
                continue
            browser.find_element(By.ID, "verdict-by").send_keys("jane")
            browser.find_element(By.ID, "verdict-why").send_keys("told on the phone")
            browser.find_element(By.CSS_SELECTOR, "#verdict button[value=LAWFUL]").click()
            told = text_to_be_present_in_element((By.CSS_SELECTOR, "#verdict [role=status]"), "Told: LAWFUL")
            WebDriverWait(browser, PATIENCE_S).until(told)
            assert violations(browser) == []
    where = DetectorConfig(bootstrap_servers=kafka.bootstrap_servers)
    (record,) = read_committed(where, verdicts_topic)
    found = decode_verdict(record.value)
    assert record.key == judged.account_id.encode()
    assert (found.session_id, found.alert_id) == (judged.session_id, judged.alert_id)
    assert (found.verdict, found.by, found.why) == (Finding.LAWFUL, "jane", "told on the phone")
    assert time.time() * 1000 - found.decided_at_ms < PATIENCE_S * 1000


def test_what_workers_say_of_verdicts_is_read_by_model() -> None:
    """The blocks of the last week, by what they were found to be; other windows and decisions are none of them."""
    metrics, partition = DetectorMetrics(), Partition()
    partition.stream_time_ms = 30 * _DAY_MS
    for number, (days_ago, decision, finding) in enumerate(
        [(0, Decision.BLOCK, Finding.FRAUD), (6, Decision.BLOCK, None), (6, Decision.BLOCK, Finding.FRAUD),
         (8, Decision.BLOCK, Finding.LAWFUL), (1, Decision.REVIEW, Finding.LAWFUL)]
    ):  # fmt: skip
        at_ms = partition.stream_time_ms - days_ago * _DAY_MS
        partition.tell(b"%d" % number, Alerted(number, at_ms, at_ms, decision, "m:ab", finding=finding))
    metrics.partition(0, partition)
    health = HealthServer("127.0.0.1", 0, metrics.registry, Heartbeat(), PATIENCE_S)

    async def read() -> Worker:
        async with httpx2.AsyncClient() as client:
            return (await read_worker(f"http://127.0.0.1:{health.port}/metrics", client)).worker

    try:
        assert asyncio.run(read()).judged == {"m:ab": {"FRAUD": 2, "LAWFUL": 0, "NONE": 1}}
        metrics.forget(0)
        assert asyncio.run(read()).judged == {}
    finally:
        health.close()
