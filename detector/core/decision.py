"""Decisions: from the scores of a staged batch to alerts and to what the batch changes."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from msgspec import UNSET

from detector.contract.actions import StepUp
from detector.contract.alerts import Alert, Cause, Decision, ModelReference, SourcePosition, alert_id
from detector.contract.events import SessionEvent
from detector.contract.listings import Listing
from detector.core.breaker import Breaker, BreakerLimits, BreakerState, Held, far_above
from detector.core.carrying import Weighed
from detector.core.encoding import Encoding
from detector.core.judging import GRAVITY, AlertedSessions
from detector.core.ruling import UNRULED, Rule, Ruled, Then, acting
from detector.core.session import BLOCKED, CHALLENGED, CLEARED, REACHED, REVIEWED, Trust
from detector.core.staging import Candidate


@dataclass(frozen=True, slots=True)
class Policy:
    """What decides: a score at or above `threshold` blocks, in the name of `model`.

    Attributes:
        threshold: above 0, at most 1.
        model: which one scores.
        challenge_threshold: a score at or above it, and below `threshold`, asks for a second factor. None asks for none.
        review_threshold: a score at or above it, and below both, is published for review. None reviews nothing.
        breaker: when blocks become challenges; None lets all of them through.
        epoch: of what decides: the breaker has another one stand its probation.
        step_ups: actions that say what came of a second factor.
    """

    threshold: float
    model: ModelReference
    review_threshold: float | None = None
    breaker: BreakerLimits | None = None
    challenge_threshold: float | None = None
    epoch: bytes = b""
    step_ups: Mapping[str, StepUp] = field(default_factory=dict)

    @property
    def lowest(self) -> float:
        """The lowest score that comes to anything."""
        thresholds = self.threshold, self.challenge_threshold, self.review_threshold
        return min(one for one in thresholds if one is not None)

    def by_score(self, score: float) -> Decision | None:
        """Return what a score alone comes to."""
        if score >= self.threshold:
            return Decision.BLOCK
        if self.challenge_threshold is not None and score >= self.challenge_threshold:
            return Decision.CHALLENGE
        if self.review_threshold is not None and score >= self.review_threshold:
            return Decision.REVIEW
        return None


class Suppression(StrEnum):
    """Why a score that reached a threshold was not published."""

    ALREADY_BLOCKED = "already_blocked"
    ALREADY_CHALLENGED = "already_challenged"
    ALREADY_REVIEWED = "already_reviewed"
    CLEARED = "cleared"  # its second factor was passed
    ALLOW_LIST = "allow_list"
    ALLOWED_BY_RULE = "allowed_by_rule"
    ALREADY_PUBLISHED = "already_published"  # the same event of the same session, which has come again


class Judged(NamedTuple):
    """What is to be published of a scored event, why, and the rule that asked for it if one did."""

    decision: Decision
    cause: Cause
    rule: Rule | None = None

    @property
    def reached(self) -> int:
        """The mark of a session that reached what blocks, as far as what was published says so."""
        by_score = self.decision is Decision.BLOCK and self.cause in (Cause.SCORE, Cause.RULE)
        return REACHED if by_score or self.cause is Cause.CIRCUIT_BREAKER else 0


Past = Callable[
    [Candidate, "Judged | Suppression | None", AlertedSessions], "tuple[Judged | Suppression | None, bool]"
]
"""Tells what an event led to when it was decided before, by what it would now, and whether an alert on it was published."""

_MARKS = {Decision.BLOCK: BLOCKED, Decision.CHALLENGE: CHALLENGED, Decision.REVIEW: REVIEWED}
_TRUST = {Decision.BLOCK: Trust.BLOCKED, Decision.CHALLENGE: Trust.DOUBTED}
_OF_A_BLOCK = ((BLOCKED, Suppression.ALREADY_BLOCKED),)
_OF_A_CHALLENGE = (*_OF_A_BLOCK, (CLEARED, Suppression.CLEARED), (CHALLENGED, Suppression.ALREADY_CHALLENGED))
_SUPPRESSIONS = {
    Decision.BLOCK: _OF_A_BLOCK,
    Decision.CHALLENGE: _OF_A_CHALLENGE,
    Decision.REVIEW: (*_OF_A_CHALLENGE, (REVIEWED, Suppression.ALREADY_REVIEWED)),
}
"""By which of a session's marks something is not published, the first that holds."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided on the scored events of a batch of one partition.

    Attributes:
        alerts: in the order of the log, without explanations.
        windows: packed steps that each alert was decided on.
        suppressed: how often something was not published, by reason.
        marks: of the sessions, those given now among them.
        breaker: after the batch.
        trips: how often the circuit breaker opened.
        step_ups: what came of second factors that sessions were asked for.
        alerted: sessions that alerts were published on, these among them.
        trust: by the events' offsets, what becomes of what their sessions teach.
        ruled: rules that held at the events.
    """

    alerts: list[Alert]
    windows: list[bytes]
    suppressed: Counter[Suppression]
    marks: dict[str, int]
    breaker: BreakerState
    trips: int
    step_ups: Counter[StepUp]
    alerted: AlertedSessions
    trust: Mapping[int, Trust] = field(default_factory=dict)
    ruled: Ruled = field(default_factory=dict)


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
    ruled: Ruled = UNRULED,
    past: Past | None = None,
) -> Decided:
    """Decide on each scored event, in order.

    A session is reviewed once, challenged once and blocked once, until it ends or expires. What came of a second factor
    counts once, for a session that was challenged: whoever sends it unasked gains nothing by it.

    Args:
        candidates: as staged.
        weighed: their scores, and what was carried over to them.
        breaker: before the batch.
        alerted: sessions that alerts were published on.
        policy: thresholds, circuit breaker and model.
        encoding: of the model, to name the window's actions.
        source: topic and partition of the events.
        now_ms: the clock, read once for each alert.
        ruled: rules that hold at the events.
        past: what they led to when they were decided before, in place of what they would now. None: they were not.
    """
    alerts: list[Alert] = []
    windows: list[bytes] = []
    judged: dict[int, Decision] = {}
    suppressed: Counter[Suppression] = Counter()
    marks: dict[str, int] = {}
    step_ups: Counter[StepUp] = Counter()
    trust: dict[int, Trust] = {}
    counted, alerted = Breaker(policy.breaker, breaker, policy.epoch), alerted.copied()
    far, rules = far_above(policy.threshold), acting(ruled)
    lowest = _lowest(candidates, policy, rules, past)
    for candidate, score, least in zip(candidates, weighed.scores, lowest, strict=True):
        session_id, listing = candidate.key, candidate.listing
        if candidate.action_number == 1 and candidate.is_step:  # it begins, perhaps again, and has no marks
            marks[session_id] = 0
            counted.count(candidate.stream_time_ms, begun=1)
        if score < least and listing is None and candidate.step_up is None:
            continue
        marked = marks.setdefault(session_id, candidate.marks)
        is_asked = marked & (BLOCKED | CHALLENGED | CLEARED) == CHALLENGED
        if step_up := candidate.step_up if is_asked else None:
            step_ups[step_up] += 1
            if step_up is StepUp.PASSED:
                marked |= CLEARED
                trust[candidate.offset] = Trust.CLEARED
        wanted = wanted_by(score, policy, rules.get(candidate.offset))
        if past is None and listing is None and wanted and wanted.decision is Decision.BLOCK:
            counted.count(candidate.stream_time_ms, blocks=0 if marked & (REACHED | BLOCKED) else 1)
            marked |= REACHED
        held = counted.held is Held.ALL or (counted.held is Held.NEAR and score < far)
        now = _judge(wanted, score, listing, step_up, marked, policy, is_held=held)
        verdict, is_published = past(candidate, now, alerted) if past else (now, True)
        marks[session_id] = marked
        if isinstance(verdict, Suppression):
            suppressed[verdict] += 1
        elif verdict is not None:
            marks[session_id] |= _MARKS[verdict.decision] | verdict.reached
            judged[candidate.offset] = verdict.decision
            alert = alert_of(candidate, score, weighed.before, verdict, policy, encoding, source, now_ms())
            if not is_published or not alerted.add(alert, candidate.stream_time_ms):
                suppressed[Suppression.ALREADY_PUBLISHED] += 1
                continue
            alerts.append(alert)
            windows.append(candidate.steps)
    trust |= {offset: _TRUST[decision] for offset, decision in judged.items() if decision in _TRUST}
    return Decided(
        alerts, windows, suppressed, marks, counted.state, counted.opened, step_ups, alerted, trust, ruled
    )


def _lowest(
    candidates: Sequence[Candidate], policy: Policy, rules: Mapping[int, Rule], past: Past | None
) -> list[float]:
    """Return for each event the lowest score that comes to anything: any where a rule acts, or where it did before."""
    lowest = [-1.0 if past else policy.lowest] * len(candidates)
    if rules and not past:
        lowest = [-1.0 if one.offset in rules else policy.lowest for one in candidates]
    return lowest


def _judge(
    wanted: Judged | None,
    score: float,
    listing: Listing | None,
    step_up: StepUp | None,
    marked: int,
    policy: Policy,
    *,
    is_held: bool,
) -> Judged | Suppression | None:
    """Return what is to be published of a scored event, why it is not, or None if there is nothing."""
    failed = step_up is StepUp.FAILED
    if listing is Listing.ALLOW:
        return Suppression.ALLOW_LIST if failed or wanted else None
    if listing is Listing.DENY:
        judged = Judged(Decision.BLOCK, Cause.DENY_LIST)
    elif failed:
        judged = Judged(Decision.BLOCK, Cause.STEP_UP_FAILED)
    elif wanted is None:
        return Suppression.ALLOWED_BY_RULE if policy.by_score(score) else None
    elif wanted.decision is Decision.BLOCK and is_held:
        judged = Judged(Decision.CHALLENGE, Cause.CIRCUIT_BREAKER, wanted.rule)
    else:
        judged = wanted
    for mark, suppression in _SUPPRESSIONS[judged.decision]:
        if marked & mark:
            return suppression
    return judged


def wanted_by(score: float, policy: Policy, rule: Rule | None) -> Judged | None:
    """Return the graver of what the score and a rule come to, of two alike the score's; None if a rule allows."""
    if rule is not None and rule.then is Then.ALLOW:
        return None
    by_score = policy.by_score(score)
    if rule is not None and GRAVITY[by_rule := Decision(rule.then.value)] > GRAVITY[by_score]:
        return Judged(by_rule, Cause.RULE, rule)
    return None if by_score is None else Judged(by_score, Cause.SCORE)


def graver(one: Decision | None, other: Decision | None) -> Decision | None:
    """Return the graver of two decisions, or of none."""
    return max(one, other, key=GRAVITY.__getitem__)


def lighter(one: Decision | None, other: Decision | None) -> Decision | None:
    """Return the lighter of two decisions, or of none."""
    return min(one, other, key=GRAVITY.__getitem__)


def id_of(event: SessionEvent, encoding: Encoding) -> str:
    """Return the id of an alert on an event."""
    return alert_id(event.session_id, event.event_id, event.account_id if encoding.signals else None)


def alert_of(
    candidate: Candidate,
    score: float,
    before: Mapping[int, float],
    judged: Judged,
    policy: Policy,
    encoding: Encoding,
    source: tuple[str, int],
    detected_at_ms: int,
) -> Alert:
    """Return the alert of a scored event, with no explanation but a rule's. One of no step says the score as it stood."""
    event, (decision, cause, rule) = candidate.event, judged
    topic, partition = source
    threshold = policy.threshold
    if cause is Cause.SCORE and decision is Decision.CHALLENGE:
        threshold = policy.challenge_threshold or threshold
    elif cause is Cause.SCORE and decision is Decision.REVIEW:
        threshold = policy.review_threshold or threshold
    return Alert(
        alert_id=id_of(event, encoding),
        decision=decision,
        session_id=event.session_id,
        account_id=event.account_id,
        score=score,
        carried=before.get(candidate.offset, UNSET),
        threshold=threshold,
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
        rule=UNSET if rule is None else rule.reference,
        explanation=[] if rule is None else [rule.told],
    )
