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
OnPart = Callable[[int, int], None]
"""Is told how many of how many actions are scored."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Sessions with a score for every action.

    Attributes:
        sessions: themselves.
        packed: their steps.
        scores: shape (actions of all sessions,), float32.
        served: where `scores` are those of a model of whole sessions, what the detector would give; else None.
    """

    sessions: Sessions
    packed: Packed
    scores: NDArray[np.float32]
    served: NDArray[np.float32] | None = None

    @property
    def labels(self) -> NDArray[np.float32]:
        """1 for an attack; shape (sessions,)."""
        return self.packed.labels.astype(np.float32)

    def highest(self) -> NDArray[np.float32]:
        """Return each session's highest score; of an attack, from the attacker's first action on."""
        return self._highest_from(np.where(self.packed.labels == 1, self.sessions.attacked_from, 0))

    def compared(self) -> NDArray[np.float32]:
        """Return scores to rank sessions by: each lawful one's highest over no larger a part of it than an attack's.

        An attack counts from the attacker's first action, be it the last of thousands, and a highest score grows with
        the actions that it is taken over. So each lawful session counts from where, in proportion, an attack that is
        drawn for it begins: controls get their index dates from cases (Prentice and Breslow 1978). Where all attacks
        begin with their session, nothing changes.
        """
        attacks, lawful = np.flatnonzero(self.packed.labels == 1), np.flatnonzero(self.packed.labels != 1)
        begins, lengths = self.sessions.attacked_from, self.packed.lengths
        drawn = np.random.RandomState(0).permutation(np.resize(attacks, len(lawful)))
        begins[lawful] = begins[drawn] * lengths[lawful] // lengths[drawn] if len(attacks) else 0
        return self._highest_from(begins)

    def _highest_from(self, begins: NDArray[np.int64]) -> NDArray[np.float32]:
        first = np.repeat(self.packed.starts[:-1] + begins, self.packed.lengths)
        counted = np.where(np.arange(len(self.scores)) >= first, self.scores, np.float32(0))
        highest: NDArray[np.float32] = np.maximum.reduceat(counted, self.packed.starts[:-1])
        return highest

    def adding_up(self, evidence: Evidence | None) -> "Scored":
        """Return the sessions' scores, if these are those of their windows: as serving carries them on."""
        if evidence is None:
            return self
        sittings = np.split(self.scores, self.packed.sittings[1:-1])
        scores = [evidence.session_scores(one.tolist()) for one in sittings]
        return replace(self, scores=np.fromiter(itertools.chain.from_iterable(scores), np.float32))

    def at_the_end(self) -> "Scored":
        """Return the scores of a model of whole sessions: after their last actions, and 0 before."""
        scores, last = np.zeros_like(self.scores), self.packed.starts[1:] - 1
        scores[last] = self.scores[last]
        return replace(self, scores=scores, served=self.scores)

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
    on_part: OnPart | None = None,
) -> Scored:
    """Score sessions after every action, some windows at a time.

    Args:
        score: of windows.
        encoding: of the windows.
        sessions: at least one.
        idle_timeout_ms: after which a session begins anew.
        on_part: is told how it gets on.
    """
    packed = pack(sessions, encoding, idle_timeout_ms)
    scores = np.empty(len(packed.steps), np.float32)
    done = 0
    for windows in every_window(packed, encoding.window):
        scores[done : done + len(windows)] = score(windows)
        done += len(windows)
        if on_part is not None:
            on_part(done, len(scores))
    return Scored(packed.sessions, packed, scores)


def score_with_model(
    model: Model, sessions: Sessions, idle_timeout_ms: int, on_part: OnPart | None = None
) -> Scored:
    """Score sessions with a model file, as it was trained; an action beyond its vocabulary becomes its unknown token."""
    scored = score_sessions(model.score, model.encoding, sessions, idle_timeout_ms, on_part)
    scored = scored.adding_up(model.metadata.evidence)
    return scored if model.metadata.training.get("every_prefix", 1) else scored.at_the_end()
