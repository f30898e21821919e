"""What a batch publishes, as records: alerts, dead letters and state."""

from kafka import TopicPartition

from detector.contract.alerts import Alert, encode_alert
from detector.contract.dead_letters import DeadLetter, dead_letter_headers
from detector.contract.headers import ALERT_TYPE, DETECTOR_SOURCE, cloud_event_headers
from detector.runtime.config import DetectorConfig
from detector.runtime.transaction import OutputRecord


def alert_record(alert: Alert, config: DetectorConfig) -> OutputRecord:
    """Return the record of an alert: keyed by session, CloudEvents headers in binary mode."""
    headers = cloud_event_headers(
        event_type=ALERT_TYPE,
        event_id=alert.alert_id,
        source=DETECTOR_SOURCE,
        subject=alert.session_id,
        time_ms=alert.occurred_at_ms,
    )
    return OutputRecord(config.alerts_topic, alert.session_id.encode(), encode_alert(alert), headers)


def dead_letter_record(letter: DeadLetter, config: DetectorConfig) -> OutputRecord:
    """Return the record of a dead letter: the original's key and bytes, the reason in the headers."""
    key = letter.key
    if key is None and letter.value is None:
        key = b""  # kafka-python sends no record that has neither key nor value
    return OutputRecord(config.dead_letter_topic, key, letter.value, dead_letter_headers(letter))


def state_record(source: TopicPartition, value: bytes, config: DetectorConfig) -> OutputRecord:
    """Return a record of the state log, in the partition of the same number as the input's."""
    return OutputRecord(config.state_topic, None, value, [], source.partition)
