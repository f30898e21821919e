"""The reasons that an alert carries at once: the score after each action, and words for what weighed most.

They cost at most MAX_WINDOWS windows, since the block waits for them. Up to EXACT_ACTIONS actions they are Shapley
values. Beyond, an action's value is the mean of what the score gains from it alone and of what it loses without it:
the two of a Shapley value's sums that need no sample. Where these come to more than the score gained, they are scaled
down to it. ADR 0023 has the alternatives, held against exact values; those are computed on demand (`explaining`).

Of a model with signals, the weightiest actions are told with the parts that counted (`parts`): the whole window is scored
without each part, at most MAX_PART_WINDOWS times, and what changes the odds by MIN_ODDS_RATIO is named (ADR 0034).
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from detector.contract.alerts import Alert, Cause
from detector.contract.explanations import Attribution
from detector.core.decision import Decided
from detector.core.encoding import Encoding
from detector.core.evidence import MIN_SCORE, Evidence
from detector.core.parts import Part, parts_of, without
from detector.core.shapley import all_coalitions, exact_values
from detector.core.wording import span

Score = Callable[[NDArray[np.void]], NDArray[np.float32]]
"""Windows of shape (n, window), dtype `Encoding.step_dtype`, to n scores; a window's score does not depend on the others."""

MAX_ACTIONS = 32
"""Actions of a window that reasons are sought among, the last ones. Those before are taken for given."""
EXACT_ACTIONS = 6
MAX_WINDOWS = 3 * MAX_ACTIONS + 1
MAX_REASONS = 5
MIN_REASON = 0.01
"""Smallest value, of an action or its gap, that is put into words."""
PARTED_ACTIONS = 3
"""The weightiest actions, whose parts are named …"""
MAX_PARTS = 16
"""… among so many of each …"""
MAX_PART_WINDOWS = PARTED_ACTIONS * MAX_PARTS
MIN_ODDS_RATIO = 1.5
"""… if the odds of an attack are so many times as high with the part as without, or as low."""
MAX_NAMED_PARTS = 3
"""Of an action, the weightiest."""
_ALERTS_A_CALL = 64
_TOLD = {
    Cause.CIRCUIT_BREAKER: ["challenge instead of block: the circuit breaker is open"],
    Cause.STEP_UP_FAILED: ["the second factor that the session was asked for failed"],
    Cause.RULE: [],  # its alert tells the rule
}
"""Of alerts that are told and not explained, what is told before what they tell themselves."""
_DENIED = "the account is on the deny list"


class Case(NamedTuple):
    """What reasons are asked of.

    Attributes:
        window: packed, unpadded steps.
        action_number: of the last of them in its session.
        carried: evidence carried over to it; None of a model whose windows stand alone.
    """

    window: bytes
    action_number: int
    carried: float | None = None


class Reasons(NamedTuple):
    """The score after each of the last actions, and in words what weighed most, the weightiest first."""

    scores: list[float]
    words: list[str]


def with_reasons(
    decided: Decided, encoding: Encoding, score: Score, evidence: Evidence | None = None
) -> Decided:
    """Give each alert of a batch its reasons. The windows of up to _ALERTS_A_CALL alerts are scored in one call.

    What an open circuit breaker turned into challenges is only told so: such come in masses, and holding up everybody
    else for them would help nobody. A rule's alert tells the rule, for the same reason. A failed second factor is no doing
    of the model's; what was, its challenge tells.
    """
    alerts = [
        msgspec.structs.replace(one, explanation=[*told, *one.explanation])
        if (told := _TOLD.get(one.cause))
        else one
        for one in decided.alerts
    ]
    asked = [at for at, one in enumerate(alerts) if one.cause not in _TOLD]
    for begin in range(0, len(asked), _ALERTS_A_CALL):
        part = asked[begin : begin + _ALERTS_A_CALL]
        cases = [case_of(alerts[at], decided.windows[at]) for at in part]
        for at, (scores, words) in zip(part, reasons_of(cases, encoding, score, evidence), strict=True):
            denied = [_DENIED] if alerts[at].cause is Cause.DENY_LIST else []
            alerts[at] = msgspec.structs.replace(alerts[at], scores=scores, explanation=[*denied, *words])
    return replace(decided, alerts=alerts)


def case_of(alert: Alert, window: bytes) -> Case:
    """Return what reasons of an alert are asked of; `window` is the one that it was decided on."""
    return Case(window, alert.action_number, alert.carried if isinstance(alert.carried, float) else None)


def window_of(alert: Alert, encoding: Encoding) -> bytes:
    """Rebuild the packed window that an alert was decided on.

    Raises:
        ValueError: it does not hold what it takes, as those of older versions don't, or contradicts the model.
    """
    count, codes = len(alert.window), encoding.signals.codes
    if len(alert.gap_ranges_ms) != count or not count:
        raise ValueError(
            f"it has {len(alert.gap_ranges_ms)} gaps for the {count} actions of its window: expected one each. An alert "
            "of an older version can't be explained any more"
        )
    signals = [[]] * count if alert.signals is msgspec.UNSET and not codes else alert.signals
    if signals is msgspec.UNSET or len(signals) != count:
        raise ValueError(
            f"it has no signals of each of the {count} actions of its window: expected the {len(codes)} that its model "
            "reads. Without them it can't be explained"
        )
    for one in signals:
        if len(one) != len(codes) or not all(0 < code < end for code, end in zip(one, codes, strict=True)):
            raise ValueError(f"it has the signals {one}: expected a code from 1 and below {codes} each")
    return b"".join(
        encoding.step(action, None if gap is None else gap[0], bytes(one))
        for action, gap, one in zip(alert.window, alert.gap_ranges_ms, signals, strict=True)
    )


def reasons_of(
    cases: Sequence[Case], encoding: Encoding, score: Score, evidence: Evidence | None = None
) -> list[Reasons]:
    """Return the reasons of each case, from one call of the scorer, or from two where there are signals.

    With evidence they are reasons of the session's score: what was carried over to the last action is taken for given,
    and is a reason of its own.
    """
    asked = [windows_of(case.window, encoding.step_bytes) for case in cases]
    found = [
        _found(case, answers, encoding, evidence)
        for case, answers in zip(cases, _scored_each(asked, encoding, score), strict=True)
    ]
    parts = [_parts_of(case, one, encoding) for case, one in zip(cases, found, strict=True)]
    asked = [[window for _, _, window in one] for one in parts]
    answers = _scored_each(asked, encoding, score)
    return [
        Reasons(
            one.scores,
            reasons(
                encoding.actions(case.window),
                one.attributions,
                case.action_number - 1,
                one.carried_value,
                _named(one, of_case, _in_session(scores, case, evidence)),
            ),
        )
        for case, one, of_case, scores in zip(cases, found, parts, answers, strict=True)
    ]


def _scored_each(asked: Sequence[Sequence[bytes]], encoding: Encoding, score: Score) -> list[list[float]]:
    """Score the windows of each case, all in one call."""
    windows = list(itertools.chain.from_iterable(asked))
    answers = iter(scored(windows, encoding, score) if windows else ())
    return [list(itertools.islice(answers, len(one))) for one in asked]


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
    left_out = [window[: end - step_bytes] + window[end:] for end in ends[1:]]
    return [*(window[:end] for end in ends), *alone, *left_out]


class _Found(NamedTuple):
    """What a case came to, but for its parts; the attributions are of its last actions."""

    scores: list[float]
    attributions: list[Attribution]
    carried_value: float


def _in_session(scores: Sequence[float], case: Case, evidence: Evidence | None) -> list[float]:
    """Return what the session would score if its window scored this."""
    if evidence is None or case.carried is None:
        return list(scores)
    return evidence.in_session(scores, case.carried, case.action_number)


def _found(case: Case, answers: Sequence[float], encoding: Encoding, evidence: Evidence | None) -> _Found:
    """Return what the scores of what `windows_of` listed come to."""
    actions, gap_ranges_ms = encoding.actions(case.window), encoding.gap_ranges_ms(case.window)
    count, number = min(len(actions), MAX_ACTIONS), case.action_number
    of_windows, answers = scores_of(answers, count), _in_session(answers, case, evidence)
    scores, carried_value = scores_of(answers, count), 0.0
    if evidence is not None and case.carried is not None:
        carried_value = scores[-1] - evidence.in_session(of_windows[-1:], 0.0, number)[0]
        if number == count:  # all of the session is there, and so what came to each action
            scores = [*evidence.session_scores(of_windows[:-1]), scores[-1]]
    attributions = [
        Attribution(action=action, gap_range_ms=gap_range_ms, value=value, gap_value=None)
        for action, gap_range_ms, value in zip(
            actions[-count:], gap_ranges_ms[-count:], values_of(answers, count), strict=True
        )
    ]
    return _Found(scores, attributions, carried_value)


def _parts_of(case: Case, found: _Found, encoding: Encoding) -> list[tuple[int, Part, bytes]]:
    """List parts of the weightiest actions, each with the index of its attribution and the window without it."""
    listed: list[tuple[int, Part, bytes]] = []
    window, size, count = case.window, encoding.step_bytes, len(found.attributions)
    for at in weightiest([one.value for one in found.attributions]) if encoding.signals else ():
        begin = len(window) - (count - at) * size
        step = window[begin : begin + size]
        listed += [
            (at, part, window[:begin] + without(step, [part]) + window[begin + size :])
            for part in parts_of(step, encoding)[:MAX_PARTS]
        ]
    return listed


def weightiest(values: Sequence[float]) -> list[int]:
    """Return which actions are told with their parts, given what each came to."""
    heavy = [at for at, value in enumerate(values) if abs(value) >= MIN_REASON]
    return sorted(heavy, key=lambda at: -abs(values[at]))[:PARTED_ACTIONS]


def _named(
    found: _Found, parts: Sequence[tuple[int, Part, bytes]], scores: Sequence[float]
) -> dict[int, list[str]]:
    """Return by attribution the words of the parts that weigh with it, from the scores without each."""
    whole = _odds(found.scores[-1])
    weights: dict[int, list[tuple[float, str]]] = {}
    for (at, part, _), less in zip(parts, scores, strict=True):
        ratio = whole / _odds(less) if found.attributions[at].value > 0 else _odds(less) / whole
        if ratio >= MIN_ODDS_RATIO:
            weights.setdefault(at, []).append((-ratio, part.words))
    return {
        at: [words for _, words in sorted(of_action, key=lambda one: one[0])[:MAX_NAMED_PARTS]]
        for at, of_action in weights.items()
    }


def _odds(score: float) -> float:
    clipped = min(max(score, MIN_SCORE), 1 - MIN_SCORE)
    return clipped / (1 - clipped)


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
    named: Mapping[int, Sequence[str]] | None = None,
) -> list[str]:
    """Put what mattered most into words, what weighs most first.

    Args:
        window: the actions scored.
        attributions: of the last of them.
        earlier_actions: how many the session had before the last of the window.
        carried_value: the score less what it would be with nothing carried over from those.
        named: by attribution, what is told of its parts where they have no values.
    """
    before = [None, *window][-len(attributions) - 1 : -1]
    told = [
        (abs(one.value), _words(one, before[at], (named or {}).get(at, ())))
        for at, one in enumerate(attributions)
        if max(abs(one.value), abs(one.gap_value or 0.0)) >= MIN_REASON
    ]
    if abs(carried_value) >= MIN_REASON:
        earlier = "the action before" if earlier_actions == 1 else f"the {earlier_actions:,} actions before"
        told.append((abs(carried_value), f"{earlier}: {carried_value:+z.2f}"))
    return [words for _, words in sorted(told, key=lambda one: one[0], reverse=True)[:MAX_REASONS]]


def _words(attribution: Attribution, before: str | None, named: Sequence[str]) -> str:
    words = attribution.action
    if attribution.gap_range_ms is not None:
        words += f" {span(*attribution.gap_range_ms)} after {before or 'the action before'}"
    elif before is not None:
        words += f" after {before}"
    words = f"{', '.join([words, *named])}: {attribution.value:+z.2f}"
    if attribution.parts:
        heavy = [one for one in attribution.parts[:MAX_NAMED_PARTS] if abs(one.value) >= MIN_REASON]
        words += f" ({'; '.join(f'{one.part}: {one.value:+z.2f}' for one in heavy)})" if heavy else ""
    elif attribution.gap_value is not None and abs(attribution.gap_value) >= MIN_REASON:
        words += f" (the gap: {attribution.gap_value:+z.2f})"
    return words
