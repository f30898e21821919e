"""Explaining an alert on demand: what each action of its window, and the gap before it, added to the score.

Nothing waits for it, so it may cost thousands of windows: exact Shapley values up to EXACT_ACTIONS actions, their
estimate from as many coalitions beyond, drawn from the alert's id. The same alert and model give the same bits.

Where a model reads signals, the values of the weightiest actions are shared out among their parts: Owen's values (1977)
of a game in which the actions are the unions, estimated from orders of arrival (ADR 0034).
"""

import uuid
from collections.abc import Sequence
from itertools import islice
from math import fsum
from typing import NamedTuple

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from detector.contract.alerts import Alert
from detector.contract.explanations import Attribution, Explanation, PartValue
from detector.core.encoding import Encoding
from detector.core.evidence import Evidence
from detector.core.parts import parts_of, without
from detector.core.reasons import Case, Score, case_of, checked, reasons, scored, weightiest, window_of
from detector.core.shapley import all_coalitions, coalitions_of, estimated_values, exact_values, layers

MAX_ACTIONS = 64
"""Actions of a window that are explained, the last ones. Those before are taken for given: part of the baseline."""
EXACT_ACTIONS = 11
MAX_COALITIONS = 2**EXACT_ACTIONS
"""Coalitions scored for one alert at most, be they all or a sample."""
MAX_GAP_ALTERNATIVES = 16
PART_ORDERS = 32
"""Orders of arrival that an action's value is shared out by."""
_THE_ACTION, _THE_GAP = "the action itself", "the gap"
SCORE_TOLERANCE = 1e-4
"""How far the score computed here may lie off the alert's: machines differ by up to 1e-5 (`detector.model.artifact`)."""
_FIRST_GAP_BUCKET = 2  # 0 pads, 1 is a session's first action


class NotExplainableError(ValueError):
    """The alert lacks what an explanation needs, or contradicts the model that it names."""


class Values(NamedTuple):
    """What the last actions of a window, at most MAX_ACTIONS, came to; lists have an entry for each of them.

    Attributes:
        baseline: score of the window without them.
        score: of the window.
        values: Shapley values; they sum to the window's score less the baseline, but for rounding (below 1e-12).
        exact: whether they are computed from all coalitions, and not estimated.
        gap_values: the score less its mean over other gaps in this one's place; None for an action without a gap.
    """

    baseline: float
    score: float
    values: list[float]
    exact: bool
    gap_values: list[float | None]


def explain(alert: Alert, encoding: Encoding, score: Score, evidence: Evidence | None = None) -> Explanation:
    """Explain an alert: the session's score, with what was carried over to the alert's action taken for given.

    Args:
        alert: as it was published.
        encoding: of the model that the alert names.
        score: of that model.
        evidence: of that model, if its windows add up.

    Raises:
        NotExplainableError: the alert does not hold the gaps of its window, as those of older versions don't, or what
            was carried over where the model does, or the model comes to another score.
    """
    try:
        window = window_of(alert, encoding)
        case, in_session, carried_value = case_of(alert, window), score, 0.0
        if evidence is not None:
            in_session = _in_session(score, evidence, case)
        seed = uuid.UUID(alert.alert_id)
        found = shapley_values(window, encoding, in_session, seed)
        parts = parts_values(window, encoding, in_session, found.values, seed) if encoding.signals else {}
        if evidence is not None:
            (alone,) = evidence.in_session(scored([window], encoding, score), 0.0, case.action_number)
            carried_value = found.score - alone
    except ValueError as error:
        raise NotExplainableError(f"alert {alert.alert_id}: {error}: expected one of a detector's") from error
    if not abs(found.score - alert.score) <= SCORE_TOLERANCE:
        raise NotExplainableError(
            f"alert {alert.alert_id} says {alert.score}, and its model gives its window {found.score}: expected the "
            "alert as it lies on the topic"
        )
    count = len(found.values)
    attributions = [
        Attribution(
            action=alert.window[at - count],
            gap_range_ms=alert.gap_ranges_ms[at - count],
            value=found.values[at],
            gap_value=found.gap_values[at],
            parts=parts.get(at, UNSET),
        )
        for at in range(count)
    ]
    return Explanation(
        alert_id=alert.alert_id,
        model=alert.model,
        score=found.score,
        baseline=found.baseline,
        attributions=attributions,
        exact=found.exact,
        explanation=reasons(alert.window, attributions, case.action_number - 1, carried_value),
        carried_value=UNSET if evidence is None else carried_value,
    )


def _in_session(score: Score, evidence: Evidence, case: Case) -> Score:
    """Return what scores a session by the window that ends with an action."""
    if (carried := case.carried) is None:
        raise ValueError("it does not say what was carried over, and its model adds evidence up")

    def in_session(windows: NDArray[np.void]) -> NDArray[np.float32]:
        of_windows = checked(score(windows))
        return np.array(evidence.in_session(of_windows, carried, case.action_number), np.float32)

    return in_session


def shapley_values(window: bytes, encoding: Encoding, score: Score, seed: uuid.UUID) -> Values:
    """Compute the values of one window's actions, in one call of the scorer.

    Args:
        window: packed, unpadded steps, at least one and at most the encoding's window.
        encoding: of the model.
        score: of the model.
        seed: decides which coalitions are sampled, where they are.

    Raises:
        ValueError: an answer is no score.
    """
    size_bytes = encoding.step_bytes
    all_steps = [window[at : at + size_bytes] for at in range(0, len(window), size_bytes)]
    given, steps = b"".join(all_steps[:-MAX_ACTIONS]), all_steps[-MAX_ACTIONS:]
    count = len(steps)
    exact = count <= EXACT_ACTIONS
    sampled = [] if exact else list(layers(count, seed, MAX_COALITIONS))
    coalitions = all_coalitions(steps) if exact else coalitions_of(steps, sampled)
    at_gap, other_gaps = _other_gaps(steps, encoding)

    asked = [given, window, *(given + one for one in (*coalitions, *other_gaps))]
    answers = iter(scored(asked, encoding, score))
    baseline, whole, *of_coalitions = islice(answers, 2 + len(coalitions))
    scores = np.array(of_coalitions)
    values = exact_values(scores, count) if exact else estimated_values(scores, sampled, baseline, whole)
    return Values(baseline, whole, values, exact, _gap_values(whole, count, at_gap, list(answers)))


def _other_gaps(steps: Sequence[bytes], encoding: Encoding) -> tuple[list[int], list[bytes]]:
    """Put other gaps in the place of each: return which step each variant is of, and the variants."""
    buckets = range(_FIRST_GAP_BUCKET, encoding.gap_buckets)
    buckets = buckets[:: -(-len(buckets) // MAX_GAP_ALTERNATIVES) or 1]
    window, at_gap, variants = b"".join(steps), [], []
    for index, step in enumerate(steps):
        if step[-1] < _FIRST_GAP_BUCKET:
            continue
        end = (index + 1) * encoding.step_bytes  # a step's last byte is its gap bucket
        at_gap += [index] * len(buckets)
        variants += [window[: end - 1] + bytes([bucket]) + window[end:] for bucket in buckets]
    return at_gap, variants


def _gap_values(
    whole: float, count: int, at_gap: Sequence[int], scores: Sequence[float]
) -> list[float | None]:
    others: list[list[float]] = [[] for _ in range(count)]
    for index, score in zip(at_gap, scores, strict=True):
        others[index].append(score)
    return [whole - fsum(one) / len(one) if one else None for one in others]


def parts_values(
    window: bytes, encoding: Encoding, score: Score, values: Sequence[float], seed: uuid.UUID
) -> dict[int, list[PartValue]]:
    """Share the values of the weightiest actions out among their parts, the weightiest part first.

    Actions arrive in a random order, and once again in its reverse; with an action come its parts, the action itself
    first, each of the others in a random order in place of what is usual: for the gap, another one drawn. What a part
    gains in the mean over the orders is its value. What is left to the action's value, which is known better, is shared
    out in proportion.

    Args:
        window: packed, unpadded steps.
        encoding: of the model.
        score: of the model.
        values: of the last actions.
        seed: decides the orders.

    Returns:
        by the action's index among the values.

    Raises:
        ValueError: an answer is no score.
    """
    size, count = encoding.step_bytes, len(values)
    first = len(window) - count * size
    given, steps = window[:first], [window[at : at + size] for at in range(first, len(window), size)]
    random = np.random.RandomState(np.frombuffer(seed.bytes, "<u4"))  # as the coalitions' (NEP 19)
    asked: list[bytes] = []
    names: dict[int, list[str]] = {}
    arrivals: list[tuple[int, list[int]]] = []
    for at in weightiest(values):
        parts, has_gap = parts_of(steps[at], encoding), steps[at][-1] >= _FIRST_GAP_BUCKET
        names[at] = [_THE_ACTION, *(one.words for one in parts), *([_THE_GAP] if has_gap else [])]
        for _ in range(PART_ORDERS // 2):
            others = random.permutation(count).tolist()
            turn = (1 + random.permutation(len(names[at]) - 1)).tolist()
            drawn = random.randint(_FIRST_GAP_BUCKET, encoding.gap_buckets) if has_gap else steps[at][-1]
            for before, order in ((others, turn), (others[::-1], turn[::-1])):
                there = sorted(before[: before.index(at)])
                head = given + b"".join(steps[one] for one in there if one < at)
                tail = b"".join(steps[one] for one in there if one > at)
                arrivals.append((at, order))
                asked.append(head + tail)
                for come in range(len(order) + 1):
                    missing = set(order[come:])
                    step = without(steps[at], [one for index, one in enumerate(parts, 1) if index in missing])
                    gap = bytes([drawn]) if len(parts) + 1 in missing else step[-1:]
                    asked.append(head + step[:-1] + gap + tail)
    answers = iter(scored(asked, encoding, score) if asked else ())
    gains = {at: [0.0] * len(of_action) for at, of_action in names.items()}
    for at, order in arrivals:
        last = next(answers)
        for part in (0, *order):
            last, before_it = next(answers), last
            gains[at][part] += (last - before_it) / PART_ORDERS
    return {at: _shared_out(values[at], names[at], gains[at]) for at in names}


def _shared_out(value: float, names: Sequence[str], gains: Sequence[float]) -> list[PartValue]:
    """Return an action's value as its parts': what they gained, and of what that leaves each its share."""
    rest, total = value - fsum(gains), fsum(map(abs, gains))
    shares = [abs(one) / total for one in gains] if total else [1.0, *[0.0] * (len(gains) - 1)]
    found = [
        PartValue(part=name, value=gain + rest * share)
        for name, gain, share in zip(names, gains, shares, strict=True)
    ]
    return sorted(found, key=lambda one: -abs(one.value))
