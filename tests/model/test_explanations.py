"""Explanations by the real scorer: the same bits however they are computed, and estimates close to exact values."""

import itertools
import math
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.contract.alerts import Alert
from detector.core import explaining, reasons
from detector.core.decision import Decided, Policy
from detector.core.encoding import STEP_BYTES, Encoding
from detector.core.explaining import EXACT_ACTIONS, Values, shapley_values
from detector.core.limits import SessionLimits
from detector.core.partition import Partition
from detector.core.reasons import Score
from detector.core.staging import Entry
from detector.model.artifact import PLAIN_MODELS, Model, load_model, packaged_model_path
from detector.model.scorer import Scorer
from producer.behaviour import realistic, seed
from producer.behaviour.interleave import interleave, schedule
from producer.behaviour.session import SimulatedSession, stream
from tests.core.strategies import alerts_of, pipeline
from tests.model.models import VOCABULARY, random_weights
from trainer.training.export import build_graph

WINDOW = 24
ENCODING = Encoding(VOCABULARY, WINDOW)
WINDOWS = [
    ENCODING.steps(np.random.RandomState(number).choice(VOCABULARY, count).tolist())
    for number, count in enumerate([1, 5, EXACT_ACTIONS, EXACT_ACTIONS + 1, WINDOW])
]


@pytest.fixture(scope="module")
def score() -> Score:
    """Score by an LSTM of random weights: sharper than a trained one, so that each bit of a sum shows."""
    return Scorer(build_graph(random_weights(3), WINDOW).SerializeToString()).score


@pytest.mark.parametrize("at_once", [1, 7, 512])
def test_the_bits_do_not_depend_on_how_many_windows_are_scored_at_once(score: Score, at_once: int) -> None:
    """Values, gaps and trace are the same, bit for bit, for any size of the scorer's batches."""

    def in_parts(windows: NDArray[np.void]) -> NDArray[np.float32]:
        starts = range(0, len(windows), at_once)
        return np.concatenate([score(windows[start : start + at_once]) for start in starts])

    def bits(explanation: Values) -> str:
        return repr(explanation)  # of floats, repr gives digits enough to tell any two apart

    for window in WINDOWS:
        explanation = shapley_values(window, ENCODING, score, uuid.UUID(int=1))
        assert bits(shapley_values(window, ENCODING, in_parts, uuid.UUID(int=1))) == bits(explanation)
        assert 0 < explanation.baseline < 1
        assert math.fsum(explanation.values) == pytest.approx(
            explanation.score - explanation.baseline, abs=1e-12
        )


def alerts_of_model(
    model: Model, sessions: Iterable[SimulatedSession], batch_events: int = 2_000, **more: Any
) -> list[Alert]:
    """Run the core over simulated sessions."""
    planned = schedule(iter(list(sessions)), live_sessions=20, rng=stream(1, "schedule"))
    log = [
        Entry(offset, event.occurred_at_ms, event)
        for offset, event in enumerate(interleave(planned, start_ms=1_790_000_000_000))
    ]
    run = pipeline(
        model.score, policy=Policy(model.threshold, model.reference), limits=SessionLimits(), encoding=model.encoding
    )  # fmt: skip
    return alerts_of(replace(run, **more).over(Partition(), log, ("actions", 0), batch_events))


@pytest.mark.parametrize("name", PLAIN_MODELS)
def test_the_packaged_models_give_the_same_reasons_in_every_batch(name: str) -> None:
    """Their alerts, reasons included, are the same in batches of 1, 7 and 2,000 events, bit for bit."""
    model = load_model(packaged_model_path(name))
    behaviour = realistic.RealisticBehaviour(attack_rate=0.1)
    sessions = list(seed.sessions(330, 3) if name == "seed" else realistic.sessions(330, 3, behaviour))
    whole = alerts_of_model(model, sessions)
    assert whole
    for alert in whole:
        assert alert.scores[-1] == alert.score
        assert alert.explanation
    assert (
        repr(alerts_of_model(model, sessions, 1)) == repr(alerts_of_model(model, sessions, 7)) == repr(whole)
    )


def test_reasons_agree_with_exact_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 500 alerts, at most 97 windows each: the first reason is the exact one in 90 %, of the first three in 99 %.

    Traffic is simulated, realistic. Beyond 13 actions the estimate from 8,192 coalitions stands for the exact values.
    """
    model = load_model(packaged_model_path("default"))
    windows: list[bytes] = []

    def keeping(decided: Decided) -> Decided:
        windows.extend(decided.windows)
        return decided

    sessions = realistic.sessions(8_000, 11, realistic.RealisticBehaviour(attack_rate=0.1))
    alerts_of_model(model, sessions, explain=keeping)
    assert len(windows) >= 500
    monkeypatch.setattr(explaining, "EXACT_ACTIONS", 13)
    monkeypatch.setattr(explaining, "MAX_COALITIONS", 2**13)
    places, costs = [], []
    for number, window in enumerate(windows[:500]):
        asked = reasons.windows_of(window, STEP_BYTES)
        answers = reasons.scored(asked, model.encoding, model.score)
        values = reasons.values_of(answers, len(model.encoding.actions(window)))
        exact = shapley_values(window, model.encoding, model.score, uuid.UUID(int=number)).values
        places.append(ranked(exact).index(ranked(values)[0]))
        costs.append(len(asked))
    assert max(costs) <= 97
    assert sum(place == 0 for place in places) >= 0.9 * len(places)
    assert sum(place < 3 for place in places) >= 0.99 * len(places)


def ranked(values: Sequence[float]) -> list[int]:
    """Return the places of the largest values, the weightiest first."""
    return sorted(range(len(values)), key=lambda at: -abs(values[at]))


def test_estimates_are_off_by_little(score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an LSTM's score every value is estimated within 0.03, from an eighth of 16,384 coalitions."""
    rng = np.random.RandomState(5)
    windows = [ENCODING.steps(rng.choice(VOCABULARY, 14).tolist()) for _ in range(10)]
    estimated = [
        shapley_values(window, ENCODING, score, uuid.UUID(int=at)) for at, window in enumerate(windows)
    ]
    monkeypatch.setattr(explaining, "EXACT_ACTIONS", 14)
    exact = [shapley_values(window, ENCODING, score, uuid.UUID(int=at)) for at, window in enumerate(windows)]
    for one, other in zip(estimated, exact, strict=True):
        assert (one.exact, other.exact) == (False, True)
        assert one.values == pytest.approx(other.values, abs=0.03)


def test_windows_are_as_long_as_the_tests_need() -> None:
    """The windows above are of both kinds: explained exactly, and by an estimate."""
    lengths = [len(ENCODING.actions(window)) for window in WINDOWS]
    assert any(one <= EXACT_ACTIONS < other for one, other in itertools.pairwise(lengths))
