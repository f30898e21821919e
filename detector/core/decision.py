"""Decisions: from the scores of a staged batch to alerts and to what the batch changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from detector.contract.alerts import Alert, Decision, ModelReference, SourcePosition, alert_id
from detector.core.encoding import Encoding
from detector.core.partition import Delta, Partition
from detector.core.session import unpack, with_blocked
from detector.core.staging import Candidate, Staged


@dataclass(frozen=True, slots=True)
class Policy:
    """What decides: a score at or above `threshold` blocks, in the name of `model`."""

    threshold: float
    model: ModelReference


@dataclass(frozen=True, slots=True)
class Decided:
    """The outcome of a batch of one partition.

    Attributes:
        alerts: in the order of the log, without explanations.
        windows: packed steps that each alert was decided on.
        suppressed: scores at or above the threshold in sessions already blocked.
        delta: what the batch changes, to be committed with the alerts and then applied.
    """

    alerts: list[Alert]
    windows: list[bytes]
    suppressed: int
    delta: Delta


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
    """Decide on each scored event, in order. A session is blocked once, until it ends or expires.

    Args:
        partition: the committed state; not changed.
        staged: what `stage` returned for it. Its packed sessions are given their blocked flags here.
        scores: one for each candidate.
        policy: threshold and model.
        encoding: of the model, to name the window's actions.
        source: topic and partition of the events.
        next_offset: input offset after the batch, records that were not scored included.
        now_ms: the clock, read once for each alert.
    """
    alerts: list[Alert] = []
    windows: list[bytes] = []
    suppressed = 0
    blocked: dict[str, bool] = {}
    for candidate, score in zip(staged.candidates, scores, strict=True):
        session_id = candidate.entry.event.session_id
        if candidate.action_number == 1:  # a session that begins, or begins again, is not blocked
            blocked[session_id] = False
        elif session_id not in blocked:
            blocked[session_id] = _blocked_before(partition, session_id)
        if score < policy.threshold:
            continue
        if blocked[session_id]:
            suppressed += 1
            continue
        blocked[session_id] = True
        alerts.append(_alert(candidate, score, policy, encoding, source, now_ms()))
        windows.append(candidate.steps)
    for session_id, is_blocked in blocked.items():
        if is_blocked and session_id in staged.touched:
            staged.touched[session_id] = with_blocked(staged.touched[session_id])
    delta = Delta(next_offset, staged.stream_time_ms, sorted(staged.removed), staged.touched)
    return Decided(alerts, windows, suppressed, delta)


def _blocked_before(partition: Partition, session_id: str) -> bool:
    packed = partition.sessions.get(session_id)
    return packed is not None and unpack(packed).blocked


def _alert(
    candidate: Candidate,
    score: float,
    policy: Policy,
    encoding: Encoding,
    source: tuple[str, int],
    detected_at_ms: int,
) -> Alert:
    event = candidate.entry.event
    topic, partition = source
    return Alert(
        alert_id=alert_id(event.session_id, event.event_id),
        decision=Decision.BLOCK,
        session_id=event.session_id,
        account_id=event.account_id,
        score=score,
        threshold=policy.threshold,
        action=event.action,
        event_id=event.event_id,
        action_number=candidate.action_number,
        window=encoding.actions(candidate.steps),
        model=policy.model,
        source=SourcePosition(topic=topic, partition=partition, offset=candidate.entry.offset),
        occurred_at_ms=event.occurred_at_ms,
        received_at_ms=candidate.entry.received_at_ms,
        detected_at_ms=detected_at_ms,
    )
