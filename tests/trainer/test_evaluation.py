"""The figures of an evaluation, against their definitions."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trainer.evaluation.ranking import pr_auc, roc_auc

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
