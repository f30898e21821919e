"""What each threshold catches and alarms: the areas, recalls and F1 that follow from it."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.intervals import Weights

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Examples from the highest score down.

    Attributes:
        scores: the different ones, falling.
        order: shape (examples,); the examples by score.
        ends: the last place in `order` of each score.
        attacks: shape (examples,), in that order; 1 for an attack.
    """

    scores: NDArray[np.float32]
    order: NDArray[np.int64]
    ends: NDArray[np.int64]
    attacks: Column

    @classmethod
    def of(cls, labels: NDArray[np.bool_], scores: NDArray[np.float32]) -> Self:
        """Rank examples."""
        order = np.argsort(-scores, kind="stable")
        falling = scores[order]
        ends = np.flatnonzero(np.append(np.diff(falling) != 0, [True]))
        return cls(falling[ends], order, ends, labels[order].astype(np.float64))

    def curve(self, base_rate: float, weights: Weights | None = None) -> "Curve":
        """Return what each score catches as a threshold, examples counted as often as they weigh."""
        counted = np.ones(len(self.order)) if weights is None else weights[self.order]
        caught = np.cumsum(counted * self.attacks)[self.ends]
        alarmed = np.cumsum(counted)[self.ends] - caught
        return Curve.at(base_rate, self.scores, caught, alarmed)


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Attacks caught and lawful examples alarmed, at each threshold from the highest down.

    Attributes:
        thresholds: falling.
        caught: attacks at or above each; the last is all of them.
        alarmed: lawful ones at or above each; the last is all of them.
        odds: what a lawful example weighs beside an attack, at the base rate.
    """

    thresholds: NDArray[np.float32]
    caught: Column
    alarmed: Column
    odds: float

    @classmethod
    def at(cls, base_rate: float, thresholds: NDArray[np.float32], caught: Column, alarmed: Column) -> Self:
        """Return the curve at a base rate."""
        odds = (1 - base_rate) / base_rate * caught[-1] / max(alarmed[-1], 1e-9)
        return cls(thresholds, caught, alarmed, float(odds))

    @property
    def recall(self) -> Column:
        """Share of attacks caught."""
        share: Column = self.caught / self.caught[-1]
        return share

    @property
    def false_alarms(self) -> Column:
        """Share of lawful examples alarmed."""
        share: Column = self.alarmed / self.alarmed[-1]
        return share

    @property
    def precision(self) -> Column:
        """Share of attacks among what is flagged, at the base rate."""
        share: Column = self.caught / np.maximum(self.caught + self.odds * self.alarmed, 1e-12)
        return share

    @property
    def f1(self) -> Column:
        """Harmonic mean of precision and recall."""
        mean: Column = 2 * self.caught / (self.caught + self.odds * self.alarmed + self.caught[-1])
        return mean

    @property
    def macro_f1(self) -> Column:
        """Mean of the F1 of attacks and the F1 of lawful examples."""
        allowed = self.odds * (self.alarmed[-1] - self.alarmed)
        missed = self.caught[-1] - self.caught + self.odds * self.alarmed
        mean: Column = (self.f1 + 2 * allowed / np.maximum(2 * allowed + missed, 1e-12)) / 2
        return mean

    def roc_auc(self) -> float:
        """Area under the ROC curve: how often an attack scores above a lawful example, ties counting half.

        scikit-learn's roc_auc_score, by trapezoids (Hanley and McNeil 1982).
        """
        recall, false_alarms = (np.append([0.0], one) for one in (self.recall, self.false_alarms))
        return float((np.diff(false_alarms) * (recall[1:] + recall[:-1]) / 2).sum())

    def pr_auc(self) -> float:
        """Average precision: precision at each recall, no interpolation, which would flatter (Davis and Goadrich 2006).

        scikit-learn's average_precision_score, with lawful examples weighed to the base rate.
        """
        return float((np.diff(self.recall, prepend=0) * self.precision).sum())

    def recall_at(self, false_alarm_rate: float) -> float:
        """Return the most that is caught while at most so many lawful examples are alarmed."""
        last = int(np.searchsorted(self.alarmed, int(self.alarmed[-1] * false_alarm_rate), side="right"))
        return float(self.recall[last - 1]) if last else 0.0

    def best_f1(self) -> tuple[float, float]:
        """Return the highest F1 and its threshold."""
        best = int(np.argmax(self.f1))
        return float(self.f1[best]), float(self.thresholds[best])

    def f1_at(self, threshold: float) -> float:
        """Return the F1 at a threshold."""
        reached = int(np.searchsorted(-self.thresholds, -np.float32(threshold), side="right"))
        return float(self.f1[reached - 1]) if reached else 0.0

    def first(self, count: int) -> tuple[float, float]:
        """Return precision and recall of the `count` highest; equal scores, where only some fit, as on average."""
        flagged = np.append([0.0], self.caught + self.alarmed)
        hits = float(np.interp(count, flagged, np.append([0.0], self.caught)))
        return hits / min(count, float(flagged[-1])), hits / float(self.caught[-1])
