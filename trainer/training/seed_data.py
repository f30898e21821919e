"""Labelled sessions to train and to evaluate on, and their windows."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from detector.contract.actions import Action
from detector.core.encoding import Encoding
from producer.behaviour import seed as seed_preset


class LabelledSession(NamedTuple):
    """The actions of one session, 1 for an attack or 0, and what kind of session it is."""

    actions: tuple[str, ...]
    label: int
    kind: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """Sessions, of which some are held out.

    Attributes:
        train: sessions that the weights are fitted to.
        test: sessions held out.
    """

    vocabulary: tuple[str, ...]
    train: tuple[LabelledSession, ...]
    test: tuple[LabelledSession, ...]

    @property
    def sha256(self) -> str:
        """Hash of every session with its label and its part, in order; hexadecimal."""
        return hashlib.sha256(msgspec.json.encode([self.vocabulary, self.train, self.test])).hexdigest()


class Prefixes(NamedTuple):
    """Every prefix of some sessions: the windows that serving scores, one an action.

    Attributes:
        windows: shape (n, window), dtype STEP_DTYPE; sessions one after the other, shortest prefix first.
        starts: shape (sessions,), int64; where each session begins.
    """

    windows: NDArray[np.void]
    starts: NDArray[np.int64]


def simulate_seed(count: int, seed: int, test_fraction: float) -> Dataset:
    """Simulate the `seed` preset's sessions and hold out a part of them.

    The split is the notebook's, scikit-learn's `train_test_split(test_size, random_state=seed)` without
    stratification. A held-out session may equal one trained on: the two attacks are always alike.

    Raises:
        ValueError: a part would have no session.
    """
    sessions = [
        LabelledSession(tuple(str(action) for action in session.actions), session.label, session.kind)
        for session in seed_preset.sessions(count, seed)
    ]
    test_count = int(np.ceil(count * test_fraction))
    if not 0 < test_count < count:
        raise ValueError(
            f"{count} sessions with {test_fraction} of them held out: expected some to train and some to test on"
        )
    # The legacy generator is what scikit-learn uses, and its sequences are frozen (NEP 19).
    order = np.random.RandomState(seed).permutation(count).tolist()
    return Dataset(
        vocabulary=tuple(action.value for action in Action),
        train=tuple(sessions[index] for index in order[test_count:]),
        test=tuple(sessions[index] for index in order[:test_count]),
    )


def last_windows(sessions: Sequence[LabelledSession], encoding: Encoding) -> NDArray[np.void]:
    """Return the window after each session's last action, shape (len(sessions), window), dtype STEP_DTYPE."""
    return encoding.windows([encoding.steps(session.actions) for session in sessions])


def labels(sessions: Sequence[LabelledSession]) -> NDArray[np.float32]:
    """Return each session's label, shape (len(sessions),)."""
    return np.array([session.label for session in sessions], np.float32)


def prefixes(sessions: Sequence[LabelledSession], encoding: Encoding) -> Prefixes:
    """Return the window after every action of every session."""
    packed = [
        encoding.steps(session.actions[:end])
        for session in sessions
        for end in range(1, len(session.actions) + 1)
    ]
    lengths = [len(session.actions) for session in sessions]
    return Prefixes(encoding.windows(packed), np.concatenate([[0], np.cumsum(lengths[:-1])]).astype(np.int64))
