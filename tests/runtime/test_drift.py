"""Drift: told where traffic has changed, and not told where it has not."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Final

import msgspec
import pytest
import yaml
from kafka import TopicPartition
from prometheus_client import CollectorRegistry

from detector.contract.events import SessionAction, encode_event
from detector.core.drift import (
    LEAST_EVENTS,
    MUCH,
    RARE,
    RARE_FACTOR,
    RARE_LEAST_EVENTS,
    RARE_MORE,
    DriftWindow,
    Reference,
    Watched,
    drifted,
    measures,
)
from detector.model.artifact import Model, default_model_path, load_model
from detector.runtime.config import DetectorConfig
from detector.runtime.drift import Drift
from detector.runtime.processing import processor_of
from detector.runtime.replaying import LoggedLine, replay
from producer.behaviour.interleave import interleave
from producer.behaviour.lives import stream as lives
from producer.behaviour.lives.hours import DAY_MS
from producer.behaviour.lives.stream import LivesBehaviour
from producer.behaviour.session import SimulatedSession
from tests.deploy.compose import ROOT
from trainer.data.simulated import BEGIN_MS, after_warm_up, lived
from trainer.evaluation.scoring import score_with_model
from trainer.training.reference import reference_of

CUSTOMERS: Final = 800
WINDOW_MS: Final = 7 * DAY_MS
IDLE_MS: Final = 1_800_000

Change = Callable[[Iterator[tuple[int, SimulatedSession]]], Iterator[tuple[int, SimulatedSession]]]


@cache
def watched() -> tuple[Model, Watched]:
    """The packaged model, and its reference of lives never simulated below."""
    model = load_model(default_model_path())
    sessions = after_warm_up(lived(6_000, 77, LivesBehaviour(), ()), (), IDLE_MS)
    scored = score_with_model(model, sessions, IDLE_MS)
    return model, Watched(reference_of(scored, model.encoding, model.threshold, 0.0125), model.threshold)


def told(days: int, change: Change = iter, attack_rate: float = 0.01) -> set[str]:
    """Return what has drifted in a simulation, asked at the end of each day."""
    model, against = watched()
    simulated = lives.sessions(
        days=days,
        customers=CUSTOMERS,
        seed=5,
        start_ms=BEGIN_MS,
        behaviour=LivesBehaviour(attack_rate=attack_rate),
    )
    processor = processor_of(model, DetectorConfig(partitions=1, max_future_ms=0), watched=against)
    window, day, found = DriftWindow(WINDOW_MS), 0, set[str]()
    for one in replay(_batches(interleave(change(simulated), start_ms=BEGIN_MS)), processor):
        window.add(one.outcome.delta.stream_time_ms, one.outcome.tally)
        if (now := one.outcome.delta.stream_time_ms // DAY_MS) != day:
            day = now
            found |= set(_firing(window, against.reference))
    assert window.total.events >= RARE_LEAST_EVENTS, "too few to tell anything by"
    return found


def _batches(events: Iterable[SessionAction]) -> Iterator[dict[TopicPartition, list[LoggedLine]]]:
    lines = [
        LoggedLine("in", 0, offset, event.occurred_at_ms, event.account_id.encode(), encode_event(event))
        for offset, event in enumerate(events)
    ]
    for begin in range(0, len(lines), 1_000):
        yield {TopicPartition("in", 0): lines[begin : begin + 1_000]}


def _firing(window: DriftWindow, reference: Reference) -> list[str]:
    measured, expected = (
        dict(measures(window.total, reference)),
        {name: reference.shares[name][1] for name in RARE},
    )
    return drifted(measured, expected, window.total.events)


def other_screens(sessions: Iterator[tuple[int, SimulatedSession]]) -> Iterator[tuple[int, SimulatedSession]]:
    """A new app: it opens with the transactions, and the balance comes behind them."""
    swapped = {"VIEW_BALANCE": "VIEW_TRANSACTIONS", "VIEW_TRANSACTIONS": "VIEW_BALANCE"}
    for at_ms, session in sessions:
        actions = tuple(type(one)(swapped.get(one.value, one.value)) for one in session.actions)
        yield at_ms, msgspec.structs.replace(session, actions=actions)


def test_thirty_days_without_drift_are_quiet() -> None:
    """Other lives than those of the reference are no drift, on no day of thirty."""
    assert told(30) == set()


def test_another_order_of_screens_is_told() -> None:
    """As drift of actions one after the other, and of what the model makes of them."""
    assert told(9, other_screens) >= {"pairs", "scores"}


def test_a_wave_of_fraud_is_told() -> None:
    """As more scores that reach the threshold, which are too few to move a distribution."""
    assert "reached_threshold" in told(9, attack_rate=0.1)


def test_a_new_action_is_told() -> None:
    """Two events in a hundred are of an action that the model does not know: dead letters, counted all the same."""
    model, against = watched()
    sessions = list(lives.sessions(days=3, customers=CUSTOMERS, seed=6, start_ms=BEGIN_MS))
    lines = []
    for offset, event in enumerate(interleave(iter(sessions), start_ms=BEGIN_MS)):
        value = msgspec.json.decode(encode_event(event))
        if offset % 50 == 0:
            value["action"] = "SCAN_CHEQUE"
        lines.append(LoggedLine("in", 0, offset, event.occurred_at_ms, b"k", msgspec.json.encode(value)))
    registry = CollectorRegistry()
    drift = Drift(registry)
    drift.watch(against, WINDOW_MS)
    processor = processor_of(model, DetectorConfig(partitions=1, max_future_ms=0), watched=against)
    for begin in range(0, len(lines), 500):
        for one in replay([{TopicPartition("in", 0): lines[begin : begin + 500]}], processor):
            drift.add(one)
    share = registry.get_sample_value("detector_drift_share", {"share": "unknown_actions"})
    assert share == pytest.approx(0.02, abs=0.002)
    assert registry.get_sample_value("detector_drift_expected_share", {"share": "unknown_actions"}) == 0


def test_unknown_actions_count_where_a_batch_has_no_others() -> None:
    """A quiet topic is read an event at a time: each that is dead-lettered for its action counts like any."""
    model, against = watched()
    registry = CollectorRegistry()
    drift = Drift(registry)
    drift.watch(against, WINDOW_MS)
    processor = processor_of(model, DetectorConfig(partitions=1), watched=against)
    actions = ["LOGIN", "SCAN_CHEQUE", "SCAN_CHEQUE", "LOGOUT"]
    values = [
        msgspec.json.encode(
            {
                "event_id": f"{at}",
                "session_id": "s",
                "account_id": "a",
                "action": one,
                "occurred_at_ms": BEGIN_MS + at,
            }
        )
        for at, one in enumerate(actions)
    ]
    batches = [
        {TopicPartition("in", 0): [LoggedLine("in", 0, at, BEGIN_MS + at, b"k", one)]}
        for at, one in enumerate(values)
    ]
    for processed in replay(batches, processor):
        drift.add(processed)
    assert registry.get_sample_value("detector_drift_share", {"share": "unknown_actions"}) == 0.5
    assert registry.get_sample_value("detector_drift_events") == len(actions)


def test_the_alert_rules_have_the_same_limits() -> None:
    """What the console calls drift, an alert rule does."""
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))["groups"]
    rules = {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}

    def numbers(rule: str) -> list[float]:
        return [float(one) for one in re.findall(r"\b\d+(?:\.\d+)?\b", rules[rule])]

    assert numbers("DetectorDrift") == [LEAST_EVENTS, MUCH]
    assert numbers("DetectorDriftOfShares") == [RARE_FACTOR, RARE_MORE, RARE_LEAST_EVENTS, 0]
