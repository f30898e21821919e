"""What a batch publishes, as records: alerts, dead letters and state."""

from kafka import TopicPartition

from detector.contract.alerts import Alert, encode_alert, headers_of
from detector.contract.dead_letters import DeadLetter, dead_letter_headers
from detector.contract.epochs import ModelEpoch, encode_epoch
from detector.runtime.config import DetectorConfig
from detector.runtime.processing import Processed, Refused
from detector.runtime.recovery import Origin
from detector.runtime.transaction import OutputRecord


def output_records(processed: Processed, config: DetectorConfig, refused: Refused) -> list[OutputRecord]:
    """Return the records of what one partition's share of a batch comes to: alerts, those in shadow, dead letters.

    What a challenger comes to holds nothing up: where its topic has refused a record, all of the share is left out.
    """
    outcome, source = processed.outcome, processed.source
    in_shadow = [] if (source, None) in refused else outcome.shadow_alerts
    return [
        *(_alert_record(one, config.alerts_topic, (source, one.source.offset)) for one in outcome.alerts),
        *(_alert_record(one, config.shadow_topic, (source, None)) for one in in_shadow),
        *(dead_letter_record(letter, config, source) for letter in processed.letters),
    ]


def _alert_record(alert: Alert, topic: str, origin: Origin) -> OutputRecord:
    """Key it by session, with CloudEvents headers in binary mode."""
    return OutputRecord(
        topic, alert.session_id.encode(), encode_alert(alert), headers_of(alert), origin=origin
    )


def epoch_record(epoch: ModelEpoch, config: DetectorConfig) -> OutputRecord:
    """Return the record that says which model decides a partition from an offset on."""
    return OutputRecord(config.models_topic, str(epoch.partition).encode(), encode_epoch(epoch), [])


def dead_letter_record(letter: DeadLetter, config: DetectorConfig, source: TopicPartition) -> OutputRecord:
    """Return the record of a dead letter: the original's key and bytes, with the reason in the headers."""
    key = letter.key
    if key is None and letter.value is None:
        key = b""  # kafka-python sends no record that has neither key nor value
    headers = dead_letter_headers(letter)
    return OutputRecord(config.dead_letter_topic, key, letter.value, headers, origin=(source, letter.offset))


def state_record(source: TopicPartition, value: bytes, config: DetectorConfig) -> OutputRecord:
    """Return a record of the state log, in the partition of the same number as the input's."""
    return OutputRecord(config.state_topic, None, value, [], source.partition)
