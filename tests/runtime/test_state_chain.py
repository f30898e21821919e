"""The state log as a chain: whatever was written, cut and handed over, it leads to the live partition or is refused."""

import random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.partition import Delta, Partition
from detector.core.session import PROFILE, pack, profile_key
from detector.runtime import state_log
from detector.runtime.recovery import StateRefusedError
from detector.runtime.state_writer import SLICE_RATIO
from tests.runtime.state_logs import ENCODING, LiveLog, contents, delta_of, delta_values, deltas, replayed

_SLACK_BYTES = 1_000

EVENTS = st.lists(
    st.sampled_from(["", "", "", "hand over", "rebuild", "abort", "keep"]), min_size=14, max_size=14
)


def lived(batches: list[Any], events: list[str], ratio: int, least: int) -> LiveLog:
    """Return a log after batches, between which workers change, transactions are aborted and cuts are missed."""
    log = LiveLog(ratio, least)
    for number, (batch, event) in enumerate(zip(batches, events, strict=False)):
        if event == "hand over":
            before = contents(log.live)
            log.hand_over()
            assert log.log == [] or contents(log.live) == before
        elif event == "rebuild":
            log.rebuild()
        delta = delta_of(log.live, number, batch)
        log.batch(delta, aborted=event == "abort", cuts=event != "keep")
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


@given(
    ratio=st.integers(1, 4), least=st.integers(0, 30_000), touched=st.integers(1, 30), seed=st.integers(0, 2**32),
    hands_over=st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_the_log_stays_bounded_and_no_transaction_carries_much(
    *, ratio: int, least: int, touched: int, seed: int, hands_over: bool
) -> None:
    """The log holds no more than its ratio and what changes while a snapshot is written, and slices follow the changes.

    So it is whether one worker keeps the partition, or another takes it over after every batch.
    """
    session_ids = [f"session-{number}" for number in range(300)]
    draw, log, live_bytes = random.Random(seed), LiveLog(ratio, least), 0
    for number in range(200):
        ids = draw.sample(session_ids, touched)
        delta = Delta(
            6 + number,
            number,
            [],
            {one: pack(0, number, 1, 0, bytes(60), bytes(160)) for one in ids},
            profiles={profile_key(one): pack(0, number, 1, PROFILE, b"", bytes(230)) for one in ids},
        )
        before = log.log_bytes
        log.batch(delta, cuts=True)
        batch_bytes = sum(map(len, delta_values(delta._replace(next_offset=1))))
        assert log.log_bytes - before <= (1 + SLICE_RATIO) * batch_bytes + 2 * _SLACK_BYTES
        live = {**log.live.sessions, **log.live.profiles}
        live_bytes = sum(len(one) + len(packed) for one, packed in live.items())
        heads = 1.25  # of records and of entries, by what they hold
        bound = max(least, ratio * live_bytes) + (1 + 1 / SLICE_RATIO) * live_bytes + 3 * batch_bytes
        assert log.log_bytes <= heads * bound + 2 * _SLACK_BYTES
        if hands_over:
            log.hand_over()


def test_a_log_that_ends_within_a_transaction_is_refused() -> None:
    """So it is even where the group knows of no offset, which would tell."""
    values = delta_values(Delta(1, 0, [], {f"s{number}": bytes(1_000) for number in range(1_000)}))
    assert len(values) > 1
    with pytest.raises(StateRefusedError, match="ends within a transaction"):
        replayed(list(enumerate(values[:-1])))
