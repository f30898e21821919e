"""The right to give verdicts: of its own, off by default, out of other sites' reach; and what workers say of verdicts."""

import asyncio
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from detector.console.app import create_app
from detector.console.workers import Worker, read_worker
from detector.contract.alerts import Decision
from detector.contract.verdicts import Finding
from detector.core.alerted import Alerted
from detector.core.partition import Partition
from detector.runtime.config import ConfigurationError
from detector.runtime.health import HealthServer, Heartbeat
from detector.runtime.metrics import DetectorMetrics
from tests.console.conftest import ANALYST, TOKEN
from tests.console.test_access import bearer, config
from tests.waiting import PATIENCE_S

_DAY_MS = 86_400_000


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
    answer = analyst.post("/verdicts", **how)
    assert answer.status_code == status
    assert (
        status != 400
        or "expected a JSON object of alert_id, verdict (FRAUD or LAWFUL), by, and why" in answer.text
    )


@pytest.mark.parametrize("token", [None, ANALYST])
def test_verdicts_need_a_token_of_their_own(token: str | None) -> None:
    """Without one for viewers everybody would have the right, and the same one is none of its own."""
    with pytest.raises(ConfigurationError, match="expected another one"):
        config(token=token, analyst_token=ANALYST)


@pytest.mark.parametrize("topic", ["a b", "session-alerts"])
def test_verdicts_go_to_a_topic_of_their_own(topic: str) -> None:
    """Else alerts would be read as verdicts."""
    with pytest.raises(ConfigurationError, match="expected"):
        config(topic="session-alerts", verdicts_topic=topic)


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
