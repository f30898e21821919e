"""A teacher for small data: logistic regression on pairs of actions, which a network is shown before the labels.

Of a hundred sessions the label of each says little of any window, and a recurrent network learns such noise by heart.
A regression that is told that pairs of actions matter finds what they weigh; its sum over a window is a target without
noise (distillation: Hinton et al. 2015). The labels take its place step by step, and the validation loss says when to
end: with what the teacher knew, or beyond it.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detector.core.encoding import Encoding
from trainer.data.sessions import Sessions
from trainer.data.windows import Shown
from trainer.evaluation.baselines import NGrams, codes_of, fit_ngrams, pairs_of

_SPREAD: Final = 2.0
"""Of the teacher's logits over windows: from sure to sure."""


class Teacher:
    """Says of each step of a window what the actions up to there weigh.

    Args:
        sessions: to learn from.
        encoding: of the windows.
        seed: of the regression.
    """

    def __init__(self, sessions: Sessions, encoding: Encoding, seed: int) -> None:
        self._ngrams: NGrams = fit_ngrams(sessions, seed)
        self._codes = codes_of(["", *encoding.vocabulary, ""], self._ngrams.names)
        self._middle, self._spread = 0.0, 1.0

    def look_at(self, shown: Shown) -> None:
        """Fit the scale of what is said to some windows."""
        logits = self._logits(shown)[shown.windows["action"] > 0]
        self._middle, self._spread = float(logits.mean()), float(logits.std()) / _SPREAD or 1.0

    def mixed_into(self, shown: Shown, share: float) -> Shown:
        """Return windows whose targets are the teacher's for a share, and the labels for the rest.

        A step with two targets is one with their mean, since the log loss is linear in it.
        """
        said = 1 / (1 + np.exp(-np.clip((self._logits(shown) - self._middle) / self._spread, -20, 20)))
        real = shown.windows["action"] > 0
        teaches = share * real / real.sum(axis=1, keepdims=True)
        labelled = (1 - share) * shown.weights
        weights = teaches + labelled
        targets = (teaches * said + labelled * shown.targets) / np.maximum(weights, 1e-12)
        return Shown(shown.windows, targets.astype(np.float32), weights.astype(np.float32))

    def _logits(self, shown: Shown) -> NDArray[np.float64]:
        single = self._codes[shown.windows["action"]]
        each = self._ngrams.worth(single) + self._ngrams.worth(pairs_of(single, self._ngrams.names))
        logits: NDArray[np.float64] = np.cumsum(each, axis=1)
        return logits
