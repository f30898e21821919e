"""The workers' figures, read from their metrics as Prometheus would read them."""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2
import msgspec
from prometheus_client.parser import text_string_to_metric_families

EVERY_S = 2.0
TIMEOUT_S = 2.0
HISTORY = 150
"""Readings kept for the chart: five minutes."""
_RATE_OVER = 5
"""Readings that a rate is taken over: a worker counts whole batches, so that two of them alone would jump."""


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker says of itself.

    Attributes:
        name: host and port of its metrics.
        up: it answered.
        ready: it is in the group; None where it can't be asked.
        model: labels of `detector_model_info`.
        partitions: that it holds.
        lag: input records it has not read yet.
        events: input records it has committed, since its start.
        live_sessions: in its memory.
        detail: why it did not answer.
    """

    name: str
    up: bool
    ready: bool | None = None
    model: dict[str, str] = {}
    partitions: int = 0
    lag: int = 0
    events: int = 0
    alerts: dict[str, int] = {}
    dead_letters: int = 0
    suppressed: int = 0
    live_sessions: int = 0
    recoveries: int = 0
    detail: str = ""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Of all workers together.

    Attributes:
        at_ms: when they were read.
        workers: one for each URL given; none: none was given.
        events_per_s: committed lately; None until it can be told.
        latency_p50_ms: of the deciding event on the broker to its alert committed, since the workers' start.
        latency_p99_ms: the same.
        history: events_per_s, the oldest first, EVERY_S apart.
    """

    at_ms: int
    workers: list[Worker]
    events_per_s: float | None
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    history: list[float | None]


class Reading(msgspec.Struct, frozen=True):
    """One worker's state and its latency histogram: observations at or below each bound, in seconds."""

    worker: Worker
    latency: dict[float, float] = {}


class WorkerReader:
    """Reads all workers and remembers how their counters went.

    Args:
        urls: of their /metrics.
        client: to read with.
        clock_s: monotonic, for rates.
    """

    def __init__(
        self, urls: Sequence[str], client: httpx2.AsyncClient, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._urls = urls
        self._client = client
        self._clock_s = clock_s
        self._counted: deque[tuple[float, dict[str, int]]] = deque(maxlen=_RATE_OVER + 1)
        self._history: deque[float | None] = deque(maxlen=HISTORY)

    async def read(self) -> Figures:
        """Ask every worker, and put the answers together."""
        readings = await asyncio.gather(*map(self._ask, self._urls))
        workers = [reading.worker for reading in readings]
        self._counted.append((self._clock_s(), {one.name: one.events for one in workers if one.up}))
        self._history.append(rate(self._counted))
        latency = merged(reading.latency for reading in readings)
        return Figures(
            at_ms=time.time_ns() // 1_000_000,
            workers=workers,
            events_per_s=self._history[-1],
            latency_p50_ms=quantile_ms(latency, 0.5),
            latency_p99_ms=quantile_ms(latency, 0.99),
            history=list(self._history),
        )

    async def _ask(self, url: str) -> Reading:
        name = urlsplit(url).netloc.rpartition("@")[2]  # without the password that a URL may hold
        try:
            answer = await self._client.get(url)
            answer.raise_for_status()
            samples = [
                one for family in text_string_to_metric_families(answer.text) for one in family.samples
            ]
            ready = (await self._client.get(urljoin(url, "readyz"))).status_code
        except httpx2.HTTPStatusError as error:
            return Reading(Worker(name=name, up=False, detail=f"answered {error.response.status_code}"))
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            return Reading(Worker(name=name, up=False, detail=type(error).__name__))
        except ValueError:
            return Reading(Worker(name=name, up=False, detail="answered something other than metrics"))
        return _reading(name, {200: True, 503: False}.get(ready), samples)


def _reading(name: str, ready: bool | None, samples: Sequence[Any]) -> Reading:  # noqa: FBT001
    def total(metric: str, **labels: str) -> int:
        return int(sum(s.value for s in samples if s.name == metric and labels.items() <= s.labels.items()))

    worker = Worker(
        name=name,
        up=True,
        ready=ready,
        model=next((dict(s.labels) for s in samples if s.name == "detector_model_info"), {}),
        partitions=total("detector_assigned_partitions"),
        lag=total("detector_lag_events"),
        events=total("detector_events_total"),
        alerts={s.labels["decision"]: int(s.value) for s in samples if s.name == "detector_alerts_total"},
        dead_letters=total("detector_dead_letters_total"),
        suppressed=total("detector_suppressed_total"),
        live_sessions=total("detector_live_sessions"),
        recoveries=total("detector_recoveries_total"),
    )
    buckets = [s for s in samples if s.name == "detector_alert_latency_seconds_bucket"]
    return Reading(worker, {float(one.labels["le"]): one.value for one in buckets})


def rate(counted: Sequence[tuple[float, Mapping[str, int]]]) -> float | None:
    """Return the events a second over readings of (time in seconds, events by worker); None for less than two.

    A worker that was not there counts as still; one whose counter fell has begun anew, at 0, as in Prometheus.
    """
    if len(counted) < 2:  # noqa: PLR2004  a rate lies between two
        return None
    done = 0
    for (_, before), (_, after) in itertools.pairwise(counted):
        for name, events in after.items():
            if name in before:
                done += events - before[name] if events >= before[name] else events
    elapsed_s = counted[-1][0] - counted[0][0]
    return done / elapsed_s if elapsed_s > 0 else None


def merged(histograms: Iterable[Mapping[float, float]]) -> dict[float, float]:
    """Add histograms of the same bounds."""
    total: dict[float, float] = {}
    for one in histograms:
        for bound, count in one.items():
            total[bound] = total.get(bound, 0.0) + count
    return total


def quantile_ms(histogram: Mapping[float, float], share: float) -> float | None:
    """Estimate a quantile as Prometheus' `histogram_quantile` does: even within a bucket; None if it is empty.

    Args:
        histogram: observations at or below each bound, in seconds; the last bound is infinite.
        share: 0 to 1.
    """
    bounds = sorted(histogram)
    if not bounds or not histogram[bounds[-1]]:
        return None
    wanted = share * histogram[bounds[-1]]
    low_s, below = 0.0, 0.0
    for bound_s in bounds:
        upto = histogram[bound_s]
        if upto >= wanted:
            if bound_s == float("inf"):
                return low_s * 1000
            inside = (wanted - below) / (upto - below) if upto > below else 1.0
            return (low_s + (bound_s - low_s) * inside) * 1000
        low_s, below = bound_s, upto
    return None
