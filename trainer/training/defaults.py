"""What the data decides where nobody else does: the steps that a network reads, its size, and how it is fitted."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from detector.contract.actions import ENDS_SESSION
from detector.core.encoding import MAX_GAP_BOUNDS, Encoding
from detector.core.signals import Signal
from trainer.data.sessions import Sessions, vocabulary_of
from trainer.data.windows import Examples
from trainer.training.fitting import Plan

GAP_BUCKETS: Final = 24
MAX_WINDOW: Final = 24
WINDOW_QUANTILE: Final = 0.95
MEMBERS: Final = 4
"""Networks of a small training, which together are one: each leaves out a quarter to be judged by."""
_EPOCHS: Final = 14
_FEWEST_STEPS: Final = 3_000
_MOST_STEPS: Final = 16_000
_BATCHES_AN_EPOCH: Final = 100
_SMALLEST_BATCH: Final = 32
_LARGEST_BATCH: Final = 512
_LARGEST_BATCH_STEPS: Final = 131_072
_VALIDATIONS: Final = 25
_LEAST_STEPS: Final = 2_000
_LEAST_PATIENCE: Final = 500
_SEED_STRIDE: Final = 1_000_003  # members of one run share none with those of another seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How a network is fitted; what is None is chosen from the data.

    Attributes:
        steps: at most, each of one batch.
        batch_size: windows a step.
        learning_rate: of Adam at the start, falling along a cosine.
        final_share: of the learning rate, left at the last step.
        stops_early: once the validation loss has not been better for a quarter of the steps, and half are done; the best
            weights are kept. Otherwise the last.
        unknown_share: of the training actions, replaced by the unknown token so that it is learned.
        seed: of weights and batches.
    """

    steps: int | None = None
    batch_size: int | None = None
    learning_rate: float = 4e-3
    final_share: float = 0.0
    stops_early: bool = True
    unknown_share: float = 0.005
    seed: int = 1


def encoding_for(
    sessions: Sessions,
    window: int | None = None,
    gap_buckets: int = GAP_BUCKETS,
    *,
    unknown_token: bool = True,
    ends_session: Collection[str] = ENDS_SESSION,
    signals: Sequence[Signal] = (),
) -> Encoding:
    """Choose vocabulary, window and gap buckets for some training sessions.

    Args:
        sessions: to train on.
        window: actions that the model reads; None for the one of the sessions' signals, or `typical_window`.
        gap_buckets: of equal ratio between the 0.5th and 99.5th percentile of the gaps; 0 uses no time.
        unknown_token: whether actions beyond the vocabulary get one.
        ends_session: actions after which a session begins anew.
        signals: to read beside action and gap.
    """
    window = window or sessions.signals_window or typical_window(sessions)
    bounds = gap_bounds_ms(sessions, gap_buckets) if gap_buckets else []
    return Encoding(
        vocabulary_of(sessions),
        window,
        bounds,
        unknown_token=unknown_token,
        ends_session=ends_session,
        signals=signals,
    )


def typical_window(sessions: Sessions) -> int:
    """Return as many actions as 95 % of the sessions have, MAX_WINDOW at most."""
    return int(min(MAX_WINDOW, max(1, np.ceil(np.quantile(sessions.lengths, WINDOW_QUANTILE)))))


def gap_bounds_ms(sessions: Sessions, buckets: int) -> list[int]:
    """Return bounds of equal ratio that cover 99 % of the gaps; fewer where several fall on one millisecond."""
    if sessions.times_ms is None:
        return []
    gaps = np.diff(sessions.times_ms)
    gaps[sessions.starts[1:-1] - 1] = 0
    gaps = gaps[gaps > 0].astype(np.float64)
    if not len(gaps):
        return []
    low, high = np.quantile(gaps, [0.005, 0.995])
    bounds = np.geomspace(max(1, low), max(2, high), min(buckets, MAX_GAP_BOUNDS + 1) - 1)
    return sorted({int(np.ceil(bound)) for bound in bounds})


def plan_for(schedule: Schedule, train: Examples, window: int, number: int = 0) -> Plan:
    """Choose steps and batches of the fit of that number, by what there is to learn from.

    Batches grow with the windows that there are, of long sessions the many that are drawn anew each time; steps, with
    those that are shown in an epoch.
    """
    by_size = 2 ** int(np.log2(max(1, train.windows_in_all / _BATCHES_AN_EPOCH)))
    largest = min(_LARGEST_BATCH, max(1, _LARGEST_BATCH_STEPS // window))
    batch_size = schedule.batch_size or min(largest, max(_SMALLEST_BATCH, by_size))
    steps = schedule.steps or min(_MOST_STEPS, max(_FEWEST_STEPS, _EPOCHS * len(train) // batch_size))
    return Plan(
        steps=steps,
        batch_size=batch_size,
        learning_rate=schedule.learning_rate,
        final_share=schedule.final_share,
        patience=max(_LEAST_PATIENCE, steps // 4) if schedule.stops_early else None,
        at_least=min(steps, _LEAST_STEPS),
        validate_every=-(-steps // _VALIDATIONS),
        unknown_share=schedule.unknown_share,
        seed=(schedule.seed + number * _SEED_STRIDE) % 2**32,
    )
