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
from detector.core.drift import RARE, DriftWindow, Reference, Watched, measures
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

RULES: Final = {
    rule["alert"]: rule["expr"]
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}
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


def fired(days: int, change: Change = iter, attack_rate: float = 0.01) -> dict[str, set[str]]:
    """Return the rules of drift that fire on a simulation, and of what, asked at the end of each day."""
    model, against = watched()
    simulated = lives.sessions(
        days=days,
        customers=CUSTOMERS,
        seed=5,
        start_ms=BEGIN_MS,
        behaviour=LivesBehaviour(attack_rate=attack_rate),
    )
    processor = processor_of(model, DetectorConfig(partitions=1, max_future_ms=0), watched=against)
    window, day, found = DriftWindow(WINDOW_MS), 0, dict[str, set[str]]()
    for one in replay(_batches(interleave(change(simulated), start_ms=BEGIN_MS)), processor):
        window.add(one.outcome.delta.stream_time_ms, one.outcome.tally)
        if (now := one.outcome.delta.stream_time_ms // DAY_MS) != day:
            day = now
            for rule, what in _firing(window, against.reference):
                found.setdefault(rule, set()).add(what)
    assert window.total.events >= max(_numbers("DetectorDriftOfShares")), "too few for the rules to speak"
    return found


def _batches(events: Iterable[SessionAction]) -> Iterator[dict[TopicPartition, list[LoggedLine]]]:
    lines = [
        LoggedLine("in", 0, offset, event.occurred_at_ms, event.account_id.encode(), encode_event(event))
        for offset, event in enumerate(events)
    ]
    for begin in range(0, len(lines), 1_000):
        yield {TopicPartition("in", 0): lines[begin : begin + 1_000]}


def _firing(window: DriftWindow, reference: Reference) -> Iterator[tuple[str, str]]:
    """Yield what the rules of alerts.yml say, by their own numbers."""
    least, index = _numbers("DetectorDrift")
    factor, more, least_rare, _ = _numbers("DetectorDriftOfShares")
    total = window.total
    for name, measure in measures(total, reference):
        if name in RARE:
            if total.events >= least_rare and measure > factor * reference.shares[name][1] + more:
                yield "DetectorDriftOfShares", name
        elif total.events >= least and measure > index:
            yield "DetectorDrift", name


def _numbers(rule: str) -> list[float]:
    return [float(one) for one in re.findall(r"(?<![\w])\d+(?:\.\d+)?(?![\w])", RULES[rule])]


def other_screens(sessions: Iterator[tuple[int, SimulatedSession]]) -> Iterator[tuple[int, SimulatedSession]]:
    """A new app: it opens with the transactions, and the balance comes behind them."""
    swapped = {"VIEW_BALANCE": "VIEW_TRANSACTIONS", "VIEW_TRANSACTIONS": "VIEW_BALANCE"}
    for at_ms, session in sessions:
        actions = tuple(type(one)(swapped.get(one.value, one.value)) for one in session.actions)
        yield at_ms, msgspec.structs.replace(session, actions=actions)


def test_thirty_days_without_drift_are_quiet() -> None:
    """Nothing of a rule fires on other lives than those of the reference, on no day of thirty."""
    assert fired(30) == {}


def test_another_order_of_screens_is_told() -> None:
    """As drift of actions one after the other."""
    assert "pairs" in fired(9, other_screens).get("DetectorDrift", set())


def test_a_wave_of_fraud_is_told() -> None:
    """As more scores that reach the threshold, which are too few to move a distribution."""
    found = fired(9, attack_rate=0.1)
    assert found["DetectorDriftOfShares"] == {"reached_threshold"}


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
