"""Areas, recalls and F1, against scikit-learn's and against their definitions."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from trainer.evaluation.curves import Curve, Ranking
from trainer.evaluation.thresholds import threshold_for

BASE_RATES = st.sampled_from([0.001, 0.1, 0.5])


class Drawn(NamedTuple):
    """Examples of both kinds, scores with many ties, and how often each counts."""

    labels: NDArray[np.bool_]
    scores: NDArray[np.float32]
    weights: NDArray[np.float64]

    def curve(self, base_rate: float) -> Curve:
        """What each score catches, examples counted as often as they weigh."""
        return Ranking.of(self.labels, self.scores).curve(base_rate, self.weights)

    def at(self, base_rate: float) -> NDArray[np.float64]:
        """Weights with which attacks are so common."""
        attacks, lawful = self.weights[self.labels].sum(), self.weights[~self.labels].sum()
        odds = (1 - base_rate) / base_rate * attacks / lawful
        return self.weights * np.where(self.labels, 1, odds)


@st.composite
def drawn(draw: st.DrawFn) -> Drawn:
    """Two to thirty examples."""
    labels = draw(
        st.lists(st.booleans(), min_size=2, max_size=30).filter(lambda some: 0 < sum(some) < len(some))
    )
    scores = [draw(st.sampled_from([0.0, 0.1, 0.5, 0.8, 0.9, 1.0])) for _ in labels]
    weights = [draw(st.integers(1, 4)) for _ in labels]
    return Drawn(np.array(labels), np.array(scores, np.float32), np.array(weights, np.float64))


@given(drawn=drawn(), base_rate=BASE_RATES)
def test_areas_are_those_of_scikit_learn(drawn: Drawn, base_rate: float) -> None:
    """With examples counted as often as they weigh, and lawful ones weighed to the base rate."""
    curve = drawn.curve(base_rate)
    labels, scores, weights = drawn
    assert curve.roc_auc() == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights))
    expected = average_precision_score(labels, scores, sample_weight=drawn.at(base_rate))
    assert curve.pr_auc() == pytest.approx(expected)


@given(drawn=drawn(), base_rate=BASE_RATES)
def test_f1_is_that_of_scikit_learn_at_every_threshold(drawn: Drawn, base_rate: float) -> None:
    """The best one is the highest of them, and its threshold reaches it; so for the mean over both kinds."""
    curve, weights = drawn.curve(base_rate), drawn.at(base_rate)
    plain, macro = (
        [
            f1_score(drawn.labels, drawn.scores >= one, average=how, sample_weight=weights, zero_division=0)
            for one in curve.thresholds
        ]
        for how in ("binary", "macro")
    )
    assert curve.f1.tolist() == pytest.approx(plain)
    assert curve.macro_f1.tolist() == pytest.approx(macro)
    best, threshold = curve.best_f1()
    assert best == pytest.approx(max(plain))
    assert plain[curve.thresholds.tolist().index(threshold)] == pytest.approx(best)


@given(drawn=drawn(), rate=st.sampled_from([0.01, 0.1, 0.3, 1.0]))
def test_a_recall_keeps_its_budget(drawn: Drawn, rate: float) -> None:
    """It is the share of attacks that reach the threshold which the same budget would choose."""
    curve = Ranking.of(drawn.labels, drawn.scores).curve(0.5)
    lawful, attacks = drawn.scores[~drawn.labels], drawn.scores[drawn.labels]
    threshold = threshold_for(lawful, rate)
    if lawful.max() < 1 and rate < 1:  # no threshold is above a score of 1, or takes in a score of 0
        assert curve.recall_at(rate) == pytest.approx((attacks >= threshold).mean())


@given(drawn=drawn())
def test_more_false_alarms_never_catch_less(drawn: Drawn) -> None:
    """Recall rises with the budget."""
    recalls = [drawn.curve(0.5).recall_at(rate) for rate in (1e-4, 1e-2, 0.3, 1.0)]
    assert recalls == sorted(recalls)


@given(drawn=drawn(), count=st.integers(1, 40))
def test_the_first_few_hold_so_many_attacks(drawn: Drawn, count: int) -> None:
    """Precision and recall of the highest are those of all orders that the scores allow, on average."""
    curve = Ranking.of(drawn.labels, drawn.scores).curve(0.5)
    precision, recall = curve.first(count)
    hits, left = 0.0, count
    for score in sorted(set(drawn.scores.tolist()), reverse=True):
        alike = drawn.labels[drawn.scores == np.float32(score)]
        hits += alike.mean() * min(left, len(alike))
        left -= min(left, len(alike))
    assert recall == pytest.approx(hits / drawn.labels.sum())
    assert precision == pytest.approx(hits / min(count, len(drawn.labels)))
