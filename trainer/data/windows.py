"""Windows of sessions: what serving scores after each action, and what training shows the network."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.encoding import STEP_DTYPE, Encoding
from trainer.data.sessions import Sessions

CHUNK_STEPS: Final = 1_600_000
"""Steps of the windows that are in memory at once, at some 25 bytes each."""
TAILS: Final = 32
"""Most windows of one session, beyond its first, that are trained on; a session may have 100,000."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Sessions as one array of steps.

    A session idle for longer than the detector keeps it begins anew when it goes on: its later sittings are scored
    without the earlier ones, in training and evaluation as in serving.

    Attributes:
        steps: shape (actions of all sessions,), dtype STEP_DTYPE.
        starts: shape (sessions + 1,), int64; where each session begins, and the end.
        sittings: shape (sittings + 1,), int64; where each sitting begins, and the end.
        is_attack: shape (actions,), bool; whether the prefix that ends there holds an action of an attacker's.
        labels: shape (sessions,), int64.
    """

    steps: NDArray[np.void]
    starts: NDArray[np.int64]
    sittings: NDArray[np.int64]
    is_attack: NDArray[np.bool_]
    labels: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Actions of each session."""
        return np.diff(self.starts)


def pack(sessions: Sessions, encoding: Encoding, idle_timeout_ms: int) -> Packed:
    """Encode sessions whole; an action beyond the vocabulary becomes the unknown token.

    Args:
        sessions: at least one.
        encoding: of the model; without gap bounds, no time is used but for the sittings.
        idle_timeout_ms: a session without an action for longer has ended.

    Raises:
        UnknownActionError: an action is beyond the vocabulary, and the encoding has no unknown token.
    """
    count, starts = len(sessions.actions), sessions.starts
    begins = np.zeros(count, np.bool_)
    begins[starts[:-1]] = True
    gaps_ms = np.zeros(count, np.int64)
    if sessions.times_ms is not None:
        gaps_ms[1:] = np.diff(sessions.times_ms)
        begins |= gaps_ms > idle_timeout_ms
        gaps_ms = np.diff(_clamped(sessions.times_ms, np.flatnonzero(begins)), prepend=0)
    codes = np.array([int.from_bytes(encoding.step(name, None)[:2], "little") for name in sessions.names])
    steps = np.empty(count, STEP_DTYPE)
    steps["action"] = codes[sessions.actions]
    buckets = 2 + np.searchsorted(np.array(encoding.gap_bounds_ms, np.int64), gaps_ms, side="right")
    steps["gap"] = np.where(begins, 1, buckets) if encoding.gap_bounds_ms else 1
    return Packed(
        steps,
        starts,
        np.append(np.flatnonzero(begins), count),
        sessions.targets == 1,
        sessions.labels.astype(np.int64),
    )


def _clamped(times_ms: NDArray[np.int64], begins: NDArray[np.int64]) -> NDArray[np.int64]:
    """Let no time run backwards within a sitting."""
    if np.isin(np.flatnonzero(np.diff(times_ms) < 0) + 1, begins).all():
        return times_ms
    # Ranks of times are lifted apart by sitting, one above the other, so that one running maximum serves all.
    different, ranks = np.unique(times_ms, return_inverse=True)
    lift = np.zeros(len(times_ms), np.int64)
    lift[begins[1:]] = len(different)
    lift = np.cumsum(lift)
    clamped: NDArray[np.int64] = different[np.maximum.accumulate(ranks + lift) - lift]
    return clamped


def windows_ending_at(packed: Packed, ends: NDArray[np.int64], window: int) -> NDArray[np.void]:
    """Return the windows whose last action is `ends`, indices into the steps; padded with zeros at the end.

    Returns:
        shape (len(ends), window), dtype STEP_DTYPE.
    """
    sitting_start = packed.sittings[np.searchsorted(packed.sittings, ends, side="right") - 1]
    first = np.maximum(sitting_start, ends - window + 1)
    index = first[:, np.newaxis] + np.arange(window)
    inside = index <= ends[:, np.newaxis]
    taken = packed.steps[np.where(inside, index, 0)]
    taken[~inside] = np.zeros((), STEP_DTYPE)
    return taken


def every_window(packed: Packed, window: int) -> Iterator[NDArray[np.void]]:
    """Yield the window after every action of every session, in order, in chunks."""
    chunk = max(1, CHUNK_STEPS // window)
    for start in range(0, len(packed.steps), chunk):
        ends = np.arange(start, min(start + chunk, len(packed.steps)))
        yield windows_ending_at(packed, ends, window)


class Examples(NamedTuple):
    """What the network is shown: windows, and for each step whether its prefix is an attack and what it weighs.

    A window's first `window` prefixes are its own prefixes, so one pass of a causal network trains them all. Later
    ones begin later, and weigh at their last step alone.

    Attributes:
        windows: shape (n, window), dtype STEP_DTYPE.
        targets: shape (n, window), float32.
        weights: shape (n, window), float32; 0 on padding.
    """

    windows: NDArray[np.void]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighing:
    """How much the prefixes of a session count.

    The prefixes of an attack before the attacker's first action are lawful. From there on they are attacks, and
    weigh more the further the attack has come: an attack's LOGIN is like anybody's and should not be blocked.

    Attributes:
        every_prefix: train on every prefix, not only on whole sessions.
        ramp: exponent of the attack's progress, above 0 and up to 1 at its end; 0 weighs all alike.
        attack_share: of the whole weight, that of the attacks' own prefixes; the classes' imbalance is undone by it.
    """

    every_prefix: bool = True
    ramp: float = 1.0
    attack_share: float = 0.25


def examples(packed: Packed, window: int, weighing: Weighing, rng: np.random.RandomState) -> Examples:
    """Return the windows to train on; of long sessions a random choice of them."""
    lengths = packed.lengths
    is_attack = packed.is_attack
    position = np.arange(len(packed.steps))
    ends_at = np.repeat(packed.starts[1:], lengths)
    attacked = np.add.reduceat(is_attack, packed.starts[:-1]) if len(lengths) else lengths
    begins_at = ends_at - np.repeat(attacked, lengths)
    progress = (position - begins_at + 1) / np.maximum(1, ends_at - begins_at)
    weight = np.where(is_attack, np.clip(progress, 0, 1) ** weighing.ramp, 1.0)
    if not weighing.every_prefix:
        weight = np.where(position == ends_at - 1, 1.0, 0.0)
    positive, negative = weight[is_attack].sum(), weight[~is_attack].sum()
    weight[is_attack] *= weighing.attack_share / (1 - weighing.attack_share) * negative / max(positive, 1e-9)

    starts, lengths = packed.sittings[:-1], np.diff(packed.sittings)
    heads = starts + np.minimum(lengths, window) - 1
    tails, scale = _tails(lengths, starts, window, rng)
    ends = np.concatenate([heads, tails])
    taken = windows_ending_at(packed, ends, window)
    first = np.concatenate([starts, tails - window + 1])
    index = np.minimum(first[:, np.newaxis] + np.arange(window), len(packed.steps) - 1)
    real = taken["action"] > 0
    weights = np.where(real, weight[index], 0.0)
    weights[len(heads) :, :-1] = 0.0
    weights[len(heads) :, -1] *= scale
    keep = weights.sum(axis=1) > 0
    return Examples(
        taken[keep],
        np.where(real, is_attack[index], 0)[keep].astype(np.float32),
        weights[keep].astype(np.float32),
    )


def _tails(
    lengths: NDArray[np.int64], starts: NDArray[np.int64], window: int, rng: np.random.RandomState
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Choose actions beyond each session's first window, and what each stands for.

    The last action is always among them, for itself; of the others at most TAILS, each for as many as were left out.
    """
    ends: list[NDArray[np.int64]] = []
    scale: list[NDArray[np.float64]] = []
    for number in np.flatnonzero(lengths > window).tolist():
        start, length = int(starts[number]), int(lengths[number])
        between = length - window - 1
        picked = (
            np.arange(between)
            if between <= TAILS
            else np.sort(np.unique(rng.randint(0, between, TAILS)))  # a few fewer where drawn twice
        )
        ends += [start + window + picked, np.array([start + length - 1])]
        scale += [np.full(len(picked), between / max(1, len(picked))), np.ones(1)]
    if not ends:
        return np.empty(0, np.int64), np.empty(0)
    return np.concatenate(ends).astype(np.int64), np.concatenate(scale)
