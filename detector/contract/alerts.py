"""The alert: a decision on a session, a record of the alerts topic."""

import uuid
from enum import StrEnum
from typing import Annotated

import msgspec

from detector.contract.events import Identifier, TimeMs
from detector.contract.headers import ALERT_TYPE, DETECTOR_SOURCE, cloud_event_headers

ALERT_NAMESPACE = uuid.UUID("6f0b2e1c-3f58-5d3a-9c1b-7a4f0d2c8e51")
"""Namespace of the name-based alert ids (RFC 9562, version 5)."""


class Decision(StrEnum):
    """What to do with the session. What is to be allowed is not published."""

    BLOCK = "BLOCK"
    CHALLENGE = "CHALLENGE"  # ask for a second factor
    REVIEW = "REVIEW"


class Cause(StrEnum):
    """Why the decision is what it is."""

    SCORE = "score"
    CIRCUIT_BREAKER = "circuit_breaker"  # it would be a block, were there not too many
    DENY_LIST = "deny_list"
    STEP_UP_FAILED = "step_up_failed"
    RULE = "rule"


class ModelReference(msgspec.Struct, frozen=True, kw_only=True):
    """Which model decided."""

    name: str
    version: str
    sha256: Annotated[str, msgspec.Meta(description="of the model file, hexadecimal")]

    def __str__(self) -> str:
        """Return how people are told of it: files of one name and version are told apart."""
        return f"{self.name} {self.version} ({self.sha256[:12]}…)"


class RuleReference(msgspec.Struct, frozen=True, kw_only=True):
    """Which rule decided."""

    name: str
    sha256: Annotated[str, msgspec.Meta(description="of the rules file, hexadecimal")]


class SourcePosition(msgspec.Struct, frozen=True, kw_only=True):
    """Where the deciding event lies on the input topic."""

    topic: str
    partition: Annotated[int, msgspec.Meta(ge=0)]
    offset: Annotated[int, msgspec.Meta(ge=0)]


GapRange = Annotated[
    tuple[int, int | None],
    msgspec.Meta(description="of a gap, in ms: from, and below; no second bound if it is open"),
]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A decision on a session. Published with the session id as the record's key.

    The same log gives the same alerts, bit for bit, in every field but `detected_at_ms`, the only one read
    from a clock.
    """

    alert_id: Annotated[str, msgspec.Meta(description="the same for the same session and deciding event")]
    decision: Decision
    session_id: Identifier
    account_id: Identifier
    score: Annotated[float, msgspec.Meta(ge=0, le=1, description="the model's risk of the session")]
    threshold: Annotated[float, msgspec.Meta(gt=0, le=1, description="the score that it took")]
    action: Annotated[Identifier, msgspec.Meta(description="the deciding action")]
    event_id: Annotated[Identifier, msgspec.Meta(description="the deciding event")]
    action_number: Annotated[int, msgspec.Meta(ge=1, description="of the deciding action in its session")]
    window: Annotated[list[str], msgspec.Meta(description="actions scored, oldest first")]
    model: ModelReference
    source: SourcePosition
    occurred_at_ms: Annotated[TimeMs, msgspec.Meta(description="when the deciding action happened")]
    received_at_ms: Annotated[TimeMs, msgspec.Meta(description="when the broker took it: its record's time")]
    detected_at_ms: Annotated[TimeMs, msgspec.Meta(description="when the detector decided, its own clock")]
    cause: Annotated[
        Cause,
        msgspec.Meta(description="the score alone, or what overruled it; a listed account needs no score"),
    ] = Cause.SCORE
    rule: Annotated[
        RuleReference | msgspec.UnsetType,
        msgspec.Meta(description="that asked for the decision. Absent where the score alone or a list did"),
    ] = msgspec.UNSET
    gap_ranges_ms: Annotated[
        list[GapRange | None],
        msgspec.Meta(
            description="the range in which the gap before each action of the window lies, since the detector keeps "
            "no more. Null for a session's first action, and if the model uses no time"
        ),
    ] = []
    signals: Annotated[
        list[list[int]] | msgspec.UnsetType,
        msgspec.Meta(
            description="of each action of the window the codes of what the model reads beside it, in the order of the "
            "model file's signals. Absent if it reads nothing else"
        ),
    ] = msgspec.UNSET
    scores: Annotated[
        list[float],
        msgspec.Meta(
            description="the score after each of the window's last actions, with what was carried over; the last is the alert's"
        ),
    ] = []
    carried: Annotated[
        float | msgspec.UnsetType,
        msgspec.Meta(
            description="evidence of the session's actions before the deciding one, which a model that adds it up "
            "carried over to it. Absent for any other model"
        ),
    ] = msgspec.UNSET
    explanation: Annotated[
        list[str], msgspec.Meta(description="for people: what mattered most, the weightiest first")
    ] = []


_DECODER = msgspec.json.Decoder(Alert)
_ENCODER = msgspec.json.Encoder()


def alert_id(session_id: str, event_id: str, account_id: str | None = None) -> str:
    """Derive the id of the alert that an event causes in a session (RFC 9562 UUID, version 5).

    Args:
        session_id: of both.
        event_id: of the event.
        account_id: where two accounts' sessions of one id are two.
    """
    # A JSON array as the name: no choice of ids can make two of them read alike.
    name = [session_id, event_id] if account_id is None else [session_id, event_id, account_id]
    return str(uuid.uuid5(ALERT_NAMESPACE, msgspec.json.encode(name).decode()))


def encode_alert(alert: Alert) -> bytes:
    """Encode one alert as JSON (UTF-8)."""
    return _ENCODER.encode(alert)


def decode_alert(value: bytes) -> Alert:
    """Decode one alert.

    Raises:
        msgspec.DecodeError: the bytes are not a valid alert.
    """
    return _DECODER.decode(value)


def headers_of(alert: Alert, event_type: str = ALERT_TYPE) -> list[tuple[str, bytes]]:
    """Return the headers of an alert, or of what is told of it: by its id, at its time."""
    return cloud_event_headers(
        event_type=event_type,
        event_id=alert.alert_id,
        source=DETECTOR_SOURCE,
        subject=alert.session_id,
        time_ms=alert.occurred_at_ms,
    )
