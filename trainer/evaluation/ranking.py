"""Ranking: how well scores tell attacks from lawful sessions, whatever the threshold."""

import numpy as np
from numpy.typing import NDArray


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


def _both_kinds(labels: NDArray[np.float32]) -> tuple[int, int]:
    positives = int((labels == 1).sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        raise ValueError(f"{positives} attacks and {negatives} normal sessions: expected some of both")
    return positives, negatives
