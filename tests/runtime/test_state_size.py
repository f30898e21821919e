"""State however large: ids and windows as long as they may be, on a real broker, in a log that is cut as it grows."""

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaProducer

from detector.model.artifact import load_model
from detector.runtime.restored_state import RestoredState
from detector.runtime.state_log import MAX_RECORD_BYTES
from tests.model.models import metadata, random_weights, with_canaries
from tests.runtime.conftest import SetTopic
from tests.runtime.stack import Stack, without_clock
from tests.runtime.test_end_to_end import records, sessions, valid
from tests.runtime.test_redrive import headers_of
from tests.waiting import PATIENCE_S
from trainer.training.export import build_graph, model_file

_HEAD_BYTES = 512
Record = tuple[bytes, bytes]


def long_ids(count: int, faces: int) -> list[Record]:
    """Return events of so many sessions whose ids have so many characters of four bytes, and five more."""
    ids = ["\N{GRINNING FACE}" * faces + f"{number:05d}" for number in range(count)]
    return [(one.encode(), valid(one, 0, event_id=str(number))) for number, one in enumerate(ids)]


def long_windows(count: int, events: int) -> list[Record]:
    """Return events of so many sessions, each with a UUID, one after the other."""
    ids = [str(uuid.UUID(int=number)) for number in range(count)]
    return [(one.encode(), valid(one, number, "VIEW_BALANCE")) for number in range(events) for one in ids]


def publish_packed(stack: Stack, log: list[Record]) -> None:
    """Publish a log in gzip batches as large as they get."""
    producer = KafkaProducer(
        bootstrap_servers=stack.config.bootstrap_servers,
        compression_type="gzip",
        batch_size=2**24,
        linger_ms=1_000,
    )
    for key, value in log:
        producer.send(stack.config.input_topic, key=key, value=value)
    producer.flush(PATIENCE_S)
    producer.close()


@pytest.mark.parametrize(
    ("window", "batch_max_events", "log"),
    [(10, 2_500, long_ids(2_500, 126)), (64, 5_000, long_windows(1_250, 68))],
    ids=["ids as long as they may be", "UUIDs, window 64, batches of 5,000"],
)
def test_no_state_is_too_large_for_its_topic(
    make_stack: Callable[..., Stack],
    set_topic: SetTopic,
    tmp_path: Path,
    window: int,
    batch_max_events: int,
    log: list[Record],
) -> None:
    """One gzip batch after the other is read, its state lies in records below the bound, and comes back."""
    graph = build_graph(random_weights(1), window)
    model = tmp_path / "model.onnx"
    model.write_bytes(model_file(graph, with_canaries(graph, metadata(window=window))))
    stack = make_stack(partitions=1, model=str(model), batch_max_events=batch_max_events)
    set_topic(stack.config.state_topic, "max.message.bytes", "1048588")  # as older versions made it
    publish_packed(stack, log)
    with stack.worker():
        stack.wait_until_processed()
    ids = {key.decode() for key, _ in log}
    state = stack.read(stack.config.state_topic)
    assert max(len(one.value) for one in state) <= MAX_RECORD_BYTES + _HEAD_BYTES
    restored = RestoredState(load_model(model).encoding.fingerprint)
    for one in state:
        restored.add(one.offset, one.value)
    assert restored.end() is not None
    assert restored.partition.sessions.keys() == ids
    with stack.worker() as again:
        again.wait_until_logged(f"{len(ids)} sessions and 0 accounts from")


def test_ids_of_more_bytes_are_dead_letters(make_stack: Callable[..., Stack]) -> None:
    """Thousands of ids of 256 characters of four bytes in one gzip batch end nobody; what lies behind is scored."""
    stack = make_stack(partitions=1, batch_max_events=2_500)
    publish_packed(stack, [*long_ids(2_500, 251), *records(sessions(22))])
    with stack.worker():
        stack.wait_until_processed()
    told = [headers_of(one) for one in stack.read(stack.config.dead_letter_topic)]
    assert len(told) == 2_500
    assert {one["dlq-reason"] for one in told} == {"malformed"}
    assert all("session_id" in one["dlq-detail"] for one in told)
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0]) != []


def test_a_log_is_cut_behind_each_snapshot(make_stack: Callable[..., Stack]) -> None:
    """Snapshots in slices of every few batches keep the log short, and another worker goes on with them."""
    stack = make_stack(partitions=1, snapshot_min_bytes=1, snapshot_ratio=1, batch_max_events=20)
    for turn in range(4):
        stack.publish(
            (f"s{number}".encode(), valid(f"s{number}", turn, "VIEW_BALANCE")) for number in range(300)
        )
        with stack.worker():
            stack.wait_until_processed()
    first, *_ = stack.read(stack.config.state_topic)
    assert first.offset > 0
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0])
