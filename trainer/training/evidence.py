"""What adds up over a session's windows: the statistic is fitted to scores, and taken only where it pays.

A window forgets. Where the sessions of one kind differ from the other's by little in every window, the sum of the
windows' logits tells them apart, and where all is said within a window it adds nothing but noise. So the candidates,
and the highest window alone, are held against each other on sessions that they were not fitted to.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from detector.core.evidence import MIN_SCORE, Evidence
from trainer.evaluation.baselines import one_thread
from trainer.evaluation.scoring import Scored

SCALES_ACTIONS: Final = (None, 2048.0, 256.0, 32.0)
FLOORS: Final = (-16.0, -4.0, -1.5, 0.0)
"""Of what is carried, in units of the logit: how lawful a session can have become, whatever an attacker puts first."""
PREFIXES: Final = 24
"""Of each session that the weights are fitted to: its end, and others evenly over the logarithm of their length."""
MIN_BASE_RATE: Final = 0.01
"""Below, the few sessions at the edge would decide alone."""
MIN_EACH: Final = 20
"""Attacks, and lawful sessions, without which nothing is fitted."""
MAX_EACH: Final = 1_000
"""Of each kind that the weights are fitted to; more would change them no more. All are judged by."""
_CONSTANT: Final = 1e-9


class Windows(NamedTuple):
    """The scores of the windows of some sessions.

    Attributes:
        logits: of each window, shape (actions,), float64.
        sittings: shape (sittings + 1,), int64; where the sum begins anew, and the end.
        starts: shape (sessions + 1,), int64; where each session begins, and the end.
        is_attack: shape (actions,), bool; whether the prefix that ends there is an attack.
        counted: shape (actions,), bool; whether its score counts for its session.
    """

    logits: NDArray[np.float64]
    sittings: NDArray[np.int64]
    starts: NDArray[np.int64]
    is_attack: NDArray[np.bool_]
    counted: NDArray[np.bool_]

    @classmethod
    def of(cls, scored: Scored) -> Self:
        """Return the windows' scores as logits; of an attack, those from the attacker's first action on count."""
        packed = scored.packed
        scores = np.clip(scored.scores.astype(np.float64), MIN_SCORE, 1 - MIN_SCORE)
        return cls(
            np.log(scores) - np.log1p(-scores),
            packed.sittings,
            packed.starts,
            packed.is_attack,
            packed.is_attack | np.repeat(packed.labels != 1, packed.lengths),
        )

    @property
    def labels(self) -> NDArray[np.bool_]:
        """Whether each session is an attack."""
        labels: NDArray[np.bool_] = np.logical_or.reduceat(self.is_attack, self.starts[:-1])
        return labels

    def highest(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the highest logit that counts, of each session."""
        highest: NDArray[np.float64] = np.maximum.reduceat(
            np.where(self.counted, logits, -np.inf), self.starts[:-1]
        )
        return highest


class Added(NamedTuple):
    """What a model's windows add up to.

    Attributes:
        evidence: the statistic; None where the highest window does as well.
        losses: of each session, by what was fitted to others: the logarithmic loss, weighed to the base rate; all 0
            where there were too few sessions to tell.
    """

    evidence: Evidence | None
    losses: NDArray[np.float64]

    def beats(self, other: "Added") -> bool:
        """Whether the loss is less by a standard error of the difference (Breiman et al.'s rule, 1984)."""
        gain = other.losses - self.losses
        return bool(gain.mean() > gain.std() / np.sqrt(len(gain)))


def fit_evidence(windows: Windows, base_rate: float, seed: int) -> Added:
    """Fit a statistic over the windows' logits, on sessions that the network was not fitted to.

    Each candidate is fitted to one half of the sessions and judged on the other, by the logarithmic loss of the
    sessions' highest score at the base rate. None is taken unless it beats the highest window.

    Args:
        windows: of sessions of both kinds.
        base_rate: share of attacks where the model will serve.
        seed: of the halves, and of the prefixes that the weights are fitted to.
    """
    labels = windows.labels
    if min(labels.sum(), (~labels).sum()) < MIN_EACH:
        return Added(None, np.zeros(len(labels)))
    rng = np.random.RandomState(seed)
    half = rng.permutation(len(labels)) % 2 == 0
    ends = _prefixes(windows.starts, rng)
    few = np.zeros(len(labels), np.bool_)
    for kind in (labels, ~labels):
        few[rng.permutation(np.flatnonzero(kind))[: 2 * MAX_EACH]] = True
    fitted = [list(_candidates(windows, ends[side & few], base_rate)) for side in (half, ~half)]

    def losses(both: Sequence[Evidence | None]) -> NDArray[np.float64]:
        """Return each session's loss under what was fitted to the other half."""
        lost = np.zeros(len(labels))
        for evidence, side in zip(both, (half, ~half), strict=True):
            highest = windows.highest(session_logits(windows.logits, windows.sittings, evidence))
            (slope,), shift = _logistic(highest[side, np.newaxis], labels[side], base_rate)
            logits = (max(0.0, slope) * highest + shift)[~side]
            weight = _weights(labels[~side], base_rate)
            lost[~side] = weight * np.logaddexp(0, np.where(labels[~side], -logits, logits))
        return lost

    alone = Added(None, losses((None, None)))
    judged = [Added(None, losses(both)) for both in zip(*fitted, strict=True)]
    best = min(range(len(judged)), key=lambda at: judged[at].losses.mean())
    if not judged[best].beats(alone):
        return alone
    evidence = list(_candidates(windows, ends[few], base_rate))[best]
    highest = windows.highest(session_logits(windows.logits, windows.sittings, evidence))
    (slope,), shift = _logistic(highest[:, np.newaxis], labels, base_rate)
    if slope <= 0:  # it ranks attacks below lawful sessions
        return alone
    evidence = Evidence(
        window_weight=slope * evidence.window_weight,
        bias=slope * evidence.bias + shift,
        logit_weight=slope * evidence.logit_weight,
        drift=slope * evidence.drift,
        floor=slope * (evidence.floor or 0.0),
        scale_actions=evidence.scale_actions,
    )
    return judged[best]._replace(evidence=evidence)


def session_logits(
    logits: NDArray[np.float64], sittings: NDArray[np.int64], evidence: Evidence | None
) -> NDArray[np.float64]:
    """Return the session's logit after each action: `Evidence.weigh` for many sessions at once, to the last few bits."""
    if evidence is None:
        return logits
    carried = _sums(evidence.logit_weight * logits + evidence.drift, sittings, evidence.floor)
    if evidence.scale_actions is not None:
        carried = carried / (1 + _number(sittings) / evidence.scale_actions)
    total: NDArray[np.float64] = evidence.bias + evidence.window_weight * logits + carried
    return total


def _sums(
    terms: NDArray[np.float64], sittings: NDArray[np.int64], floor: float | None
) -> NDArray[np.float64]:
    """Return the running sums of each sitting; a floor lets them go no lower (Page 1954)."""
    lengths = np.diff(sittings)
    whole = np.cumsum(terms)
    sums: NDArray[np.float64] = whole - np.repeat(np.append([0], whole)[sittings[:-1]], lengths)
    if floor is None:
        return sums
    below = floor - sums
    # Sittings are lifted apart, one above the other, so that one running maximum serves all.
    lift = np.repeat(np.arange(len(lengths)) * (np.ptp(below) + 1), lengths)
    return sums + np.maximum(np.maximum.accumulate(below + lift) - lift, 0)


def _candidates(windows: Windows, ends: NDArray[np.int64], base_rate: float) -> Iterator[Evidence]:
    """Yield each candidate, its weights fitted by logistic regression to prefixes of some sessions."""
    chosen = ends.ravel()
    truth, logits = windows.is_attack[chosen], windows.logits
    number = _number(windows.sittings)
    sums = _sums(logits, windows.sittings, None)[chosen]
    for scale in SCALES_ACTIONS:
        shrunk = 1.0 if scale is None else 1 + number[chosen] / scale
        terms = np.column_stack([logits[chosen], sums / shrunk, number[chosen] / shrunk])
        (_, weight, drift), _ = _logistic(terms, truth, base_rate)
        for floor in FLOORS:
            carried = _sums(weight * logits + drift, windows.sittings, floor)[chosen] / shrunk
            (window, scaled), bias = _logistic(np.column_stack([logits[chosen], carried]), truth, base_rate)
            scaled = max(0.0, scaled)
            yield Evidence(
                window_weight=window,
                bias=bias,
                logit_weight=scaled * weight,
                drift=scaled * drift,
                floor=scaled * floor,
                scale_actions=scale,
            )


def _number(sittings: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the number of each action in its sitting, from 1."""
    return np.arange(1.0, sittings[-1] + 1) - np.repeat(sittings[:-1], np.diff(sittings))


def _prefixes(starts: NDArray[np.int64], rng: np.random.RandomState) -> NDArray[np.int64]:
    """Choose prefixes of each session, by the index of their last action; shape (sessions, PREFIXES)."""
    lengths = np.diff(starts)[:, np.newaxis]
    drawn = np.exp(rng.random_sample((len(lengths), PREFIXES)) * np.log(lengths + 1)).astype(np.int64) - 1
    drawn[:, 0] = lengths[:, 0] - 1
    ends: NDArray[np.int64] = starts[:-1, np.newaxis] + np.minimum(drawn, lengths - 1)
    return ends


def _logistic(
    features: NDArray[np.float64], truth: NDArray[np.bool_], base_rate: float
) -> tuple[list[float], float]:
    """Return weights and bias of a logistic regression; both kinds weigh as at the base rate."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  --help must not wait for it

    scale = features.std(axis=0)
    scale[scale < _CONSTANT] = np.inf  # what says nothing weighs nothing
    with one_thread():
        fitted = LogisticRegression(C=10, max_iter=1_000).fit(
            features / scale, truth, sample_weight=_weights(truth, base_rate)
        )
    return (fitted.coef_[0] / scale).tolist(), float(fitted.intercept_[0])


def _weights(truth: NDArray[np.bool_], base_rate: float) -> NDArray[np.float64]:
    share = min(max(base_rate, MIN_BASE_RATE), 1 - MIN_BASE_RATE)
    attacks = max(1, int(truth.sum()))
    return np.where(truth, share / attacks, (1 - share) / max(1, len(truth) - attacks)) * len(truth)
