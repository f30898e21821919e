"""The workers' figures, read from their metrics as Prometheus would read them."""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import httpx2
import msgspec

from detector.console.conditions import Condition, Rises, conditions
from detector.console.workers import Worker, read_worker

EVERY_S = 2.0
HISTORY = 150
"""Readings kept for the chart: five minutes."""
_RATE_OVER = 5
"""Readings that a rate is taken over: a worker counts whole batches, so that two of them alone would jump."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Of all workers together.

    Attributes:
        at_ms: when they were read.
        workers: one for each URL given; none: none was given.
        events_per_s: committed lately; None until it can be told.
        latency_p50_ms: of the deciding event on the broker to its alert committed, since the workers' start.
        latency_p99_ms: the same.
        history: events_per_s, the oldest first, EVERY_S apart.
        conditions: what is wrong, the worst first.
        breaker_open_since_ms: when this console first saw a circuit breaker open that it has not seen closed since.
    """

    at_ms: int
    workers: list[Worker]
    events_per_s: float | None
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    history: list[float | None]
    conditions: list[Condition]
    breaker_open_since_ms: int | None = None


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
        self._waiting: deque[bool] = deque(maxlen=_RATE_OVER + 1)
        self._rises = Rises()
        self._open_since_ms: int | None = None
        self._history: deque[float | None] = deque(maxlen=HISTORY)

    async def read(self) -> Figures:
        """Ask every worker, and put the answers together."""
        readings = await asyncio.gather(*(read_worker(url, self._client) for url in self._urls))
        now_s, now_ms = self._clock_s(), time.time_ns() // 1_000_000
        workers = [reading.worker for reading in readings]
        up = [one for one in workers if one.up]
        self._counted.append((now_s, {one.name: one.events for one in up}))
        self._history.append(rate(self._counted))
        self._waiting.append(any(one.lag for one in up))
        waiting = len(self._waiting) > _RATE_OVER and all(self._waiting)
        if any(one.breakers_open for one in up):
            self._open_since_ms = self._open_since_ms or now_ms
        elif up:  # who does not answer says nothing of it
            self._open_since_ms = None
        latency = merged(reading.latency for reading in readings)
        return Figures(
            at_ms=now_ms,
            workers=workers,
            events_per_s=self._history[-1],
            latency_p50_ms=quantile_ms(latency, 0.5),
            latency_p99_ms=quantile_ms(latency, 0.99),
            history=list(self._history),
            conditions=conditions(
                workers,
                stands_still=waiting and self._history[-1] == 0,
                refused=self._rises.lately(up, "refused_models", now_s),
                lost=self._rises.lately(up, "lost_events", now_s),
            ),
            breaker_open_since_ms=self._open_since_ms,
        )


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
