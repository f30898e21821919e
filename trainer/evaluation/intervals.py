"""Intervals of 95 %: Wilson's for rates, Newcombe's for their differences and for areas, a bootstrap over accounts for the rest."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]
Interval = tuple[float, float]

_Z: Final = 1.959963984540054  # 97.5 % of a normal distribution lie below
_PERCENTILES: Final = (2.5, 97.5)
_DRAWS: Final = 400
_ROUNDING: Final = 1e-12
_DRAWN: Final = 40_000_000
"""Of very many examples fewer samples are drawn: so many examples in all, but no fewer samples than a hundred."""


class Estimate(msgspec.Struct, frozen=True):
    """A figure with its interval of 95 %."""

    value: float
    low: float
    high: float


def wilson(hits: float, of: float) -> Interval:
    """Return Wilson's score interval (1927) of a rate; wide, not empty, at 0 and at `of` hits, and all of 0 to 1 of none."""
    if of <= 0:
        return 0.0, 1.0
    share, spread = hits / of, _Z**2 / of
    half = _Z * sqrt(share * (1 - share) / of + spread / (4 * of))
    low, high = (share + spread / 2 - half) / (1 + spread), (share + spread / 2 + half) / (1 + spread)
    return min(max(0.0, low), share), max(min(1.0, high), share)


def exceeds(hits: float, of: float, others: float, of_others: float) -> bool:
    """Tell whether the interval of one rate less another, of other examples, lies above 0 (Newcombe 1998, method 10)."""
    first, second = hits / of, others / of_others
    return first - second > sqrt(
        (first - wilson(hits, of)[0]) ** 2 + (wilson(others, of_others)[1] - second) ** 2
    )


def area_interval(area: float, attacks: int, lawful: int) -> Interval:
    """Return the interval of an area under the ROC curve, not empty at 1: a score interval (Newcombe 2006, method 5).

    Its variance is that of Hanley and McNeil (1982), which counts how few the rarer kind are.
    """
    each = (attacks + lawful) / 2 - 1

    def holds(true: float) -> bool:
        alike = (1 - true) / (2 - true) + true / (1 + true)
        return abs(area - true) <= _Z * sqrt(true * (1 - true) * (1 + each * alike) / (attacks * lawful))

    ends = []
    for extreme in (0.0, 1.0):
        inside, outside = area, extreme
        for _ in range(50):  # halves what is left, to rounding
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if holds(middle) else (inside, middle)
        ends.append(inside)
    return ends[0], ends[1]


def newcombe(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Interval:
    """Return the interval of the second rate minus the first, of the same examples (Newcombe 1998, method 10)."""
    count = len(first)
    if not count:
        return -1.0, 1.0
    ours, theirs = float(first.mean()), float(second.mean())
    (low, high), (low_2, high_2) = wilson(ours * count, count), wilson(theirs * count, count)
    spread = sqrt(ours * (1 - ours) * theirs * (1 - theirs))
    agreement = float((first & second).mean()) - ours * theirs
    if agreement > 0:
        agreement = max(
            0.0, agreement - 1 / (2 * count)
        )  # or models that agree on all would differ by exactly 0
    alike = agreement / spread if spread else 0.0

    def side(one: float, other: float) -> float:
        return sqrt(max(0.0, one**2 - 2 * alike * one * other + other**2))

    difference = theirs - ours
    return (
        max(-1.0, difference - side(theirs - low_2, high - ours)),
        min(1.0, difference + side(high_2 - theirs, ours - low)),
    )


@dataclass(frozen=True, slots=True)
class Draws:
    """Samples with replacement (Efron 1979), of whole accounts, so that what one account does twice counts once.

    Accounts with an attack and accounts without are drawn each for themselves, and both kinds are in each sample. Two models on the same examples get the
    same samples: differences are paired.

    Attributes:
        labels: shape (examples,), True for an attack.
        groups: shape (examples,), whose each example is; examples of one are drawn together.
    """

    labels: NDArray[np.bool_]
    groups: NDArray[np.int64]

    def __iter__(self) -> Iterator[Weights]:
        """Yield how often each example is drawn, for each sample."""
        rng = np.random.RandomState(0)
        attacked = np.bincount(self.groups, self.labels) > 0
        sides = [np.flatnonzero(attacked), np.flatnonzero(~attacked)]
        wanted = min(_DRAWS, max(_DRAWS // 4, _DRAWN // len(self.labels)))
        while wanted:
            times = np.zeros(len(attacked))
            for side in sides:
                times[side] = np.bincount(rng.randint(0, max(1, len(side)), len(side)), minlength=len(side))
            weights: Weights = times[self.groups]
            if weights[self.labels].any() and weights[~self.labels].any():  # without a kind no figure is one
                wanted -= 1
                yield weights

    def interval(self, value: float, drawn: NDArray[np.float64], largest: float = 1.0) -> Interval:
        """Return the middle 95 % of a figure's samples; `largest` is what it can be.

        Where all samples are alike, as at an area of 1, they say nothing: the interval is then as wide as Wilson's for
        as many examples as the rarer kind has.
        """
        drawn = drawn[np.isfinite(drawn)]
        if tells(drawn):
            low, high = np.percentile(drawn, _PERCENTILES)
            return min(float(low), value), max(float(high), value)
        attacks = int(self.labels.sum())
        width = largest * wilson(0, min(attacks, len(self.labels) - attacks))[1]
        return value - width, value + width


def tells(drawn: NDArray[np.float64]) -> bool:
    """Whether a figure's samples differ by more than rounding."""
    return bool(np.isfinite(drawn).any()) and float(np.nanmax(drawn) - np.nanmin(drawn)) > _ROUNDING


def wider(one: Interval, other: Interval) -> Interval:
    """Return the interval that holds both."""
    return min(one[0], other[0]), max(one[1], other[1])
