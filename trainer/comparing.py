"""Comparisons: networks, ablations, baselines that must be beaten and a left-out family, on the same sessions."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from detector.core.signals import Kind, Signal
from detector.model.scorer import Scorer
from trainer.data.sessions import Sessions, Splits
from trainer.data.splitting import fewest, folds
from trainer.data.windows import Weighing, pack, windows_ending_at
from trainer.evaluation.baselines import fit_boosted, fit_ngrams
from trainer.evaluation.course import Money
from trainer.evaluation.figures import BUDGETS, Difference, Figures, differences, evaluate
from trainer.evaluation.intervals import Estimate
from trainer.evaluation.report import Section, label_of
from trainer.evaluation.scoring import Scored, score_sessions
from trainer.evaluation.thresholds import threshold_for
from trainer.evaluation.units import Judged, judge
from trainer.training.config import TrainingConfig
from trainer.training.defaults import encoding_for
from trainer.training.fitting import Observer
from trainer.training.network import Shape
from trainer.training.pipeline import Trained, train

COMPARED: Final = (
    "roc_auc",
    "pr_auc",
    "last_roc_auc",
    "last_pr_auc",
    "recall",
    "best_f1",
    "blocked_before_last_large",
    "blocked_by_last_large",
)
BASELINES: Final = ("logistic regression on n-grams", "gradient-boosted trees")
_VALID_FOLDS: Final = 6
_SPEED_WINDOWS: Final = 4_096
_SPEED_RUNS: Final = 5


@dataclass(frozen=True, slots=True)
class Variant:
    """A network to compare, by what it has other than the config."""

    name: str
    change: Callable[[TrainingConfig], TrainingConfig]


def _without(config: TrainingConfig, kind: Kind) -> TrainingConfig:
    return replace(config, signals=tuple(one for one in config.signals if one.kind is not kind))


VARIANTS: Final = (
    Variant("default", lambda config: config),
    Variant("LSTM 16", lambda config: replace(config, bigrams=False, shape=Shape("lstm", 16, 8))),
    Variant("LSTM 32", lambda config: replace(config, bigrams=False, shape=Shape("lstm", 32, 16))),
    Variant("LSTM 64", lambda config: replace(config, bigrams=False, shape=Shape("lstm", 64, 32))),
    Variant("GRU 32", lambda config: replace(config, bigrams=False, shape=Shape("gru", 32, 16))),
    Variant("window 10", lambda config: replace(config, bigrams=False, window=10)),
    Variant("without time", lambda config: replace(config, bigrams=False, gap_buckets=0)),
    Variant(
        "without prefixes",
        lambda config: replace(config, bigrams=False, weighing=Weighing(every_prefix=False)),
    ),
    Variant(
        "prefixes weighed alike", lambda config: replace(config, bigrams=False, weighing=Weighing(ramp=0.0))
    ),
    Variant("without signals", lambda config: replace(config, signals=())),
    *(Variant(f"without {kind}", partial(_without, kind=kind)) for kind in Kind),
)


def variants_of(config: TrainingConfig) -> list[Variant]:
    """Return the default and those variants that a configuration makes others of: some are of signals."""
    return [VARIANTS[0], *(one for one in VARIANTS[1:] if one.change(config) != config)]


def reading(parts: Splits, declared: Sequence[Signal], read: Sequence[Signal]) -> Splits:
    """Return the parts with some of the signals that were computed for them."""
    if read == declared:
        return parts
    kept = [declared.index(one) for one in read]
    return Splits(
        *(part if part.signals is None else replace(part, signals=part.signals[:, kept]) for part in parts)
    )


class Compared(NamedTuple):
    """One model on the test part, its threshold that of the smallest budget that the part resolves, up to 0.1 %."""

    name: str
    size: str
    windows_per_s: float | None
    scored: Scored
    figures: Figures


def compare(
    config: TrainingConfig,
    parts: Splits,
    variants: Sequence[Variant] = VARIANTS,
    observer: Observer | None = None,
) -> Iterator[Compared]:
    """Train each baseline and each variant, and yield them with their figures.

    All thresholds alarm the same share of the lawful test examples, so that what is caught is compared at one cost.
    """
    encoding = encoding_for(
        parts.train,
        config.window,
        config.gap_buckets,
        ends_session=config.ends_session,
        signals=config.signals,
    )
    idle_ms, seed = config.idle_timeout_ms, config.schedule.seed

    def compared(name: str, size: str, scored: Scored, speed: float | None = None) -> Compared:
        seen = judge(scored, scored.sessions.labels_of)
        threshold = threshold_for(seen.scores[~seen.labels], budget_of(seen))
        return Compared(
            name, size, speed, scored, evaluate(scored, threshold, config.base_rate, money=Money.of(config))
        )

    ngrams = fit_ngrams(parts.train, seed)
    packed = pack(parts.test, encoding, idle_ms)
    scored = Scored(packed.sessions, packed, ngrams.scores(packed.sessions))
    yield compared(BASELINES[0], f"{len(ngrams.weights) + 1:,}", scored)
    boosted = fit_boosted(parts.train, encoding, config.weighing, idle_ms, seed)
    yield compared(BASELINES[1], "200 trees", score_sessions(boosted.score, encoding, parts.test, idle_ms))
    for variant in variants:
        changed = variant.change(config)
        trained = train(changed, reading(parts, config.signals, changed.signals), observer)
        yield compared(variant.name, f"{trained.parameters:,}", trained.test, windows_per_s(trained))


def budget_of(seen: Judged) -> float:
    """Return the smallest share of false alarms, down to 0.1 %, that lawful examples resolve; the largest if none."""
    lawful = int((~seen.labels).sum())
    return min((budget for budget in BUDGETS[:3] if budget * lawful >= 1), default=BUDGETS[0])


def table(rows: Sequence[Compared]) -> Section:
    """Return the figures of some models side by side."""
    labels = _labels(rows)
    return Section(
        ("model", "parameters", *labels.values(), "windows/s"),
        [
            (
                row.name,
                row.size,
                *(_shown(row.figures.estimates[name]) for name in labels),
                "" if row.windows_per_s is None else f"{row.windows_per_s:,.0f}",
            )
            for row in rows
        ],
    )


def folded(runs: Sequence[Sequence[Compared]]) -> Section:
    """Return the figures of the same models in several runs, by fold or by seed: the mean, and the lowest to the highest."""
    labels = _labels([row for run in runs for row in run])
    rows = []
    for models in zip(*runs, strict=True):
        each = {name: [one.figures.estimates[name].value for one in models] for name in labels}
        found = (Estimate(statistics.mean(values), min(values), max(values)) for values in each.values())
        rows.append((models[0].name, *(_shown(one) for one in found)))
    return Section((f"mean of {len(runs)} runs, lowest to highest", *labels.values()), rows)


def _labels(rows: Sequence[Compared]) -> dict[str, str]:
    """Return the figures to compare, by name in words: recall only where all are given one budget."""
    unit = rows[0].figures.unit
    labels: dict[str, str] = {
        name: label_of(name, unit) for name in COMPARED if name in rows[0].figures.estimates
    }
    budget, *others = {budget_of(judge(row.scored, unit)) for row in rows}
    if others:
        del labels["recall"]
    else:
        labels["recall"] = f"recall at {100 * budget:g} % false alarms"
    return labels


def verdicts(rows: Sequence[Compared], base_rate: float | None) -> Iterator[str]:
    """Yield a sentence for each network and baseline: whether the network beats it, by paired intervals.

    Of signals one more: the regression doesn't read them, and so is no measure of what a network makes of the same.
    """
    first = rows[len(BASELINES) :]
    for network in first:
        for baseline in rows[: len(BASELINES)]:
            found = differences(
                (baseline.scored, baseline.figures.threshold),
                (network.scored, network.figures.threshold),
                base_rate,
            )
            yield f"{network.name} {_verdict(found['pr_auc'])} {baseline.name}: PR-AUC {_said(found['pr_auc'])}"
    if any("signals" in (one.scored.packed.steps.dtype.names or ()) for one in first):
        yield f"{BASELINES[0]} reads actions alone, no signals: the networks and the trees have seen more"


def _verdict(difference: Difference) -> str:
    less = difference.second_less_first
    if less.low > 0:
        return "beats"
    return "is above, but not beyond doubt," if less.value > 0 else "does NOT beat"


def _said(difference: Difference) -> str:
    less = difference.second_less_first
    return f"{difference.second:.4f} against {difference.first:.4f}, {less.value:+.4f} ({less.low:+.4f} to {less.high:+.4f})"


def _shown(one: Estimate) -> str:
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def split_in_folds(sessions: Sessions, count: int, seed: int) -> Iterator[Splits]:
    """Yield, fold by fold, the other folds to train on and to choose the threshold by, and the fold to test on."""
    for rest, tested in folds(sessions, count, seed):
        pool = sessions.take(rest)
        learned, valid = next(folds(pool, max(2, min(_VALID_FOLDS, fewest(pool))), seed))
        yield Splits(pool.take(learned), pool.take(valid), sessions.take(tested))


def leave_one_out(
    config: TrainingConfig, families: Sequence[str], parts_without: Callable[[Sequence[str]], Splits]
) -> Section:
    """Return, for each family, its recall when trained without it, at the threshold chosen on validation."""
    rows = []
    for family in families:
        figures = train(config, parts_without((family,))).figures
        group = figures.by_family.get(family)  # few sessions may have none of it
        told = (
            (f"{group.sessions}", _shown(group.share), f"{group.before_money or 0:.3f}")
            if group
            else ("0", "", "")
        )
        rows.append((family, *told, _shown(figures.estimates["false_alarm_rate"])))
    return Section(
        (
            "family left out",
            "sessions",
            "blocked",
            "before the last large transfer",
            "false alarms per lawful session",
        ),
        rows,
    )


def windows_per_s(trained: Trained) -> float:
    """Return how many windows the exported graph scores a second, the best of some runs on one core."""
    scorer = Scorer(trained.file)
    packed = trained.test.packed
    ends = np.linspace(0, len(packed.steps) - 1, _SPEED_WINDOWS).astype(np.int64)
    windows = windows_ending_at(packed, ends, trained.metadata.window)
    best = np.inf
    for _ in range(_SPEED_RUNS):
        begun = time.perf_counter()
        scorer.score(windows)
        best = min(best, time.perf_counter() - begun)
    return _SPEED_WINDOWS / best
