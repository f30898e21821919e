"""Dead letters: records of the input that could not be scored, kept whole with the reason and their source.

The value is the original bytes, the key the original key; all that is known of the failure is in the headers.
"""

from enum import StrEnum

import msgspec


class Reason(StrEnum):
    """Why a record was not scored."""

    NULL_VALUE = "null_value"
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    UNKNOWN_ACTION = "unknown_action"
    TIME_IN_FUTURE = "time_in_future"


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One record that could not be scored.

    `value` holds at most the detector's limit of a dead letter; `value_bytes` is the original's size (None for
    a null value). A value that was cut is still whole on the input topic at its source offset.
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


def dead_letter_headers(letter: DeadLetter) -> list[tuple[str, bytes]]:
    """Return the record headers that describe `letter`, in the order they are written."""
    fields = {
        "dlq-reason": letter.reason.value,
        "dlq-detail": letter.detail,
        "dlq-source-topic": letter.topic,
        "dlq-source-partition": letter.partition,
        "dlq-source-offset": letter.offset,
        "dlq-source-timestamp-ms": letter.timestamp_ms,
        "dlq-value-bytes": "null" if letter.value_bytes is None else letter.value_bytes,
    }
    return [(name, str(value).encode()) for name, value in fields.items()]
