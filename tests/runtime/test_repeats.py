"""Repeated lines of the client are held back and counted; ours never are."""

import itertools
import logging

from hypothesis import given
from hypothesis import strategies as st

from detector.runtime.repeats import Repeats


def line(name: str, number: int, text: str = "node %s is away") -> logging.LogRecord:
    """Make the record of a statement at a line."""
    return logging.LogRecord(name, logging.WARNING, "file.py", number, text, (number,), None)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=50))
def test_every_line_is_logged_or_counted(gaps_s: list[int]) -> None:
    """Lines passed and lines counted as held back are all there were, and between two passed lies an interval."""
    now_s = 0.0
    repeats = Repeats(10.0, lambda: now_s)
    passed_s, held_back = [], 0
    for gap_s in [*gaps_s, 10.0]:
        now_s += gap_s
        record = line("kafka.producer.sender", 1)
        if repeats.filter(record):
            passed_s.append(now_s)
            counted = record.getMessage().partition(" (and ")[2].partition(" ")[0]
            held_back += int(counted or 0)
    assert len(passed_s) + held_back == len(gaps_s) + 1
    assert all(late - early >= 10.0 for early, late in itertools.pairwise(passed_s))


def test_statements_are_told_apart_and_ours_always_pass() -> None:
    """One noisy statement does not silence another, and nothing of the detector's own is held back."""
    repeats = Repeats(10.0, lambda: 0.0)
    assert [repeats.filter(line("kafka.cluster", number)) for number in (1, 1, 2, 2)] == [
        True,
        False,
        True,
        False,
    ]
    assert all(repeats.filter(line("detector.runtime.service", 1)) for _ in range(3))
