"""Fields that signals read: whatever an event holds there, it is a text, a number or nothing."""

import math
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.contract.events import MalformedEventError, SessionEvent, decode_event
from detector.contract.fields import FieldReader

READER = FieldReader(["amount", "attributes.device", "attributes.place.country"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["device", "place", "country"]), inner)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"{}", (None, None, None)),
        (b'{"amount":5,"attributes":{"device":"x","place":{"country":true}}}', (5, "x", "true")),
        (b'{"attributes":null,"amount":"12500.00"}', ("12500.00", None, None)),
        (b'{"attributes":{"device":["a"],"place":{"country":"NO"}},"amount":2.5}', (2.5, None, "NO")),
        (b'{"attributes":{"device":"a","place":7},"amount":{}}', (None, "a", None)),
        (b'{"amount":%s,"attributes":{"device":"a"}}' % (b"9" * 400), (None, "a", None)),
        (b'{"amount":%s}' % (b"9" * 30), (1e30, None, None)),
        (b'{"amount":[],"amount":1,"attributes":{},"attributes":{"device":"b"}}', (1, "b", None)),
        (
            b'\xef\xbb\xbf{"amount":NaN,"attributes":{"device":"a\tb","place":{"country":"NO"}}}',
            (None, "a\tb", "NO"),
        ),
        (b'{"amount":7,"attributes":{"device":"\\ud83d","place":{"country":"NO"}}}', (7, None, "NO")),
        (b'{"amount":7,"attributes":{"x":"\\ud83d","device":"\\ud83d\\ude00"}}', (7, "\U0001f600", None)),
        (b'{"amount":-Infinity,"attributes":{"device":"\xe9","x":%s}}' % (b"9" * 5_000), (None, None, None)),
        (b'{"amount":[],"attributes":{"\xff":1,"device":"a","place":{"country":"\xff"}}}', (None, "a", None)),
    ],
)
def test_what_cannot_be_read_is_absent_and_hides_no_other(value: bytes, expected: tuple[Any, ...]) -> None:
    """A field of another kind than a text, a number or a truth value is absent; the others are read all the same."""
    assert READER.read(value) == expected


@given(JSON, JSON)
def test_whatever_is_valid_json_is_read(amount: Any, attributes: Any) -> None:
    """Each value is None, a text, or a number of a size that double precision has; nothing is raised."""
    values = READER.read(msgspec.json.encode({"amount": amount, "attributes": attributes}))
    assert len(values) == 3
    for value in values:
        assert value is None or isinstance(value, str) or math.isfinite(value)
    if isinstance(amount, str):
        assert values[0] == amount
    if isinstance(attributes, dict) and isinstance(attributes.get("device"), str):
        assert values[1] == attributes["device"]


@given(JSON, JSON, st.sampled_from(["LOGIN", "", 7]))
def test_an_event_and_its_fields_are_the_same_in_one_pass(amount: Any, attributes: Any, action: Any) -> None:
    """What an event is does not hang on the fields that are read with it, nor these on that; what is none is refused alike."""
    ids = {"event_id": "e", "session_id": "s", "account_id": "a", "action": action, "occurred_at_ms": 1}
    value = msgspec.json.encode(ids | {"amount": amount, "attributes": attributes})
    try:
        expected = decode_event(value)
    except MalformedEventError as error:
        with pytest.raises(MalformedEventError, match=re.escape(str(error))):
            READER.event(value)
        return
    event = READER.event(value)
    assert msgspec.convert(event, SessionEvent, from_attributes=True) == expected
    assert READER.of(event, value) == READER.of(expected, value) == READER.read(value)


def test_one_field_and_none() -> None:
    """What is read is as long as the paths."""
    assert FieldReader(["amount"]).read(b'{"amount":1}') == (1,)
    assert FieldReader([]).read(b'{"amount":1}') == ()


@pytest.mark.parametrize(
    "paths", [["attributes.a", "attributes.a.b"], ["attributes.a.b.c", "attributes.a.b"]]
)
def test_no_field_lies_within_another(paths: list[str]) -> None:
    """It would be a value and an object of values at once; a name that only begins alike is another."""
    with pytest.raises(ValueError, match="expected no field within another"):
        FieldReader(paths)
    assert FieldReader([*paths[:1], "attributes.ab", "amount", "amount"]).read(b'{"amount":1}')[2:] == (1, 1)
