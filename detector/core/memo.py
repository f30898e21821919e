"""A memo of scores: a window that was scored before is not scored again."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core.encoding import Encoding
from detector.core.reasons import Score
from detector.core.staging import Candidate

MAX_BYTES = 32 * 1024 * 1024
"""Of remembered windows: some 150,000 of 20 actions. Sessions begin alike, so most of what repeats is short and soon
seen again."""
_ENTRY_BYTES = 160
"""Counted for each beside its steps: the objects and their place in the table."""


class ScoreMemo:
    """Scores windows, each distinct one once while it is remembered.

    A window's score does not depend on the others that it is scored with, so a remembered score is the one that
    would be computed, bit for bit. When the memo is full it is emptied: what is common is back in a few batches.

    Args:
        encoding: of the model.
        score: of the model.
        max_bytes: remembered at most, but for the windows of one call.
    """

    def __init__(self, encoding: Encoding, score: Score, max_bytes: int = MAX_BYTES) -> None:
        self._encoding = encoding
        self._score = score
        self._max_bytes = max_bytes
        self._bytes = 0
        self._scores: dict[bytes, float] = {}

    def scores(self, steps: Sequence[bytes]) -> list[float]:
        """Return the score of each window, given as its packed steps, at most a window of them."""
        known = self._scores
        if new := [one for one in dict.fromkeys(steps) if one not in known]:
            size_bytes = _size_bytes(new)
            if self._bytes + size_bytes > self._max_bytes:
                known = self._scores = {one: known[one] for one in steps if one in known}
                self._bytes = _size_bytes(known)
            known.update(zip(new, self._score(self._encoding.windows(new)).tolist(), strict=True))
            self._bytes += size_bytes
        return [known[one] for one in steps]

    def of(self, candidates: Sequence[Candidate]) -> list[float]:
        """Return the score of each candidate's window."""
        return self.scores([candidate.steps for candidate in candidates])

    def __call__(self, windows: NDArray[np.void]) -> NDArray[np.float32]:
        """Score windows as the model does: shape (n, window), dtype `step_dtype` of the encoding, to n scores."""
        rows = np.ascontiguousarray(windows).view(np.dtype((np.void, self._encoding.window_bytes)))
        packed: list[Any] = rows.ravel().tolist()
        # A step's last byte, its gap bucket, is never 0: what is stripped is padding.
        return np.array(self.scores([window.rstrip(b"\0") for window in packed]), np.float32)


def _size_bytes(windows: Collection[bytes]) -> int:
    return sum(map(len, windows)) + _ENTRY_BYTES * len(windows)
