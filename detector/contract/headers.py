"""CloudEvents headers of the records (CloudEvents 1.0.2, binary mode of the Kafka protocol binding 1.0.2)."""

from datetime import UTC, datetime

SPEC_VERSION = "1.0"
ACTION_TYPE = "session.action.v1"
ALERT_TYPE = "session.alert.v1"
EXPLANATION_TYPE = "session.explanation.v1"
VERDICT_TYPE = "session.verdict.v1"
PRODUCER_SOURCE = "/session-producer"
DETECTOR_SOURCE = "/session-detector"
VERDICT_SOURCE = "/session-verdicts"

CLOUD_EVENT_HEADERS = {
    "ce_specversion": "version of CloudEvents",
    "ce_type": "what the record is, with its version",
    "ce_source": "URI reference of the publisher",
    "ce_id": "unique for its source: the event's, the alert's or the verdict's id",
    "ce_subject": "the session id",
    "ce_time": "when it occurred, RFC 3339",
    "content-type": "of the value",
}
"""The headers of a record of ours, and what they say."""


def cloud_event_headers(
    *, event_type: str, event_id: str, source: str, subject: str, time_ms: int
) -> list[tuple[str, bytes]]:
    """Return the headers of a JSON record.

    Args:
        event_type: one of the types above.
        event_id: unique within `source`; the event's, the alert's or the verdict's id.
        source: URI reference of the publisher.
        subject: the session id.
        time_ms: when it occurred, Unix milliseconds.
    """
    return [
        ("ce_specversion", SPEC_VERSION.encode()),
        ("ce_type", event_type.encode()),
        ("ce_source", source.encode()),
        ("ce_id", event_id.encode()),
        ("ce_subject", subject.encode()),
        ("ce_time", utc(time_ms).encode()),
        ("content-type", b"application/json"),
    ]


def utc(time_ms: int) -> str:
    """Return a time in Unix milliseconds as RFC 3339 has it, in UTC."""
    time = datetime.fromtimestamp(time_ms // 1000, UTC).replace(microsecond=time_ms % 1000 * 1000)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
