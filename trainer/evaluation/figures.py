"""Figures as fraud teams read them: over whole sessions, each scored after every action and blocked at most once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from trainer.data.sessions import Categories
from trainer.evaluation.ranking import pr_auc, roc_auc
from trainer.evaluation.scoring import NEVER, Scored
from trainer.evaluation.thresholds import threshold_for

BOOTSTRAPS: Final = 200
ECE_BINS: Final = 10
MIN_LARGE: Final = "TRANSFER_LARGE"
MONEY_PREFIX: Final = "TRANSFER"

Interval = tuple[float, float]


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of the sessions of one kind, at the threshold."""

    sessions: int
    alerts: int
    """Sessions with a score at or above the threshold; of an attack, after its first action by the attacker."""
    share: float
    """Alerts among the sessions: recall of a family, false-alarm rate of a lawful kind."""
    before_money: float | None = None
    """Of the attacks, those blocked before their last large transfer; None for lawful sessions."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one model on one set of sessions.

    A false alarm is a lawful session with any score at or above the threshold, or an attack with one before the
    attacker's first action. Figures that depend on how common attacks are (PR-AUC, alerts per 1,000, precision,
    Brier, ECE) are at `base_rate`: lawful sessions are weighed so. Intervals are the 2.5th and 97.5th percentiles of a
    bootstrap over sessions (Efron 1979).
    """

    sessions: int
    attacks: int
    base_rate: float
    threshold: float
    roc_auc: float
    pr_auc: float
    recall_at_0_1_percent: float
    recall_at_0_1_percent_interval: Interval
    recall_at_0_01_percent: float
    recall_at_0_01_percent_interval: Interval
    recall: float
    """At the threshold, as are the figures below."""
    recall_interval: Interval
    false_alarm_rate: float
    false_alarm_rate_interval: Interval
    precision: float
    alerts_per_1000_sessions: float
    blocked_before_last_large: float
    """Of all attacks: blocked on an action before their last large transfer (last transfer, where none is large)."""
    blocked_before_last_large_interval: Interval
    blocked_by_last_large: float
    """… on that transfer at the latest: stopped, where the bank holds a transfer until it is scored."""
    blocked_before_any_money: float
    """… before the attacker's first transfer of any size."""
    actions_until_block_median: float | None
    """From the attacker's first action, 1 for that one."""
    seconds_until_block_median: float | None
    brier: float
    ece: float
    by_family: dict[str, Group]
    by_lawful_kind: dict[str, Group]
    by_customer_type: dict[str, Group]
    """False alarms of each type of customer."""


def evaluate(scored: Scored, threshold: float, base_rate: float | None = None, seed: int = 0) -> Figures:
    """Evaluate a model's scores.

    Args:
        scored: sessions of both kinds.
        threshold: the score that blocks.
        base_rate: share of attacks that some figures assume; the sessions' own by default.
        seed: of the bootstrap.

    Raises:
        ValueError: the sessions are not of both kinds.
    """
    labels = scored.labels
    rate = float(labels.mean()) if base_rate is None else base_rate
    attack = labels == 1
    highest = scored.highest()
    roc = roc_auc(labels, highest)
    blocks = scored.first_blocks(threshold)
    marks = _Marks.of(scored)
    caught = attack & (blocks != NEVER) & (blocks >= marks.attacked_from)
    false = (blocks != NEVER) & ~caught
    lawful_weight = (1 - rate) / rate * attack.sum() / (~attack).sum()
    weights = np.where(attack, 1.0, lawful_weight)
    before_last, by_last, before_any = (
        caught & (blocks < marks.last_large),
        caught & (blocks <= marks.last_large),
        caught & (blocks < marks.first_money),
    )
    indices = np.flatnonzero(caught)
    until = blocks[indices] - marks.attacked_from[indices] + 1
    times_ms, starts = scored.sessions.times_ms, scored.sessions.starts[indices]
    timed = (
        np.empty(0)
        if times_ms is None
        else (times_ms[starts + blocks[indices]] - times_ms[starts + marks.attacked_from[indices]]) / 1000
    )
    brier, ece = _calibration(highest.astype(np.float64), labels, weights)
    recall_rate, false_rate = float(caught[attack].mean()), float(false[~attack].mean())

    def interval(figure: Callable[[NDArray[np.int64], NDArray[np.int64]], float]) -> Interval:
        return _interval(figure, np.flatnonzero(~attack), np.flatnonzero(attack), seed)

    return Figures(
        sessions=len(labels),
        attacks=int(attack.sum()),
        base_rate=rate,
        threshold=threshold,
        roc_auc=roc,
        pr_auc=weighted_pr_auc(labels, highest, weights),
        recall_at_0_1_percent=recall_at(highest[~attack], highest[attack], 1e-3),
        recall_at_0_1_percent_interval=interval(lambda no, yes: recall_at(highest[no], highest[yes], 1e-3)),
        recall_at_0_01_percent=recall_at(highest[~attack], highest[attack], 1e-4),
        recall_at_0_01_percent_interval=interval(lambda no, yes: recall_at(highest[no], highest[yes], 1e-4)),
        recall=recall_rate,
        recall_interval=interval(lambda _, yes: float(caught[yes].mean())),
        false_alarm_rate=false_rate,
        false_alarm_rate_interval=interval(lambda no, _: float(false[no].mean())),
        precision=rate * recall_rate / max(rate * recall_rate + (1 - rate) * false_rate, 1e-12),
        alerts_per_1000_sessions=1000 * (rate * recall_rate + (1 - rate) * false_rate),
        blocked_before_last_large=float(before_last[attack].mean()),
        blocked_before_last_large_interval=interval(lambda _, yes: float(before_last[yes].mean())),
        blocked_by_last_large=float(by_last[attack].mean()),
        blocked_before_any_money=float(before_any[attack].mean()),
        actions_until_block_median=float(np.median(until)) if len(until) else None,
        seconds_until_block_median=float(np.median(timed)) if len(timed) else None,
        brier=brier,
        ece=ece,
        by_family=dict(_groups(scored.sessions.types, attack, caught, before_last)),
        by_lawful_kind=dict(_groups(scored.sessions.types, ~attack, false)),
        by_customer_type=dict(_groups(scored.sessions.customer_types, ~attack, false)),
    )


def recall_at(lawful: NDArray[np.float32], attacks: NDArray[np.float32], false_alarm_rate: float) -> float:
    """Return the recall at the threshold that gives lawful sessions this false-alarm rate on the same data."""
    return float((attacks >= threshold_for(lawful, false_alarm_rate)).mean()) if len(attacks) else 0.0


def weighted_pr_auc(
    labels: NDArray[np.float32], scores: NDArray[np.float32], weights: NDArray[np.float64]
) -> float:
    """Average precision with sessions weighed; that of `pr_auc` where all weigh alike."""
    if np.ptp(weights) == 0:
        return pr_auc(labels, scores)
    order = np.argsort(-scores, kind="stable")
    last_of_equals = np.append(np.diff(scores[order]) != 0, [True])
    caught = np.cumsum((weights * labels)[order])[last_of_equals]
    flagged = np.cumsum(weights[order])[last_of_equals]
    return float((np.diff(caught, prepend=0) * caught / flagged).sum() / caught[-1])


@dataclass(frozen=True, slots=True)
class _Marks:
    """Where in each session things happen, as indices of its actions; NEVER where they do not."""

    attacked_from: NDArray[np.int64]
    last_large: NDArray[np.int64]
    first_money: NDArray[np.int64]

    @classmethod
    def of(cls, scored: Scored) -> "_Marks":
        sessions = scored.sessions
        money = np.array([name.startswith(MONEY_PREFIX) for name in sessions.names])
        large = np.array([name == MIN_LARGE for name in sessions.names])
        is_money, is_large = (marked[sessions.actions] & (sessions.targets == 1) for marked in (money, large))
        first_money, last_money = _first_and_last(is_money, sessions.starts)
        last_large = _first_and_last(is_large, sessions.starts)[1]
        last_large = np.where(last_large == NEVER, last_money, last_large)
        # Without money in the vocabulary, an attack counts as stopped before its last action.
        last_large = np.where(
            (last_large == NEVER) & (sessions.labels == 1), sessions.lengths - 1, last_large
        )
        return cls(sessions.attacked_from, last_large, first_money)


def _first_and_last(
    marked: NDArray[np.bool_], starts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the index, in its session, of the first and of the last action that is marked; NEVER where none is."""
    position = np.arange(len(marked))
    first = np.minimum.reduceat(np.where(marked, position, NEVER), starts[:-1])
    last = np.maximum.reduceat(np.where(marked, position, -1), starts[:-1])
    return np.where(last < 0, NEVER, first - starts[:-1]), np.where(last < 0, NEVER, last - starts[:-1])


def _groups(
    categories: Categories,
    counted: NDArray[np.bool_],
    alerted: NDArray[np.bool_],
    before: NDArray[np.bool_] | None = None,
) -> Iterator[tuple[str, Group]]:
    for code, name in enumerate(categories.names):
        chosen = (categories.codes == code) & counted
        if name and chosen.any():
            yield (
                name,
                Group(
                    sessions=int(chosen.sum()),
                    alerts=int(alerted[chosen].sum()),
                    share=float(alerted[chosen].mean()),
                    before_money=None if before is None else float(before[chosen].mean()),
                ),
            )


def _calibration(
    scores: NDArray[np.float64], labels: NDArray[np.float32], weights: NDArray[np.float64]
) -> tuple[float, float]:
    """Return Brier's score (1950) and the expected calibration error over equally wide bins (Naeini et al. 2015)."""
    brier = float(np.average((scores - labels) ** 2, weights=weights))
    bins = np.minimum((scores * ECE_BINS).astype(int), ECE_BINS - 1)
    ece = 0.0
    for one in range(ECE_BINS):
        chosen = bins == one
        if chosen.any():
            gap = np.average(scores[chosen], weights=weights[chosen]) - np.average(
                labels[chosen], weights=weights[chosen]
            )
            ece += abs(float(gap)) * float(weights[chosen].sum() / weights.sum())
    return brier, ece


def _interval(
    figure: Callable[[NDArray[np.int64], NDArray[np.int64]], float],
    lawful: NDArray[np.int64],
    attacks: NDArray[np.int64],
    seed: int,
) -> Interval:
    """Draw lawful and attacked sessions with replacement, each side for itself, and return the middle 95 %."""
    rng = np.random.RandomState(seed)
    drawn = [
        figure(
            lawful[rng.randint(0, len(lawful), len(lawful))],
            attacks[rng.randint(0, len(attacks), len(attacks))],
        )
        for _ in range(BOOTSTRAPS)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)
