"""Shadow mode: what a challenger would decide on the same windows, beside what is decided."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from detector.contract.alerts import Alert, Cause, Decision
from detector.core.carrying import Weighed
from detector.core.decision import Policy, alert_of
from detector.core.encoding import Encoding
from detector.core.evidence import Evidence
from detector.core.memo import ScoreMemo
from detector.core.session import SHADOWED
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


class Verdicts(NamedTuple):
    """Whether the champion's and the challenger's score of an event reached their thresholds."""

    champion: bool
    challenger: bool


@dataclass(frozen=True, slots=True)
class Shadowed:
    """What a challenger comes to in a batch of one partition.

    Attributes:
        alerts: its blocks, the first of each session, in the order of the log and without explanations.
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
                    Decision.BLOCK,
                    Cause.SCORE,
                    policy,
                    encoding,
                    source,
                    now_ms(),
                )
            )
    return Shadowed(alerts, agreement, marks, weighed)
