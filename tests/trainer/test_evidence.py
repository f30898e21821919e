"""What adds up over a session's windows is fitted where it pays, and serving computes what was fitted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.core.evidence import Evidence
from trainer.training.evidence import Windows, fit_evidence, session_logits


def _windows(logits: list[NDArray[np.float64]], labels: list[int]) -> Windows:
    lengths = [len(one) for one in logits]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    is_attack = np.repeat(np.array(labels) == 1, lengths)
    return Windows(np.concatenate(logits), starts, starts, is_attack, np.ones(len(is_attack), np.bool_))


def _caught(windows: Windows, evidence: Evidence | None, false_alarms: float) -> float:
    highest = windows.highest(session_logits(windows.logits, windows.sittings, evidence))
    lawful = np.sort(highest[~windows.labels])[::-1]
    return float((highest[windows.labels] > lawful[int(len(lawful) * false_alarms)]).mean())


def _thin(seed: int, count: int = 400) -> Windows:
    """Each window says next to nothing, and all of them nearly all."""
    rng = np.random.RandomState(seed)
    labels = (np.arange(count) % 2).tolist()
    return _windows([rng.normal(0.2 * label - 1.1, 0.5, rng.randint(100, 800)) for label in labels], labels)


def test_thin_evidence_adds_up() -> None:
    """Where the highest window catches few attacks at 1 % false alarms a session, the sum catches nearly all."""
    evidence = fit_evidence(_thin(1), 0.5, 7).evidence
    assert evidence is not None
    assert _caught(_thin(2), None, 0.01) < 0.2
    assert _caught(_thin(2), evidence, 0.01) > 0.9
    assert evidence == fit_evidence(_thin(1), 0.5, 7).evidence


def test_what_a_window_says_whole_is_left_to_it() -> None:
    """Where one window of an attack says all, nothing is carried: a sum would add noise and cost."""
    rng = np.random.RandomState(3)
    labels = (np.arange(400) % 2).tolist()
    logits = [rng.normal(-4.0, 1.0, rng.randint(3, 12)) for _ in labels]
    for label, one in zip(labels, logits, strict=True):
        one[rng.randint(len(one))] += 7.0 * label
    assert fit_evidence(_windows(logits, labels), 0.5, 7).evidence is None


def test_few_sessions_fit_nothing() -> None:
    """With less than 20 of either kind nothing is carried."""
    assert fit_evidence(_thin(1, 38), 0.5, 7).evidence is None


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    floor=st.sampled_from([None, -2.0, -0.1, 0.0]),
    scale_actions=st.sampled_from([None, 5.0, 100.0]),
    seed=st.integers(0, 1_000),
)
def test_serving_computes_what_was_fitted(
    lengths: list[int], floor: float | None, scale_actions: float | None, seed: int
) -> None:
    """Over any sittings, what is fitted at once for all is what serving carries from action to action."""
    rng = np.random.RandomState(seed)
    scores = rng.uniform(0.01, 0.99, sum(lengths)).astype(np.float32)
    evidence = Evidence(
        window_weight=0.7, bias=-0.3, logit_weight=0.4, drift=0.05, floor=floor, scale_actions=scale_actions
    )
    sittings = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    exact = scores.astype(np.float64)
    together = session_logits(np.log(exact) - np.log1p(-exact), sittings, evidence)
    served = [
        score for part in np.split(scores, sittings[1:-1]) for score in evidence.session_scores(part.tolist())
    ]
    assert 1 / (1 + np.exp(-together)) == pytest.approx(served, abs=1e-6)
