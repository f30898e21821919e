"""Drift: how far the traffic of late lies from what a model was trained on.

A model file carries the shares of what the model saw and said of sessions that it was not trained on: actions, pairs of
actions one after the other, gaps, each signal's codes, how many actions the session has, scores. Traffic is counted into
the same bins by this very code. How far two lie apart is the population stability index (Siddiqi 2006, "Credit Risk
Scorecards"): the sum of (p - q) ln(p / q), above 0.1 worth a look and above 0.25 another population. It says nothing of
what is rare and matters, for 1 % more of a new action is 0.05 and twice the attacks less: so two shares stand by
themselves, of actions that the model does not know and of scores that reach its threshold (ADR 0038).
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from detector.core.encoding import Encoding
from detector.core.staging import Candidate

ACTIONS, PAIRS, GAPS, NUMBERS, SCORES = "actions", "pairs", "gaps", "action_numbers", "scores"
UNKNOWN, REACHED = "unknown_actions", "reached_threshold"
OF_SIGNAL: Final = "signal "
"""Begins the names of signals' distributions."""
RARE: Final = (UNKNOWN, REACHED)
"""Shares that stand by themselves; the bins are (is not, is)."""
MOST_PAIRS: Final = 100
"""Of the commonest, that are told apart."""
NUMBER_BOUNDS: Final = tuple(2**power for power in range(1, 13))
SCORE_BOUNDS: Final = (1e-5, 1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9)
MUCH: Final = 0.2
"""An index above it is drift …"""
LEAST_EVENTS: Final = 5_000
"""… of so many events: of fewer, chance alone makes it large."""
RARE_FACTOR, RARE_MORE, RARE_LEAST_EVENTS = 3.0, 0.003, 20_000
"""A rare share is drift above so many times the expected one and so much more, of so many events."""
SLOTS: Final = 24
"""Steps in which the window slides."""
_LEAST_SHARE: Final = 1e-4
"""Of a bin that is empty on one side: the index has no end there."""
_LEAST_EXPECTED: Final = 20
"""Bins in which fewer events are expected are one: of b bins chance alone makes the index of n events some b / n."""
_SUM_TOLERANCE: Final = 1e-2
"""Of shares, which the file has rounded."""

Counts = Mapping[str, NDArray[np.int64]]


class Watched(NamedTuple):
    """What traffic is held against: a model's reference, and its own threshold, whatever the settings say."""

    reference: "Reference"
    threshold: float


class Reference(msgspec.Struct, frozen=True):
    """Of a model's training: what to hold traffic against.

    Attributes:
        shares: of each distribution by its name, the share of each bin.
        pairs: the pairs that have bins of their own, as `pair_codes` has them, rising; the last bin is all others.
    """

    shares: dict[str, tuple[float, ...]]
    pairs: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """How many events fell into each bin.

    Attributes:
        events: how many there were.
        counts: of each distribution by its name, shape (bins,).
    """

    events: int
    counts: Counts

    def __add__(self, other: "Tally") -> "Tally":
        if not self.counts or not other.counts:
            return self if self.counts else other
        both = dict(self.counts)
        for name, counts in other.counts.items():
            both[name] = both[name] + counts if name in both else counts
        return Tally(self.events + other.events, both)


NOTHING: Final = Tally(0, {})


def pair_codes(
    actions: NDArray[np.integer], before: NDArray[np.integer], encoding: Encoding
) -> NDArray[np.int64]:
    """Return a number for each pair of codes; `before` is 0 for a session's first action."""
    return before.astype(np.int64) * (len(encoding.vocabulary) + 2) + actions


def binned(
    steps: NDArray[np.void],
    before: NDArray[np.integer],
    numbers: NDArray[np.integer],
    scores: NDArray[np.floating],
    *,
    encoding: Encoding,
    threshold: float,
    pairs: Sequence[int],
) -> Iterator[tuple[str, NDArray[np.integer], int]]:
    """Yield each distribution's name, the bin of each event, and how many bins there are.

    Args:
        steps: shape (events,), dtype `Encoding.step_dtype`; the events' own.
        before: code of the action before, 0 of a session's first.
        numbers: of the events in their sessions, from 1.
        scores: of their sessions, from 0 to 1.
        encoding: of the model.
        threshold: its own.
        pairs: that have bins of their own, rising.
    """
    actions, known = steps["action"], len(encoding.vocabulary)
    yield ACTIONS, actions, known + 2
    if encoding.gap_bounds_ms:
        yield GAPS, steps["gap"], encoding.gap_buckets
    for at, one in enumerate(encoding.signals.declared):
        yield f"{OF_SIGNAL}{one.name}", steps["signals"][:, at], one.codes
    codes = pair_codes(actions, before, encoding)
    place = np.minimum(np.searchsorted(pairs, codes), len(pairs) - 1)
    yield PAIRS, np.where(np.asarray(pairs)[place] == codes, place, len(pairs)), len(pairs) + 1
    yield NUMBERS, np.searchsorted(NUMBER_BOUNDS, numbers, side="right"), len(NUMBER_BOUNDS) + 1
    yield SCORES, np.searchsorted(SCORE_BOUNDS, scores, side="right"), len(SCORE_BOUNDS) + 1
    yield UNKNOWN, (actions > known).astype(np.int64), 2
    yield REACHED, (scores >= threshold).astype(np.int64), 2


def tally(
    candidates: Sequence[Candidate],
    scores: Sequence[float],
    encoding: Encoding,
    watched: Watched,
) -> Tally:
    """Count what was scored, but for what is no step of its window.

    Args:
        candidates: as staged.
        scores: of their sessions.
        encoding: of the model.
        watched: the model's.
    """
    if not all(one.is_step for one in candidates):
        scores = [score for one, score in zip(candidates, scores, strict=True) if one.is_step]
        candidates = [one for one in candidates if one.is_step]
    if not candidates:
        return NOTHING
    width = encoding.step_bytes
    steps = np.frombuffer(b"".join([one.steps[-width:] for one in candidates]), encoding.step_dtype)
    before = b"".join([one.steps[-2 * width : -width] or bytes(width) for one in candidates])
    bins = binned(
        steps,
        np.frombuffer(before, encoding.step_dtype)["action"],
        np.fromiter((one.action_number for one in candidates), np.int64),
        np.array(scores),
        encoding=encoding,
        threshold=watched.threshold,
        pairs=watched.reference.pairs,
    )
    return Tally(len(candidates), {name: np.bincount(of, minlength=count) for name, of, count in bins})


def stability_index(counts: NDArray[np.int64], shares: Sequence[float]) -> float:
    """Return the population stability index of some counts, one at least, by the shares that were expected."""
    total, expected = counts.sum(), np.asarray(shares)
    few = expected * total < _LEAST_EXPECTED
    found = np.maximum(np.append(counts[~few], counts[few].sum()) / total, _LEAST_SHARE)
    expected = np.maximum(np.append(expected[~few], expected[few].sum()), _LEAST_SHARE)
    return float(((found - expected) * np.log(found / expected)).sum())


class DriftWindow:
    """The events of late, by event time, of some partitions.

    Args:
        window_ms: how long an event counts: a whole day, or its hours would be drift.
    """

    def __init__(self, window_ms: int) -> None:
        self._slot_ms = max(1, window_ms // SLOTS)
        self._slots: deque[tuple[int, Tally]] = deque()

    def add(self, stream_time_ms: int, counted: Tally) -> None:
        """Take in what was counted up to a time, which may lie before that of others."""
        slot = stream_time_ms // self._slot_ms
        newest = max(slot, self._slots[-1][0]) if self._slots else slot
        # Partitions need not be at the same time: what is behind counts with the newest, or not at all if it is too old.
        if slot > newest - SLOTS:
            if self._slots and self._slots[-1][0] == newest:
                counted = self._slots.pop()[1] + counted
            self._slots.append((newest, counted))
        while self._slots and self._slots[0][0] <= newest - SLOTS:
            self._slots.popleft()

    @property
    def total(self) -> Tally:
        """What counts now."""
        return sum(
            (one for _, one in tuple(self._slots)), NOTHING
        )  # another thread may ask, in the middle of `add`


def check_reference(reference: Reference, encoding: Encoding) -> None:
    """Check that a reference has the bins of an encoding.

    Raises:
        ValueError: it has others, or shares that are none.
    """
    pairs, codes = reference.pairs, (len(encoding.vocabulary) + 2) ** 2
    if (
        not 0 < len(pairs) <= MOST_PAIRS
        or list(pairs) != sorted({*pairs})
        or not 0 <= pairs[0] <= pairs[-1] < codes
    ):
        raise ValueError(
            f"{len(pairs):,} pairs of actions for drift: expected 1 to {MOST_PAIRS}, rising, from 0 to {codes - 1}"
        )
    none = np.zeros(0, np.int64)
    steps = np.zeros(0, encoding.step_dtype)
    bins = binned(steps, none, none, none.astype(float), encoding=encoding, threshold=1.0, pairs=pairs)
    expected = {name: count for name, _, count in bins}
    seen = {name: len(shares) for name, shares in reference.shares.items()}
    if seen != expected:
        raise ValueError(f"distributions of {seen} bins for drift: expected {expected}")
    for name, shares in reference.shares.items():
        if not all(0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > _SUM_TOLERANCE:
            raise ValueError(
                f"shares of {name} for drift that are none: expected numbers from 0 to 1 that sum to 1"
            )


def measures(counted: Tally, reference: Reference) -> Iterator[tuple[str, float]]:
    """Yield the stability index of each distribution, and of what is rare its share; nothing of no events."""
    for name, counts in counted.counts.items():
        if name in RARE:
            yield name, float(counts[1] / counts.sum())
        else:
            yield name, stability_index(counts, reference.shares[name])


def drifted(measured: Mapping[str, float], expected: Mapping[str, float], events: float) -> list[str]:
    """Return the distributions and rare shares that have drifted, as the alert rules have it.

    Args:
        measured: as `measures` yields them.
        expected: the rare shares of the reference.
        events: that they rest on.
    """
    return [
        name
        for name, measure in measured.items()
        if (
            events >= RARE_LEAST_EVENTS and measure > RARE_FACTOR * expected[name] + RARE_MORE
            if name in expected
            else events >= LEAST_EVENTS and measure > MUCH
        )
    ]
