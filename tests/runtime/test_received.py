"""A record's time, on a topic with CreateTime, is whatever its producer wrote."""

from types import SimpleNamespace

import pytest
from kafka import TopicPartition

from detector.contract.alerts import decode_alert, encode_alert
from detector.contract.events import FIRST_MS, MAX_TIME_MS, SessionEvent, encode_event
from detector.core.partition import Partition
from detector.model.artifact import load_model, packaged_model_path
from detector.runtime.config import DetectorConfig
from detector.runtime.decoding import CREATE_TIME
from detector.runtime.processing import processor_of

SOURCE = TopicPartition("session-actions", 0)


@pytest.mark.parametrize("timestamp_ms", [-1, 0, MAX_TIME_MS, 2**63 - 1])
def test_an_alert_can_be_read_whatever_time_its_record_claims(timestamp_ms: int) -> None:
    """No subscriber refuses an alert for it."""
    records = [
        SimpleNamespace(
            topic=SOURCE.topic, partition=0, offset=number, key=b"s", headers=[], timestamp=timestamp_ms,
            timestamp_type=CREATE_TIME,
            value=encode_event(
                SessionEvent(
                    event_id=f"e{number}", session_id="s", account_id="a", action=action, occurred_at_ms=FIRST_MS + number
                )
            ),
        )
        for number, action in enumerate(("LOGIN", "CHANGE_PASSWORD"))
    ]  # fmt: skip
    processor = processor_of(load_model(packaged_model_path("seed")), DetectorConfig())
    (processed,) = processor.process({SOURCE: records}, {SOURCE: Partition()})
    (alert,) = processed.outcome.alerts
    assert decode_alert(encode_alert(alert)) == alert
