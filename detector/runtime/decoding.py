"""Decoding: from a consumed record to an event or a control record, or to a dead letter with the reason."""

from collections.abc import Callable, Container
from dataclasses import dataclass
from itertools import islice
from typing import Any

from detector.client.records import Unreadable, Withheld
from detector.contract.control import Control, MalformedControlError, decode_control, is_control
from detector.contract.dead_letters import DeadLetter, Reason, history_of, original_headers
from detector.contract.events import MalformedEventError, SessionEvent, decode_event, wrong_unit
from detector.contract.verdicts import MalformedVerdictError, Verdict, decode_verdict
from detector.formats.registry import UnknownSchemaError

MAX_DETAIL_CHARS = 500
CREATE_TIME = 0
"""Type of a record's timestamp that the producer's clock told, and not the broker's."""
_MAX_HEADERS = 1_000
"""Read of a record that is dead-lettered. A batch of some kilobytes can hold millions."""


@dataclass(frozen=True, slots=True)
class EventLimits:
    """What an event may be.

    Attributes:
        max_event_bytes: a larger value is not decoded, and a dead letter's key is cut there.
        max_dead_letter_bytes: a dead letter's value is cut there; the original's headers are left out if they do
            not fit in beside it. Compressed input holds larger records than the outputs take.
        max_future_ms: how far a verdict may be ahead of its record's timestamp. An event that is, is scored at another
            time: staging sees to that.
    """

    max_event_bytes: int
    max_dead_letter_bytes: int
    max_future_ms: int


def decode(
    record: Any,
    knows: Callable[[str], bool],
    limits: EventLimits,
    step_ups: Container[str] = (),
    event_of: Callable[[bytes], SessionEvent] = decode_event,
) -> SessionEvent | Control | DeadLetter:
    """Decode one consumed record. What is an event is one, whatever else it says.

    Args:
        record: a kafka-python ConsumerRecord with raw bytes.
        knows: whether an action is in the model's vocabulary.
        limits: of events.
        step_ups: actions that say what came of a second factor, which the model need not know.
        event_of: decodes one, of the wire format; what it raises beside MalformedEventError is passed on.
    """
    value: bytes | None = record.value
    if value is None:
        return dead_letter(record, Reason.NULL_VALUE, "null value: expected a JSON event", limits)
    if len(value) > limits.max_event_bytes:
        detail = f"{len(value)} bytes: expected at most {limits.max_event_bytes}"
        return dead_letter(record, Reason.TOO_LARGE, detail, limits)
    try:
        event = event_of(value)
    except MalformedEventError as error:
        return _decode_other(record, value, limits, error)
    if not knows(event.action) and event.action not in step_ups:
        detail = f"action {event.action[:64]!r}: expected one of the model's vocabulary"
        return dead_letter(record, Reason.UNKNOWN_ACTION, detail, limits)
    if told := wrong_unit(event.occurred_at_ms):
        return dead_letter(record, Reason.TIME_UNIT, told, limits)
    return event


def _in_future(record: Any, at_ms: int, limits: EventLimits) -> DeadLetter | None:
    """Return the letter of a record whose content is further ahead of it than it may be."""
    ahead_ms = at_ms - record.timestamp
    if record.timestamp < 0 or ahead_ms <= limits.max_future_ms:
        return None
    detail = f"{ahead_ms} ms ahead of its record's time: expected at most {limits.max_future_ms} ms"
    return dead_letter(record, Reason.TIME_IN_FUTURE, detail, limits)


def decode_verdict_record(record: Any, limits: EventLimits) -> Verdict | DeadLetter:
    """Decode one record of the verdicts topic. One decided in the future is none: no later one could undo it."""
    value: bytes | None = record.value
    if value is None:
        return dead_letter(record, Reason.NULL_VALUE, "null value: expected a JSON verdict", limits)
    if isinstance(value, Unreadable):
        return _unread(record, value, limits)
    if len(value) > limits.max_event_bytes:
        detail = f"{len(value)} bytes: expected at most {limits.max_event_bytes}"
        return dead_letter(record, Reason.TOO_LARGE, detail, limits)
    try:
        verdict = decode_verdict(value)
    except MalformedVerdictError as error:
        return dead_letter(record, Reason.MALFORMED, str(error), limits)
    return _in_future(record, verdict.decided_at_ms, limits) or verdict


def _unread(record: Any, value: Unreadable, limits: EventLimits) -> DeadLetter:
    reason = Reason.BATCH_TOO_LARGE if isinstance(value, Withheld) else Reason.DESERIALIZATION
    return dead_letter(record, reason, value.why, limits)


def _decode_other(
    record: Any, value: bytes, limits: EventLimits, why_no_event: MalformedEventError
) -> Control | DeadLetter:
    if isinstance(value, Unreadable):
        return _unread(record, value, limits)
    if not is_control(value):
        unknown = isinstance(why_no_event, UnknownSchemaError)
        reason = Reason.UNKNOWN_SCHEMA if unknown else Reason.MALFORMED
        return dead_letter(record, reason, str(why_no_event), limits)
    try:
        control = decode_control(value)
    except MalformedControlError as error:
        return dead_letter(record, Reason.MALFORMED, str(error), limits)
    future = _in_future(record, control.decided_at_ms, limits) if isinstance(control, Verdict) else None
    return future or control


def dead_letter(record: Any, reason: Reason, detail: str, limits: EventLimits) -> DeadLetter:
    """Return the dead letter of a consumed record: its content, cut to the limits, and why it is one."""
    value: bytes | None = None if isinstance(record.value, Unreadable) else record.value
    kept = None if value is None else value[: limits.max_dead_letter_bytes]
    key: bytes | None = record.key
    read = list(islice(record.headers, _MAX_HEADERS))
    headers = original_headers(read)
    headers_bytes = sum(len(name.encode()) + len(text) for name, text in headers)
    fit = (
        len(record.headers) == len(read) and len(kept or b"") + headers_bytes <= limits.max_dead_letter_bytes
    )
    redrives, history = history_of(read)
    return DeadLetter(
        reason=reason,
        detail=detail[:MAX_DETAIL_CHARS],
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        key=key[: limits.max_event_bytes] if key is not None else None,
        value=kept,
        value_bytes=None if value is None else len(value),
        headers=headers if fit else (),
        headers_omitted=0 if fit else len(record.headers),
        key_bytes=len(key) if key is not None and len(key) > limits.max_event_bytes else None,
        redrives=redrives,
        history=history,
    )
