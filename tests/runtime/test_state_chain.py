"""The state log as a chain: whatever was written, cut and handed over, it leads to the live partition or is refused."""

from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.partition import Partition
from detector.runtime import state_log
from detector.runtime.recovery import StateRefusedError
from tests.runtime.state_logs import ENCODING, LiveLog, contents, delta_of, deltas, replayed

EVENTS = st.lists(
    st.sampled_from(["", "", "", "hand over", "rebuild", "abort", "keep"]), min_size=14, max_size=14
)


def lived(batches: list[Any], events: list[str], ratio: int, least: int) -> LiveLog:
    """Return a log after batches, between which workers change, transactions are aborted and cuts are missed."""
    log = LiveLog(ratio, least)
    for number, (batch, event) in enumerate(zip(batches, events, strict=False)):
        delta = delta_of(log.live, number, batch)
        log.batch(delta, aborted=event == "abort", cuts=event != "keep")
        before = contents(log.live)
        if event == "hand over":
            log.hand_over()
            assert contents(log.live) == before
        elif event == "rebuild":
            log.rebuild()
    return log


def follows(value: bytes) -> int:
    """Return the input offset that a record follows."""
    record = state_log.decode_state(value, ENCODING)
    assert isinstance(record, state_log.StateRecord)
    return record.follows


def led_to(log: list[tuple[int, bytes]]) -> Partition | None:
    """Return the partition that a log leads to; None if it is refused for what is missing."""
    try:
        return replayed(log)[0]
    except StateRefusedError as error:
        if "missing" not in str(error):
            raise
        return None


@settings(max_examples=600, deadline=None)
@given(deltas(), EVENTS, st.integers(1, 3), st.integers(1, 400), st.integers(20, 200))
def test_a_log_leads_to_the_live_partition_or_is_refused(
    batches: list[Any], events: list[str], ratio: int, least: int, record_bytes: int
) -> None:
    """The whole log gives the partition, order included; one that lacks something, the same or nothing.

    Without any one record, or without its beginning, it is refused, or ends before where the group is, if and only if
    the record is one of those from which on it says that it suffices.
    """
    with patch.object(state_log, "MAX_RECORD_BYTES", record_bytes):
        lived_log = lived(batches, events, ratio, least)
    log, live = lived_log.log, lived_log.live
    partition, end = replayed(log)
    if end is None:
        return
    assert contents(partition) == contents(live)
    for at, (_, value) in enumerate(log):
        needed = follows(value) >= end.complete_from
        for rest in (log[:at] + log[at + 1 :], log[at + 1 :]):
            other = led_to(rest)
            if other is None or other.next_offset != live.next_offset:
                assert needed
            else:
                assert not needed
                assert contents(other) == contents(live)
