"""The contract as others see it: the AsyncAPI document, and what a change may do to those who use the last release."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.contract.asyncapi import asyncapi
from detector.contract.dead_letters import OUR_HEADERS, dead_letter_headers
from detector.contract.headers import CLOUD_EVENT_HEADERS, cloud_event_headers
from detector.contract.schemas import SCHEMAS, schema
from tests.contract.compatibility import UnknownKeywordError, breaks
from tests.contract.test_dead_letters import LETTERS

ROOT = Path(__file__).parent.parent.parent
RELEASED = ROOT / "docs/schemas/released"
READ = {"session-action.v1.schema.json", "account-listing.v1.schema.json", "session-verdict.v1.schema.json"}
"""What others write and we read; the rest we write."""
KNOWN = sorted(name for name in SCHEMAS if (RELEASED / name).exists())
"""Those of the last release."""

OPEN = ("$.decision: values [", "$.cause: values [")
"""Readers were told to expect values of these that they don't know."""

Change = Callable[[dict[str, Any]], object]


def released(name: str) -> dict[str, Any]:
    """Return a schema as of the last release."""
    return dict(json.loads((RELEASED / name).read_bytes()))


def broken(name: str, today: dict[str, Any]) -> list[str]:
    """Return what of the last release would break if today's schema were this one."""
    before = released(name)
    found = breaks(before, today) if name in READ else breaks(today, before)
    return [where for where in found if not where.startswith(OPEN)]


def body(document: dict[str, Any]) -> dict[str, Any]:
    """Return the definition that a schema is about."""
    definition: dict[str, Any] = document["$defs"][document["$ref"].rpartition("/")[2]]
    return definition


def test_the_asyncapi_document_is_valid() -> None:
    """It conforms to the JSON Schema that the AsyncAPI initiative publishes for version 3.0.0, bindings included."""
    specification = json.loads((Path(__file__).parent / "vendored/asyncapi-3.0.0.schema.json").read_bytes())
    jsonschema.Draft7Validator(specification).validate(asyncapi())


def test_an_invalid_asyncapi_document_is_noticed() -> None:
    """The validation above can fail: an unknown action of an operation, or a channel without meaning, does."""
    specification = json.loads((Path(__file__).parent / "vendored/asyncapi-3.0.0.schema.json").read_bytes())
    document = asyncapi()
    document["operations"]["scoreActions"]["action"] = "consume"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(specification).validate(document)


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    """No channel, operation or payload points at something that is not in the document."""
    document = asyncapi()
    found = 0
    todo: list[Any] = [document]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                target: Any = document
                for step in node["$ref"].removeprefix("#/").split("/"):
                    target = target[step]
                found += 1
            todo += node.values()
        elif isinstance(node, list):
            todo += node
    assert found > 10


@given(LETTERS)
def test_the_headers_described_are_those_written(letter: Any) -> None:
    """The document describes every header that is ours, and CloudEvents' are complete."""
    ours = {name for name, _ in dead_letter_headers(letter)} - {name for name, _ in letter.headers}
    assert ours <= set(OUR_HEADERS)
    written = cloud_event_headers(event_type="t", event_id="e", source="/s", subject="x", time_ms=0)
    assert [name for name, _ in written] == list(CLOUD_EVENT_HEADERS)


@pytest.mark.parametrize("name", KNOWN)
def test_nothing_breaks_who_uses_the_last_release(name: str) -> None:
    """Events that producers of the last release write are accepted; alerts of today satisfy its readers.

    If a break is meant, it needs a new type (`session.alert.v2`) beside the old one: docs/contract.md.
    """
    assert broken(name, schema(SCHEMAS[name])) == []


def _every_name() -> list[tuple[str, str]]:
    return [(name, field) for name in KNOWN for field in body(released(name))["properties"]]


@pytest.mark.parametrize(("name", "field"), _every_name())
def test_a_field_that_changes_its_type_is_noticed(name: str, field: str) -> None:
    """The check can fail for each field of each schema: one of another type breaks somebody."""
    today = copy.deepcopy(schema(SCHEMAS[name]))
    body(today)["properties"][field] = {"type": "array", "items": {"type": "boolean"}, "minItems": 1}
    assert any(f".{field}" in where for where in broken(name, today))


def _required(field: str) -> Change:
    return lambda one: one["required"].append(field)


def _bound(field: str, keyword: str, value: int) -> Change:
    return lambda one: one["properties"][field].update({keyword: value})


def _new(field: str) -> Change:
    return lambda one: one["properties"].update({field: {"type": "string"}})


@pytest.mark.parametrize(
    ("name", "change", "breaking"),
    [
        ("session-action.v1.schema.json", _new("device"), False),
        ("session-action.v1.schema.json", _required("amount"), True),
        ("session-action.v1.schema.json", _bound("session_id", "maxLength", 255), True),
        ("session-action.v1.schema.json", _bound("session_id", "maxLength", 300), False),
        ("session-action.v1.schema.json", _bound("occurred_at_ms", "minimum", 1), True),
        ("session-action.v1.schema.json", lambda one: one.update(additionalProperties=False), False),
        ("session-action.v1.schema.json", lambda one: one["required"].remove("event_id"), False),
        ("session-alert.v1.schema.json", _new("device"), False),
        ("session-alert.v1.schema.json", lambda one: one["required"].remove("score"), True),
        ("session-alert.v1.schema.json", lambda one: one["properties"].pop("score"), True),
        ("session-alert.v1.schema.json", _bound("score", "maximum", 2), True),
        ("session-alert.v1.schema.json", _bound("action_number", "minimum", 2), False),
    ],
)
def test_what_counts_as_a_break(name: str, change: Change, *, breaking: bool) -> None:
    """Readers and writers of the last release go on: what they rely on may grow where they allow it, no further."""
    today = copy.deepcopy(schema(SCHEMAS[name]))
    change(body(today))
    assert bool(broken(name, today)) == breaking


def test_a_new_decision_breaks_nobody() -> None:
    """Readers of alerts expect decisions and causes that they don't know; every other list of values is closed."""
    name = "session-alert.v1.schema.json"
    today = schema(SCHEMAS[name])
    assert breaks(today, released(name)) == [
        "$.cause: values ['rule', 'step_up_failed'] are refused",
        "$.decision: values ['CHALLENGE'] are refused",
    ]
    assert broken(name, today) == []
    name = "account-listing.v1.schema.json"
    today = copy.deepcopy(schema(SCHEMAS[name]))
    today["$defs"]["Listing"]["enum"].remove("DENY")
    assert broken(name, today) != []


@given(st.sampled_from(["pattern", "format", "allOf", "not", "multipleOf", "patternProperties"]))
def test_an_unknown_keyword_is_no_pass(keyword: str) -> None:
    """What the comparison does not understand ends it, instead of passing."""
    with pytest.raises(UnknownKeywordError):
        breaks({"type": "string", keyword: {}}, {"type": "string"})
