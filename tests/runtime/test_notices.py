"""What a worker's log says of records that are not as expected."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition

from detector.runtime.notices import Notices
from detector.runtime.processing import Processed


def with_late(late: int, records: int) -> Processed:
    """Return records of which so many are late."""
    outcome: Any = SimpleNamespace(late=late, failures=[])
    return Processed(TopicPartition("actions", 0), records, outcome, [])


@pytest.mark.parametrize(
    ("late", "records", "lines"), [(19, 19, 0), (20, 201, 0), (20, 200, 1), (500, 500, 1)]
)
def test_many_late_events_are_told_of_once(
    caplog: pytest.LogCaptureFixture, late: int, records: int, lines: int
) -> None:
    """A recording behind newer events is scored as of now, and looks like scripts: somebody has to know."""
    notices = Notices(lambda _: "…")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            notices.take(with_late(late, records))
    told = [one.getMessage() for one in caplog.records]
    assert len(told) == lines
    assert all(f"{late} of {records} records" in one and "--clock event" in one for one in told)
