"""The reader of batches under hostile ones: each offset once and in order, in bounded memory and time."""

import pytest
from hypothesis import given, settings

from tests.fuzzing.__main__ import fuzz
from tests.fuzzing.batches import BATCHES, FuzzedBatch, outcome


@given(BATCHES)
@settings(max_examples=300)
def test_every_batch_has_an_outcome(fuzzed: FuzzedBatch) -> None:
    """Whatever the bytes: what can be read is, the rest is marked, and what lies around it comes whole."""
    outcome(fuzzed)


@pytest.mark.long
def test_the_long_run_reaches_every_outcome() -> None:
    """Four seconds of `make fuzz` have batches that are read, marked in part, marked as a whole, and too large."""
    seen = fuzz("batches", seconds=4.0, seed=1)
    assert {"read", "read, spoiled", "marks among records", "one mark for all", "too large"} <= set(seen)
