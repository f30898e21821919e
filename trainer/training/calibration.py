"""Calibration: logits that mean probabilities, and the score that blocks."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.sessions import LabelsOf
from trainer.evaluation.curves import Curve, Ranking
from trainer.evaluation.intervals import area_interval, exceeds
from trainer.evaluation.thresholds import (
    threshold_for,
    threshold_of_best_f1,
    threshold_of_expected_f1,
    threshold_of_least_cost,
)

DEFAULT_TARGET_FPR: Final = 1e-3
DEFAULT_CHALLENGE_FPR: Final = 1e-2
ALARMS_THAT_SHOW: Final = 10
"""False alarms that a budget should allow the validation part: of fewer, the next data has half or twice as many."""
WORSE_F1: Final = 0.05
"""What the default budget may cost in F1 before the best F1 is taken in its place."""
FEW_ATTACKS: Final = 60
"""Of fewer, which of them score high is luck: the scores themselves say better where the best F1 is."""
SAME_RATE: Final = 0.01
"""How near the base rate has to be to the validation part's own for its scores to be its probabilities."""
LEAST_GAIN: Final = 1.05
"""How many times the share of lawful examples that of attacks has to be: below, nearly everybody is blocked alike."""
_CONVERGED: Final = 1e-9
_RIDGE: Final = 1e-2
_NEWTON_STEPS: Final = 50


class TrainingError(RuntimeError):
    """The training gave no model worth writing."""


class Line(NamedTuple):
    """What makes probabilities of logits: slope * logit + shift."""

    slope: float = 1.0
    shift: float = 0.0


def fitted_line(
    logits: NDArray[np.float64], labels: NDArray[np.float64], weights: NDArray[np.float64]
) -> Line:
    """Fit Platt's scaling (1999) by Newton's method, with a little ridge on the slope towards 1.

    Args:
        logits: shape (n,), as are the others.
        labels: 1 for an attack, 0 otherwise.
        weights: their sum is the number of examples that the ridge is held against.
    """
    middle, scale = (
        float(logits.mean()),
        float(logits.std()) or 1.0,
    )  # else steep ones throw Newton's steps far off
    design = np.column_stack([(logits - middle) / scale, np.ones_like(logits)])
    ridge = np.array([_RIDGE / scale**2, 0.0])
    theta = np.zeros(2)
    for _ in range(_NEWTON_STEPS):
        risk = 1 / (1 + np.exp(-np.clip(design @ theta, -40, 40)))
        gradient = design.T @ (weights * (risk - labels)) + ridge * (theta - scale)
        curvature = weights * risk * (1 - risk) + 1e-9
        step = np.linalg.solve(
            (design * curvature[:, None]).T @ design + np.diag(ridge) + 1e-9 * np.eye(2), gradient
        )
        theta -= np.clip(step, -2, 2)
        if np.abs(step).max() < _CONVERGED:
            break
    slope = float(theta[0]) / scale
    return Line(slope, float(theta[1]) - slope * middle)


def calibrated_loss(
    logits: NDArray[np.float64], labels: NDArray[np.float64], weights: NDArray[np.float64]
) -> float:
    """Return the mean log loss of what calibration would make of some logits.

    A network that has grown too sure of itself ranks as well as before, and calibration cures it: training is not to
    be ended for it.
    """
    if not np.isfinite(logits).all():
        return np.inf  # it diverged
    total = float(weights.sum())
    share = float((weights * labels).sum()) / total
    chance = -sum(one * np.log(one) for one in (share, 1 - share) if one > 0)
    line = fitted_line(logits, labels, weights * (len(weights) / total))
    calibrated = line.slope * logits + line.shift
    loss = float((weights * (np.logaddexp(0, calibrated) - labels * calibrated)).sum()) / total
    return loss if line.slope > 0 and loss < chance else float(chance)


def calibrate(highest: NDArray[np.float32], labels: NDArray[np.float32], base_rate: float) -> Line:
    """Fit the line that makes the logits of sessions' highest scores probabilities at a base rate.

    Sessions and not prefixes, since it is a session's highest score that is compared with the threshold.

    Raises:
        TrainingError: attacks do not score above lawful sessions.
    """
    attack = labels == 1
    weight = np.where(attack, base_rate / attack.sum(), (1 - base_rate) / (~attack).sum()) * len(labels)
    line = fitted_line(logits_of(highest), attack.astype(np.float64), weight)
    if not line.slope > 0:
        raise TrainingError(
            f"the calibration has slope {line.slope:.3g}: expected attacks to score above lawful sessions on the "
            "validation part; give more data, or train longer"
        )
    return line


def logits_of(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the logits of scores."""
    clipped = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    return np.log(clipped) - np.log1p(-clipped)


class Wanted(NamedTuple):
    """What decides the threshold: itself, costs, or a budget.

    Attributes:
        threshold: given.
        cost_fn: of a missed attack, in any unit.
        cost_fp: of a false alarm, in the same.
        target_fpr: share of lawful sessions that may raise an alarm in their life. None is DEFAULT_TARGET_FPR where
            the validation part can show it and its F1 is near the best, and the best F1 there otherwise.
    """

    threshold: float | None = None
    cost_fn: float | None = None
    cost_fp: float | None = None
    target_fpr: float | None = None


class Chosen(NamedTuple):
    """A threshold, what it makes of the validation part, and in words how it was chosen."""

    threshold: float
    by: str
    lawful: int
    false_alarm_rate: float
    recall: float
    told: str


def choose_threshold(
    wanted: Wanted,
    highest: NDArray[np.float32],
    labels: NDArray[np.float32],
    base_rate: float,
    unit: LabelsOf = "session",
) -> Chosen:
    """Choose the threshold by the validation part's examples, of sessions by their highest scores.

    Raises:
        TrainingError: it would block nobody, or nearly everybody, or whom chance would, where neither the threshold nor
            costs were given.
    """
    attack = labels == 1
    lawful = highest[~attack]
    least = 1 / len(lawful)
    curve = Ranking.of(attack, highest).curve(base_rate)
    told = ""
    if wanted.threshold is not None:
        by, threshold = "given", wanted.threshold
    elif wanted.cost_fn is not None and wanted.cost_fp is not None:
        by = "cost"
        threshold = threshold_of_least_cost(highest, labels, base_rate, wanted.cost_fn, wanted.cost_fp)
    elif wanted.target_fpr is None and len(lawful) * DEFAULT_TARGET_FPR < ALARMS_THAT_SHOW:
        few = attack.sum() < FEW_ATTACKS and abs(base_rate - attack.mean()) < SAME_RATE
        threshold = (
            threshold_of_expected_f1(highest) if few else threshold_of_best_f1(highest, labels, base_rate)
        )
        by = "expected_f1" if few else "f1"
        told = (
            f"{len(lawful):,} lawful validation {unit}s are too few to show {DEFAULT_TARGET_FPR:.2%} false alarms, of which "
            f"they would have {len(lawful) * DEFAULT_TARGET_FPR:.4g}, not {ALARMS_THAT_SHOW}: the threshold is that of the best F1 "
            f"{'that their scores let expect' if few else 'there'}; "
            "--target-fpr asks for another"
        )
    else:
        by, asked = "target_fpr", wanted.target_fpr or DEFAULT_TARGET_FPR
        threshold = threshold_for(lawful, max(asked, least))
        alarmed = float((lawful >= threshold).mean())
        if alarmed > max(asked, least):
            told = (
                f"{asked:.2%} false alarms cannot be kept to: {round(alarmed * len(lawful)):,} of {len(lawful):,} lawful "
                f"validation {unit}s score 1, as high as a threshold can be, and alarm ({alarmed:.2%})"
            )
        elif asked < least:
            told = (
                f"{len(lawful):,} lawful validation {unit}s cannot show {asked:.2%} false alarms: the nearest that "
                f"they can, {least:.2%}, was taken"
            )
        best = threshold_of_best_f1(highest, labels, base_rate)
        if wanted.target_fpr is None and (reached := curve.f1_at(threshold)) < curve.f1_at(best) - WORSE_F1:
            told = (
                f"{DEFAULT_TARGET_FPR:.2%} false alarms give an F1 of {reached:.2f} on validation, where "
                f"{curve.f1_at(best):.2f} can be had: the threshold is that of the best F1; --target-fpr asks for another"
            )
            by, threshold = "f1", best
    false, caught = float((lawful >= threshold).mean()), float((highest[attack] >= threshold).mean())
    if by == "cost" and not false + caught:
        told = f"the cheapest is to block nobody, at a threshold of {threshold:.6g}: a false alarm costs too much, or a miss too little"
    chosen = Chosen(threshold, by, len(lawful), false, caught, told)
    if told_by_chance := _by_chance(chosen, curve, unit):
        if by not in {"given", "cost"}:
            raise TrainingError(told_by_chance)
        chosen = chosen._replace(told=told or told_by_chance)
    return chosen


def choose_challenge_threshold(
    asked: float | None,
    chosen: Chosen,
    highest: NDArray[np.float32],
    labels: NDArray[np.float32],
    unit: LabelsOf = "session",
) -> tuple[float | None, str]:
    """Choose the score that asks for a second factor, as the threshold is chosen by a budget.

    Args:
        asked: share of lawful examples that may be challenged in their life, those that are blocked among them. None is
            DEFAULT_CHALLENGE_FPR where the validation part can show it and the threshold is not given, and no challenge
            otherwise.
        chosen: the threshold, below which it lies.
        highest: of the validation part's examples.
        labels: 1 for an attack.
        unit: what they are.

    Returns:
        the score, None if there is none below the threshold; and in words what of the budget can't be kept.
    """
    lawful = highest[labels != 1]
    if asked is None and (chosen.by == "given" or len(lawful) * DEFAULT_CHALLENGE_FPR < ALARMS_THAT_SHOW):
        return None, ""
    share, least = asked or DEFAULT_CHALLENGE_FPR, 1 / len(lawful)
    found = threshold_for(lawful, max(share, least))
    if found >= chosen.threshold:
        told = (
            f"--challenge-fpr {share:g} challenges nobody: as many lawful {unit}s are blocked already, at "
            f"{chosen.threshold:.6g}"
        )
        return None, told if asked else ""
    if share < least:
        return found, (
            f"{len(lawful):,} lawful validation {unit}s cannot show {share:.2%} challenged: the nearest that they can, "
            f"{least:.2%}, was taken"
        )
    return found, ""


def _by_chance(chosen: Chosen, curve: Curve, unit: LabelsOf) -> str:
    """Say what is wrong with a threshold that blocks nobody, nearly everybody, or whom chance would; else nothing.

    Of few attacks a strict budget may catch too few to tell: then that the scores rank better than chance is enough.
    """
    attacks, lawful, scores = int(curve.caught[-1]), chosen.lawful, curve.thresholds
    caught, alarmed = round(chosen.recall * attacks), round(chosen.false_alarm_rate * lawful)
    ranks = area_interval(curve.roc_auc(), attacks, lawful)[0] > 1 / 2
    gains = chosen.recall >= LEAST_GAIN * chosen.false_alarm_rate
    if caught and gains and (ranks or exceeds(caught, attacks, alarmed, lawful)):
        return ""
    of_lawful = np.diff(curve.alarmed, prepend=0)
    highest = int(np.argmax(of_lawful > 0))
    tied = int(of_lawful[highest])
    ties = f", and {tied:,} of them share their highest score, {scores[highest]:.6g}" if tied > 1 else ""
    seen = "all" if caught == attacks else f"{caught:,}" if caught else "none"
    return (
        f"the threshold {chosen.threshold:.6g} blocks {seen} of {attacks:,} attacks and {chosen.false_alarm_rate:.1%} of "
        f"{lawful:,} lawful {unit}s on the validation part{ties}, no better than chance: expected a model that tells them "
        "apart; give more data, train longer (--steps), read more of a session (--window), or allow "
        f"{'fewer' if chosen.false_alarm_rate > 1 / 2 else 'more'} false alarms (--target-fpr)"
    )
