"""The figures of an evaluation, against their definitions."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.core.encoding import Encoding
from trainer.evaluation.ranking import classify, first_block, pr_auc, roc_auc, serve
from trainer.training.seed_data import LabelledSession, prefixes

Labels = NDArray[np.float32]


@st.composite
def _scored(draw: st.DrawFn) -> tuple[Labels, Labels]:
    """Labels of both kinds, and scores with many ties."""
    truth = draw(
        st.lists(st.booleans(), min_size=2, max_size=40).filter(lambda some: 0 < sum(some) < len(some))
    )
    scores = [draw(st.sampled_from([0.0, 0.1, 0.5, 0.8, 0.9, 1.0])) for _ in truth]
    return np.array(truth, np.float32), np.array(scores, np.float32)


@given(_scored())
def test_roc_auc_is_the_share_of_pairs_in_order(scored: tuple[Labels, Labels]) -> None:
    """It equals the share of (attack, normal) pairs with the attack above, ties counting half."""
    truth, scores = scored
    differences = scores[truth == 1][:, np.newaxis] - scores[truth == 0]
    assert roc_auc(truth, scores) == pytest.approx(((differences > 0) + (differences == 0) / 2).mean())


@given(_scored())
def test_pr_auc_is_average_precision(scored: tuple[Labels, Labels]) -> None:
    """It equals the sum, over thresholds downwards, of the recall gained times the precision there."""
    truth, scores = scored
    expected, recall_before = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        flagged = scores >= threshold
        recall = truth[flagged].sum() / truth.sum()
        expected += (recall - recall_before) * truth[flagged].mean()
        recall_before = recall
    assert pr_auc(truth, scores) == pytest.approx(expected)


@pytest.mark.parametrize("figure", [roc_auc, pr_auc])
@pytest.mark.parametrize("label", [0, 1])
def test_one_kind_of_session_has_no_curve(figure: Callable[[Labels, Labels], float], label: int) -> None:
    """Labels of one kind only are an error, not a figure."""
    with pytest.raises(ValueError, match="expected some of both"):
        figure(np.full(3, label, np.float32), np.zeros(3, np.float32))


def test_classification_by_hand() -> None:
    """Two attacks of which one is caught, two normal sessions of which one is flagged at the threshold itself."""
    truth = np.array([1, 1, 0, 0], np.float32)
    figures = classify(truth, np.array([0.9, 0.1, 0.75, 0.2], np.float32), 0.75)
    assert (figures.accuracy, figures.precision, figures.recall) == (0.5, 0.5, 0.5)
    assert figures.roc_auc == 0.5


def test_precision_where_nothing_is_flagged() -> None:
    """No alert is no false alarm: precision 1 beside recall 0."""
    figures = classify(np.array([1, 0], np.float32), np.array([0.2, 0.1], np.float32), 0.8)
    assert (figures.precision, figures.recall) == (1.0, 0.0)


@given(
    lengths=st.lists(st.integers(1, 14), min_size=1, max_size=12),
    seed=st.integers(0, 1_000),
    threshold=st.sampled_from([0.3, 0.9, 0.99]),
)
def test_serving_figures_session_by_session(lengths: list[int], seed: int, threshold: float) -> None:
    """They equal those of a loop that scores each session action by action and stops at its block."""
    rng = np.random.RandomState(seed)
    sessions = [LabelledSession(("A",) * length, int(rng.randint(2)), "any") for length in lengths]
    every_prefix = prefixes(sessions, Encoding(["A"], 5))
    scores = rng.random_sample(sum(lengths)).astype(np.float32)
    truth = np.array([session.label for session in sessions], np.float32)

    false_alarms, blocked_at, remaining = 0, [], iter(scores.tolist())
    for session in sessions:
        own = [next(remaining) for _ in session.actions]
        hit = next((number for number, score in enumerate(own, start=1) if score >= threshold), None)
        assert first_block(np.array(own, np.float32), threshold) == (hit or 0)
        if hit and session.label:
            blocked_at.append(hit)
        false_alarms += bool(hit) and not session.label

    figures = serve(truth, every_prefix, scores, threshold)
    assert figures.false_alarms == false_alarms
    assert figures.caught == len(blocked_at)
    assert (figures.attacks, figures.normal_sessions) == (int(truth.sum()), int((truth == 0).sum()))
    assert figures.mean_actions_until_block == pytest.approx(np.mean(blocked_at) if blocked_at else 0)
