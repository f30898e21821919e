"""Comparisons: networks of several sizes, ablations, baselines and a left-out family, all on the same sessions."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from detector.model.artifact import load_model, packaged_model_path
from detector.model.scorer import Scorer
from producer.behaviour.attacks import ATTACK_FAMILIES
from trainer.data.sessions import Splits
from trainer.data.sources import realistic_splits
from trainer.data.windows import Weighing, windows_ending_at
from trainer.evaluation.baselines import fit_boosted, rules
from trainer.evaluation.figures import evaluate
from trainer.evaluation.scoring import Scored, score_sessions, score_with_model
from trainer.evaluation.thresholds import threshold_for
from trainer.training.calibration import DEFAULT_TARGET_FPR
from trainer.training.defaults import encoding_for
from trainer.training.network import Shape
from trainer.training.pipeline import Trained, TrainingConfig, train

HEADER: Final = (
    "model",
    "parameters",
    "PR-AUC",
    "recall at 0.1 %",
    "95 %",
    "recall at 0.01 %",
    "before the last large transfer",
    "on it at the latest",
    "windows/s",
)
LEFT_OUT_HEADER: Final = (
    "family left out",
    "sessions",
    "blocked",
    "before the last large transfer",
    "false alarms per lawful session",
)
_SPEED_WINDOWS: Final = 4_096
_SPEED_RUNS: Final = 5


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network to compare, by what it has other than the config."""

    name: str
    change: Callable[[TrainingConfig], TrainingConfig]


CANDIDATES: Final = (
    Candidate("LSTM 32", lambda config: config),
    Candidate("LSTM 16", lambda config: replace(config, shape=Shape("lstm", 16, 8))),
    Candidate("LSTM 64", lambda config: replace(config, shape=Shape("lstm", 64, 32))),
    Candidate("GRU 32", lambda config: replace(config, shape=Shape("gru", 32, 16))),
    Candidate("LSTM 32, window 10", lambda config: replace(config, window=10)),
    Candidate("LSTM 32 without time", lambda config: replace(config, gap_buckets=0)),
    Candidate(
        "LSTM 32 without prefixes", lambda config: replace(config, weighing=Weighing(every_prefix=False))
    ),
    Candidate("LSTM 32, prefixes weighed alike", lambda config: replace(config, weighing=Weighing(ramp=0.0))),
)


def compare(
    config: TrainingConfig, parts: Splits, candidates: Sequence[Candidate] = CANDIDATES
) -> Iterator[tuple[str, ...]]:
    """Yield a row, of HEADER's columns, for each baseline and each candidate.

    All thresholds are those that give 0.1 % of the lawful test sessions an alarm, so that what is caught is compared
    at one cost.
    """
    encoding = encoding_for(parts.train, config.window, config.gap_buckets)
    idle_ms = config.idle_timeout_ms
    base_rate = config.base_rate

    def row(name: str, scored: Scored, parameters: str, speed: str) -> tuple[str, ...]:
        threshold = threshold_for(scored.highest()[scored.labels == 0], DEFAULT_TARGET_FPR)
        figures = evaluate(scored, threshold, base_rate)
        found = figures.estimates
        return (
            name,
            parameters,
            f"{found['pr_auc'].value:.3f}",
            f"{found['recall'].value:.1%}",
            f"{found['recall'].low:.1%} to {found['recall'].high:.1%}",
            f"{found['recall'].value:.1%}",
            f"{found['blocked_before_last_large'].value:.1%}",
            f"{found['blocked_by_last_large'].value:.1%}",
            speed,
        )

    yield row("rules", score_sessions(rules(encoding), encoding, parts.test, idle_ms), "", "")
    seed_model = load_model(packaged_model_path("seed"))
    yield row("the notebook's model", score_with_model(seed_model, parts.test, idle_ms), "25,185", "")
    boosted = fit_boosted(parts.train, encoding, config.weighing, idle_ms, config.schedule.seed)
    yield row(
        "gradient-boosted trees",
        score_sessions(boosted.score, encoding, parts.test, idle_ms),
        "200 trees",
        "",
    )
    for candidate in candidates:
        trained = train(candidate.change(config), parts)
        yield row(candidate.name, trained.test, f"{trained.parameters:,}", f"{windows_per_s(trained):,.0f}")


def leave_one_out(config: TrainingConfig, sessions: int, seed: int) -> Iterator[tuple[str, ...]]:
    """Yield, for each family, its recall when trained without it, at the threshold chosen on validation."""
    for family in ATTACK_FAMILIES:
        parts = realistic_splits(sessions, seed, (family.name,))
        figures = train(config, parts).figures
        group = figures.by_family[family.name]
        yield (
            family.name,
            f"{group.sessions}",
            f"{group.share.value:.1%}",
            f"{group.before_money or 0:.1%}",
            f"{figures.estimates['false_alarm_rate'].value:.3%}",
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
