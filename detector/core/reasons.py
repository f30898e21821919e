"""The reasons that an alert carries at once: the score after each action, and words for what weighed most.

They cost at most MAX_WINDOWS windows, since the block waits for them. Up to EXACT_ACTIONS actions they are Shapley
values. Beyond, an action's value is the mean of what the score gains from it alone and of what it loses without it:
the two of a Shapley value's sums that need no sample. Where these come to more than the score gained, they are scaled
down to it. ADR 0023 has the alternatives, held against exact values; those are computed on demand (`explaining`).
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from detector.contract.alerts import Alert, Cause
from detector.contract.explanations import Attribution
from detector.core.decision import Decided
from detector.core.encoding import Encoding
from detector.core.evidence import Evidence
from detector.core.shapley import all_coalitions, exact_values

Score = Callable[[NDArray[np.void]], NDArray[np.float32]]
"""Windows of shape (n, window), dtype `Encoding.step_dtype`, to n scores; a window's score does not depend on the others."""

MAX_ACTIONS = 32
"""Actions of a window that reasons are sought among, the last ones. Those before are taken for given."""
EXACT_ACTIONS = 6
MAX_WINDOWS = 3 * MAX_ACTIONS + 1
MAX_REASONS = 5
MIN_REASON = 0.01
"""Smallest value, of an action or its gap, that is put into words."""
_ALERTS_A_CALL = 64
_BREAKER_IS_OPEN = "review instead of block: the circuit breaker is open"
_DENIED = "the account is on the deny list"
_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1))
_TO = "–"  # noqa: RUF001  the dash of ranges


def with_reasons(
    decided: Decided, encoding: Encoding, score: Score, evidence: Evidence | None = None
) -> Decided:
    """Give each alert of a batch its reasons. The windows of up to _ALERTS_A_CALL alerts are scored in one call.

    With evidence they are reasons of the session's score: what was carried over to the alert's action is taken for
    given, and is a reason of its own.

    What an open circuit breaker turned into reviews is only told so: such reviews come in masses, and holding up
    everybody else for them would help nobody.
    """
    alerts: list[Alert] = []
    for begin in range(0, len(decided.alerts), _ALERTS_A_CALL):
        part = slice(begin, begin + _ALERTS_A_CALL)
        alerts += _reasoned(decided.alerts[part], decided.windows[part], encoding, score, evidence)
    return replace(decided, alerts=alerts)


def _reasoned(
    alerts: Sequence[Alert],
    windows: Sequence[bytes],
    encoding: Encoding,
    score: Score,
    evidence: Evidence | None,
) -> Iterator[Alert]:
    asked = [
        [] if alert.cause is Cause.CIRCUIT_BREAKER else windows_of(window, encoding.step_bytes)
        for alert, window in zip(alerts, windows, strict=True)
    ]
    all_asked = list(itertools.chain.from_iterable(asked))
    answers = iter(scored(all_asked, encoding, score) if all_asked else ())
    for alert, of_alert in zip(alerts, asked, strict=True):
        if of_alert:
            yield _with_reasons(alert, list(itertools.islice(answers, len(of_alert))), evidence)
        else:
            yield msgspec.structs.replace(alert, explanation=[_BREAKER_IS_OPEN])


def scored(windows: list[bytes], encoding: Encoding, score: Score) -> list[float]:
    """Score packed windows.

    Raises:
        ValueError: an answer is no score.
    """
    return checked(score(encoding.windows(windows)))


def checked(scores: NDArray[np.float32]) -> list[float]:
    """Return a model's answers if they are scores.

    Raises:
        ValueError: one is none.
    """
    if not np.all((scores >= 0) & (scores <= 1)):  # nor is NaN
        raise ValueError("the model scored a part of the window beyond 0 to 1: expected a number in between")
    answers: list[float] = scores.tolist()
    return answers


def windows_of(window: bytes, step_bytes: int) -> list[bytes]:
    """List the windows whose scores a window's reasons are made of, at most MAX_WINDOWS."""
    begin = max(0, len(window) - MAX_ACTIONS * step_bytes)
    given, ends = window[:begin], range(begin, len(window) + 1, step_bytes)
    steps = [window[end - step_bytes : end] for end in ends[1:]]
    if len(steps) <= EXACT_ACTIONS:
        return all_coalitions(steps)
    alone = [given + step for step in steps]
    without = [window[: end - step_bytes] + window[end:] for end in ends[1:]]
    return [*(window[:end] for end in ends), *alone, *without]


def _with_reasons(alert: Alert, answers: Sequence[float], evidence: Evidence | None) -> Alert:
    """Give an alert its reasons, from the scores of what `windows_of` listed."""
    count, number = min(len(alert.window), MAX_ACTIONS), alert.action_number
    scores, carried_value = scores_of(answers, count), 0.0
    if evidence is not None and isinstance(alert.carried, float):
        of_windows, (alone,) = scores, evidence.in_session(scores[-1:], 0.0, number)
        answers = evidence.in_session(answers, alert.carried, number)
        scores = scores_of(answers, count)
        carried_value = scores[-1] - alone
        if number == count:  # all of the session is there, and so what came to each action
            scores = [*evidence.session_scores(of_windows[:-1]), scores[-1]]
    attributions = [
        Attribution(action=action, gap_range_ms=gap_range_ms, value=value, gap_value=None)
        for action, gap_range_ms, value in zip(
            alert.window[-count:], alert.gap_ranges_ms[-count:], values_of(answers, count), strict=True
        )
    ]
    denied = [_DENIED] if alert.cause is Cause.DENY_LIST else []
    told = reasons(alert.window, attributions, number - 1, carried_value)
    return msgspec.structs.replace(alert, scores=scores, explanation=[*denied, *told])


def scores_of(answers: Sequence[float], count: int) -> list[float]:
    """Return the score after each of the last `count` actions, of what `windows_of` listed."""
    if count <= EXACT_ACTIONS:
        return [answers[(1 << size) - 1] for size in range(1, count + 1)]
    return list(answers[1 : count + 1])


def values_of(answers: Sequence[float], count: int) -> list[float]:
    """Return the value of each of the last actions.

    Args:
        answers: scores of what `windows_of` listed.
        count: of the actions, at most MAX_ACTIONS.
    """
    if count <= EXACT_ACTIONS:
        return exact_values(np.array(answers), count)
    baseline, whole = answers[0], answers[count]
    alone, without = answers[count + 1 : -count], answers[-count:]
    values = [(first - baseline + whole - last) / 2 for first, last in zip(alone, without, strict=True)]
    total, gained = math.fsum(values), whole - baseline
    scale = abs(gained / total) if abs(total) > abs(gained) else 1.0
    return [value * scale for value in values]


def reasons(
    window: Sequence[str],
    attributions: Sequence[Attribution],
    earlier_actions: int = 0,
    carried_value: float = 0.0,
) -> list[str]:
    """Put what mattered most into words, what weighs most first.

    Args:
        window: the actions scored.
        attributions: of the last of them.
        earlier_actions: how many the session had before the last of the window.
        carried_value: the score less what it would be with nothing carried over from those.
    """
    before = [None, *window][-len(attributions) - 1 : -1]
    told = [
        (abs(one.value), _words(one, before[at]))
        for at, one in enumerate(attributions)
        if max(abs(one.value), abs(one.gap_value or 0.0)) >= MIN_REASON
    ]
    if abs(carried_value) >= MIN_REASON:
        earlier = "the action before" if earlier_actions == 1 else f"the {earlier_actions:,} actions before"
        told.append((abs(carried_value), f"{earlier}: {carried_value:+z.2f}"))
    return [words for _, words in sorted(told, key=lambda one: one[0], reverse=True)[:MAX_REASONS]]


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
