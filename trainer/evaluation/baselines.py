"""What the network has to beat: gradient-boosted trees on features of the window, and rules."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.encoding import Encoding
from trainer.data.sessions import Sessions
from trainer.data.windows import Packed, Weighing, examples, pack
from trainer.evaluation.scoring import Scores

_GAP_START: Final = 2
_QUICK_MS: Final = 60_000


def window_features(windows: NDArray[np.void], encoding: Encoding) -> NDArray[np.float32]:
    """Return what a fraud team would compute from a window, without its order: shape (n, features).

    For each action: how often, how many actions ago last, and the gap bucket before the last one; then the length, and
    mean, smallest and largest gap bucket, and the last action with its gap.
    """
    actions, gaps = windows["action"].astype(np.int64), windows["gap"].astype(np.float32)
    real = actions > 0
    length = real.sum(axis=1)
    places = np.arange(actions.shape[1])
    last = np.maximum(length - 1, 0)
    rows = np.arange(len(windows))
    columns: list[NDArray[Any]] = [length, actions[rows, last], gaps[rows, last]]
    timed = real & (gaps >= _GAP_START)
    count = np.maximum(timed.sum(axis=1), 1)
    columns += [
        np.where(timed, gaps, 0).sum(axis=1) / count,
        np.where(timed, gaps, np.inf).min(axis=1, initial=255),
        np.where(timed, gaps, 0).max(axis=1, initial=0),
    ]
    for code in range(1, len(encoding.vocabulary) + 1):
        is_it = actions == code
        latest = np.where(is_it, places, -1).max(axis=1)
        has = latest >= 0
        columns += [
            is_it.sum(axis=1),
            np.where(has, length - latest, 999),
            np.where(has, gaps[rows, np.maximum(latest, 0)], -1),
        ]
    return np.column_stack(columns).astype(np.float32)


class Boosted(NamedTuple):
    """Gradient-boosted trees over `window_features`."""

    classifier: Any
    encoding: Encoding

    def score(self, windows: NDArray[np.void]) -> NDArray[np.float32]:
        """Return the risk of each window."""
        risks: NDArray[np.float32] = self.classifier.predict_proba(window_features(windows, self.encoding))[
            :, 1
        ]
        return risks.astype(np.float32)


def fit_boosted(
    sessions: Sessions, encoding: Encoding, weighing: Weighing, idle_timeout_ms: int, seed: int
) -> Boosted:
    """Fit scikit-learn's HistGradientBoostingClassifier on every prefix, weighed as the network's are."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415  only comparisons need it

    packed = pack(sessions, encoding, idle_timeout_ms)
    windows, targets, weights = _prefixes(packed, encoding.window, weighing, seed)
    classifier = HistGradientBoostingClassifier(
        max_iter=200, learning_rate=0.1, max_leaf_nodes=31, early_stopping=False, random_state=seed
    )
    classifier.fit(window_features(windows, encoding), targets, sample_weight=weights)
    return Boosted(classifier, encoding)


def rules(encoding: Encoding) -> Scores:
    """Return the rules that a bank begins with, as a score from 0 to 1 by how many points they give.

    A large transfer after a changed password or a new recipient in the same session; more points if the change lies
    few actions back and the steps came quickly; a run of small transfers to a new recipient.
    """
    code = {action: number for number, action in enumerate(encoding.vocabulary, start=1)}
    bounds = np.array([0, 0, 0, *encoding.gap_bounds_ms])

    def score(windows: NDArray[np.void]) -> NDArray[np.float32]:
        actions, places = windows["action"], np.arange(windows.shape[1])

        def latest(name: str) -> NDArray[np.int64]:
            found: NDArray[np.int64] = np.where(actions == code.get(name, -1), places, -1).max(axis=1)
            return found

        def has(name: str) -> NDArray[np.bool_]:
            return latest(name) >= 0

        large, password, recipient = (
            latest("TRANSFER_LARGE"),
            latest("CHANGE_PASSWORD"),
            latest("ADD_RECIPIENT"),
        )
        change = np.maximum(password, recipient)
        after = (large > change) & (change >= 0)
        gap_ms = bounds[np.minimum(windows["gap"], len(bounds) - 1)]
        elapsed = np.cumsum(gap_ms, axis=1)
        rows = np.arange(len(windows))
        quick = elapsed[rows, np.maximum(large, 0)] - elapsed[rows, np.maximum(change, 0)] < _QUICK_MS
        small = (actions == code.get("TRANSFER_SMALL", -1)).sum(axis=1)
        points = (
            2.0 * after
            + 1.0 * (after & (large - change == 1))
            + 2.0 * (after & quick)
            + 2.0 * (after & has("CHANGE_PASSWORD") & has("ADD_RECIPIENT"))
            + 3.0 * (has("ADD_RECIPIENT") & (small >= 6))  # noqa: PLR2004  a run
            + 0.5 * np.minimum((actions == code.get("TRANSFER_LARGE", -1)).sum(axis=1), 3) * after
        )
        return np.asarray(points / 12.0, np.float32)

    return score


def _prefixes(
    packed: Packed, window: int, weighing: Weighing, seed: int
) -> tuple[NDArray[np.void], NDArray[np.float32], NDArray[np.float32]]:
    """Return each weighed prefix as a window of its own."""
    shown = examples(packed, window, weighing, seed)
    row, place = np.nonzero(shown.weights)
    windows = shown.windows[row]
    windows[np.arange(window) > place[:, np.newaxis]] = np.zeros((), windows.dtype)
    return windows, shown.targets[row, place], shown.weights[row, place]
