"""Verdicts as labels: the last by its time holds, a fraud begins at its first event, and what has none is said."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from broker import Broker
from detector.contract.events import MAX_TIME_MS, SessionAction, encode_event
from detector.contract.verdicts import Finding, Verdict, encode_verdict
from tests.conftest import UniqueName
from tests.formats.wires import WIRES
from tests.trainer.test_reading import BEGIN_MS
from trainer.data.description import described
from trainer.data.loading import load
from trainer.data.sessions import DataError, Sessions
from trainer.data.topic import Topic
from trainer.data.verdicts import Verdicts

FRAUD, LAWFUL = Finding.FRAUD, Finding.LAWFUL
DAY_MS = 86_400_000
EVENTS = [
    SessionAction(
        event_id=f"{session}-{number}",
        session_id=session,
        account_id=f"account-{session}",
        action="LOGIN",
        occurred_at_ms=BEGIN_MS + day * DAY_MS + number * 1_000,
    )
    for session, day in (("a", 0), ("b", 0), ("c", 60))
    for number in range(3)
]


def verdict(session: str, finding: Finding, decided_at_ms: int = 0, **more: Any) -> bytes:
    """Encode a verdict."""
    return encode_verdict(
        Verdict(
            verdict_id=f"{session}-{decided_at_ms}",
            account_id=f"account-{session}",
            session_id=session,
            verdict=finding,
            by="analyst",
            decided_at_ms=decided_at_ms,
            **more,
        )
    )


def loaded(folder: Path, *verdicts: bytes, **said: Any) -> Sessions:
    """Read the events with these verdicts beside."""
    events, found = folder / "events.jsonl", folder / "verdicts.jsonl"
    events.write_bytes(b"\n".join(map(encode_event, EVENTS)))
    found.write_bytes(b"\n".join(verdicts))
    return load(events, described(said), Verdicts(found)).sessions


def test_the_last_verdict_of_a_session_by_its_time_is_its_label(tmp_path: Path) -> None:
    """Whatever the order that they lie in; of two of the same time the later one holds."""
    sessions = loaded(
        tmp_path,
        verdict("a", LAWFUL, 5),
        verdict("a", FRAUD, 4),
        verdict("b", LAWFUL, 4),
        verdict("b", FRAUD, 4, fraud_type="quick_drain"),
        verdict("c", LAWFUL),
    )
    assert sessions.ids.tolist() == ["a", "b", "c"]
    assert sessions.labels.tolist() == [0, 1, 0]
    assert "quick_drain" in sessions.types.names


@pytest.mark.parametrize(
    ("said", "begins"),
    [
        ({}, 0),
        ({"first_event_id": "a-2"}, 2),
        ({"first_event_at_ms": BEGIN_MS + 500}, 1),
        ({"first_event_id": "a-2", "first_event_at_ms": BEGIN_MS}, 2),
        ({"first_event_at_ms": BEGIN_MS + DAY_MS}, 0),
    ],
)
def test_a_fraud_begins_with_its_first_event(tmp_path: Path, said: dict[str, Any], begins: int) -> None:
    """By its id, or by its time; with the session where nothing is said, or nothing is found."""
    sessions = loaded(tmp_path, verdict("a", FRAUD, **said), verdict("b", LAWFUL), verdict("c", LAWFUL))
    assert sessions.targets[:3].tolist() == [int(number >= begins) for number in range(3)]


def test_a_verdict_is_on_the_session_of_its_account_alone(tmp_path: Path) -> None:
    """Another account's session of the same id, which a detector with signals tells apart, is none of it."""
    description = described(
        {
            "unlabelled": "lawful",
            "signals": [{"name": "sum", "kind": "magnitude", "of": "amount", "bounds": [1]}],
        }
    )
    theirs = [msgspec.structs.replace(one, account_id="another") for one in EVENTS[:3]]
    events, found = tmp_path / "events.jsonl", tmp_path / "verdicts.jsonl"
    events.write_bytes(b"\n".join(map(encode_event, [*EVENTS[:3], *theirs, *EVENTS[3:]])))
    mine = verdict("a", FRAUD, first_event_id="a-1")
    other = verdict("a", LAWFUL, 1).replace(b"account-a", b"another")
    found.write_bytes(b"\n".join([mine, other]))
    loaded = load(events, description, Verdicts(found))
    assert loaded.sessions.ids.tolist() == ["a", "a", "b", "c"]
    assert loaded.sessions.labels.tolist() == [1, 0, 0, 0]
    assert loaded.sessions.targets[:6].tolist() == [0, 1, 1, 0, 0, 0]
    assert not [one for one in loaded.told if "differ" in one or "does not have" in one]
    found.write_bytes(b"\n".join([mine.replace(b"account-a", b"nobody"), other]))
    assert any(
        "1 labels are of sessions that" in one for one in load(events, description, Verdicts(found)).told
    )


def test_what_has_no_verdict_is_lawful_or_left_out(tmp_path: Path) -> None:
    """Frauds alone are enough, and what is too young to be known is no example."""
    only = verdict("a", FRAUD)
    with pytest.raises(DataError, match="2 of 3 sessions have no label"):
        loaded(tmp_path, only)
    assert loaded(tmp_path, only, unlabelled="lawful").labels.tolist() == [1, 0, 0]
    assert loaded(tmp_path, only, unlabelled="leave-out").labels.tolist() == [1]
    young = loaded(tmp_path, only, unlabelled="lawful", label_delay="30d")
    assert young.ids.tolist() == ["a", "b"]


def test_what_is_no_verdict_is_told_and_passed_over(tmp_path: Path) -> None:
    """A topic that anybody writes to holds anything; without a single verdict there are no labels."""
    events = tmp_path / "events.jsonl"
    events.write_bytes(b"\n".join(map(encode_event, EVENTS)))
    found = tmp_path / "verdicts.jsonl"
    found.write_bytes(b"\n".join([b"nonsense", json.dumps({"verdict": "FRAUD"}).encode()]))
    with pytest.raises(DataError, match="has no verdict"):
        load(events, described({}), Verdicts(found))
    found.write_bytes(b"\n".join([b"nonsense", verdict("a", FRAUD)]))
    told = load(events, described({"unlabelled": "lawful"}), Verdicts(found)).told
    assert "1 sessions have verdicts: 1 frauds, 0 lawful" in told
    assert any("1 records" in one for one in told)


def test_events_and_verdicts_of_two_topics(
    kafka: Broker, admin: KafkaAdminClient, unique_name: UniqueName
) -> None:
    """What `train --topic … --verdicts …` reads: the events of one topic, whatever they come in, the labels of another.

    Partition by partition, whatever the order in which a broker sends them.
    """
    events, verdicts = unique_name("events"), unique_name("verdicts")
    admin.create_topics([NewTopic(events, 3, 1), NewTopic(verdicts, 1, 1)])
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    wires = {"a": "json", "b": "cloudevents", "c": "debezium in connect"}
    for one in EVENTS:
        value = WIRES[wires[one.session_id]](json.loads(encode_event(one)))
        producer.send(events, value=value, partition="cba".index(one.session_id))
    producer.send(verdicts, value=verdict("b", FRAUD))
    producer.send(verdicts, value=verdict("c", FRAUD, MAX_TIME_MS))  # which no later one could undo
    producer.flush()
    producer.close()
    servers = kafka.bootstrap_servers
    labels = Verdicts(Topic(servers, verdicts))
    sessions = load(Topic(servers, events), described({"unlabelled": "lawful"}), labels).sessions
    assert sessions.ids.tolist() == ["c", "b", "a"]
    assert sessions.labels.tolist() == [0, 1, 0]
