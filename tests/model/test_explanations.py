"""Explanations by the real scorer: the same bits however they are computed, and estimates close to exact values."""

import itertools
import math
import uuid

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.contract.alerts import Alert
from detector.core import explaining
from detector.core.decision import Policy
from detector.core.encoding import Encoding
from detector.core.explaining import EXACT_ACTIONS, Explanation, Score, explain
from detector.core.partition import Partition
from detector.core.staging import Entry, SessionLimits
from detector.model.artifact import load_model, packaged_model_path
from detector.model.scorer import Scorer
from producer.behaviour import seed
from producer.behaviour.interleave import interleave, schedule
from producer.behaviour.session import stream
from tests.core.strategies import alerts_of, pipeline
from tests.model.models import VOCABULARY, random_weights
from trainer.export import build_graph

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

    def bits(explanation: Explanation) -> str:
        return repr(explanation)  # of floats, repr gives digits enough to tell any two apart

    for window in WINDOWS:
        explanation = explain(window, ENCODING, score, uuid.UUID(int=1))
        assert bits(explain(window, ENCODING, in_parts, uuid.UUID(int=1))) == bits(explanation)
        assert 0 < explanation.baseline < 1
        assert math.fsum(explanation.values) == pytest.approx(
            explanation.scores[-1] - explanation.baseline, abs=1e-12
        )


def test_the_packaged_model_explains_alike_in_every_batch() -> None:
    """Alerts of the packaged model, explanations included, are the same in batches of 1, 7 and all events."""
    model = load_model(packaged_model_path("seed"))
    sessions = schedule(iter(list(seed.sessions(330, 3))), live_sessions=20, rng=stream(1, "schedule"))
    log = [
        Entry(offset, event.occurred_at_ms, event)
        for offset, event in enumerate(interleave(sessions, start_ms=1_790_000_000_000))
    ]

    def alerts(batch_events: int) -> list[Alert]:
        run = pipeline(
            model.score, policy=Policy(model.threshold, model.reference), limits=SessionLimits(),
            encoding=model.encoding,
        )  # fmt: skip
        return alerts_of(run.over(Partition(), log, ("actions", 0), batch_events))

    whole = alerts(len(log))
    assert whole
    for alert in whole:
        assert alert.scores[-1] == alert.score
        assert alert.baseline is not None
        total = math.fsum(one.value for one in alert.attributions)
        assert total == pytest.approx(alert.score - alert.baseline, abs=1e-12)
        assert alert.explanation
    assert repr(alerts(1)) == repr(alerts(7)) == repr(whole)


def test_estimates_are_off_by_little(score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an LSTM's score every value is estimated within 0.03, from an eighth of 16,384 coalitions."""
    rng = np.random.RandomState(5)
    windows = [ENCODING.steps(rng.choice(VOCABULARY, 14).tolist()) for _ in range(10)]
    estimated = [explain(window, ENCODING, score, uuid.UUID(int=at)) for at, window in enumerate(windows)]
    monkeypatch.setattr(explaining, "EXACT_ACTIONS", 14)
    exact = [explain(window, ENCODING, score, uuid.UUID(int=at)) for at, window in enumerate(windows)]
    for one, other in zip(estimated, exact, strict=True):
        assert (one.exact, other.exact) == (False, True)
        assert one.values == pytest.approx(other.values, abs=0.03)


def test_windows_are_as_long_as_the_tests_need() -> None:
    """The windows above are of both kinds: explained exactly, and by an estimate."""
    lengths = [len(ENCODING.actions(window)) for window in WINDOWS]
    assert any(one <= EXACT_ACTIONS < other for one, other in itertools.pairwise(lengths))
