"""Explaining an alert: what each action of its window, and the gap before it, added to the score.

Values are Shapley values (Shapley 1953) of the game in which an absent action is taken out of the window: what is
left moves together, and each action keeps the gap it had. Every coalition is scored up to EXACT_ACTIONS actions;
beyond, Kernel SHAP (Lundberg and Lee 2017) estimates them from all of the smallest and largest coalitions and from
pairs of complements of the sizes between (Covert and Lee 2021), drawn from the alert's id. Sums are exact or exactly
rounded, so that nothing depends on the batch, the worker or a BLAS, but only on the scores. ADR 0011 has the
alternatives and the errors measured.
"""

import functools
import itertools
import math
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from detector.contract.alerts import Alert, Attribution, Cause
from detector.core.decision import Decided
from detector.core.encoding import STEP_BYTES, STEP_DTYPE, Encoding

Score = Callable[[NDArray[np.void]], NDArray[np.float32]]
"""Windows of shape (n, window), dtype STEP_DTYPE, to n scores; a window's score does not depend on the others."""

MAX_ACTIONS = 64
"""Actions of a window that are explained, the last ones. Those before are taken for given: part of the baseline."""
EXACT_ACTIONS = 11
MAX_COALITIONS = 2**EXACT_ACTIONS
"""Coalitions scored for one alert at most, be they all or a sample."""
MAX_GAP_ALTERNATIVES = 16
MAX_REASONS = 5
MIN_REASON = 0.01
"""Smallest value, of an action or its gap, that is put into words."""
_BREAKER_IS_OPEN = "review instead of block: the circuit breaker is open"
_DENIED = "the account is on the deny list"
_FIRST_GAP_BUCKET = 2  # 0 pads, 1 is a session's first action
_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1))
_TO = "–"  # noqa: RUF001  the dash of ranges


class Explanation(NamedTuple):
    """What the last actions of a window, at most MAX_ACTIONS, came to; lists have an entry for each of them.

    Attributes:
        baseline: score of the window without them.
        values: Shapley values; they sum to the window's score less the baseline, but for rounding (below 1e-12).
        exact: whether they are computed from all coalitions, and not estimated.
        gap_values: the score less its mean over other gaps in this one's place; None for an action without a gap.
        scores: the score of the window up to and with each action.
    """

    baseline: float
    values: list[float]
    exact: bool
    gap_values: list[float | None]
    scores: list[float]


def explained(decided: Decided, encoding: Encoding, score: Score) -> Decided:
    """Give each alert of a batch its explanation. The scores of one alert are computed in one call.

    What an open circuit breaker turned into reviews is only told so: such reviews come in masses, and explaining them
    all would hold up everybody else.
    """
    alerts = [
        _with_explanation(alert, steps, encoding, score)
        for alert, steps in zip(decided.alerts, decided.windows, strict=True)
    ]
    return replace(decided, alerts=alerts)


def explain(window: bytes, encoding: Encoding, score: Score, seed: uuid.UUID) -> Explanation:
    """Explain the score of one window.

    Args:
        window: packed, unpadded steps, at least one and at most the encoding's window.
        encoding: of the model.
        score: of the model.
        seed: decides which permutations are sampled, where they are.
    """
    all_steps = [window[at : at + STEP_BYTES] for at in range(0, len(window), STEP_BYTES)]
    given, steps = b"".join(all_steps[:-MAX_ACTIONS]), all_steps[-MAX_ACTIONS:]
    count = len(steps)
    exact = count <= EXACT_ACTIONS
    layers = [] if exact else list(_layers(count, seed))
    coalitions = _all_coalitions(steps) if exact else _coalitions(steps, layers)
    prefixes = list(itertools.accumulate(steps, initial=b""))
    at_gap, other_gaps = _other_gaps(steps, encoding)

    asked = [given + one for one in (*prefixes, *coalitions, *other_gaps)]
    answers = iter(score(encoding.windows(asked)).tolist())
    baseline, *scores = itertools.islice(answers, len(prefixes))
    of_coalitions = np.array(list(itertools.islice(answers, len(coalitions))))
    gap_values = _gap_values(scores[-1], count, at_gap, list(answers))
    if exact:
        values = _exact_values(of_coalitions, count)
    else:
        values = _estimated_values(of_coalitions, layers, baseline, scores[-1])
    return Explanation(baseline, values, exact, gap_values, scores)


def _all_coalitions(steps: Sequence[bytes]) -> list[bytes]:
    """List the packed steps of every coalition: bit i of its number tells whether step i is in it."""
    coalitions = [b""]
    for step in steps:
        coalitions += [one + step for one in coalitions]
    return coalitions


def _exact_values(scores: NDArray[np.float64], count: int) -> list[float]:
    """Weigh the gain of each action over every coalition without it (Shapley's formula)."""
    without, joined, weights = _pairs(count)
    gains = (scores[joined] - scores[without]) * weights
    return [math.fsum(of_one) for of_one in gains.tolist()]


@functools.cache  # for counts up to EXACT_ACTIONS
def _pairs(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """List for each action the coalitions without it, the same joined by it, and their weights.

    Returns:
        three arrays of shape (count, 2 ** (count - 1)).
    """
    numbers = np.arange(1 << count)
    sizes = np.sum([numbers >> bit & 1 for bit in range(count)], axis=0)
    by_size = np.array([1 / (count * math.comb(count - 1, size)) for size in range(count)])
    without = np.array([numbers[numbers >> bit & 1 == 0] for bit in range(count)])
    joined = without | 1 << np.arange(count)[:, None]
    return without, joined, by_size[sizes[without]]


class _Layer(NamedTuple):
    """Coalitions of one size and their complements: all there are, or a sample that stands for them.

    Attributes:
        weight: Shapley kernel of one of them.
        members: shape (coalitions, actions).
    """

    weight: float
    members: NDArray[np.bool_]


def _layers(count: int, seed: uuid.UUID) -> Iterator[_Layer]:
    """Share MAX_COALITIONS among the sizes by the kernel's weight, the smallest and largest first."""
    # RandomState and not Generator: its stream is frozen for good (NEP 19).
    random = np.random.RandomState(np.frombuffer(seed.bytes, "<u4"))
    sizes = range(1, count // 2 + 1)
    kernel = {size: (count - 1) / (size * (count - size)) * (1 if 2 * size == count else 2) for size in sizes}
    room = MAX_COALITIONS
    for size in sizes:
        share = int(room * kernel[size] / math.fsum(kernel[other] for other in sizes[size - 1 :]))
        halves = 2 * size == count
        if math.comb(count, size) * (1 if halves else 2) <= share:
            drawn = np.array(list(itertools.combinations(range(count), size)))
        else:
            drawn = np.array([random.permutation(count)[:size] for _ in range(share // 2)])
            halves = False
        members = np.zeros((len(drawn), count), np.bool_)
        np.put_along_axis(members, drawn, values=True, axis=1)
        members = members if halves else np.concatenate([members, ~members])
        room -= len(members)
        yield _Layer(kernel[size] / len(members), members)


def _coalitions(steps: Sequence[bytes], layers: Sequence[_Layer]) -> list[bytes]:
    """List the packed steps of the layers' coalitions."""
    rows = itertools.chain.from_iterable(layer.members.tolist() for layer in layers)
    return [b"".join(itertools.compress(steps, row)) for row in rows]


def _estimated_values(
    scores: NDArray[np.float64], layers: Sequence[_Layer], baseline: float, whole: float
) -> list[float]:
    """Fit a sum to the scores by least squares under the kernel's weights, with the right sum for all actions."""
    count = layers[0].members.shape[1]
    normal, right = np.zeros((count - 1, count - 1)), np.zeros(count - 1)
    begin = 0
    for weight, members in layers:
        # The last action's value is the rest of the sum, which takes it out of the unknowns.
        rows = members[:, :-1].astype(np.float64) - members[:, -1:]
        seen = scores[begin : begin + len(rows)] - baseline - members[:, -1] * (whole - baseline)
        begin += len(rows)
        normal += weight * (rows.T @ rows)  # of whole numbers: exact, in whatever order they are added
        right += weight * np.array([math.fsum(column) for column in (rows.T * seen).tolist()])
    values = _solve(normal, right)
    return [*values, math.fsum([whole, -baseline, *(-value for value in values)])]


def _solve(matrix: NDArray[np.float64], right: NDArray[np.float64]) -> list[float]:
    """Solve a positive definite system, which needs no pivots; by elementwise steps, whose bits are no BLAS's."""
    size = len(right)
    for at in range(size):
        factors = matrix[at + 1 :, at] / matrix[at, at]
        matrix[at + 1 :] -= factors[:, None] * matrix[at]
        right[at + 1 :] -= factors * right[at]
    solution = np.zeros(size)
    for at in reversed(range(size)):
        known = math.fsum((matrix[at, at + 1 :] * solution[at + 1 :]).tolist())
        solution[at] = (right[at] - known) / matrix[at, at]
    values: list[float] = solution.tolist()
    return values


def _other_gaps(steps: Sequence[bytes], encoding: Encoding) -> tuple[list[int], list[bytes]]:
    """Put other gaps in the place of each: return which step each variant is of, and the variants."""
    buckets = range(_FIRST_GAP_BUCKET, encoding.gap_buckets)
    buckets = buckets[:: -(-len(buckets) // MAX_GAP_ALTERNATIVES) or 1]
    window, at_gap, variants = b"".join(steps), [], []
    for index, step in enumerate(steps):
        if step[-1] < _FIRST_GAP_BUCKET:
            continue
        end = (index + 1) * STEP_BYTES  # a step's last byte is its gap bucket
        at_gap += [index] * len(buckets)
        variants += [window[: end - 1] + bytes([bucket]) + window[end:] for bucket in buckets]
    return at_gap, variants


def _gap_values(
    whole: float, count: int, at_gap: Sequence[int], scores: Sequence[float]
) -> list[float | None]:
    others: list[list[float]] = [[] for _ in range(count)]
    for index, score in zip(at_gap, scores, strict=True):
        others[index].append(score)
    return [whole - math.fsum(one) / len(one) if one else None for one in others]


def _with_explanation(alert: Alert, window: bytes, encoding: Encoding, score: Score) -> Alert:
    if alert.cause is Cause.CIRCUIT_BREAKER:
        return msgspec.structs.replace(alert, explanation=[_BREAKER_IS_OPEN])
    explanation = explain(window, encoding, score, uuid.UUID(alert.alert_id))
    buckets = np.frombuffer(window, STEP_DTYPE)["gap"].tolist()
    attributions = [
        Attribution(
            action=action, gap_range_ms=encoding.gap_range_ms(bucket), value=value, gap_value=gap_value
        )
        for action, bucket, value, gap_value in zip(
            alert.window[-MAX_ACTIONS:],
            buckets[-MAX_ACTIONS:],
            explanation.values,
            explanation.gap_values,
            strict=True,
        )
    ]
    return msgspec.structs.replace(
        alert,
        scores=explanation.scores,
        baseline=explanation.baseline,
        attributions=attributions,
        attributions_exact=explanation.exact,
        explanation=[
            *([_DENIED] if alert.cause is Cause.DENY_LIST else []),
            *reasons(alert.window, attributions),
        ],
    )


def reasons(window: Sequence[str], attributions: Sequence[Attribution]) -> Iterator[str]:
    """Put what mattered most into words, the weightiest first.

    Args:
        window: the actions scored.
        attributions: of the last of them.
    """
    before = [None, *window][-len(attributions) - 1 : -1]

    def weight(at: int) -> float:
        return max(abs(attributions[at].value), abs(attributions[at].gap_value or 0.0))

    for at in sorted(range(len(attributions)), key=weight, reverse=True)[:MAX_REASONS]:
        if weight(at) >= MIN_REASON:
            yield _words(attributions[at], before[at])


def _words(attribution: Attribution, before: str | None) -> str:
    words = attribution.action
    if attribution.gap_range_ms is not None:
        words += f" {_span(*attribution.gap_range_ms)} after {before or 'the action before'}"
    elif before is not None:
        words += f" after {before}"
    words += f": {attribution.value:+z.2f}"
    if attribution.gap_value is not None and abs(attribution.gap_value) >= MIN_REASON:
        words += f" (the gap: {attribution.gap_value:+z.2f})"
    return words


def _span(low_ms: int, high_ms: int | None) -> str:
    """Name a range of time: under its end, from one end to the other, or its start or more."""
    low, low_unit = _amount(low_ms)
    if high_ms is None:
        return f"{low} {low_unit} or more"
    high, high_unit = _amount(high_ms)
    if low_ms == 0:
        return f"under {high} {high_unit}"
    return f"{low}{'' if low_unit == high_unit else ' ' + low_unit}{_TO}{high} {high_unit}"


def _amount(ms: int) -> tuple[str, str]:
    unit, unit_ms = next(((unit, size) for unit, size in _UNITS if ms >= size), _UNITS[-1])
    return f"{ms / unit_ms:.3g}", unit
