"""What crosses Kafka: names, codes, schemas, headers and ids."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.contract.actions import ACTION_CODES, PAD_CODE
from detector.contract.alerts import (
    Alert,
    Decision,
    ModelReference,
    SourcePosition,
    alert_id,
    decode_alert,
    encode_alert,
)
from detector.contract.events import (
    MalformedEventError,
    SessionAction,
    decode_event,
    encode_event,
    event_of,
    wrong_unit,
)
from detector.contract.explanations import Attribution, Explanation
from detector.contract.headers import ALERT_TYPE, DETECTOR_SOURCE, cloud_event_headers
from detector.contract.relaxed import relaxed
from detector.contract.schemas import SCHEMAS, schema, write_schemas

SCHEMA_FOLDER = Path(__file__).parent.parent.parent / "docs" / "schemas"
VALID = {"event_id": "e", "session_id": "s", "account_id": "a", "action": "LOGIN", "occurred_at_ms": 1}
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
EVENTS = st.builds(
    SessionAction,
    event_id=IDS,
    session_id=IDS,
    account_id=IDS,
    action=st.sampled_from(list(ACTION_CODES)),
    occurred_at_ms=st.integers(0, 253_402_300_799_999),
    amount=st.none() | st.floats(0, 1e12),
    attributes=st.dictionaries(st.text(max_size=5), st.integers() | st.booleans() | st.none(), max_size=3),
)


def test_actions_have_the_codes_of_the_contract() -> None:
    """Code 0 pads; LOGIN to LOGOUT are 1 to 8."""
    assert PAD_CODE == 0
    assert ACTION_CODES == {
        "LOGIN": 1,
        "VIEW_BALANCE": 2,
        "VIEW_TRANSACTIONS": 3,
        "TRANSFER_SMALL": 4,
        "TRANSFER_LARGE": 5,
        "CHANGE_PASSWORD": 6,
        "ADD_RECIPIENT": 7,
        "LOGOUT": 8,
    }


@given(EVENTS)
def test_an_event_comes_back_as_it_went(event: SessionAction) -> None:
    """Encoding and decoding an event changes nothing of what is scored, and what is encoded fits the schema."""
    value = encode_event(event)
    assert msgspec.to_builtins(decode_event(value)).items() <= msgspec.to_builtins(event).items()
    assert event_of(json.loads(value)) == event
    jsonschema.validate(json.loads(value), schema(SessionAction))


def test_unknown_fields_are_accepted() -> None:
    """A producer may send more than this version knows."""
    decoded = decode_event(json.dumps(VALID | {"device": {"os": ["x"]}, "v": 2}).encode())
    assert decoded.session_id == "s"


@pytest.mark.parametrize(
    ("at_ms", "told"),
    [
        (946_684_800_000, ""),
        (4_102_444_799_999, ""),
        (946_684_799_999, "of the years 2000 to 2099"),
        (4_102_444_800_000, "of the years 2000 to 2099"),
        (-1, "got -1"),
        (1_790_000_000, "as it would be in seconds"),
        (1_790_000_000_000_000, "as it would be in microseconds"),
        (1_790_000_000_000_000_000, "as it would be in nanoseconds"),
    ],
)
def test_a_unit_that_cant_be_right_is_told(at_ms: int, told: str) -> None:
    """A time outside of 2000 to 2099 is read, and is told what it would be right in."""
    event = decode_event(json.dumps(VALID | {"occurred_at_ms": at_ms}).encode())
    said = wrong_unit(event.occurred_at_ms)
    assert (told in said) if told else not said


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"session_id": None}, "session_id"),
        ({"session_id": ""}, "session_id"),
        ({"session_id": "x" * 257}, "session_id"),
        ({"event_id": 7}, "event_id"),
        ({"account_id": ["a"]}, "account_id"),
        ({"action": ""}, "action"),
        ({"occurred_at_ms": "noon"}, "occurred_at_ms"),
        ({"occurred_at_ms": 1.5}, "occurred_at_ms"),
        ({"occurred_at_ms": True}, "occurred_at_ms"),
        ({"occurred_at_ms": 10**30}, "occurred_at_ms"),
    ],
)
def test_a_wrong_field_is_refused_by_name(change: dict[str, Any], seen: str) -> None:
    """A field of the wrong type or out of bounds is refused with its name, and the schema refuses it too."""
    document = VALID | change
    with pytest.raises(MalformedEventError, match=seen):
        decode_event(json.dumps(document).encode())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema(SessionAction))


@pytest.mark.parametrize(
    ("change", "seen"),
    [({"amount": "12"}, "amount"), ({"amount": -0.01}, "amount"), ({"attributes": []}, "attributes")],
)
def test_what_is_not_scored_is_not_looked_at(change: dict[str, Any], seen: str) -> None:
    """Who publishes an event is held to the schema; an event that is there is scored for what it is."""
    assert decode_event(json.dumps(VALID | change).encode()) == decode_event(json.dumps(VALID).encode())
    with pytest.raises(MalformedEventError, match=seen):
        event_of(VALID | change)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(VALID | change, schema(SessionAction))


@pytest.mark.parametrize("name", ["event_id", "session_id", "account_id", "action"])
@pytest.mark.parametrize(
    ("letter", "most"), [("x", 256), ("\u0436", 256), ("\u20ac", 170), ("\U0001f600", 128)]
)
def test_an_id_is_bounded_in_bytes(name: str, letter: str, most: int) -> None:
    """256 characters of an alphabet fit; of those that take more bytes fewer do, and the error names the field."""
    assert getattr(decode_event(json.dumps(VALID | {name: letter * most}).encode()), name) == letter * most
    too_long = VALID | {name: letter * (most + 1)}
    with pytest.raises(MalformedEventError, match=rf"^Expected .* at `\$\.{name}`$") as told:
        decode_event(json.dumps(too_long).encode())
    assert letter * 2 not in str(told.value)
    with pytest.raises(MalformedEventError, match=rf"^Expected .* at `\$\.{name}`$"):
        event_of(too_long)


@pytest.mark.parametrize("name", list(VALID))
def test_a_missing_field_is_refused_by_name(name: str) -> None:
    """Each required field is required."""
    with pytest.raises(MalformedEventError, match=name):
        decode_event(json.dumps({key: value for key, value in VALID.items() if key != name}).encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_refused(value: bytes) -> None:
    """Decoding ends in an event or in MalformedEventError, whatever the bytes."""
    try:
        decode_event(value)
    except MalformedEventError as error:
        assert str(error)  # noqa: PT017  both outcomes are allowed


@pytest.mark.parametrize("depth", [10, 3_000, 300_000])
def test_deep_nesting_is_refused_or_accepted_but_never_fatal(depth: int) -> None:
    """Attributes nested to any depth do not end the service."""
    value = json.dumps(VALID)[:-1].encode() + b', "attributes": {"x": ' + b"[" * depth + b"]" * depth + b"}}"
    if depth == 10:
        assert decode_event(value).event_id == "e"
    else:
        with pytest.raises(MalformedEventError, match="nested too deep"):
            decode_event(value)


HOSTILE = (
    '"\\ud83d"',
    '"\\ude00\\ud83d"',
    '"a\x01\tb"',
    "NaN",
    "-Infinity",
    "1e999",
    "9" * 400,
    "9" * 5_000,
    '{"\\ud83d": NaN, "a": [NaN, "\\ud83d"]}',
    "null",
    "-5",
    '"12500.00"',
)


@pytest.mark.parametrize("hostile", [*(text.encode() for text in HOSTILE), b'"caf\xe9"', b'"\xed\xa0\xbd"'])
@pytest.mark.parametrize(
    "form", ['"attributes": %s', '"attributes": {"agent": %s}', '"amount": %s', '"more": %s']
)
def test_what_is_not_scored_hides_nothing(form: str, hostile: bytes) -> None:
    """Whatever a client writes into another field, the event is the same."""
    field = form.encode() % hostile
    for value in (
        json.dumps(VALID)[:-1].encode() + b", " + field + b"}",
        b"\xef\xbb\xbf{" + field + b", " + json.dumps(VALID)[1:].encode(),
    ):
        assert decode_event(value) == decode_event(json.dumps(VALID).encode())


@pytest.mark.parametrize("name", ["event_id", "session_id", "account_id", "action"])
@pytest.mark.parametrize("hostile", [b'"\\ud83d"', b'"caf\xe9"', b"NaN", b"7"])
def test_what_is_scored_must_be_readable(name: str, hostile: bytes) -> None:
    """An id that can't be read is none: of two such, nobody could tell whether they are one."""
    value = json.dumps(VALID | {name: "?"}).encode().replace(b'"?"', hostile)
    with pytest.raises(MalformedEventError, match=rf"Expected `str`, got `\w+` - at `\$\.{name}`"):
        decode_event(value)


@pytest.mark.parametrize("written", ["1790000000000.0", "1.79e12", '"1790000000000"'])
def test_a_time_may_be_a_whole_number_in_any_form(written: str) -> None:
    """A serialiser's number of double precision, or a text of digits, is the time it says."""
    value = json.dumps(VALID | {"occurred_at_ms": "?"}).replace('"?"', written)
    assert decode_event(value.encode()).occurred_at_ms == 1_790_000_000_000


@given(st.recursive(st.none() | st.floats() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_json_stays_as_it_is(value: Any) -> None:
    """What is JSON by the book is not written anew; what is relaxed is JSON, and stays as it is from then on."""
    told = json.dumps(value, allow_nan=True).encode()
    once = relaxed(told)
    assert relaxed(once) == once
    if b"NaN" not in told and b"Infinity" not in told:
        assert once is told


_ALERTED = st.tuples(IDS, IDS, st.none() | IDS)


@given(_ALERTED, _ALERTED)
def test_alert_ids_are_derived_and_distinct(
    one: tuple[str, str, str | None], other: tuple[str, str, str | None]
) -> None:
    """The same session and event, of the same account where it counts, give the same id, others another."""
    assert (alert_id(*one) == alert_id(*other)) is (one == other)


def test_alert_ids_stay_what_they_were() -> None:
    """A later release derives the same id, so that an alert replayed after an upgrade is known as the same."""
    assert alert_id("session", "event") == "7a1ce0da-98f0-5241-868c-3c66ce9219cd"


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_the_schemas_checked_in_are_those_of_the_types(name: str, tmp_path: Path) -> None:
    """docs/schemas is what `make schemas` writes, and each is a valid schema."""
    write_schemas(tmp_path)
    assert (SCHEMA_FOLDER / name).read_text() == (tmp_path / name).read_text()
    jsonschema.Draft202012Validator.check_schema(json.loads((tmp_path / name).read_text()))


def test_an_alert_fits_its_schema() -> None:
    """What is published on the alerts topic validates against the published schema, and is read back as it was."""
    alert = Alert(
        alert_id=alert_id("s", "e"),
        decision=Decision.BLOCK,
        session_id="s",
        account_id="a",
        score=0.9,
        threshold=0.8,
        action="TRANSFER_LARGE",
        event_id="e",
        action_number=3,
        window=["LOGIN", "ADD_RECIPIENT", "TRANSFER_LARGE"],
        model=ModelReference(name="m", version="1", sha256="0" * 64),
        source=SourcePosition(topic="t", partition=0, offset=12),
        occurred_at_ms=1,
        received_at_ms=2,
        detected_at_ms=3,
        scores=[0.1, 0.2, 0.9],
        gap_ranges_ms=[None, (2_000, 4_000), (60_000, None)],
        explanation=["TRANSFER_LARGE 1 min or more after ADD_RECIPIENT: +0.50"],
    )
    encoded = encode_alert(alert)
    jsonschema.validate(msgspec.json.decode(encoded), schema(Alert))
    assert decode_alert(encoded) == alert


def test_an_explanation_fits_its_schema() -> None:
    """What `detector explain` writes validates against the published schema, and is read back as it was."""
    explanation = Explanation(
        alert_id=alert_id("s", "e"),
        model=ModelReference(name="m", version="1", sha256="0" * 64),
        score=0.9,
        baseline=0.05,
        attributions=[
            Attribution(action="LOGIN", gap_range_ms=None, value=0.05, gap_value=None),
            Attribution(action="ADD_RECIPIENT", gap_range_ms=(2_000, 4_000), value=0.3, gap_value=0.1),
            Attribution(action="TRANSFER_LARGE", gap_range_ms=(60_000, None), value=0.5, gap_value=-0.1),
        ],
        exact=True,
        explanation=["TRANSFER_LARGE 1 min or more after ADD_RECIPIENT: +0.50 (the gap: -0.10)"],
    )
    encoded = msgspec.json.encode(explanation)
    jsonschema.validate(msgspec.json.decode(encoded), schema(Explanation))
    assert msgspec.json.decode(encoded, type=Explanation) == explanation


def test_an_alert_of_before_there_were_explanations_is_read() -> None:
    """Fields were added, none is required of what is on the topic already."""
    document = {
        "alert_id": "i", "decision": "BLOCK", "session_id": "s", "account_id": "a", "score": 0.9,
        "threshold": 0.8, "action": "LOGIN", "event_id": "e", "action_number": 1, "window": ["LOGIN"],
        "model": {"name": "m", "version": "1", "sha256": "0"},
        "source": {"topic": "t", "partition": 0, "offset": 0},
        "occurred_at_ms": 1, "received_at_ms": 2, "detected_at_ms": 3,
    }  # fmt: skip
    alert = decode_alert(json.dumps(document).encode())
    assert (alert.gap_ranges_ms, alert.scores, alert.explanation) == ([], [], [])
    jsonschema.validate(document, schema(Alert))


def test_headers_follow_the_cloudevents_kafka_binding() -> None:
    """Binary mode: every attribute a header with the prefix ce_, the content type without it, times in RFC 3339."""
    headers = dict(
        cloud_event_headers(
            event_type=ALERT_TYPE,
            event_id="id",
            source=DETECTOR_SOURCE,
            subject="s",
            time_ms=1_700_000_000_007,
        )
    )
    assert headers == {
        "ce_specversion": b"1.0",
        "ce_type": b"session.alert.v1",
        "ce_source": b"/session-detector",
        "ce_id": b"id",
        "ce_subject": b"s",
        "ce_time": b"2023-11-14T22:13:20.007Z",
        "content-type": b"application/json",
    }
