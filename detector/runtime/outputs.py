"""What a batch publishes, as records: alerts, dead letters and state."""

from kafka import TopicPartition

from detector.contract.alerts import Alert, encode_alert
from detector.contract.dead_letters import DeadLetter, dead_letter_headers
from detector.contract.epochs import ModelEpoch, encode_epoch
from detector.contract.headers import ALERT_TYPE, DETECTOR_SOURCE, cloud_event_headers
from detector.core.breaker import BreakerLimits
from detector.core.decision import Decided, Policy
from detector.runtime.config import DetectorConfig
from detector.runtime.transaction import OutputRecord


def alert_records(decided: Decided, config: DetectorConfig) -> list[OutputRecord]:
    """Return the records of what was decided, and on the shadow topic of what a challenger would have."""
    records = [_alert_record(alert, config.alerts_topic) for alert in decided.alerts]
    if decided.shadowed is not None:
        records += [_alert_record(alert, config.shadow_topic) for alert in decided.shadowed.alerts]
    return records


def _alert_record(alert: Alert, topic: str) -> OutputRecord:
    """Key it by session, with CloudEvents headers in binary mode."""
    headers = cloud_event_headers(
        event_type=ALERT_TYPE,
        event_id=alert.alert_id,
        source=DETECTOR_SOURCE,
        subject=alert.session_id,
        time_ms=alert.occurred_at_ms,
    )
    return OutputRecord(topic, alert.session_id.encode(), encode_alert(alert), headers)


def epoch_record(
    source: TopicPartition, from_offset: int, policy: Policy, config: DetectorConfig
) -> OutputRecord:
    """Return the record that says which model decides a partition from an offset on."""
    breaker = policy.breaker or BreakerLimits(0.0, 0, 0)
    epoch = ModelEpoch(
        topic=source.topic,
        partition=source.partition,
        from_offset=from_offset,
        model=policy.model,
        threshold=policy.threshold,
        review_threshold=policy.review_threshold,
        breaker_max_block_share=breaker.max_block_share,
        breaker_min_blocks=breaker.min_blocks,
        breaker_window_ms=breaker.window_ms,
    )
    return OutputRecord(config.models_topic, str(source.partition).encode(), encode_epoch(epoch), [])


def dead_letter_record(letter: DeadLetter, config: DetectorConfig) -> OutputRecord:
    """Return the record of a dead letter: the original's key and bytes, the reason in the headers."""
    key = letter.key
    if key is None and letter.value is None:
        key = b""  # kafka-python sends no record that has neither key nor value
    return OutputRecord(config.dead_letter_topic, key, letter.value, dead_letter_headers(letter))


def state_record(source: TopicPartition, value: bytes, config: DetectorConfig) -> OutputRecord:
    """Return a record of the state log, in the partition of the same number as the input's."""
    return OutputRecord(config.state_topic, None, value, [], source.partition)
