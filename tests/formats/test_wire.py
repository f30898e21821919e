"""An event is the same event, whatever it comes wrapped in, written as and called; and nobody chooses how it is read."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.contract.events import MalformedEventError, decode_event, encode_event
from detector.contract.listings import AccountListing, Listing, encode_listing
from detector.formats.registry import UnknownSchemaError
from detector.formats.wire import AS_IT_COMES, InputFormat, WireFormat
from detector.runtime.config import DetectorConfig
from detector.runtime.decoding import decode
from detector.runtime.replaying import LoggedLine
from tests.contract.test_contract import EVENTS, VALID
from tests.formats.wires import AVRO_ID, JSON_ID, WIRES, avro, cloud_event, connect, debezium, framed

read = AS_IT_COMES.event_of(decode_event)
PLAIN = {name: encode for name, encode in WIRES.items() if "avro" not in name and "protobuf" not in name}


def json_of(document: Any) -> bytes:
    """Return a document as a serialiser may write it."""
    return json.dumps(document).encode()


@given(EVENTS, st.sampled_from(list(PLAIN.values())))
def test_an_event_is_itself_in_any_envelope(event: Any, encode: Any) -> None:
    """Without a setting: in each envelope, in those that lie in each other, and behind the prefix of five bytes."""
    document = json.loads(encode_event(event))
    assert read(encode(document)) == decode_event(encode_event(event))


@given(st.binary(max_size=200) | EVENTS.map(encode_event))
def test_plain_json_is_read_as_ever(value: bytes) -> None:
    """What is an event by itself is that event, and its bytes are those that fields are read of; else it says why, as ever."""
    outcomes: list[Any] = []
    for one in (decode_event, read):
        try:
            outcomes.append(one(value))
        except MalformedEventError as error:
            outcomes.append(str(error))
    if value[:1] != b"\0":
        assert outcomes[0] == outcomes[1]
        assert AS_IT_COMES.json(value) is value


@pytest.mark.parametrize("name", list(VALID))
def test_who_fills_in_fields_chooses_no_other_event(name: str) -> None:
    """A field that spoils the event, and all the marks of envelopes beside it, make it a dead letter and nothing else."""
    other = VALID | {"account_id": "another"}
    marks = {"data": other, "payload": other, "after": other, "op": "c", "source": {}, "schema": {}}
    marks |= {"specversion": "1.0", "type": "t", "id": "1"}
    with pytest.raises(MalformedEventError, match=name):
        read(json_of(VALID | {name: "x" * 300} | marks))
    # Nor does an envelope around it, or a byte of its own before it.
    for around in (cloud_event, connect, debezium):
        with pytest.raises(MalformedEventError, match=name):
            read(json_of(around(VALID | {name: ["x"]} | marks)))


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (json_of(debezium(VALID) | {"op": "d", "after": None}), 'after of debezium, op "d" is no object'),
        (json_of(connect(VALID) | {"payload": None}), "payload of connect is no object"),
        (json_of(cloud_event(VALID) | {"data": "x"}), "data of cloudevents is no object"),
        (json_of({"specversion": "1.0", "type": "t", "source": "s", "id": "1"}), "data of cloudevents"),
    ],
)
def test_an_envelope_around_nothing_is_told(value: bytes, seen: str) -> None:
    """A deleted row, a tombstone's envelope or data that is no object is no event, and the dead letter says what it was."""
    with pytest.raises(MalformedEventError, match=seen):
        read(value)


@pytest.mark.parametrize("outside", [one for one in InputFormat if one is not InputFormat.AUTO])
def test_a_format_that_is_named_is_the_only_one(outside: InputFormat) -> None:
    """Each value has to be of it from outside; within, what lies in it is unwrapped as without the setting."""
    only = WireFormat.of(outside, ()).event_of(decode_event)
    outermost = {
        "json": InputFormat.JSON,
        "byte-order mark": InputFormat.JSON,
        "debezium in connect": InputFormat.CONNECT,
        "debezium in connect in cloudevents": InputFormat.CLOUDEVENTS,
    }
    for name, encode in PLAIN.items():
        if outermost.get(name, InputFormat(name.split()[0]) if name not in outermost else None) is outside:
            assert only(encode(VALID)) == decode_event(json_of(VALID)), name
        else:
            with pytest.raises(MalformedEventError):
                only(encode(VALID))


def test_an_envelope_that_is_named_may_have_members_called_as_fields() -> None:
    """CloudEvents lets anybody add attributes; `action` beside the data hides nothing of what is said to be a CloudEvent."""
    value = json_of(cloud_event(VALID) | {"action": "created"})
    assert WireFormat.of("cloudevents", ()).event_of(decode_event)(value).action == "LOGIN"
    with pytest.raises(MalformedEventError, match="event_id"):
        read(value)


def test_without_a_registry_json_alone_is_behind_the_prefix() -> None:
    """What else is there can't be read, and the dead letter names the schema and the variable."""
    assert read(framed(JSON_ID, json_of(VALID))).action == "LOGIN"
    for content in (avro(VALID), b"", b" " + json_of(VALID), b"\xef\xbb\xbf" + json_of(VALID)):
        with pytest.raises(UnknownSchemaError, match=f"schema {AVRO_ID}.*SCHEMA_REGISTRY_URL"):
            read(framed(AVRO_ID, content))


RENAMED = {
    "id": "e", "sid": "s", "user": {"id": "a", "name": "n"}, "flat.name": "LOGIN", "at": 1, "session_id": "another's",
    "ua": "\ud83d", "device": {"id": "d"}, "sum": 2.5, "attributes": {"country": "DE"},
}  # fmt: skip
NAMES = (
    *("event_id=id", "session_id=sid", "account_id=user.id", "action=flat.name", "occurred_at_ms=at"),
    *("amount=sum", "attributes.device.id=device.id"),
)


def test_fields_are_found_by_their_names() -> None:
    """By a name, a path, or a name with dots in it; what bears the contract's name and is another's is not read."""
    wire = WireFormat.of("auto", NAMES)
    told = json.loads(wire.json(json.dumps(RENAMED).encode()))
    assert told.items() >= VALID.items()
    assert (told["amount"], told["attributes"]) == (2.5, {"country": "DE", "device": {"id": "d"}})
    event = wire.event_of(decode_event)
    assert event(json_of(RENAMED)) == event(json_of(cloud_event(RENAMED))) == decode_event(json_of(VALID))
    for name in ("sid", "user"):
        with pytest.raises(MalformedEventError, match=r"session_id|account_id"):
            event(json_of({key: value for key, value in RENAMED.items() if key != name}))


@pytest.mark.parametrize("outside", list(InputFormat))
def test_control_records_are_ours_in_every_format(outside: InputFormat) -> None:
    """Listings and verdicts lie between the events as plain JSON, whatever those are and call their fields."""
    event_of = WireFormat.of(outside, NAMES).event_of(decode_event)
    listing = AccountListing(account_id="a", listing=Listing.DENY)
    record = LoggedLine("session-actions", 0, 0, -1, None, encode_listing(listing))
    limits = DetectorConfig().event_limits
    assert decode(record, {"LOGIN"}.__contains__, limits, event_of=event_of) == listing


def test_fields_may_change_places() -> None:
    """All are found before any is named anew."""
    swapped = VALID | {"session_id": "a", "account_id": "s"}
    event = WireFormat.of("auto", ["session_id=account_id", "account_id=session_id"]).event_of(decode_event)
    assert event(json_of(swapped)) == decode_event(json_of(VALID))


@given(EVENTS)
def test_naming_fields_as_they_are_changes_nothing(event: Any) -> None:
    """A map of each field to itself gives the event that there is without one."""
    wire = WireFormat.of("auto", [f"{name}={name}" for name in (*VALID, "amount")])
    assert wire.event_of(decode_event)(encode_event(event)) == decode_event(encode_event(event))


@pytest.mark.parametrize(
    ("given_names", "seen"),
    [
        (["session_id"], "'session_id': expected FIELD=NAME"),
        (["session_id="], "expected FIELD=NAME"),
        (["session=sid"], "'session=sid': expected FIELD=NAME"),
        (["attributes=x"], "attributes. and a path"),
        (["action=a", "action=b"], "action is named more than once"),
    ],
)
def test_a_map_that_is_none_is_refused(given_names: Sequence[str], seen: str) -> None:
    """The message shows what was given and what is expected."""
    with pytest.raises(ValueError, match=seen):
        WireFormat.of("auto", given_names)
