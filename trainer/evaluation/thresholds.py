"""Scores that block: by a budget of false alarms, or by costs."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_LOWEST: Final = float(np.nextafter(np.float32(0), np.float32(1)))


def threshold_for(lawful: NDArray[np.float32], false_alarm_rate: float) -> float:
    """Return the lowest threshold at which at most `false_alarm_rate` of lawful sessions raise an alarm.

    Args:
        lawful: highest score of each lawful session, shape (sessions,).
        false_alarm_rate: above 0.

    Returns:
        just above the score of the first session that must not raise one; at most 1.
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


def threshold_of_best_f1(highest: NDArray[np.float32], labels: NDArray[np.float32]) -> float:
    """Return the threshold with the best F1 on some sessions, midway between the logits that it lies between."""
    order = np.argsort(-highest, kind="stable")
    scores, caught = np.clip(highest[order].astype(np.float64), 1e-7, 1 - 1e-7), np.cumsum(labels[order] == 1)
    is_last = np.append(np.diff(scores) != 0, [True])
    f1 = np.where(is_last, 2 * caught / (np.arange(1, len(scores) + 1) + caught[-1]), 0)
    best = int(np.argmax(f1))
    logits = np.log(scores) - np.log1p(-scores)
    below = logits[best + 1] if best + 1 < len(scores) else logits[best] - 1
    return float(1 / (1 + np.exp(-(logits[best] + below) / 2)))
