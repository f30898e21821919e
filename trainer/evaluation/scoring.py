"""Sessions with a score after every action, as the detector gives it."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detector.core.encoding import Encoding
from detector.core.evidence import Evidence
from detector.model.artifact import Model
from trainer.data.sessions import Sessions
from trainer.data.windows import Packed, every_window, pack

NEVER: Final = np.iinfo(np.int64).max

Scores = Callable[[NDArray[np.void]], NDArray[np.float32]]
"""From windows, shape (n, window), to a score each."""
OnBatch = Callable[[int, int], None]
"""Is told how many of how many actions are scored."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Sessions with a score for every action.

    Attributes:
        sessions: themselves.
        packed: their steps.
        scores: shape (actions of all sessions,), float32.
    """

    sessions: Sessions
    packed: Packed
    scores: NDArray[np.float32]

    @property
    def labels(self) -> NDArray[np.float32]:
        """1 for an attack; shape (sessions,)."""
        return self.packed.labels.astype(np.float32)

    def highest(self) -> NDArray[np.float32]:
        """Return each session's highest score; of an attack, from the attacker's first action on."""
        theirs = np.repeat(self.packed.labels == 1, self.packed.lengths)
        counted = np.where(theirs & ~self.packed.is_attack, np.float32(0), self.scores)
        highest: NDArray[np.float32] = np.maximum.reduceat(counted, self.packed.starts[:-1])
        return highest

    def adding_up(self, evidence: Evidence | None) -> "Scored":
        """Return the sessions' scores, if these are those of their windows: as serving carries them on."""
        if evidence is None:
            return self
        sittings = np.split(self.scores, self.packed.sittings[1:-1])
        scores = [evidence.session_scores(one.tolist()) for one in sittings]
        return replace(self, scores=np.fromiter(itertools.chain.from_iterable(scores), np.float32))

    def last(self) -> NDArray[np.float32]:
        """Return each session's score after its last action."""
        return self.scores[self.packed.starts[1:] - 1]

    def first_blocks(self, threshold: float) -> NDArray[np.int64]:
        """Return the index, in its session, of the action whose score first blocks; NEVER if none does."""
        hit = np.where(self.scores >= threshold, np.arange(len(self.scores)), NEVER)
        first = np.minimum.reduceat(hit, self.packed.starts[:-1])
        return np.where(first == NEVER, NEVER, first - self.packed.starts[:-1])


def score_sessions(
    score: Scores,
    encoding: Encoding,
    sessions: Sessions,
    idle_timeout_ms: int,
    on_batch: OnBatch | None = None,
) -> Scored:
    """Score sessions after every action, some windows at a time."""
    packed = pack(sessions, encoding, idle_timeout_ms)
    scores = np.empty(len(packed.steps), np.float32)
    done = 0
    for windows in every_window(packed, encoding.window):
        scores[done : done + len(windows)] = score(windows)
        done += len(windows)
        if on_batch is not None:
            on_batch(done, len(scores))
    return Scored(packed.sessions, packed, scores)


def score_with_model(
    model: Model, sessions: Sessions, idle_timeout_ms: int, on_batch: OnBatch | None = None
) -> Scored:
    """Score sessions with a model file; an action beyond its vocabulary becomes its unknown token."""
    scored = score_sessions(model.score, model.encoding, sessions, idle_timeout_ms, on_batch)
    return scored.adding_up(model.metadata.evidence)
