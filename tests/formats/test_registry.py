"""Values written by a registry's schemas: asked for once, by id; what can't be known now is no dead letter."""

import base64
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool, message_factory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kafka import TopicPartition

from detector.contract.dead_letters import Reason
from detector.contract.events import MAX_TIME_MS, MalformedEventError, decode_event
from detector.core.partition import Partition
from detector.formats import registry
from detector.formats.protobuf import _compiled
from detector.formats.registry import Registry, RegistryError, UnknownSchemaError
from detector.formats.wire import AS_IT_COMES
from detector.model.artifact import load_model, resolve_model_path
from detector.runtime.config import DetectorConfig
from detector.runtime.processing import processor_of
from detector.runtime.replaying import LoggedLine
from tests.contract.test_contract import VALID
from tests.formats.wires import (
    AVRO_ID,
    AVRO_TIMED_ID,
    DESCRIPTORS,
    JSON_ID,
    PROTOBUF_ID,
    UNKNOWN_ID,
    StubRegistry,
    avro,
    avro_schema,
    framed,
    protobuf,
    serving,
)

SOURCE = TopicPartition("session-actions", 0)
read = AS_IT_COMES.event_of(decode_event)


def test_a_schema_is_asked_for_once(schemas: StubRegistry) -> None:
    """Under an id it is for ever the same, and so are those that it refers to."""
    for _ in range(3):
        assert read(framed(AVRO_ID, avro(VALID))) == decode_event(json.dumps(VALID).encode())
        assert read(framed(PROTOBUF_ID, protobuf(VALID))).session_id == "s"
    assert schemas.asked == [f"/schemas/ids/{AVRO_ID}", f"/schemas/ids/{PROTOBUF_ID}", *schemas.versions]


def test_a_schema_may_be_a_descriptor_and_refer_to_others(schemas: StubRegistry) -> None:
    """Clients in Python register descriptors in base64; of Avro a type may be another subject's, and that one's another's."""
    *_, actions, events = (base64.b64encode(one.SerializeToString()).decode() for one in DESCRIPTORS)
    refers = schemas.schemas[PROTOBUF_ID]["references"]
    schemas.schemas[7] = {"schema": events, "schemaType": "PROTOBUF", "references": refers}
    (path,) = schemas.versions
    schemas.versions[path] = {"schema": actions, "schemaType": "PROTOBUF"}
    assert read(framed(7, protobuf(VALID))) == decode_event(json.dumps(VALID).encode())

    letters: dict[str, object] = {"type": "enum", "name": "Letter", "symbols": ["LOGIN"]}
    boxed: dict[str, object] = {
        "type": "record",
        "name": "Box",
        "fields": [{"name": "letter", "type": "Letter"}],
    }
    schemas.versions |= {
        "/subjects/letters/versions/1": {"schema": json.dumps(letters)},
        "/subjects/boxes/versions/2": {
            "schema": json.dumps(boxed), "references": [{"name": "Letter", "subject": "letters", "version": 1}],
        },
    }  # fmt: skip
    document = avro_schema()
    document["fields"][3]["type"] = "Letter"
    document["fields"].append({"name": "box", "type": "Box"})
    to = [
        {"name": "Box", "subject": "boxes", "version": 2},
        {"name": "Letter", "subject": "letters", "version": 1},
    ]
    schemas.schemas[8] = {"schema": json.dumps(document), "references": to}
    whole = json.loads(
        json.dumps(document).replace('"Letter"', json.dumps(letters), 1).replace('"Box"', json.dumps(boxed))
    )
    assert read(framed(8, avro(VALID | {"box": {"letter": "LOGIN"}}, whole))) == decode_event(
        json.dumps(VALID).encode()
    )


@pytest.mark.usefixtures("schemas")
def test_an_id_that_no_registry_gives_stops_nobody() -> None:
    """Confluent's finds no such path; that is known to be no schema, and not waited for."""
    with pytest.raises(UnknownSchemaError, match="none of this id"):
        read(framed(2**32 - 1, b"garbage"))


@pytest.mark.parametrize("name", ["../event.proto", "/etc/event.proto"])
def test_a_schema_writes_nowhere_else(schemas: StubRegistry, name: str) -> None:
    """Where it is compiled, a file that it imports lies below its own, or it is refused."""
    schemas.schemas[PROTOBUF_ID]["references"] = [{"name": name, "subject": "shop/actions", "version": 3}]
    with pytest.raises(UnknownSchemaError, match="expected a file below its own"):
        read(framed(PROTOBUF_ID, protobuf(VALID)))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    time_ms=st.integers(0, MAX_TIME_MS),
    at=st.integers(0, 400),
    flipped=st.integers(1, 255),
    cut=st.booleans(),
)
def test_a_damaged_value_is_an_event_or_refused(
    schemas: StubRegistry, time_ms: int, at: int, flipped: int, *, cut: bool
) -> None:
    """Whatever is behind the prefix ends in an event or in MalformedEventError, by each kind of schema."""
    document: dict[str, object] = {
        "event_id": "é",
        "session_id": "s",
        "account_id": "a",
        "amount": 2.5,
        "attributes": {"device": "d"},
    }
    document |= {"action": "LOGIN", "occurred_at_ms": time_ms}
    for schema_id, content in (
        (AVRO_ID, avro(document)),
        (PROTOBUF_ID, protobuf(document)),
        (JSON_ID, json.dumps(document).encode()),
    ):
        damaged = bytearray(content)
        damaged[at % len(content)] ^= flipped
        value = framed(schema_id, bytes(damaged[: at % len(content)] if cut else damaged))
        try:
            read(value)
        except MalformedEventError as error:
            assert str(error)  # noqa: PT017  both outcomes are allowed
    assert len(schemas.asked) <= 4  # no schema twice


@pytest.mark.usefixtures("schemas")
def test_a_text_that_is_none_hides_nothing_else() -> None:
    """A byte of another encoding in a field that is not scored counts as absent; in an id the event is refused."""
    for schema_id, encode in ((AVRO_ID, avro), (PROTOBUF_ID, protobuf)):
        told = encode(VALID | {"attributes": {"user_agent": "bad"}})
        value = framed(schema_id, told.replace(b"bad", b"b\xffd"))
        assert read(value) == decode_event(json.dumps(VALID).encode())
        with pytest.raises(MalformedEventError, match="session_id"):
            read(framed(schema_id, encode(VALID | {"session_id": "bad"}).replace(b"bad", b"b\xffd")))


def test_what_googles_types_cannot_say_hides_nothing_else(schemas: StubRegistry) -> None:
    """NaN in a Struct, an Any of a type that nobody knows: absent."""
    text = """syntax = "proto3"; import "google/protobuf/any.proto"; import "google/protobuf/struct.proto"; message E {
        string event_id = 1; string session_id = 2; string account_id = 3; string action = 4; int64 occurred_at_ms = 5;
        google.protobuf.Struct attributes = 6; google.protobuf.Any more = 7; }"""
    schemas.schemas[7] = {"schema": text, "schemaType": "PROTOBUF"}
    pool = descriptor_pool.DescriptorPool()
    for one in _compiled(text, {}):
        pool.Add(one)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("E"))
    for hidden in ({"attributes": {"a": float("nan")}}, {"more": {"type_url": "a.b/C", "value": b"x"}}):
        value = framed(7, b"\0" + kind(**VALID, **hidden).SerializeToString())
        assert read(value) == decode_event(json.dumps(VALID).encode())


@pytest.mark.parametrize(
    ("written", "read_as", "value"),
    [
        ("string", {"type": "string", "logicalType": "uuid"}, "no UUID"),
        ("int", {"type": "int", "logicalType": "date"}, 2**31 - 1),
    ],
)
def test_what_is_none_of_its_logical_type_hides_nothing_else(
    schemas: StubRegistry, written: str, read_as: Any, value: Any
) -> None:
    """Serialisers write what they are given, and who fills in a field must not decide by it whether he is scored."""
    documents = [avro_schema(), avro_schema()]
    for document, kind in zip(documents, (written, read_as), strict=True):
        document["fields"].append({"name": "more", "type": kind})
    schemas.schemas[7] = {"schema": json.dumps(documents[1])}
    assert read(framed(7, avro(VALID | {"more": value}, documents[0]))).session_id == "s"


def test_a_type_within_itself_ends_no_worker(schemas: StubRegistry) -> None:
    """However deep its values lie in each other: it is an event or a dead letter."""
    document = avro_schema()
    box = {"type": "record", "name": "Box", "fields": [{"name": "box", "type": ["null", "Box"]}]}
    document["fields"].append({"name": "more", "type": ["null", {"type": "array", "items": box}]})
    schemas.schemas[7] = {"schema": json.dumps(document)}
    start = avro(VALID | {"more": [{"box": None}]}, document)[:-2]
    assert read(framed(7, start + b"\x02" * 20 + b"\0\0")).session_id == "s"
    with pytest.raises(MalformedEventError, match="RecursionError"):
        read(framed(7, start + b"\x02" * 60_000 + b"\0\0"))


def test_times_are_in_milliseconds_whatever_they_count(schemas: StubRegistry) -> None:
    """A logical type says what a number counts: microseconds in Avro, seconds and nanoseconds in Protobuf's Timestamp."""
    micros = json.loads(schemas.schemas[AVRO_TIMED_ID]["schema"])
    value = avro(VALID | {"occurred_at_ms": 1_790_000_000_123_456}, micros)
    assert read(framed(AVRO_TIMED_ID, value)).occurred_at_ms == 1_790_000_000_123
    inner = protobuf(VALID | {"occurred_at_ms": 1_790_000_000_123}, is_inner=True)
    assert read(framed(PROTOBUF_ID, inner)).occurred_at_ms == 1_790_000_000_123


def test_what_no_schema_says_is_told(schemas: StubRegistry) -> None:
    """An unknown id, a schema of no event, of no type that can be read, or with indexes of no message: each by its id."""
    schemas.schemas |= {
        7: {"schema": '"string"'},
        8: {"schema": "{}", "schemaType": "XML"},
        9: {"schema": "message {", "schemaType": "PROTOBUF"},
    }
    for schema_id, seen in (
        (UNKNOWN_ID, "has none of this id"),
        (7, "of no record"),
        (8, "type XML"),
        (9, "can't be read"),
    ):
        for _ in range(2):
            with pytest.raises(UnknownSchemaError, match=f"schema {schema_id}.*{seen}"):
                read(framed(schema_id, b"x"))
        assert schemas.asked.count(f"/schemas/ids/{schema_id}") == 1
    schemas.schemas[UNKNOWN_ID] = {"schema": json.dumps(avro_schema())}
    used = registry.registry_in_use()
    assert used is not None
    used._unknown.clear()
    assert read(framed(UNKNOWN_ID, avro(VALID))).action == "LOGIN"
    for indexes in (b"\x02\x0a", b"\x02\x01", b"\x7f", b"\x01", b"\xff" * 60_000, b""):
        with pytest.raises(MalformedEventError, match="Protobuf"):
            read(framed(PROTOBUF_ID, indexes))


def logged(*values: bytes) -> dict[TopicPartition, list[LoggedLine]]:
    """Return a batch of records."""
    return {
        SOURCE: [LoggedLine(SOURCE.topic, 0, offset, -1, b"a", value) for offset, value in enumerate(values)]
    }


@pytest.mark.parametrize("status", [500, 503, 401, 403, 404])
def test_a_registry_that_is_away_makes_no_dead_letters(schemas: StubRegistry, status: int) -> None:
    """Nothing is known of a record then: the batch is not processed, and is once the registry answers."""
    processor = processor_of(load_model(resolve_model_path("seed")), DetectorConfig(partitions=1))
    event = avro(VALID | {"occurred_at_ms": 1_790_000_000_000})
    partitions, batch = {SOURCE: Partition()}, logged(framed(AVRO_ID, event), framed(UNKNOWN_ID, b"x"))
    schemas.fails_with = status
    with pytest.raises(RegistryError, match=f"answers {status} to schemas/ids/{AVRO_ID}"):
        processor.process(batch, partitions)
    schemas.fails_with = 0
    (processed,) = processor.process(batch, partitions)
    assert [(letter.offset, letter.reason) for letter in processed.letters] == [(1, Reason.UNKNOWN_SCHEMA)]
    assert len(processed.outcome.delta.touched) == 1


def test_an_address_that_is_none_is_told() -> None:
    """At the start, with the variable and without a traceback."""
    with pytest.raises(RegistryError, match=r"SCHEMA_REGISTRY_URL or .* is none"):
        Registry("http://127.0.0.1:port", {})


@pytest.mark.usefixtures("schemas")
def test_a_full_disk_is_no_dead_letter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protobuf is compiled in a temporary folder: where there can be none, the record waits."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(RegistryError, match=r"can't be compiled here.*TMPDIR"):
        read(framed(PROTOBUF_ID, protobuf(VALID)))
    monkeypatch.undo()


def test_nobody_at_the_address_is_no_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection is told with the host and no more."""
    monkeypatch.setattr(registry, "_PAUSES_S", ())
    with pytest.raises(
        RegistryError, match=r"registry at 127\.0\.0\.1 does not answer as one \(ConnectError\)"
    ):
        Registry("http://user:hidden@127.0.0.1:9", {}).reader(1)


def test_secrets_are_sent_and_told_to_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """User and password are of the URL or of variables, the password of a file; none is in a message or a log."""
    monkeypatch.setattr(registry, "_PAUSES_S", ())
    caplog.set_level(logging.DEBUG)
    known = StubRegistry()
    with serving(known) as url:
        (tmp_path / "password").write_text("hidden\n")
        hidden = {
            "SCHEMA_REGISTRY_USERNAME": "user",
            "SCHEMA_REGISTRY_PASSWORD_FILE": str(tmp_path / "password"),
        }
        Registry(url, hidden).reader(AVRO_ID)
        Registry(url.replace("//", "//user:hidden@"), {}).reader(AVRO_ID)
        assert known.authorizations == {"Basic dXNlcjpoaWRkZW4="}
        known.fails_with = 401
        with pytest.raises(RegistryError) as told:
            Registry(url.replace("//", "//user:hidden@"), {}).reader(AVRO_ID)
    assert "hidden" not in str(told.value) + caplog.text
