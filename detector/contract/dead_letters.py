"""Dead letters: records of the input that could not be scored, kept whole with the reason and their source.

The value is the original bytes, the key the original key; all that is known of the failure is in the headers,
beside the original's own. A dead letter that is redriven goes back to the input with its history in the
headers; if it fails again, the new dead letter carries the history on.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated

import msgspec

PREFIX = "dlq-"
"""Begins the names of the headers that are ours; an original's headers of such names are not carried."""
MAX_HISTORY = 10
"""Failures a record's history holds at most: the first, and the last ones. The count says if any are left out."""
_MAX_FAILURE_BYTES = 1_024

OUR_HEADERS = {
    "dlq-reason": "why it could not be scored; a reader may meet reasons that it does not know",
    "dlq-detail": "for people: what was seen and what was expected",
    "dlq-source-topic": "where the original lies",
    "dlq-source-partition": "where the original lies",
    "dlq-source-offset": "where the original lies",
    "dlq-source-timestamp-ms": "the original record's timestamp",
    "dlq-value-bytes": "size of the original's value, or null",
    "dlq-key-bytes": "size of the original's key, where it was cut",
    "dlq-headers-omitted": "how many of the original's headers are left out, where they are",
    "dlq-redrive-count": "how often the event was redriven, where it was",
    "dlq-history": "an earlier failure, as JSON; may be repeated",
}
"""The headers of a dead letter that are ours, and what they say."""

Headers = Sequence[tuple[str, bytes | None]]


class Reason(StrEnum):
    """Why a record was not scored."""

    NULL_VALUE = "null_value"
    TOO_LARGE = "too_large"
    BATCH_TOO_LARGE = "batch_too_large"
    DESERIALIZATION = "deserialization"
    MALFORMED = "malformed"
    UNKNOWN_SCHEMA = "unknown_schema"
    UNKNOWN_ACTION = "unknown_action"
    TIME_UNIT = "time_unit"  # no time of 2000 to 2099, in milliseconds
    TIME_IN_FUTURE = "time_in_future"  # of a verdict; an event is scored at the broker's time
    LISTING_REFUSED = "listing_refused"  # sound, but there are too many listed accounts
    PROCESSING = "processing"  # sound, but the detector or its model failed on it
    PRODUCTION = "production"  # sound, but a topic refused what came of it


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One time that an event was dead-lettered, and where it lay then. JSON in a header of the history."""

    reason: str
    topic: str
    partition: Annotated[int, msgspec.Meta(ge=0)]
    offset: Annotated[int, msgspec.Meta(ge=0)]
    timestamp_ms: int


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One record that could not be scored.

    `value` holds at most the detector's limit of a dead letter; `value_bytes` is the original's size (None for
    a null value, or one that was not read). What was cut is still whole on the input topic at its source offset.
    Where nothing of a compressed batch could be read, one letter stands for it, at the batch's last offset.

    Attributes:
        reason: why.
        detail: for people: what was seen and what was expected.
        topic: where the original lies, as are `partition` and `offset`.
        timestamp_ms: the original record's.
        headers: the original's, save ours and those without a value.
        headers_omitted: how many of them are left out because they were too large; then `headers` is empty.
        key_bytes: size of the original's key if it was cut, else None.
        redrives: how often the event was redriven before.
        history: its earlier failures, the oldest first.
    """

    reason: Reason
    detail: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    value_bytes: int | None
    headers: tuple[tuple[str, bytes], ...] = ()
    headers_omitted: int = 0
    key_bytes: int | None = None
    redrives: int = 0
    history: tuple[Failure, ...] = ()

    @property
    def is_cut(self) -> bool:
        """Whether the letter holds less than the original's value or key."""
        return self.key_bytes is not None or self.value_bytes != (
            None if self.value is None else len(self.value)
        )

    def without_content(self) -> "DeadLetter":
        """Return the letter without the original's value, headers and history, for a topic that takes no larger one."""
        omitted = self.headers_omitted + len(self.headers)
        return msgspec.structs.replace(self, value=None, headers=(), headers_omitted=omitted, history=())


class NoDeadLetterError(ValueError):
    """The record's headers are not those of a dead letter this version knows."""


_FAILURE_DECODER = msgspec.json.Decoder(Failure)


def original_headers(headers: Headers) -> tuple[tuple[str, bytes], ...]:
    """Return what the publisher of a record put into its headers."""
    return tuple(
        (name, value) for name, value in headers if value is not None and not name.startswith(PREFIX)
    )


def history_of(headers: Headers) -> tuple[int, tuple[Failure, ...]]:
    """Return how often a record was redriven, and its earlier failures; 0 and none if the headers say nothing.

    Anybody can publish anything: what can't be read counts as nothing, and the result is bounded.
    """
    redrives, history = 0, []
    for name, value in headers:
        if name == "dlq-redrive-count" and value is not None and value.isdigit() and len(value) <= 9:  # noqa: PLR2004
            redrives = int(value)
        elif name == "dlq-history" and value is not None and len(value) <= _MAX_FAILURE_BYTES:
            try:
                history.append(_FAILURE_DECODER.decode(value))
            except (msgspec.DecodeError, UnicodeError):
                continue
    return redrives, _bounded(history)


def dead_letter_headers(letter: DeadLetter) -> list[tuple[str, bytes]]:
    """Return the record headers that describe `letter`, the original's first."""
    fields = {
        "dlq-reason": letter.reason.value,
        "dlq-detail": letter.detail,
        "dlq-source-topic": letter.topic,
        "dlq-source-partition": letter.partition,
        "dlq-source-offset": letter.offset,
        "dlq-source-timestamp-ms": letter.timestamp_ms,
        "dlq-value-bytes": "null" if letter.value_bytes is None else letter.value_bytes,
    }
    if letter.key_bytes is not None:
        fields["dlq-key-bytes"] = letter.key_bytes
    if letter.headers_omitted:
        fields["dlq-headers-omitted"] = letter.headers_omitted
    ours = [(name, str(value).encode()) for name, value in fields.items()]
    return [*letter.headers, *ours, *_history_headers(letter.redrives, letter.history)]


def redriven_headers(letter: DeadLetter) -> list[tuple[str, bytes]]:
    """Return the headers under which `letter` goes back to the input: the original's, and the history."""
    failure = Failure(
        reason=letter.reason.value,
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
        timestamp_ms=letter.timestamp_ms,
    )
    return [*letter.headers, *_history_headers(letter.redrives + 1, _bounded([*letter.history, failure]))]


def read_dead_letter(key: bytes | None, value: bytes | None, headers: Headers) -> DeadLetter:
    """Read a record of the dead-letter topic.

    Raises:
        NoDeadLetterError: a header is missing or says nothing this version understands.
    """
    said = {name: text for name, text in headers if name.startswith(PREFIX) and text is not None}
    redrives, history = history_of(headers)
    try:
        size = said["dlq-value-bytes"]
        return DeadLetter(
            reason=Reason(said["dlq-reason"].decode()),
            detail=said["dlq-detail"].decode(),
            topic=said["dlq-source-topic"].decode(),
            partition=int(said["dlq-source-partition"]),
            offset=int(said["dlq-source-offset"]),
            timestamp_ms=int(said["dlq-source-timestamp-ms"]),
            key=key,
            value=value,
            value_bytes=None if size == b"null" else int(size),
            headers=original_headers(headers),
            headers_omitted=int(said.get("dlq-headers-omitted", b"0")),
            key_bytes=int(said["dlq-key-bytes"]) if "dlq-key-bytes" in said else None,
            redrives=redrives,
            history=history,
        )
    except KeyError as error:
        raise NoDeadLetterError(f"no header {error}: expected those of a dead letter") from error
    except ValueError as error:
        raise NoDeadLetterError(f"headers of a dead letter that can't be read: {error}") from error


def _bounded(history: Sequence[Failure]) -> tuple[Failure, ...]:
    if len(history) <= MAX_HISTORY:
        return tuple(history)
    return (history[0], *history[1 - MAX_HISTORY :])


def _history_headers(redrives: int, history: Iterable[Failure]) -> list[tuple[str, bytes]]:
    if not redrives:
        return []
    count = ("dlq-redrive-count", str(redrives).encode())
    return [count, *(("dlq-history", msgspec.json.encode(failure)) for failure in history)]
