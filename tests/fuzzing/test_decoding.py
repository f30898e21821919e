"""The decoder under hostile records: an event, a control record or a dead letter, and never an exception."""

import pytest
from hypothesis import given, settings

from tests.fuzzing.__main__ import fuzz
from tests.fuzzing.records import RECORDS, FuzzedRecord, outcome


@given(RECORDS)
@settings(max_examples=300)
def test_every_record_has_an_outcome(record: FuzzedRecord) -> None:
    """Whatever the bytes, key, headers and time: one of the outcomes, whole; nothing is raised or lost."""
    outcome(record)


@pytest.mark.long
def test_the_long_run_reaches_every_outcome() -> None:
    """The records are not all of one kind: two seconds of `make fuzz` have events, listings, verdicts and each kind of letter."""
    seen = fuzz("decoder", seconds=2.0, seed=1)
    assert {"event", "listing", "verdict", "malformed", "unknown_action", "null_value", "too_large"} <= set(
        seen
    )
