"""The event: one user action of one session, a record of the input topic."""

from typing import Annotated, Any

import msgspec

MAX_ID_CHARS = 256
MAX_TIME_MS = 253_402_300_799_999
"""Last millisecond of the year 9999: RFC 3339, which CloudEvents uses for times, ends there."""

Identifier = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_CHARS)]
TimeMs = Annotated[int, msgspec.Meta(ge=0, le=MAX_TIME_MS, description="milliseconds since the Unix epoch")]


class SessionEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One action of a session. Published with the session id as the record's key.

    Fields this type does not know are accepted and ignored, so that producers can move ahead of consumers.
    """

    event_id: Annotated[Identifier, msgspec.Meta(description="unique per event; a repeat is a duplicate")]
    session_id: Annotated[Identifier, msgspec.Meta(description="also the record's key")]
    account_id: Identifier
    action: Annotated[Identifier, msgspec.Meta(description="a name in the model's vocabulary")]
    occurred_at_ms: Annotated[TimeMs, msgspec.Meta(description="when the user acted, Unix milliseconds")]
    amount: Annotated[float, msgspec.Meta(ge=0)] | None = None
    attributes: Annotated[
        dict[str, Any], msgspec.Meta(description="carried for others, ignored by the detector")
    ] = {}


class MalformedEventError(ValueError):
    """The bytes are not a valid event. The message says what was seen and what was expected."""


_DECODER = msgspec.json.Decoder(SessionEvent)
_ENCODER = msgspec.json.Encoder()


def decode_event(value: bytes) -> SessionEvent:
    """Decode and validate one event.

    Raises:
        MalformedEventError: not JSON, a field missing, of the wrong type or out of bounds.
    """
    try:
        return _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeError) as error:  # ValidationError is a DecodeError
        raise MalformedEventError(str(error)) from error
    except RecursionError as error:
        raise MalformedEventError("attributes are nested too deep") from error


def encode_event(event: SessionEvent) -> bytes:
    """Encode one event as JSON (UTF-8)."""
    return _ENCODER.encode(event)
