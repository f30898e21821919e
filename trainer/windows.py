"""Windows of sessions: what serving scores after each action, and what training shows the network."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.encoding import STEP_DTYPE, Encoding
from trainer.sessions import Session

CHUNK: Final = 65_536
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


def pack(sessions: Sequence[Session], encoding: Encoding, idle_timeout_ms: int) -> Packed:
    """Encode sessions whole; an action beyond the vocabulary becomes the unknown token.

    Args:
        sessions: at least one.
        encoding: of the model; without gap bounds, no time is used but for the sittings.
        idle_timeout_ms: a session without an action for longer has ended.

    Raises:
        UnknownActionError: an action is beyond the vocabulary, and the encoding has no unknown token.
    """
    encoded: list[bytes] = []
    sittings: list[int] = []
    starts = [0]
    is_attack = np.zeros(sum(len(session.actions) for session in sessions), np.bool_)
    for session in sessions:
        start, times_ms = starts[-1], session.timestamps_ms
        end = start + len(session.actions)
        cuts = [0, *_idle_cuts(times_ms, idle_timeout_ms), len(session.actions)]
        for first, last in itertools.pairwise(cuts):
            encoded.append(encoding.steps(session.actions[first:last], times_ms and times_ms[first:last]))
            sittings.append(start + first)
        is_attack[start + session.attacked_from : end] = True
        starts.append(end)
    return Packed(
        np.frombuffer(b"".join(encoded), STEP_DTYPE),
        np.array(starts, np.int64),
        np.array([*sittings, starts[-1]], np.int64),
        is_attack,
        np.array([session.label for session in sessions], np.int64),
    )


def _idle_cuts(times_ms: tuple[int, ...] | None, idle_timeout_ms: int) -> list[int]:
    """Return the indices of the actions that come too late to belong to the session before them."""
    if times_ms is None or times_ms[-1] - times_ms[0] <= idle_timeout_ms:
        return []
    return [
        index
        for index, (before, now) in enumerate(itertools.pairwise(times_ms), start=1)
        if now - before > idle_timeout_ms
    ]


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
    for start in range(0, len(packed.steps), CHUNK):
        ends = np.arange(start, min(start + CHUNK, len(packed.steps)))
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
