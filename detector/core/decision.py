"""Decisions: from the scores of a staged batch to alerts and to what the batch changes."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from msgspec import UNSET

from detector.contract.accounts import Listing
from detector.contract.alerts import Alert, Cause, Decision, ModelReference, SourcePosition, alert_id
from detector.core.breaker import Breaker, BreakerLimits, BreakerState
from detector.core.carrying import Weighed
from detector.core.encoding import Encoding
from detector.core.judging import AlertedSessions
from detector.core.session import BLOCKED, REACHED, REVIEWED
from detector.core.staging import Candidate


@dataclass(frozen=True, slots=True)
class Policy:
    """What decides: a score at or above `threshold` blocks, in the name of `model`.

    Attributes:
        threshold: above 0, at most 1.
        model: which one scores.
        review_threshold: a score at or above it, and below `threshold`, is published for review. None reviews nothing.
        breaker: when blocks become reviews; None lets all of them through.
        obeys_lists: whether a listed account overrules the score.
    """

    threshold: float
    model: ModelReference
    review_threshold: float | None = None
    breaker: BreakerLimits | None = None
    obeys_lists: bool = True


class Suppression(StrEnum):
    """Why a score that reached a threshold was not published."""

    ALREADY_BLOCKED = "already_blocked"
    ALREADY_REVIEWED = "already_reviewed"
    ALLOW_LIST = "allow_list"
    ALREADY_PUBLISHED = "already_published"  # the same event of the same session, which has come again


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided on the scored events of a batch of one partition.

    Attributes:
        alerts: in the order of the log, without explanations.
        windows: packed steps that each alert was decided on.
        blocked: deciding offset, account and session of what was blocked, be that published or not.
        suppressed: how often something was not published, by reason.
        marks: of the sessions, those given now among them.
        breaker: after the batch.
        trips: how often the circuit breaker opened.
    """

    alerts: list[Alert]
    windows: list[bytes]
    blocked: list[tuple[int, str, str]]
    suppressed: Counter[Suppression]
    marks: dict[str, int]
    breaker: BreakerState
    trips: int


def decide(
    candidates: Sequence[Candidate],
    weighed: Weighed,
    *,
    breaker: BreakerState,
    alerted: AlertedSessions,
    policy: Policy,
    encoding: Encoding,
    source: tuple[str, int],
    now_ms: Callable[[], int],
) -> Decided:
    """Decide on each scored event, in order. A session is reviewed once and blocked once, until it ends or expires.

    Args:
        candidates: as staged.
        weighed: their scores, and what was carried over to them.
        breaker: before the batch.
        alerted: sessions that alerts were published on; takes note of the new ones.
        policy: thresholds, circuit breaker and model.
        encoding: of the model, to name the window's actions.
        source: topic and partition of the events.
        now_ms: the clock, read once for each alert.
    """
    alerts: list[Alert] = []
    windows: list[bytes] = []
    blocked: list[tuple[int, str, str]] = []
    suppressed: Counter[Suppression] = Counter()
    marks: dict[str, int] = {}
    counted = Breaker(policy.breaker, breaker)
    lowest = (
        policy.threshold
        if policy.review_threshold is None
        else min(policy.review_threshold, policy.threshold)
    )
    for candidate, score in zip(candidates, weighed.scores, strict=True):
        session_id, listing = candidate.key, candidate.listing if policy.obeys_lists else None
        if candidate.action_number == 1:  # a session that begins, or begins again, has no marks
            marks[session_id] = 0
            counted.count(candidate.stream_time_ms, begun=1)
        if score < lowest and listing is None:
            continue
        marked = marks.setdefault(session_id, candidate.marks)
        if score >= policy.threshold and listing is None:
            counted.count(candidate.stream_time_ms, blocks=0 if marked & REACHED else 1)
            marks[session_id] |= REACHED
        verdict = _judge(score, listing, marked, policy, breaker_is_open=counted.is_open)
        if isinstance(verdict, Suppression):
            suppressed[verdict] += 1
        elif verdict is not None:
            decision, cause = verdict
            marks[session_id] |= BLOCKED if decision is Decision.BLOCK else REVIEWED
            if decision is Decision.BLOCK:
                event = candidate.event
                blocked.append((candidate.offset, event.account_id, event.session_id))
            alert = alert_of(
                candidate, score, weighed.before, decision, cause, policy, encoding, source, now_ms()
            )
            if not alerted.add(alert, candidate.stream_time_ms):
                suppressed[Suppression.ALREADY_PUBLISHED] += 1
                continue
            alerts.append(alert)
            windows.append(candidate.steps)
    return Decided(alerts, windows, blocked, suppressed, marks, counted.state, counted.opened)


def _judge(
    score: float, listing: Listing | None, marked: int, policy: Policy, *, breaker_is_open: bool
) -> tuple[Decision, Cause] | Suppression | None:
    """Return what is to be published of a scored event, why it is not, or None if there is nothing."""
    reviewed = policy.review_threshold is not None and score >= policy.review_threshold
    if listing is Listing.ALLOW:
        return Suppression.ALLOW_LIST if reviewed or score >= policy.threshold else None
    if listing is Listing.DENY:
        decision, cause = Decision.BLOCK, Cause.DENY_LIST
    elif score >= policy.threshold:
        decision, cause = (
            (Decision.REVIEW, Cause.CIRCUIT_BREAKER) if breaker_is_open else (Decision.BLOCK, Cause.SCORE)
        )
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
    before: Mapping[int, float],
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
        carried=before.get(candidate.offset, UNSET),
        threshold=policy.review_threshold or policy.threshold if by_review else policy.threshold,
        action=event.action,
        event_id=event.event_id,
        action_number=candidate.action_number,
        window=encoding.actions(candidate.steps),
        gap_ranges_ms=encoding.gap_ranges_ms(candidate.steps),
        signals=encoding.signals_of(candidate.steps) if encoding.signals else UNSET,
        model=policy.model,
        source=SourcePosition(topic=topic, partition=partition, offset=candidate.offset),
        occurred_at_ms=event.occurred_at_ms,
        received_at_ms=candidate.received_at_ms,
        detected_at_ms=detected_at_ms,
        cause=cause,
    )
