"""Windows of sessions: what serving scores after each action, and what training shows the network."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.encoding import Encoding
from trainer.data.observing import observed
from trainer.data.sessions import UNLABELLED, DataError, Sessions
from trainer.data.sittings import in_order_ms, sittings

CHUNK_STEPS: Final = 1_600_000
"""Steps of the windows that are in memory at once, at some 25 bytes each."""
TAILS: Final = 32
"""Most windows of one sitting at a time, beyond its first and its last; it may have 100,000."""

LEAST_KNOWN: Final = 0.01
"""Of the actions of the data: a model that knows fewer is one of other data."""
_SHOWN_NAMES: Final = 5


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Sessions as one array of steps, in training and evaluation as in serving.

    Attributes:
        sessions: themselves, without the repeated events that serving passes over.
        steps: shape (actions of all sessions,), dtype `step_dtype` of the encoding.
        starts: shape (sessions + 1,), int64; where each session begins, and the end.
        sittings: shape (sittings + 1,), int64; where the detector begins anew, and the end.
        is_attack: shape (actions,), bool; whether the prefix that ends there holds an action of an attacker's.
        labels: shape (sessions,), int64.
        told: what is to be said of how histories were cut, of actions beyond the vocabulary, and of times that are not there.
    """

    sessions: Sessions
    steps: NDArray[np.void]
    starts: NDArray[np.int64]
    sittings: NDArray[np.int64]
    is_attack: NDArray[np.bool_]
    labels: NDArray[np.int64]
    told: list[str]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Actions of each session."""
        return np.diff(self.starts)


def check_known(sessions: Sessions, encoding: Encoding) -> None:
    """Refuse sessions of whose actions a model knows nearly none.

    Raises:
        DataError: told with the names of both.
    """
    vocabulary = set(encoding.vocabulary)
    used = np.bincount(sessions.actions, minlength=len(sessions.names))
    known = sum(int(count) for name, count in zip(sessions.names, used, strict=True) if name in vocabulary)
    if known < LEAST_KNOWN * len(sessions.actions):
        raise DataError(
            f"the model knows {known:,} of {len(sessions.actions):,} actions: the data's are {_some(sessions.names)}, the "
            f"model's {_some(encoding.vocabulary)}: expected data of its vocabulary; name the column of actions (--column "
            "action=COLUMN), or train a model of its own"
        )


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:_SHOWN_NAMES])}{', …' * (len(names) > _SHOWN_NAMES)}"


def pack(sessions: Sessions, encoding: Encoding, idle_timeout_ms: int) -> Packed:
    """Encode sessions whole, as `detector.core.staging` does; an action beyond the vocabulary becomes the unknown token.

    Args:
        sessions: some.
        encoding: of the model, which says what ends a session; without gap bounds, no time is used but for the
            sittings.
        idle_timeout_ms: a session without an action for longer has ended.

    Raises:
        UnknownActionError: an action is beyond the vocabulary, and the encoding has no unknown token.
    """
    found = sittings(sessions, encoding.window, idle_timeout_ms, encoding.ends_session)
    sessions, begins = found.sessions, found.begins
    gaps_ms = np.zeros(len(begins), np.int64)
    if sessions.times_ms is not None:
        gaps_ms[1:] = np.diff(in_order_ms(sessions, begins))
    used = np.bincount(sessions.actions, minlength=len(sessions.names)) > 0
    codes = np.array(
        [
            int.from_bytes(encoding.step(name, None)[:2], "little") if is_used else 0
            for name, is_used in zip(sessions.names, used.tolist(), strict=True)
        ],
        np.uint16,
    )
    beyond = codes > len(encoding.vocabulary)
    steps = np.empty(len(begins), encoding.step_dtype)
    steps["action"] = codes[sessions.actions]
    buckets = 2 + np.searchsorted(np.array(encoding.gap_bounds_ms, np.int64), gaps_ms, side="right")
    steps["gap"] = np.where(begins, 1, buckets) if encoding.gap_bounds_ms else 1
    if encoding.signals:
        steps["signals"] = (
            observed(found, encoding, idle_timeout_ms) if sessions.signals is None else sessions.signals
        )
    return Packed(
        sessions,
        steps,
        sessions.starts,
        np.append(np.flatnonzero(begins), len(begins)),
        sessions.targets == 1,
        sessions.labels.astype(np.int64),
        [
            *found.told(idle_timeout_ms),
            *_told_of_unknown(sessions, beyond),
            *_told_of_times(sessions, encoding),
        ],
    )


def _told_of_unknown(sessions: Sessions, beyond: NDArray[np.bool_]) -> Iterator[str]:
    if beyond.any():
        yield (
            f"{int(beyond[sessions.actions].sum()):,} of {len(sessions.actions):,} actions are beyond the model's "
            f"vocabulary, and all one to it: {_some([sessions.names[code] for code in np.flatnonzero(beyond)])}"
        )


def _told_of_times(sessions: Sessions, encoding: Encoding) -> Iterator[str]:
    if encoding.gap_bounds_ms and sessions.times_ms is None:
        yield (
            "the model reads the gaps between actions, and not all sessions have times: every gap is taken for the "
            "shortest; name the column of times (--column time=COLUMN), or train without (--no-time)"
        )


def windows_ending_at(packed: Packed, ends: NDArray[np.int64], window: int) -> NDArray[np.void]:
    """Return the windows whose last action is `ends`, indices into the steps; padded with zeros at the end.

    Returns:
        shape (len(ends), window), dtype `step_dtype` of the encoding.
    """
    sitting_start = packed.sittings[np.searchsorted(packed.sittings, ends, side="right") - 1]
    first = np.maximum(sitting_start, ends - window + 1)
    index = first[:, np.newaxis] + np.arange(window)
    inside = index <= ends[:, np.newaxis]
    taken = packed.steps[np.where(inside, index, 0)]
    taken[~inside] = np.zeros((), taken.dtype)
    return taken


def every_window(packed: Packed, window: int) -> Iterator[NDArray[np.void]]:
    """Yield the window after every action of every session, in order, in chunks."""
    chunk = max(1, CHUNK_STEPS // window)
    for start in range(0, len(packed.steps), chunk):
        ends = np.arange(start, min(start + chunk, len(packed.steps)))
        yield windows_ending_at(packed, ends, window)


class Shown(NamedTuple):
    """What the network is shown: windows, and for each step whether its prefix is an attack and what it weighs.

    Attributes:
        windows: shape (n, window), dtype `step_dtype` of the encoding.
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
        attack_share: of the whole weight, that of the attacks' own prefixes, whereby the classes' imbalance is
            undone; None leaves it.
    """

    every_prefix: bool = True
    ramp: float = 1.0
    attack_share: float | None = 0.25


class Examples:
    """The windows of some sessions to learn from, made as they are drawn: millions of sessions take little memory.

    A sitting's first `window` prefixes are prefixes of one window, so one pass of a causal network learns from them
    all. Later ones begin later: each is a window that weighs at its last step alone. Of those a long sitting gives
    its last one and at most TAILS others, drawn anew each time, which stand for all.

    Args:
        packed: the sessions.
        window: actions that the network reads.
        weighing: of the prefixes.
    """

    def __init__(self, packed: Packed, window: int, weighing: Weighing) -> None:
        self._packed, self._window = packed, window
        self._weight = _weights(packed, weighing)
        if weighing.every_prefix:
            lengths = np.diff(packed.sittings)
            self._starts, self._heads = packed.sittings[:-1], np.minimum(lengths, window)
            self._later = lengths - self._heads
        else:  # a session's last window alone, which is a later one with none between
            self._starts, self._heads = packed.starts[1:] - 1, np.zeros(len(packed.starts) - 1, np.int64)
            self._later = np.ones(len(packed.starts) - 1, np.int64)
        counts = np.minimum(self._later, TAILS + 1) + (self._heads > 0)
        self._until = np.cumsum(counts)

    def __len__(self) -> int:
        return int(self._until[-1])

    @property
    def windows_in_all(self) -> int:
        """Different windows that can be drawn."""
        return int(self._later.sum()) + int(np.count_nonzero(self._heads))

    def shown(self, numbers: NDArray[np.int64], rng: np.random.Generator) -> Shown:
        """Return windows by their numbers, each below the length; which of a long sitting's, `rng` says."""
        sitting = np.searchsorted(self._until, numbers, side="right")
        has_head = self._heads[sitting] > 0
        later = self._later[sitting]
        place = self._until[sitting] - 1 - numbers  # 0 is the last action, the head comes last
        strata = np.minimum(later, TAILS + 1) - 1
        is_head = has_head & (place == strata + 1)
        low, high = ((later - 1) * edge // np.maximum(strata, 1) for edge in (place - 1, place))
        offset = np.where(
            place == 0, later - 1, low + (rng.random(len(numbers)) * (high - low)).astype(np.int64)
        )
        first = self._starts[sitting] + self._heads[sitting]
        ends = np.where(is_head, first - 1, first + offset)
        windows = windows_ending_at(self._packed, ends, self._window)
        rows, last = np.arange(len(ends)), np.count_nonzero(windows["action"], axis=1) - 1
        index = ends[:, np.newaxis] - last[:, np.newaxis] + np.arange(self._window)
        index = np.minimum(index, ends[:, np.newaxis])
        weights = np.where(
            (windows["action"] > 0) & is_head[:, np.newaxis], self._weight[index], np.float32(0)
        )
        stands_for = np.where(place == 0, 1, high - low)
        weights[rows[~is_head], last[~is_head]] = (self._weight[ends] * stands_for)[~is_head]
        return Shown(windows, self._packed.is_attack[index].astype(np.float32), weights)


def examples(packed: Packed, window: int, weighing: Weighing, seed: int, at_most: int | None = None) -> Shown:
    """Return the windows of some sessions, each once, or an even choice of so many."""
    made = Examples(packed, window, weighing)
    count = min(len(made), at_most or len(made))
    numbers = np.linspace(0, len(made) - 1, count).astype(np.int64)
    return made.shown(numbers, np.random.default_rng(seed))


def _weights(packed: Packed, weighing: Weighing) -> NDArray[np.float32]:
    """Return what the prefix that ends at each action weighs, nothing where nobody knows; shape (actions,)."""
    is_attack, lengths = packed.is_attack, packed.lengths
    done = np.cumsum(is_attack, dtype=np.int64)
    before: NDArray[np.int64] = np.repeat((done - is_attack)[packed.starts[:-1]], lengths)
    of = np.repeat(np.add.reduceat(is_attack, packed.starts[:-1], dtype=np.int64), lengths)
    weight = np.where(is_attack, ((done - before) / np.maximum(1, of)) ** weighing.ramp, 1.0)
    if not weighing.every_prefix:
        weight = np.zeros(len(is_attack))
        weight[packed.starts[1:] - 1] = 1.0
    weight[packed.sessions.targets == UNLABELLED] = 0.0
    if packed.sessions.weights is not None:
        weight *= np.repeat(packed.sessions.weights, lengths)
    if weighing.attack_share is not None:
        positive, negative = weight[is_attack].sum(), weight[~is_attack].sum()
        odds = weighing.attack_share / (1 - weighing.attack_share)
        weight[is_attack] *= odds * negative / positive if positive else 0.0
    if packed.sessions.weights is not None:  # of which any multiple says the same, and single precision less
        weight /= weight.mean() or 1.0
    return weight.astype(np.float32)
