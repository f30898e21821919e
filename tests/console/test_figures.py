"""The workers' figures: read from a real metrics server, rates and quantiles as Prometheus has them."""

import asyncio
import math
from collections.abc import Iterator

import httpx2
import pytest

from detector.console.figures import Figures, WorkerReader, merged, quantile_ms, rate
from detector.contract.alerts import Decision
from detector.contract.dead_letters import Reason
from detector.runtime.health import HealthServer, Heartbeat
from detector.runtime.metrics import DetectorMetrics


@pytest.fixture
def worker() -> Iterator[tuple[DetectorMetrics, Heartbeat, str]]:
    """A worker's real metrics server, without the worker."""
    metrics, heartbeat = DetectorMetrics(), Heartbeat()
    server = HealthServer("127.0.0.1", 0, metrics.registry, heartbeat, 60.0)
    yield metrics, heartbeat, f"http://127.0.0.1:{server.port}/metrics"
    server.close()


def test_figures_are_those_of_the_metrics(worker: tuple[DetectorMetrics, Heartbeat, str]) -> None:
    """Each figure is the sum that the worker counted, a dead worker is told as down, and rates follow the clock."""
    metrics, heartbeat, url = worker
    metrics.lag.labels("0").set(30)
    metrics.lag.labels("3").set(12)
    metrics.live_sessions.labels("0").set(5)
    metrics.assigned_partitions.set(2)
    metrics.dead_letters.labels(next(iter(Reason)).value).inc(4)
    metrics.alerts.labels(Decision.BLOCK.value).inc(3)
    metrics.events.labels("scored").inc(100)
    metrics.model.info({"name": "example", "version": "7"})
    metrics.alert_latency_seconds.observe(0.02)
    now_s = [0.0]

    async def twice() -> tuple[Figures, Figures]:
        async with httpx2.AsyncClient() as client:
            reader = WorkerReader([url, "http://user:secret@127.0.0.1:1/metrics"], client, lambda: now_s[0])
            before = await reader.read()
            heartbeat.ready = True
            metrics.events.labels("scored").inc(50)
            now_s[0] = 2.0
            return before, await reader.read()

    before, after = asyncio.run(twice())
    one, dead = after.workers
    assert (before.workers[0].ready, one.ready) == (False, True)
    assert (one.lag, one.live_sessions, one.partitions, one.dead_letters) == (42, 5, 2, 4)
    assert one.alerts[Decision.BLOCK.value] == 3
    assert (one.model["name"], one.model["version"]) == ("example", "7")
    assert (before.events_per_s, after.events_per_s) == (None, 25.0)
    assert after.history == [None, 25.0]
    assert after.latency_p50_ms == pytest.approx(17.5)  # the middle of its bucket, 10 to 25 ms
    assert (dead.up, dead.name) == (False, "127.0.0.1:1")  # the URL's password is told to nobody
    assert dead.detail


def test_since_when_a_breaker_is_open(worker: tuple[DetectorMetrics, Heartbeat, str]) -> None:
    """Since the first reading that showed one open, until one shows all closed; a worker that is silent says neither."""
    metrics, _, url = worker

    async def readings() -> list[int | None]:
        async with httpx2.AsyncClient() as client:
            reader, told = WorkerReader([url], client), []
            away = WorkerReader([], client)
            for is_open in (False, True, True, False):
                metrics.breaker_open.labels("0").set(is_open)
                told.append((await reader.read()).breaker_open_since_ms)
                reader._urls, urls = [url + "x"], reader._urls
                assert (await reader.read()).breaker_open_since_ms == told[-1]
                reader._urls = urls
            assert (await away.read()).breaker_open_since_ms is None
            return told

    before, opened, still, closed = asyncio.run(readings())
    assert (before, closed) == (None, None)
    assert opened is not None
    assert still == opened


def test_what_is_no_metrics_server_is_down(worker: tuple[DetectorMetrics, Heartbeat, str]) -> None:
    """A page that is not there, and one that is something else, are told as what they are."""
    url = worker[2]

    async def read() -> Figures:
        async with httpx2.AsyncClient() as client:
            return await WorkerReader([url + "x", url.replace("/metrics", "/healthz")], client).read()

    missing, other = asyncio.run(read()).workers
    assert (missing.up, missing.detail) == (False, "answered 404")
    assert not other.up


def test_a_rate_survives_restarts_and_absences() -> None:
    """A counter that fell began at 0 again; a worker that was away counts from its return."""
    readings = [
        (0.0, {"a": 100, "b": 10}),
        (1.0, {"a": 150}),
        (2.0, {"a": 20, "b": 70}),
        (4.0, {"a": 60, "b": 80}),
    ]
    assert rate(readings) == (50 + 20 + 40 + 10) / 4
    assert rate(readings[:1]) is None
    assert rate([]) is None


def test_quantiles_lie_evenly_in_their_bucket() -> None:
    """As `histogram_quantile` of Prometheus: linear within a bucket, the last finite bound beyond it."""
    histogram = merged([{0.1: 2, 0.2: 4, math.inf: 4}, {0.1: 0, 0.2: 4, math.inf: 6}])
    assert histogram == {0.1: 2, 0.2: 8, math.inf: 10}
    assert quantile_ms(histogram, 0.5) == pytest.approx(150)
    assert quantile_ms(histogram, 0.1) == pytest.approx(50)
    assert quantile_ms(histogram, 0.99) == pytest.approx(200)
    assert quantile_ms({}, 0.5) is None
    assert quantile_ms({0.1: 0, math.inf: 0}, 0.5) is None
