"""What is left out because a topic does not take an alert as large as it would come to."""

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition

from detector.contract.events import SessionEvent, encode_event
from detector.core.partition import Partition
from detector.core.staging import Entry
from detector.runtime.config import DetectorConfig
from detector.runtime.outputs import output_records
from detector.runtime.processing import Processed, Processor
from detector.runtime.recovery import RecordRefusedError
from detector.runtime.refusals import Refusals
from tests.core.strategies import logs, pipeline

SOURCES = [TopicPartition("session-actions", number) for number in range(2)]
CONFIG = DetectorConfig(max_future_ms=0)
PROCESSOR = Processor(pipeline(), CONFIG.event_limits)
Taken = tuple[dict[TopicPartition, list[int]], dict[TopicPartition, list[int]]]
"""Offsets of alerts and of dead letters, by partition."""


def record_of(source: TopicPartition, entry: Entry) -> Any:
    """Return the record of an event."""
    assert isinstance(entry.event, SessionEvent)
    return SimpleNamespace(
        topic=source.topic, partition=source.partition, offset=entry.offset, key=b"k", headers=[],
        timestamp=entry.received_at_ms, timestamp_type=1, value=encode_event(entry.event),
    )  # fmt: skip


def refused_of(processed: list[Processed], most_bytes: int, refusals: Refusals) -> dict[str, int]:
    """Return what a broker says of the first record that is too large for its topic: all that it says."""
    for one in processed:
        for record in output_records(one, CONFIG, refusals.known):
            if record.topic == CONFIG.alerts_topic and record.size_bytes > most_bytes:
                return {record.topic: record.size_bytes}
    return {}


def run(log: dict[TopicPartition, list[Any]], most_bytes: int, cuts: Callable[[], int]) -> Taken:
    """Process a log in batches, by attempts, as a worker does."""
    partitions, refusals = {source: Partition() for source in log}, Refusals(CONFIG)
    rest, taken = {source: list(read) for source, read in log.items() if read}, ({}, {})  # type: ignore[var-annotated]
    for source in log:
        taken[0][source], taken[1][source] = [], []
    while rest:
        batch = {source: read[: cuts()] for source, read in rest.items()}
        for _ in itertools.count():
            processed = refusals.process(PROCESSOR, batch, partitions)
            if not (least_bytes := refused_of(processed, most_bytes, refusals)):
                break
            refusals.learn(RecordRefusedError("too large", least_bytes))
        for one in processed:
            partitions[one.source].apply(one.outcome.delta)
            taken[0][one.source] += [alert.source.offset for alert in one.outcome.alerts]
            taken[1][one.source] += [letter.offset for letter in one.letters]
        left = {source: read[len(batch.get(source, [])) :] for source, read in rest.items()}
        rest = {source: read for source, read in left.items() if read}
    return taken


@given(
    log=st.tuples(*[logs() for _ in SOURCES]),
    place=st.floats(0, 1, exclude_max=True),
    cuts=st.lists(st.integers(1, 60), min_size=1),
)
def test_of_what_is_refused_the_first_is_left_out(
    log: tuple[list[Entry], ...], place: float, cuts: list[int]
) -> None:
    """However the log is cut, what is left out is what would be if its records came one by one."""
    by_source = {
        source: [record_of(source, one) for one in entries]
        for source, entries in zip(SOURCES, log, strict=True)
    }
    everything = PROCESSOR.process(by_source, {source: Partition() for source in SOURCES})
    sizes = sorted(
        record.size_bytes
        for one in everything
        for record in output_records(one, CONFIG, {})
        if record.topic == CONFIG.alerts_topic
    )
    most_bytes = sizes[int(place * len(sizes))] if sizes else 0
    in_turn = itertools.cycle(cuts)
    assert run(by_source, most_bytes, lambda: next(in_turn)) == run(by_source, most_bytes, lambda: 1)
