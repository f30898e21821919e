"""Shadow mode: what a challenger would decide on the same windows, beside what is decided."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from detector.contract.alerts import Cause, Decision
from detector.core.decision import Decided, Policy, Shadowed, Verdicts, alert_of, marks_before
from detector.core.encoding import Encoding
from detector.core.memo import ScoreMemo
from detector.core.partition import Partition
from detector.core.session import SHADOWED, with_marks
from detector.core.staging import Staged


class Challenger(NamedTuple):
    """A model that decides nothing.

    Attributes:
        policy: its threshold, and its name for the alerts.
        memo: scores its windows.
    """

    policy: Policy
    memo: ScoreMemo


def shadowed(
    decided: Decided,
    partition: Partition,
    staged: Staged,
    challenger: Challenger,
    *,
    champion_scores: Sequence[float],
    champion: Policy,
    encoding: Encoding,
    source: tuple[str, int],
    now_ms: Callable[[], int],
) -> Decided:
    """Add to a batch what a challenger comes to, by its scores alone: lists and the circuit breaker overrule models.

    Marks the sessions in what the batch changes, so that each is told once, through crashes as well.

    Args:
        decided: what `decide` returned; its delta's packed sessions are given the challenger's mark here.
        partition: the committed state; not changed.
        staged: what `stage` returned for it.
        challenger: scores the same windows.
        champion_scores: of the model that decides, one for each candidate.
        champion: what decides.
        encoding: of both models.
        source: topic and partition of the events.
        now_ms: the clock, read once for each alert.
    """
    scores = challenger.memo.scores([candidate.steps for candidate in staged.candidates])
    result = Shadowed([], Counter())
    told: dict[str, bool] = {}
    for candidate, score, champion_score in zip(staged.candidates, scores, champion_scores, strict=True):
        session_id = candidate.event.session_id
        if candidate.action_number == 1:  # a session that begins, or begins again, has no marks
            told[session_id] = False
        reached = score >= challenger.policy.threshold
        result.agreement[Verdicts(champion_score >= champion.threshold, reached)] += 1
        if not reached:
            continue
        if session_id not in told:
            told[session_id] = marks_before(partition, session_id) & SHADOWED != 0
        if not told[session_id]:
            told[session_id] = True
            alert = alert_of(
                candidate, score, Decision.BLOCK, Cause.SCORE, challenger.policy, encoding, source, now_ms()
            )
            result.alerts.append(alert)
    touched = decided.delta.touched
    for session_id, is_told in told.items():
        if is_told and session_id in touched:
            touched[session_id] = with_marks(touched[session_id], SHADOWED)
    return replace(decided, shadowed=result)
