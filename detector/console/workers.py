"""One worker, as its metrics tell: read within a time and a size, whatever is at the address."""

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2
import msgspec
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_S = 2.0
MAX_BYTES = 4 * 1024 * 1024
"""A worker with a thousand partitions has a tenth of it."""

_OF_BLOCKS = {"window": "week", "decision": "BLOCK"}


class Shadow(msgspec.Struct, frozen=True, kw_only=True):
    """A challenger and where it judges otherwise than the model that decides, since the worker's start.

    Attributes:
        model: labels of `detector_shadow_model_info`.
        alerts: sessions that it would have blocked.
        scored: events that both have scored.
        only_champion: of them, those whose score reached the deciding model's threshold alone.
        only_challenger: of them, those whose score reached the challenger's threshold alone.
    """

    model: dict[str, str]
    alerts: int
    scored: int
    only_champion: int
    only_challenger: int


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """How far traffic of late lies from what the model was trained on, in one thing (ADR 0038).

    Attributes:
        of: a distribution, or a share that stands by itself.
        measure: the distribution's population stability index, or the share.
        expected: of a share, what it was in training; None of a distribution.
        beyond: more than the alert rules take for chance.
    """

    of: str
    measure: float
    expected: float | None
    beyond: bool


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker says of itself; what is counted is counted since its start.

    Attributes:
        name: host and port of its metrics.
        up: it answered.
        ready: it is in the group; None where it can't be asked.
        model: labels of `detector_model_info`.
        shadow: the challenger beside it, if there is one.
        partitions: that it holds.
        breakers_open: of them, those whose blocks are held back as challenges.
        on_probation: of them, those whose model is new to them, and not believed yet.
        step_ups: sessions that were asked for a second factor, by what came of it.
        lag: input records it has not read yet.
        events: input records it has committed.
        live_sessions: in its memory.
        refused_models: changed model files that it did not take.
        lost_events: input records that retention deleted before they were read.
        judged: sessions blocked in the last week, by model and by what they were found to be; NONE as long as nothing is.
        drift: of its traffic of late; empty if its model says nothing of its training.
        drift_events: that this rests on.
        detail: why it did not answer.
    """

    name: str
    up: bool
    ready: bool | None = None
    model: dict[str, str] = {}
    shadow: Shadow | None = None
    partitions: int = 0
    breakers_open: int = 0
    on_probation: int = 0
    step_ups: dict[str, int] = {}
    lag: int = 0
    events: int = 0
    alerts: dict[str, int] = {}
    dead_letters: int = 0
    suppressed: int = 0
    live_sessions: int = 0
    recoveries: int = 0
    refused_models: int = 0
    lost_events: int = 0
    judged: dict[str, dict[str, int]] = {}
    drift: list[Drift] = []
    drift_events: int = 0
    detail: str = ""


class Reading(msgspec.Struct, frozen=True):
    """One worker's state and its latency histogram: observations at or below each bound, in seconds."""

    worker: Worker
    latency: dict[float, float] = {}


async def read_worker(url: str, client: httpx2.AsyncClient, timeout_s: float = TIMEOUT_S) -> Reading:
    """Ask one worker; one that does not answer, or with something else, is down and says why.

    Args:
        url: of its /metrics.
        client: to read with.
        timeout_s: for all of it: a client's own limits begin anew with each byte.
    """
    name = urlsplit(url).netloc.rpartition("@")[2]  # without the password that a URL may hold
    try:
        async with asyncio.timeout(timeout_s):
            samples = await _samples(url, client)
            async with client.stream("GET", urljoin(url, "readyz")) as answer:  # its text is of no interest
                ready = answer.status_code
        return _reading(name, {200: True, 503: False}.get(ready), samples)
    except httpx2.HTTPStatusError as error:
        detail = f"answered {error.response.status_code}"
    except TimeoutError:
        detail = f"no answer in {timeout_s:g} s"
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        detail = type(error).__name__
    except (ValueError, OverflowError, KeyError):  # NaN and infinity are numbers to the parser
        detail = "answered something other than a detector's metrics"
    return Reading(Worker(name=name, up=False, detail=detail))


async def _samples(url: str, client: httpx2.AsyncClient) -> list[Any]:
    body = bytearray()
    async with client.stream("GET", url) as answer:
        answer.raise_for_status()
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES} bytes")
    return [one for family in text_string_to_metric_families(body.decode()) for one in family.samples]


def _reading(name: str, ready: bool | None, samples: Sequence[Any]) -> Reading:  # noqa: FBT001
    def total(metric: str, **labels: str) -> int:
        return int(sum(s.value for s in samples if s.name == metric and labels.items() <= s.labels.items()))

    def by(metric: str, label: str) -> dict[str, int]:
        return {s.labels[label]: int(s.value) for s in samples if s.name == metric}

    def info(metric: str) -> dict[str, str]:
        return next((dict(s.labels) for s in samples if s.name == metric), {})

    judged: dict[str, dict[str, int]] = {}
    for one in samples:
        if one.name == "detector_alerted_sessions" and _OF_BLOCKS.items() <= one.labels.items():
            judged.setdefault(one.labels["model"], {})[one.labels["verdict"]] = int(one.value)
    challenger = info("detector_shadow_model_info")  # without labels: none
    both, reached, below = "detector_shadow_scores_total", "reached", "below"
    shadow = Shadow(
        model=challenger,
        alerts=total("detector_shadow_alerts_total"),
        scored=total(both),
        only_champion=total(both, champion=reached, challenger=below),
        only_challenger=total(both, champion=below, challenger=reached),
    )
    worker = Worker(
        name=name,
        up=True,
        ready=ready,
        model=info("detector_model_info"),
        shadow=shadow if challenger else None,
        partitions=total("detector_assigned_partitions"),
        breakers_open=total("detector_breaker_open"),
        on_probation=total("detector_breaker_probation"),
        step_ups=by("detector_step_ups_total", "outcome"),
        lag=total("detector_lag_events"),
        events=total("detector_events_total"),
        alerts=by("detector_alerts_total", "decision"),
        dead_letters=total("detector_dead_letters_total"),
        suppressed=total("detector_suppressed_total"),
        live_sessions=total("detector_live_sessions"),
        recoveries=total("detector_recoveries_total"),
        refused_models=total("detector_model_reloads_total", outcome="refused"),
        lost_events=total("detector_lost_offsets_total"),
        judged=judged,
        drift=_drift(samples),
        drift_events=total("detector_drift_events"),
    )
    buckets = [s for s in samples if s.name == "detector_alert_latency_seconds_bucket"]
    return Reading(worker, {float(one.labels["le"]): one.value for one in buckets})


def _drift(samples: Sequence[Any]) -> list[Drift]:
    def found(metric: str, label: str) -> dict[str, float]:
        return {s.labels[label]: s.value for s in samples if s.name == metric}

    shares, expected = found("detector_drift_share", "share"), found("detector_drift_expected_share", "share")
    measures = found("detector_drift_index", "distribution") | shares
    beyond = found("detector_drifted", "of")
    return [
        Drift(of=of, measure=measure, expected=expected.get(of), beyond=bool(beyond.get(of)))
        for of, measure in measures.items()
    ]
