"""The realistic simulator's events give the same alerts, bit for bit, in each wire format and under other names."""

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from kafka import TopicPartition

from detector.contract.events import encode_event
from detector.model.artifact import load_model, resolve_model_path
from detector.runtime.config import DetectorConfig
from detector.runtime.processing import processor_of
from detector.runtime.replaying import LoggedLine, replay
from producer.behaviour.interleave import interleave
from tests.formats.wires import WIRES
from tests.producer.conftest import START_MS, lived

SOURCE = TopicPartition("session-actions", 0)
NAMES = (
    *("event_id=id", "session_id=meta.sid", "account_id=meta.user.id", "action=what", "occurred_at_ms=at"),
    *("amount=sum", "attributes.device=client.device", "attributes.country=client.country"),
)


def named_otherwise(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event of one who calls fields otherwise, and means others by the contract's names."""
    told = dict(event)
    attributes = dict(told.pop("attributes", {}))
    made: dict[str, Any] = {
        "id": told["event_id"], "meta": {"sid": told["session_id"], "user": {"id": told["account_id"]}},
        "what": told["action"], "at": told["occurred_at_ms"], "session_id": 7, "amount": "none",
        "client": {name: attributes.pop(name) for name in ("device", "country") if name in attributes},
        "attributes": attributes,
    }  # fmt: skip
    return made | ({"sum": told["amount"]} if "amount" in told else {})


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    """Return a day of customers who are attacked often."""
    simulated = interleave(lived(1, 100, 3, attack_rate=0.5), start_ms=START_MS)
    return [json.loads(encode_event(event)) for event in simulated]


def alerts_of(values: Iterable[bytes], **settings: Any) -> list[bytes]:
    """Return the alerts that records come to, of which none is a dead letter, under the model that reads all fields."""
    processor = processor_of(
        load_model(resolve_model_path("history")), DetectorConfig(partitions=1, **settings)
    )
    records = [LoggedLine(SOURCE.topic, 0, at, -1, None, value) for at, value in enumerate(values)]
    batches = [{SOURCE: records[at : at + 500]} for at in range(0, len(records), 500)]
    found = list(replay(batches, processor))
    assert not [letter for processed in found for letter in processed.letters]
    return [msgspec.json.encode(alert) for processed in found for alert in processed.outcome.alerts]


@pytest.fixture(scope="module")
def expected(events: list[dict[str, Any]]) -> list[bytes]:
    """Return the alerts of the events in plain JSON."""
    alerts = alerts_of((WIRES["json"](event) for event in events), input_format="json")
    assert len(alerts) > 10
    return alerts


@pytest.mark.usefixtures("schemas")
@pytest.mark.parametrize("name", list(WIRES))
def test_each_wire_format_gives_the_same_alerts(
    name: str, events: list[dict[str, Any]], expected: list[bytes]
) -> None:
    """Without a setting, whatever the events are wrapped in or written as."""
    assert alerts_of(WIRES[name](event) for event in events) == expected


@pytest.mark.parametrize("name", ["json", "cloudevents", "debezium in connect"])
def test_other_names_give_the_same_alerts(
    name: str, events: list[dict[str, Any]], expected: list[bytes]
) -> None:
    """A map of names is all that it takes."""
    assert alerts_of((WIRES[name](named_otherwise(event)) for event in events), field=NAMES) == expected
