"""Evaluation: how well scores tell attacks from lawful sessions, and what serving makes of them."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from trainer.training.seed_data import Prefixes


class Classification(msgspec.Struct, frozen=True, kw_only=True):
    """Figures over whole sessions, each scored once. Precision is 1 where nothing reaches the threshold."""

    accuracy: float
    precision: float
    recall: float
    roc_auc: float
    pr_auc: float


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """Figures over sessions scored after every action, as the detector does: the first score to reach it blocks.

    Attributes:
        false_alarms: normal sessions with a prefix that reaches the threshold.
        caught: attacks with one.
        mean_actions_until_block: of the attacks caught; 0 where none is.
        highest_normal_score: over every prefix of every normal session.
    """

    normal_sessions: int
    false_alarms: int
    attacks: int
    caught: int
    mean_actions_until_block: float
    highest_normal_score: float


def roc_auc(labels: NDArray[np.float32], scores: NDArray[np.float32]) -> float:
    """Area under the ROC curve: how often an attack scores above a normal session, ties counting half.

    By ranks (Mann and Whitney 1947; Hanley and McNeil 1982).

    Raises:
        ValueError: the labels are not of both kinds.
    """
    positives, negatives = _both_kinds(labels)
    _, ranks_of, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle_ranks = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(middle_ranks[ranks_of][labels == 1].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def pr_auc(labels: NDArray[np.float32], scores: NDArray[np.float32]) -> float:
    """Area under the precision-recall curve as average precision: precision at each recall, no interpolation.

    A linear interpolation would flatter (Davis and Goadrich 2006). Equal scores are one threshold.

    Raises:
        ValueError: the labels are not of both kinds.
    """
    positives, _ = _both_kinds(labels)
    order = np.argsort(-scores, kind="stable")
    last_of_equals = np.append(np.diff(scores[order]) != 0, [True])
    caught = np.cumsum(labels[order])[last_of_equals]
    flagged = np.flatnonzero(last_of_equals) + 1
    return float((np.diff(caught, prepend=0) * caught / flagged).sum() / positives)


def classify(labels: NDArray[np.float32], scores: NDArray[np.float32], threshold: float) -> Classification:
    """Evaluate one score a session, both of shape (sessions,)."""
    flagged = scores >= threshold
    caught = int((flagged & (labels == 1)).sum())
    return Classification(
        accuracy=float((flagged == (labels == 1)).mean()),
        precision=caught / int(flagged.sum()) if flagged.any() else 1.0,
        recall=caught / int((labels == 1).sum()),
        roc_auc=roc_auc(labels, scores),
        pr_auc=pr_auc(labels, scores),
    )


def serve(
    labels: NDArray[np.float32], prefixes: Prefixes, scores: NDArray[np.float32], threshold: float
) -> Serving:
    """Evaluate one score an action.

    Args:
        labels: shape (sessions,).
        prefixes: of the sessions.
        scores: shape (len(prefixes.windows),).
        threshold: the score that blocks.
    """
    highest = np.maximum.reduceat(scores, prefixes.starts)
    until = [first_block(session, threshold) for session in np.split(scores, prefixes.starts[1:])]
    attacks = labels == 1
    caught = [actions for actions, attack in zip(until, attacks, strict=True) if attack and actions]
    return Serving(
        normal_sessions=int((~attacks).sum()),
        false_alarms=int((highest[~attacks] >= threshold).sum()),
        attacks=int(attacks.sum()),
        caught=len(caught),
        mean_actions_until_block=float(np.mean(caught)) if caught else 0.0,
        highest_normal_score=float(highest[~attacks].max(initial=0.0)),
    )


def first_block(scores: NDArray[np.float32], threshold: float) -> int:
    """Return the number, from 1, of the first action whose score reaches the threshold; 0 if none does."""
    reached = np.flatnonzero(scores >= threshold)
    return int(reached[0]) + 1 if len(reached) else 0


def _both_kinds(labels: NDArray[np.float32]) -> tuple[int, int]:
    positives = int((labels == 1).sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        raise ValueError(f"{positives} attacks and {negatives} normal sessions: expected some of both")
    return positives, negatives
