"""The event: one user action of one session, a record of the input topic."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec

from detector.contract.relaxed import relaxed

MAX_ID_CHARS = 256
MAX_ID_BYTES = 512
"""Of an id in UTF-8: 256 letters of any alphabet of Europe or the Near East. It bounds what a session can take."""
MAX_TIME_MS = 253_402_300_799_999
"""Last millisecond of the year 9999: RFC 3339, which CloudEvents uses for times, ends there."""
MAX_AHEAD_MS = 300_000
"""Of its record's time: a verdict that is further ahead is refused, unless --max-future-ms says otherwise."""
FIRST_MS, END_MS = 946_684_800_000, 4_102_444_800_000
"""Of the years 2000 to 2099, in which an event happens: what lies outside of them is in another unit, or no time."""

Identifier = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_CHARS)]
TimeMs = Annotated[int, msgspec.Meta(ge=0, le=MAX_TIME_MS, description="milliseconds since the Unix epoch")]


class SessionEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One action of a session, as much of it as is scored; nothing else is decoded."""

    event_id: Annotated[Identifier, msgspec.Meta(description="unique per event; a repeat is a duplicate")]
    session_id: Annotated[Identifier, msgspec.Meta(description="which session of its account")]
    account_id: Identifier
    action: Annotated[Identifier, msgspec.Meta(description="a name in the model's vocabulary")]
    occurred_at_ms: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]  # `wrong_unit` says what is none


class SessionAction(SessionEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One action of a session. Published with the account id as the record's key.

    An id or an action has at most 512 bytes of UTF-8 beside its 256 characters, which no JSON Schema can say.
    Fields this type does not know are accepted and ignored, so that producers can move ahead of consumers.
    """

    occurred_at_ms: Annotated[
        TimeMs, msgspec.Meta(description="when the user acted, Unix milliseconds, of the years 2000 to 2099")
    ]
    amount: (
        Annotated[float, msgspec.Meta(ge=0, description="read by models whose signals name it")] | None
    ) = None
    attributes: Annotated[
        dict[str, Any], msgspec.Meta(description="read by models whose signals name them")
    ] = {}


class MalformedEventError(ValueError):
    """The bytes are not a valid event. The message says what was seen and what was expected."""


_DECODER = msgspec.json.Decoder(SessionEvent)
_LENIENT = msgspec.json.Decoder(SessionEvent, strict=False)
_ENCODER = msgspec.json.Encoder()
_Event = TypeVar("_Event", bound=SessionEvent)


def decode_event(value: bytes) -> SessionEvent:
    """Decode and validate what is scored of one event. What signals read of the other fields is read leniently, elsewhere.

    What is not scored may be anything that can be told from it: not even JSON. A time may be a whole number in any form.

    Raises:
        MalformedEventError: not JSON, a field missing, of the wrong type or out of bounds.
    """
    try:
        return exactly(value, _DECODER)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _leniently(value)


def _leniently(value: bytes) -> SessionEvent:
    try:
        return _bounded(_LENIENT.decode(relaxed(value)))
    except RecursionError as error:
        raise MalformedEventError("its fields are nested too deep") from error
    except ValueError as error:  # msgspec's and json's errors are
        raise MalformedEventError(str(error)) from error


def wrong_unit(at_ms: int) -> str:
    """Return what to tell of an event's time that can't be right; else nothing."""
    if FIRST_MS <= at_ms < END_MS:
        return ""
    units = (("seconds", 1_000, 1), ("microseconds", 1, 1_000), ("nanoseconds", 1, 1_000_000))
    likely = next((name for name, times, by in units if FIRST_MS <= at_ms * times // by < END_MS), "")
    told = f", as it would be in {likely}; it is to be converted before it is published" if likely else ""
    return f"Expected milliseconds of the years 2000 to 2099, got {at_ms}{told} - at `$.occurred_at_ms`"


def exactly(value: bytes, decoder: msgspec.json.Decoder[_Event]) -> _Event:
    """Decode an event that is written as it should be.

    Args:
        value: of a record.
        decoder: of the event, and of more fields.

    Raises:
        msgspec.DecodeError: it is none, or otherwise written.
        UnicodeError: likewise.
        RecursionError: likewise.
        MalformedEventError: an id is too long.
    """
    event = decoder.decode(value)
    # JSON takes no fewer bytes than the text that it writes.
    return event if len(value) <= MAX_ID_BYTES else _bounded(event)


def event_of(fields: Mapping[str, Any]) -> SessionAction:
    """Return the event that fields describe, all of them validated, for those who publish it.

    Raises:
        MalformedEventError: a field is missing, of the wrong type or out of bounds.
    """
    try:
        event = msgspec.convert(fields, SessionAction)
    except msgspec.ValidationError as error:
        raise MalformedEventError(str(error)) from error
    return _bounded(event)


def _bounded(event: _Event) -> _Event:
    if told := excess(event, "event_id", "session_id", "account_id", "action"):
        raise MalformedEventError(told)
    return event


def excess(record: object, *names: str) -> str:
    """Return what to tell of the first of a record's ids, by their fields' names, that takes too many bytes; else nothing."""
    for name in names:
        text: str = getattr(record, name)
        if not text.isascii() and (size := len(text.encode())) > MAX_ID_BYTES:
            return f"Expected at most {MAX_ID_BYTES} bytes of UTF-8, got {size} - at `$.{name}`"
    return ""


def encode_event(event: SessionEvent) -> bytes:
    """Encode one event as JSON (UTF-8)."""
    return _ENCODER.encode(event)
