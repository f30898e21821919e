"""Decisions: from the scores of a staged batch to alerts and to what the batch changes."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from detector.contract.accounts import Listing
from detector.contract.alerts import Alert, Cause, Decision, ModelReference, SourcePosition, alert_id
from detector.core.breaker import Breaker, BreakerLimits
from detector.core.encoding import Encoding
from detector.core.partition import Delta, Partition
from detector.core.session import BLOCKED, REACHED, REVIEWED, marks, with_marks
from detector.core.staging import Candidate, Staged


@dataclass(frozen=True, slots=True)
class Policy:
    """What decides: a score at or above `threshold` blocks, in the name of `model`.

    Attributes:
        threshold: above 0, at most 1.
        model: which one scores.
        review_threshold: a score at or above it, and below `threshold`, is published for review. None reviews nothing.
        breaker: when blocks become reviews; None lets all of them through.
    """

    threshold: float
    model: ModelReference
    review_threshold: float | None = None
    breaker: BreakerLimits | None = None


class Suppression(StrEnum):
    """Why a score that reached a threshold was not published."""

    ALREADY_BLOCKED = "already_blocked"
    ALREADY_REVIEWED = "already_reviewed"
    ALLOW_LIST = "allow_list"


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
    """

    alerts: list[Alert]
    agreement: Counter[Verdicts]


@dataclass(frozen=True, slots=True)
class Decided:
    """The outcome of a batch of one partition.

    Attributes:
        alerts: in the order of the log, without explanations.
        suppressed: how often something was not published, by reason.
        delta: what the batch changes, to be committed with the alerts and then applied.
        windows: packed steps that each alert was decided on.
        trips: how often the circuit breaker opened.
        shadowed: what a challenger comes to, if there is one.
    """

    alerts: list[Alert]
    suppressed: Counter[Suppression]
    delta: Delta
    windows: list[bytes] = field(default_factory=list)
    trips: int = 0
    shadowed: Shadowed | None = None


def decide(
    partition: Partition,
    staged: Staged,
    scores: Sequence[float],
    *,
    policy: Policy,
    encoding: Encoding,
    source: tuple[str, int],
    next_offset: int,
    now_ms: Callable[[], int],
) -> Decided:
    """Decide on each scored event, in order. A session is reviewed once and blocked once, until it ends or expires.

    Args:
        partition: the committed state; not changed.
        staged: what `stage` returned for it. Its packed sessions are given their marks here.
        scores: one for each candidate.
        policy: thresholds, circuit breaker and model.
        encoding: of the model, to name the window's actions.
        source: topic and partition of the events.
        next_offset: input offset after the batch, records that were not scored included.
        now_ms: the clock, read once for each alert.
    """
    alerts: list[Alert] = []
    windows: list[bytes] = []
    suppressed: Counter[Suppression] = Counter()
    breaker = Breaker(policy.breaker, partition.breaker)
    marked: dict[str, int] = {}
    lowest = (
        policy.threshold
        if policy.review_threshold is None
        else min(policy.review_threshold, policy.threshold)
    )
    for candidate, score in zip(staged.candidates, scores, strict=True):
        if candidate.action_number == 1:  # a session that begins, or begins again, has no marks
            marked[candidate.event.session_id] = 0
            breaker.is_open(candidate.stream_time_ms, begun=1)
        if score < lowest and candidate.listing is None:
            continue
        session_id = candidate.event.session_id
        if session_id not in marked:
            marked[session_id] = marks_before(partition, session_id)
        verdict = _judge(candidate, score, marked[session_id], policy, breaker)
        if verdict is None:
            continue
        if isinstance(verdict, Suppression):
            suppressed[verdict] += 1
        else:
            decision, cause = verdict
            marked[session_id] |= BLOCKED if decision is Decision.BLOCK else REVIEWED
            alerts.append(alert_of(candidate, score, decision, cause, policy, encoding, source, now_ms()))
            windows.append(candidate.steps)
        if score >= policy.threshold and candidate.listing is None:
            marked[session_id] |= REACHED
    for session_id, new in marked.items():
        if new and session_id in staged.touched:
            staged.touched[session_id] = with_marks(staged.touched[session_id], new)
    delta = Delta(
        next_offset,
        staged.stream_time_ms,
        sorted(staged.removed),
        staged.touched,
        staged.listed,
        breaker.state,
    )
    return Decided(alerts, suppressed, delta, windows, breaker.opened)


def marks_before(partition: Partition, session_id: str) -> int:
    """Return the marks that a session has in the committed state; 0 if there is none."""
    packed = partition.sessions.get(session_id)
    return 0 if packed is None else marks(packed)


def _judge(
    candidate: Candidate, score: float, marked: int, policy: Policy, breaker: Breaker
) -> tuple[Decision, Cause] | Suppression | None:
    """Return what is to be published of a scored event, why it is not, or None if there is nothing."""
    reviewed = policy.review_threshold is not None and score >= policy.review_threshold
    if candidate.listing is Listing.ALLOW:
        return Suppression.ALLOW_LIST if reviewed or score >= policy.threshold else None
    if candidate.listing is Listing.DENY:
        decision, cause = Decision.BLOCK, Cause.DENY_LIST
    elif score >= policy.threshold:
        first = 0 if marked & REACHED else 1
        if breaker.is_open(candidate.stream_time_ms, blocks=first):
            decision, cause = Decision.REVIEW, Cause.CIRCUIT_BREAKER
        else:
            decision, cause = Decision.BLOCK, Cause.SCORE
    elif reviewed:
        decision, cause = Decision.REVIEW, Cause.SCORE
    else:
        return None
    if marked & BLOCKED:
        return Suppression.ALREADY_BLOCKED
    if marked & REVIEWED and decision is Decision.REVIEW:
        return Suppression.ALREADY_REVIEWED
    return decision, cause


def alert_of(
    candidate: Candidate,
    score: float,
    decision: Decision,
    cause: Cause,
    policy: Policy,
    encoding: Encoding,
    source: tuple[str, int],
    detected_at_ms: int,
) -> Alert:
    """Return the alert of a scored event, without explanation."""
    event = candidate.event
    topic, partition = source
    by_review = cause is Cause.SCORE and decision is Decision.REVIEW
    return Alert(
        alert_id=alert_id(event.session_id, event.event_id),
        decision=decision,
        session_id=event.session_id,
        account_id=event.account_id,
        score=score,
        threshold=policy.review_threshold or policy.threshold if by_review else policy.threshold,
        action=event.action,
        event_id=event.event_id,
        action_number=candidate.action_number,
        window=encoding.actions(candidate.steps),
        gap_ranges_ms=encoding.gap_ranges_ms(candidate.steps),
        model=policy.model,
        source=SourcePosition(topic=topic, partition=partition, offset=candidate.offset),
        occurred_at_ms=event.occurred_at_ms,
        received_at_ms=candidate.received_at_ms,
        detected_at_ms=detected_at_ms,
        cause=cause,
    )
