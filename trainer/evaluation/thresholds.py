"""Scores that block: by a budget of false alarms, or by costs."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.curves import Ranking

_LOWEST: Final = float(np.nextafter(np.float32(0), np.float32(1)))


def threshold_for(lawful: NDArray[np.float32], false_alarm_rate: float) -> float:
    """Return the lowest threshold at which at most `false_alarm_rate` of lawful sessions raise an alarm.

    Args:
        lawful: highest score of each lawful session, shape (sessions,).
        false_alarm_rate: above 0.

    Returns:
        just above the score of the first session that must not raise one; at most 1, where more raise one if more
        score 1.
    """
    allowed = int(len(lawful) * false_alarm_rate)
    if allowed >= len(lawful):
        return _LOWEST
    first_refused = np.float32(np.sort(lawful)[::-1][allowed])
    return float(min(np.nextafter(first_refused, np.float32(2)), np.float32(1)))


def threshold_of_least_cost(
    highest: NDArray[np.float32],
    labels: NDArray[np.float32],
    base_rate: float,
    cost_fn: float,
    cost_fp: float,
) -> float:
    """Return the threshold with the least expected cost a session: missed attacks and false alarms, by their costs.

    It is 1 where the cheapest is to block nobody.
    """
    attack = labels == 1
    candidates = np.append(np.unique(highest), np.inf)  # the last one blocks nobody
    attacks, lawful = np.sort(highest[attack]), np.sort(highest[~attack])
    missed = np.searchsorted(attacks, candidates) / len(attacks)
    alarms = 1 - np.searchsorted(lawful, candidates) / len(lawful)
    cost = base_rate * cost_fn * missed + (1 - base_rate) * cost_fp * alarms
    return float(np.clip(candidates[int(np.argmin(cost))], _LOWEST, 1))


def threshold_of_best_f1(
    highest: NDArray[np.float32], labels: NDArray[np.float32], base_rate: float | None = None
) -> float:
    """Return the threshold with the best F1, midway between the logits that it lies between.

    Lawful sessions are weighed to the base rate, if there is one.
    """
    attack = labels == 1
    clipped = np.clip(highest, np.float32(1e-7), np.float32(1 - 1e-7))
    curve = Ranking.of(attack, clipped).curve(float(attack.mean()) if base_rate is None else base_rate)
    return _between(curve.thresholds.astype(np.float64), int(np.argmax(curve.f1)))


def threshold_of_expected_f1(highest: NDArray[np.float32]) -> float:
    """Return the threshold with the best F1 by the scores alone, which must be probabilities.

    Where attacks are few, which of them score high is luck; how many there are to expect among the scores is less so. It
    lies at half of the F1 that it expects (Lipton, Elkan and Narayanaswamy 2014, "Thresholding Classifiers to Maximize F1
    Score").
    """
    scores = np.sort(np.clip(highest.astype(np.float64), 1e-7, 1 - 1e-7))[::-1]
    caught = np.cumsum(scores)
    last = np.append(scores[:-1] != scores[1:], np.True_)  # a threshold lies below all that score the same
    expected = np.where(last, 2 * caught / (np.arange(1, len(scores) + 1) + caught[-1]), 0)
    return _between(scores, int(np.argmax(expected)))


def _between(scores: NDArray[np.float64], best: int) -> float:
    """Return what lies midway, in logits, between a score and the next below; scores fall."""
    logits = np.append(np.log(scores) - np.log1p(-scores), -np.inf)
    below = max(logits[best + 1], logits[best] - 2)
    return float(1 / (1 + np.exp(-(logits[best] + below) / 2)))
