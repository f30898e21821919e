"""Figures as fraud teams read them: each example scored after every action, and blocked at most once."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from trainer.data.sessions import Categories, DataError, LabelsOf
from trainer.evaluation.course import BUILT_IN, Course, Flags, Money
from trainer.evaluation.curves import Curve, Ranking
from trainer.evaluation.intervals import (
    Estimate,
    Interval,
    Weights,
    area_interval,
    newcombe,
    tells,
    wider,
    wilson,
)
from trainer.evaluation.scoring import Scored
from trainer.evaluation.units import Judged, judge

BUDGETS: Final = (0.1, 0.01, 1e-3, 1e-4)
ECE_BINS: Final = 10

Rates = dict[str, tuple[Flags, Flags]]
"""What counts, and of which examples, by name."""
Measure = Callable[[Weights], dict[str, float]]


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of the sessions of one kind, at the threshold."""

    sessions: int
    alerts: int
    """Sessions with a score at or above the threshold; of an attack, first after the attacker's first action."""
    share: Estimate
    """Alerts among the sessions: recall of a family, false-alarm rate of a lawful kind. Its interval is Wilson's."""
    before_money: float | None = None
    """Of the attacks that move money, those blocked before their last large transfer; None where there are none."""
    stopped_before_money: float | None = None
    """… those challenged or blocked before it; None where nothing is challenged, too."""


class AtK(msgspec.Struct, frozen=True):
    """If the `k` highest are looked at: precision and recall among the examples as they are, not at the base rate."""

    precision: float
    recall: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one model on labelled examples: sessions, events or accounts.

    A false alarm is a lawful example with a score at or above the threshold. An attack that is blocked before the
    attacker's first action is not caught. Figures that depend on how common attacks are (PR-AUC, precision, F1, alerts,
    Brier, ECE) are at `base_rate`: lawful examples are weighed so.
    """

    unit: LabelsOf
    part: str
    """Which of the data they are, in words."""
    examples: int
    attacks: int
    base_rate: float
    base_rate_from: str
    threshold: float
    best_f1_threshold: float
    challenge_threshold: float | None = None
    """The score that asks for a second factor; None where none does."""
    smallest_rate: float
    """One of the lawful examples: no smaller share of false alarms can be told."""
    estimates: dict[str, Estimate]
    """By name: `roc_auc` and `pr_auc` (of sessions, by `Scored.compared`), of sessions `last_roc_auc` and `last_pr_auc`
    (score after the last action), `recall_at_RATE` of false alarms as far as the examples resolve it, and `best_f1`,
    `best_macro_f1`; at the threshold `recall`, `false_alarm_rate`, `precision`, `f1`, `macro_f1`, `alerts_per_1000`, of a
    model of whole sessions `served_recall` and `served_false_alarm_rate` by scores after each action, and of
    sessions `blocked_after_N` actions of the attacker and, of attacks that move money, `blocked_before_last_large`
    transfer, `blocked_by_last_large`, `blocked_before_any_money`; of attacks of several sessions
    `several_blocked_before_large`, where the data says which sessions are of one attack. Where a score challenges,
    `lawful_challenged`, `stopped`, `stopped_before_last_large` and `stopped_by_last_large`: challenged or blocked, as if
    no attacker passed the second factor. Intervals are of 95 %, by a bootstrap over accounts
    (sessions, without accounts), and at least as wide as Wilson's of a rate, as what follows from any two rates in
    Wilson's, and as what so many of the rarer kind can tell of an area."""
    at_k: dict[int, AtK]
    brier: float
    ece: float
    actions_until_block_median: float | None
    """From the attacker's first action, 1 for that one."""
    seconds_until_block_median: float | None
    by_family: dict[str, Group] = msgspec.field(default_factory=dict)
    """Of sessions alone, as are the next."""
    by_lawful_kind: dict[str, Group] = msgspec.field(default_factory=dict)
    by_customer_type: dict[str, Group] = msgspec.field(default_factory=dict)
    by_length: dict[str, Group] = msgspec.field(default_factory=dict)
    """False alarms of lawful sessions, by quarters of their lengths: a budget should hold in each."""

    def numbers(self) -> dict[str, float]:
        """Return every figure that is one number, by name, for the record in a model file."""
        plain = msgspec.structs.asdict(self)
        return (
            {name: float(value) for name, value in plain.items() if isinstance(value, int | float)}
            | {name: one.value for name, one in self.estimates.items()}
            | {f"recall_{name}": group.share.value for name, group in self.by_family.items()}
        )


class Difference(msgspec.Struct, frozen=True):
    """A figure of two models on the same examples."""

    first: float
    second: float
    second_less_first: Estimate


def evaluate(
    scored: Scored,
    threshold: float,
    base_rate: float | None = None,
    *,
    base_rate_from: str = "given",
    unit: LabelsOf | None = None,
    at_k: Sequence[int] = (),
    money: Money = BUILT_IN,
    part: str = "held out",
    challenge_threshold: float | None = None,
) -> Figures:
    """Evaluate a model's scores.

    Args:
        scored: sessions with examples of both kinds.
        threshold: the score that blocks.
        base_rate: share of attacks that some figures assume; the examples' own by default.
        base_rate_from: where it came from, for the reader.
        unit: what an example is; by default what is labelled.
        at_k: how many of the highest to give precision and recall of.
        money: the actions that move it.
        part: which of the data the examples are, in words.
        challenge_threshold: the score that asks for a second factor, if one does.

    Raises:
        DataError: the examples are not of both kinds, or are to be accounts and there are none.
    """
    judged = judge(scored, unit or scored.sessions.labels_of)
    attack = judged.labels
    rate = float(attack.mean()) if base_rate is None else base_rate
    course = Course.of(scored, threshold, money) if judged.unit == "session" else None
    blocked = judged.scores >= threshold if course is None else course.blocked[judged.index]
    more = _as_served(scored, judged.unit, threshold) | ({} if course is None else course.rates(judged.index))
    challenged = None
    if course is not None and challenge_threshold is not None:
        challenged = Course.of(scored, challenge_threshold, money)
        more |= challenged.stops(judged.index)
    measure, rates = _measure(judged, rate, blocked, more)
    curve = Ranking.of(attack, judged.scores).curve(rate)
    brier, ece = _calibration(judged, curve.odds)
    number = np.empty(0) if course is None else course.number[course.blocked & course.attack]
    seconds = np.empty(0) if course is None else course.seconds
    return Figures(
        unit=judged.unit,
        part=part,
        examples=len(attack),
        attacks=int(attack.sum()),
        base_rate=rate,
        base_rate_from="the examples' own" if base_rate is None else base_rate_from,
        threshold=threshold,
        best_f1_threshold=curve.best_f1()[1],
        challenge_threshold=challenge_threshold if challenged else None,
        smallest_rate=1 / int((~attack).sum()),
        estimates=_estimates(judged, measure, rates, curve, rate),
        at_k={k: AtK(*curve.first(k)) for k in at_k},
        brier=brier,
        ece=ece,
        actions_until_block_median=float(np.median(number)) if len(number) else None,
        seconds_until_block_median=float(np.median(seconds)) if len(seconds) else None,
        **({} if course is None else _by_kind(scored, judged, course, challenged)),
    )


def differences(
    first: tuple[Scored, float],
    second: tuple[Scored, float],
    base_rate: float | None = None,
    unit: LabelsOf | None = None,
) -> dict[str, Difference]:
    """Compare two models on the same sessions, each with its scores and its threshold.

    Intervals are paired: each sample of the bootstrap is drawn for both (Efron and Tibshirani 1993), and those of rates
    are at least as wide as Newcombe's.

    Raises:
        DataError: as for `evaluate`.
    """
    judged, measures, rates = [], [], []
    for scored, threshold in (first, second):
        one = judge(scored, unit or scored.sessions.labels_of)
        blocked = _blocked(scored, one, threshold)
        rate = float(one.labels.mean()) if base_rate is None else base_rate
        measure, counted = _measure(one, rate, blocked, {})
        judged.append(one)
        measures.append(measure)
        rates.append(counted)
    if not np.array_equal(judged[0].labels, judged[1].labels):
        raise DataError(
            "the models pass over different repeats of events, by their windows: expected the same events; compare by "
            "session"
        )
    ours, theirs = _sampled(judged[0], measures)
    found = {}
    for name, samples in ours.items():
        less, largest = theirs[name] - samples, _largest(name)
        interval = judged[0].draws.interval(float(less[0]), less[1:], largest)
        if name in rates[0]:
            (hits, of), (hits_2, _) = rates[0][name], rates[1][name]
            exact = newcombe(hits[of], hits_2[of])
            interval = wider(interval, exact) if tells(less[1:]) else exact
        low, high = max(-largest, interval[0]), min(largest, interval[1])
        found[name] = Difference(
            float(samples[0]), float(theirs[name][0]), Estimate(float(less[0]), low, high)
        )
    return found


def _blocked(scored: Scored, judged: Judged, threshold: float) -> Flags:
    if judged.unit == "session":
        return Course.of(scored, threshold, BUILT_IN).blocked[judged.index]
    return judged.scores >= threshold


def _as_served(scored: Scored, unit: LabelsOf, threshold: float) -> Rates:
    """Return the rates by scores after each action, for a model that is judged by those after the last alone."""
    if scored.served is None:
        return {}
    served = replace(scored, scores=scored.served, served=None)
    judged = judge(served, unit)
    blocked, attack = _blocked(served, judged, threshold), judged.labels
    return {
        "served_recall": (blocked & attack, attack),
        "served_false_alarm_rate": (blocked & ~attack, ~attack),
    }


def _measure(judged: Judged, base_rate: float, blocked: Flags, more: Rates) -> tuple[Measure, Rates]:
    """Return how every figure with an interval follows from how often each example counts; and which are rates."""
    attack = judged.labels
    rates = {"recall": (blocked & attack, attack), "false_alarm_rate": (blocked & ~attack, ~attack)}
    budgets = [budget for budget in BUDGETS if budget * (~attack).sum() >= 1]
    by_score = Ranking.of(attack, judged.scores)
    ranked = by_score if judged.ranked is judged.scores else Ranking.of(attack, judged.ranked)
    last = None if judged.last is None else Ranking.of(attack, judged.last)

    # Sums by index and not dot products, whose threads wait for each other on a busy machine.
    places = {name: (np.flatnonzero(hits), np.flatnonzero(of)) for name, (hits, of) in (rates | more).items()}

    def shares(names: Iterable[str], weights: Weights) -> dict[str, float]:
        with np.errstate(invalid="ignore"):  # a sample may have none of what is rare, and is not counted then
            return {
                name: float(weights[hits].sum() / weights[of].sum())
                for name in names
                for hits, of in [places[name]]
            }

    def measure(weights: Weights) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, ranking in (("", ranked), ("last_", last)):
            if ranking is not None:
                curve = ranking.curve(base_rate, weights)
                found |= {f"{name}roc_auc": curve.roc_auc(), f"{name}pr_auc": curve.pr_auc()}
        curve = by_score.curve(base_rate, weights)
        found |= {f"recall_at_{budget:g}": curve.recall_at(budget) for budget in budgets}
        found |= shares(rates, weights)
        found |= _follows(base_rate, found["recall"], found["false_alarm_rate"])
        found |= {"best_f1": curve.best_f1()[0], "best_macro_f1": float(curve.macro_f1.max())}
        return found | shares(more, weights)

    return measure, rates | more


def _sampled(judged: Judged, measures: Sequence[Measure]) -> list[dict[str, NDArray[np.float64]]]:
    """Return, of each measure by name, the value on the examples as they are, and after it those on samples of them."""
    weights = itertools.chain([np.ones(len(judged.labels))], judged.draws)
    drawn = [[measure(one) for measure in measures] for one in weights]
    return [
        {name: np.array([row[place][name] for row in drawn]) for name in drawn[0][place]}
        for place in range(len(measures))
    ]


def _follows(base_rate: float, recall: float, alarms: float) -> dict[str, float]:
    """Return what follows from the two rates at a threshold."""
    here = Curve.at(base_rate, np.empty(0, np.float32), np.array([recall, 1.0]), np.array([alarms, 1.0]))
    return {
        "precision": float(here.precision[0]),
        "f1": float(here.f1[0]),
        "macro_f1": float(here.macro_f1[0]),
        "alerts_per_1000": 1000 * (base_rate * recall + (1 - base_rate) * alarms),
    }


def _corners(curve: Curve, base_rate: float, caught: float, alarmed: float) -> dict[str, Interval]:
    """Return how far what follows from the two rates may lie, each rate anywhere in its interval."""
    rates = wilson(caught, float(curve.caught[-1])), wilson(alarmed, float(curve.alarmed[-1]))
    four = [_follows(base_rate, *both) for both in itertools.product(*rates)]
    return {name: (min(one[name] for one in four), max(one[name] for one in four)) for name in four[0]}


def _estimates(
    judged: Judged, measure: Measure, rates: Rates, curve: Curve, base_rate: float
) -> dict[str, Estimate]:
    attacks = int(judged.labels.sum())
    lawful = len(judged.labels) - attacks
    rarer = min(attacks, lawful)
    caught, alarmed = (int(rates[name][0].sum()) for name in ("recall", "false_alarm_rate"))
    exact = _corners(curve, base_rate, caught, alarmed)
    for name, best in (("f1", np.argmax(curve.f1)), ("macro_f1", np.argmax(curve.macro_f1))):
        exact[f"best_{name}"] = _corners(
            curve, base_rate, float(curve.caught[best]), float(curve.alarmed[best])
        )[name]
    exact |= {name: wilson(int(hits.sum()), int(of.sum())) for name, (hits, of) in rates.items()}
    found = {}
    for name, samples in _sampled(judged, [measure])[0].items():
        value = float(samples[0])
        largest = _largest(name)
        interval = judged.draws.interval(value, samples[1:], largest)
        if name in exact:
            interval = wider(interval if tells(samples[1:]) else (value, value), exact[name])
        elif name.endswith("roc_auc"):
            interval = wider(interval, area_interval(value, attacks, lawful))
        else:
            of = (
                rarer if name.endswith("pr_auc") else attacks
            )  # of areas (Boyd, Eng and Page 2013), and of recalls
            interval = wider(interval, wilson(value * of, of))
        found[name] = Estimate(value, max(0.0, interval[0]), min(largest, interval[1]))
    return found


def _largest(name: str) -> float:
    return 1000.0 if name == "alerts_per_1000" else 1.0


def _by_kind(
    scored: Scored, judged: Judged, course: Course, challenged: Course | None
) -> dict[str, dict[str, Group]]:
    sessions, known = scored.sessions, judged.index
    attack, blocked = judged.labels, course.blocked[known]
    types, lengths = sessions.types.take(known), sessions.lengths[known]
    courses = (course,) if challenged is None else (course, challenged)
    before = course.has_money[known], *(one.before_last_large[known] for one in courses)
    return {
        "by_family": dict(_groups(types, attack, blocked, before)),
        "by_lawful_kind": dict(_groups(types, ~attack, blocked)),
        "by_customer_type": dict(_groups(sessions.customer_types.take(known), ~attack, blocked)),
        "by_length": dict(_groups(_quarters(lengths, ~attack), ~attack, blocked)),
    }


def _quarters(lengths: NDArray[np.int64], lawful: Flags) -> Categories:
    """Return to which quarter of the lawful sessions' lengths each session belongs; fewer where lengths are alike."""
    bounds = np.unique(np.quantile(lengths[lawful], [0.25, 0.5, 0.75, 1.0], method="lower"))
    lows = [int(lengths[lawful].min()), *(bounds[:-1] + 1).tolist()]
    both = zip(lows, bounds.tolist(), strict=True)
    names = tuple(f"{low:,} to {high:,} actions" if low < high else f"{low:,} actions" for low, high in both)
    codes = np.minimum(np.searchsorted(bounds, lengths), len(names) - 1)
    return Categories(names, codes.astype(np.int32))


def _groups(
    categories: Categories, counted: Flags, blocked: Flags, before: tuple[Flags, ...] = ()
) -> Iterator[tuple[str, Group]]:
    for code, name in enumerate(categories.names):
        chosen = (categories.codes == code) & counted
        if name and chosen.any():
            count, alerts = int(chosen.sum()), int(blocked[chosen].sum())
            with_money, *in_time = (int(one[chosen].sum()) for one in before or (np.zeros_like(chosen),))
            shares = [one / with_money for one in in_time] if with_money else []
            yield (
                name,
                Group(
                    sessions=count,
                    alerts=alerts,
                    share=Estimate(alerts / count, *wilson(alerts, count)),
                    before_money=shares[0] if shares else None,
                    stopped_before_money=shares[1] if len(shares) > 1 else None,
                ),
            )


def _calibration(judged: Judged, odds: float) -> tuple[float, float]:
    """Return Brier's score (1950) and the expected calibration error over equally wide bins (Naeini et al. 2015)."""
    scores, labels = judged.scores.astype(np.float64), judged.labels
    weights = np.where(labels, 1.0, odds)
    bins = np.minimum((scores * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = np.bincount(bins, weights * (scores - labels))
    return float(np.average((scores - labels) ** 2, weights=weights)), float(
        np.abs(gaps).sum() / weights.sum()
    )
