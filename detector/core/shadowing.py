"""Shadow mode: what a challenger, or a rule on trial, would decide on the same windows, beside what is decided."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from detector.contract.alerts import Alert, Cause, Decision
from detector.core.carrying import Weighed
from detector.core.decision import Judged, Policy, alert_of
from detector.core.encoding import Encoding
from detector.core.evidence import Evidence
from detector.core.memo import ScoreMemo
from detector.core.ruling import Rule, Ruled, Then
from detector.core.session import RULE_SHADOWED, SHADOWED
from detector.core.staging import Candidate


class Challenger(NamedTuple):
    """A model that decides nothing.

    Attributes:
        policy: its threshold, and its name for the alerts.
        memo: scores its windows.
        evidence: how these add up, if they do.
    """

    policy: Policy
    memo: ScoreMemo
    evidence: Evidence | None = None

    def scores(self, candidates: Sequence[Candidate]) -> list[float]:
        """Score what can be scored; the rest is NaN. What a challenger can't do is held against it alone."""
        try:
            return self.memo.of(candidates)
        except Exception:  # noqa: BLE001  whatever it is
            if len(candidates) == 1:
                return [math.nan]
        return [one for candidate in candidates for one in self.scores([candidate])]


class Verdicts(NamedTuple):
    """Whether the champion's and the challenger's score of an event reached their thresholds."""

    champion: bool
    challenger: bool


@dataclass(frozen=True, slots=True)
class Shadowed:
    """What a challenger, or rules in shadow, come to in a batch of one partition.

    Attributes:
        alerts: what it would block, or they decide, the first of each session, in the order of the log and without explanations.
        agreement: scored events, by the verdicts of both.
        marks: of the sessions that were told of.
        weighed: what it carries on.
    """

    alerts: list[Alert]
    agreement: Counter[Verdicts]
    marks: dict[str, int]
    weighed: Weighed


def shadowed(
    candidates: Sequence[Candidate],
    weighed: Weighed,
    champion_scores: Sequence[float],
    *,
    policy: Policy,
    champion: Policy,
    encoding: Encoding,
    source: tuple[str, int],
    now_ms: Callable[[], int],
) -> Shadowed:
    """Work out what a challenger comes to, by its scores alone: lists and the circuit breaker overrule models.

    Args:
        candidates: as staged.
        weighed: the challenger's scores, one for each. What is no score, not a number or above 1, reaches no threshold.
        champion_scores: of the model that decides, likewise.
        policy: the challenger's.
        champion: what decides.
        encoding: of both models.
        source: topic and partition of the events.
        now_ms: the clock, read once for each alert.
    """
    alerts: list[Alert] = []
    agreement: Counter[Verdicts] = Counter()
    marks: dict[str, int] = {}
    for candidate, score, champion_score in zip(candidates, weighed.scores, champion_scores, strict=True):
        if not candidate.is_step:
            continue
        session_id = candidate.key
        if candidate.begins:  # a session that begins, or begins again, has no marks
            marks[session_id] = 0
        reached = policy.threshold <= score <= 1
        agreement[Verdicts(champion_score >= champion.threshold, reached)] += 1
        if reached and not marks.setdefault(session_id, candidate.marks) & SHADOWED:
            marks[session_id] |= SHADOWED
            alerts.append(
                alert_of(
                    candidate,
                    score,
                    weighed.before,
                    Judged(Decision.BLOCK, Cause.SCORE),
                    policy,
                    encoding,
                    source,
                    now_ms(),
                )
            )
    return Shadowed(alerts, agreement, marks, weighed)


def ruled_in_shadow(
    candidates: Sequence[Candidate],
    weighed: Weighed,
    ruled: Ruled,
    *,
    policy: Policy,
    encoding: Encoding,
    source: tuple[str, int],
    now_ms: Callable[[], int],
) -> Shadowed:
    """Tell of what rules in shadow would decide: of each session the first event at which one holds, by the first of them.

    One that would allow is only counted.

    Args:
        candidates: as staged.
        weighed: the scores of the model that decides.
        ruled: rules that hold at the events.
        policy: what decides.
        encoding: of the model.
        source: topic and partition of the events.
        now_ms: the clock, read once for each alert.
    """
    alerts: list[Alert] = []
    marks: dict[str, int] = {}
    told = {offset: rule for offset, rules in ruled.items() for rule in reversed(rules) if _is_told(rule)}
    for candidate, score in zip(candidates, weighed.scores, strict=True) if told else ():
        if candidate.begins:
            marks[candidate.key] = 0
        rule = told.get(candidate.offset)
        if rule is None or marks.setdefault(candidate.key, candidate.marks) & RULE_SHADOWED:
            continue
        marks[candidate.key] |= RULE_SHADOWED
        judged = Judged(Decision(rule.then.value), Cause.RULE, rule)
        alerts.append(alert_of(candidate, score, weighed.before, judged, policy, encoding, source, now_ms()))
    return Shadowed(alerts, Counter(), marks, Weighed([]))


def _is_told(rule: Rule) -> bool:
    return rule.shadow and rule.then is not Then.ALLOW
