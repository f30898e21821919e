"""What a network has to beat: gradient-boosted trees on features of the window, logistic regression on n-grams."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.encoding import Encoding
from trainer.data.sessions import UNLABELLED, Sessions
from trainer.data.windows import Weighing, examples, pack

_GAP_START: Final = 2
_MOST_WINDOWS: Final = 1_000_000
_MOST_ACTIONS: Final = 2_000_000
_MOST_FEATURES: Final = 200
"""Actions, of the commonest, that trees have features of."""
_MOST_GRAMS: Final = 20_000
_SHRINK: Final = 50.0
"""Actions without any gram that shares are taken over as well: the first few of a session say little."""


class Boosted(NamedTuple):
    """Gradient-boosted trees over `window_features`."""

    classifier: Any
    encoding: Encoding

    def score(self, windows: NDArray[np.void]) -> NDArray[np.float32]:
        """Return the risk of each window."""
        with one_thread():
            risks = self.classifier.predict_proba(window_features(windows, self.encoding))[:, 1]
        return np.asarray(risks, np.float32)


def fit_boosted(
    sessions: Sessions, encoding: Encoding, weighing: Weighing, idle_timeout_ms: int, seed: int
) -> Boosted:
    """Fit scikit-learn's HistGradientBoostingClassifier on every prefix, weighed as the network's are."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415  only comparisons need it

    shown = examples(
        pack(sessions, encoding, idle_timeout_ms),
        encoding.window,
        weighing,
        seed,
        _MOST_WINDOWS // encoding.window,
    )
    row, place = np.nonzero(shown.weights)  # each weighed prefix as a window of its own
    windows = shown.windows[row]
    windows[np.arange(encoding.window) > place[:, np.newaxis]] = np.zeros((), windows.dtype)
    classifier = HistGradientBoostingClassifier(
        max_iter=200, learning_rate=0.1, max_leaf_nodes=31, early_stopping=False, random_state=seed
    )
    features = window_features(windows, encoding)
    with one_thread():
        classifier.fit(features, shown.targets[row, place], sample_weight=shown.weights[row, place])
    return Boosted(classifier, encoding)


def window_features(windows: NDArray[np.void], encoding: Encoding) -> NDArray[np.float32]:
    """Return what a fraud team would compute from a window, without its order: shape (n, features).

    For each action: how often, how many actions ago last, and the gap bucket before the last one; then the length, and
    mean, smallest and largest gap bucket, and the last action with its gap; of each signal the last code, the smallest
    and the largest.
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
    if encoding.signals:
        signals = windows["signals"].astype(np.float32)
        lowest = np.where(real[..., np.newaxis], signals, np.inf).min(axis=1, initial=255)
        columns += [*signals[rows, last].T, *lowest.T, *signals.max(axis=1).T]
    for code in range(1, min(len(encoding.vocabulary), _MOST_FEATURES) + 1):
        is_it = actions == code
        latest = np.where(is_it, places, -1).max(axis=1)
        has = latest >= 0
        columns += [
            is_it.sum(axis=1),
            np.where(has, length - latest, 999),
            np.where(has, gaps[rows, np.maximum(latest, 0)], -1),
        ]
    return np.column_stack(columns).astype(np.float32)


class NGrams(NamedTuple):
    """Logistic regression on how often each action and each pair of actions came so far in the session.

    Attributes:
        names: the actions that it knows.
        grams: those that weigh, rising: the code of an action, or of a pair.
        weights: of each gram's share, and last that of the logarithm of the number of actions.
        intercept: the logit without any.
    """

    names: tuple[str, ...]
    grams: NDArray[np.int64]
    weights: NDArray[np.float64]
    intercept: float

    def worth(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the weight of each gram, 0 of those that are not among `grams`; of the shape of `codes`."""
        place = np.minimum(np.searchsorted(self.grams, codes), len(self.grams) - 1)
        return np.where(self.grams[place] == codes, self.weights[place], 0.0)

    def scores(self, sessions: Sessions) -> NDArray[np.float32]:
        """Return the risk after each action, of the whole session so far; shape (actions,)."""
        each = np.sum([self.worth(codes) for codes in _grams(sessions, self.names)], axis=0)
        total = np.cumsum(each)
        before = np.repeat((total - each)[sessions.starts[:-1]], sessions.lengths)
        number = np.arange(1, len(each) + 1) - np.repeat(sessions.starts[:-1], sessions.lengths)
        logits = self.intercept + (total - before) / (number + _SHRINK) + self.weights[-1] * np.log(number)
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -80, 80))), np.float32)


def fit_ngrams(sessions: Sessions, seed: int) -> NGrams:
    """Fit scikit-learn's LogisticRegression on prefixes of 1, 2, 4, 8, … actions and on whole sessions.

    Of more than two million actions a random choice of sessions is learned from.
    """
    sessions = sessions.take(some_of(sessions.lengths, seed))
    codes = np.stack(_grams(sessions, sessions.names))
    grams, weights, intercept = regression_on_shares(codes, sessions.starts, sessions.targets)
    return NGrams(sessions.names, grams, weights, intercept)


def some_of(lengths: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Choose at random among sequences of these lengths, so many as have two million actions; one at least, rising."""
    order = np.random.RandomState(seed).permutation(len(lengths))
    count = max(1, int(np.searchsorted(np.cumsum(lengths[order]), _MOST_ACTIONS)))
    chosen: NDArray[np.int64] = np.sort(order[:count])
    return chosen


def regression_on_shares(
    codes: NDArray[np.int64], starts: NDArray[np.int64], targets: NDArray[np.int8]
) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
    """Fit logistic regression on the shares that codes have of prefixes of 1, 2, 4, 8, … actions and of the whole.

    Args:
        codes: shape (kinds, actions); of each action, some codes of several kinds, below 0 where it has none.
        starts: shape (sessions + 1,); where each session begins, and the end.
        targets: of the actions; those without a label are not learned from.

    Returns:
        the codes that weigh, at most _MOST_GRAMS, rising; the weight of each one's share, and last that of the
        logarithm of the number of actions; the logit without any.
    """
    from scipy.sparse import csr_matrix, hstack  # noqa: PLC0415  --help must not wait for them
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    sizes = np.diff(starts)
    number = np.arange(1, len(targets) + 1) - np.repeat(starts[:-1], sizes)
    learned = number & (number - 1) == 0
    learned[starts[1:] - 1] = True
    ends = np.flatnonzero(learned & (targets != UNLABELLED))
    lengths = number[ends]
    rows = np.repeat(np.arange(len(ends)), lengths)
    index = np.repeat(ends + 1 - np.cumsum(lengths), lengths) + np.arange(len(rows))
    found, counts = np.unique(codes[codes >= 0], return_counts=True)
    grams = np.sort(found[np.argsort(-counts, kind="stable")[:_MOST_GRAMS]])
    place = np.minimum(np.searchsorted(grams, codes), len(grams) - 1)
    known = grams[place] == codes
    entries = [(rows[known[n][index]], place[n][index][known[n][index]]) for n in range(len(codes))]
    row, column = (np.concatenate(one) for one in zip(*entries, strict=True))
    shares = csr_matrix((1 / (lengths[row] + _SHRINK), (row, column)), (len(ends), len(grams)))
    features = hstack([shares, csr_matrix(np.log(lengths)[:, np.newaxis])]).tocsr()
    scaler = StandardScaler(with_mean=False)
    session_of = np.searchsorted(starts, ends, side="right") - 1
    model = LogisticRegression(max_iter=1_000, class_weight="balanced")
    with one_thread():
        model.fit(
            scaler.fit_transform(features),
            targets[ends] == 1,
            sample_weight=1 / np.bincount(session_of, minlength=len(sizes))[session_of],
        )
    return grams, model.coef_[0] / scaler.scale_, float(model.intercept_[0])


def one_thread() -> Any:
    """Return a context of one thread: more sum in another order, and on a busy machine wait for each other for long."""
    from threadpoolctl import threadpool_limits  # noqa: PLC0415  scikit-learn brings it

    return threadpool_limits(1)


def _grams(sessions: Sessions, names: tuple[str, ...]) -> list[NDArray[np.int64]]:
    """Return for each action its code and that of the pair that it ends; below 0 what is unknown, or no pair."""
    single = codes_of(sessions.names, names)[sessions.actions]
    pairs = pairs_of(single, names)
    pairs[sessions.starts[:-1]] = -1
    return [single, pairs]


def codes_of(actions: Sequence[str], names: Sequence[str]) -> NDArray[np.int64]:
    """Return the place of each action among some names; far below 0, as is its every pair, where it is none of them."""
    code = {name: number for number, name in enumerate(names)}
    return np.array([code.get(action, -((len(names) + 1) ** 2)) for action in actions], np.int64)


def pairs_of(codes: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.int64]:
    """Return the code of the pair that each action of the last axis ends; below 0 of the first."""
    pairs = np.full_like(codes, -1)
    pairs[..., 1:] = (codes[..., :-1] + 1) * (len(names) + 1) + codes[..., 1:]
    return pairs
