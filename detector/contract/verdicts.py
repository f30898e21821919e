"""The verdict: what a person, or a system, has found a session to be. A record of the verdicts topic.

`python -m detector relay-verdicts` takes each on into the input topic, once and into every partition, so that each
partition's log alone says from which event on it holds.
"""

import uuid
from enum import StrEnum
from typing import Annotated

import msgspec

from detector.contract.events import MAX_AHEAD_MS, Identifier, TimeMs, excess
from detector.contract.headers import VERDICT_SOURCE, VERDICT_TYPE, cloud_event_headers

KIND = "session_verdict"
MAX_WHY_CHARS = 2_000


class Finding(StrEnum):
    """What a session was."""

    FRAUD = "FRAUD"
    LAWFUL = "LAWFUL"


class Verdict(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag=KIND, gc=False
):
    """What a session was found to be. Published with the account id as the record's key.

    Of two on a session the one decided later holds, and of two of the same time the later record: so a verdict is undone.
    Ids have at most 512 bytes of UTF-8, as in an event. On the verdicts topic `kind` may be left out.
    """

    verdict_id: Annotated[Identifier, msgspec.Meta(description="unique; a repeat changes nothing")]
    account_id: Identifier
    session_id: Identifier
    verdict: Finding
    by: Annotated[Identifier, msgspec.Meta(description="who decided: a person or a system")]
    decided_at_ms: Annotated[TimeMs, msgspec.Meta(description="when they did, Unix milliseconds")]
    why: Annotated[
        str,
        msgspec.Meta(max_length=MAX_WHY_CHARS, description="for people; not carried on into the input topic"),
    ] = ""
    alert_id: Annotated[Identifier, msgspec.Meta(description="the alert that asked for it")] | None = None
    fraud_type: Annotated[Identifier, msgspec.Meta(description="the family of the attack")] | None = None
    first_event_id: (
        Annotated[Identifier, msgspec.Meta(description="of the first event that was not the customer's")]
        | None
    ) = None
    first_event_at_ms: (
        Annotated[
            TimeMs,
            msgspec.Meta(description="when that happened; what the account learned since is forgotten"),
        ]
        | None
    ) = None


IDS = ("account_id", "session_id")
"""Whose size in bytes is held to an event's."""


class MalformedVerdictError(ValueError):
    """The bytes are not a valid verdict. The message says what was seen and what was expected."""


_DECODER = msgspec.json.Decoder(Verdict)
_ENCODER = msgspec.json.Encoder()


def decode_verdict(value: bytes, published_at_ms: int = -1) -> Verdict:
    """Decode and validate one verdict.

    Args:
        value: of its record.
        published_at_ms: the record's time; -1 if there is none.

    Raises:
        MalformedVerdictError: not JSON, a field missing, of the wrong type or out of bounds, or ahead of its record.
    """
    try:
        verdict = _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise MalformedVerdictError(str(error)) from error
    if told := excess(verdict, *IDS):
        raise MalformedVerdictError(told)
    if 0 <= published_at_ms < verdict.decided_at_ms - MAX_AHEAD_MS:
        raise MalformedVerdictError(
            f"decided {verdict.decided_at_ms - published_at_ms} ms ahead of its record: expected at most {MAX_AHEAD_MS} ms"
        )
    return verdict


def encode_verdict(verdict: Verdict) -> bytes:
    """Encode one verdict as JSON (UTF-8)."""
    return _ENCODER.encode(verdict)


def new_verdict_id() -> str:
    """Make up the id of a verdict (RFC 9562 UUID, version 4)."""
    return str(uuid.uuid4())


def verdict_headers(verdict: Verdict) -> list[tuple[str, bytes]]:
    """Return the headers of a verdict: by its own id, at its time."""
    return cloud_event_headers(
        event_type=VERDICT_TYPE,
        event_id=verdict.verdict_id,
        source=VERDICT_SOURCE,
        subject=verdict.session_id,
        time_ms=verdict.decided_at_ms,
    )
