"""Hot reload: from a batch's edge on the new model decides; nothing is lost or doubled over it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from kafka import TopicPartition

from detector.contract.alerts import Alert
from detector.core.partition import Partition
from detector.model.artifact import load_model
from detector.runtime.processing import processor_of
from detector.runtime.replaying import batches_of_topic, replay
from tests.model.models import random_file
from tests.runtime.stack import Stack, Worker, alerts_in, exposed, without_clock
from tests.runtime.test_end_to_end import records, sessions
from tests.runtime.test_model_watch import put
from tests.waiting import wait_for


def reached(worker: Worker, outcome: str, count: int) -> bool:
    """Tell whether so many changed files came to an outcome, by the worker's metrics."""
    return count == next(
        sample.value
        for sample in exposed(worker, "detector_model_reloads_total")
        if sample.labels["outcome"] == outcome
    )


def ends_of(stack: Stack) -> dict[TopicPartition, int]:
    """Return the offsets after the last record of each partition of the input."""
    return {
        TopicPartition(record.topic, record.partition): record.offset + 1
        for record in stack.read(stack.config.input_topic)
    }


def test_each_half_is_decided_by_its_model(make_stack: Callable[..., Stack], tmp_path: Path) -> None:
    """Two halves of a log with a reload between them: alerts are those of one model, then of the other's.

    A file that is refused in between changes nothing, and putting the first model back is a reload as well.
    """
    stack = make_stack(partitions=2, metrics_port=0)
    path = tmp_path / "model.onnx"
    files = [random_file(3, threshold=0.42), random_file(4, threshold=0.7, version="2")]
    put(path, files[0])
    log = list(records(sessions(220)))
    parts = [log[: len(log) // 3], log[len(log) // 3 : 2 * len(log) // 3], log[2 * len(log) // 3 :]]
    ends = []
    with stack.worker("--model", str(path), "--model-watch-ms", "100") as worker:
        worker.wait_until_logged("metrics on ")
        for number, (part, file) in enumerate(zip(parts, [*files, files[0]], strict=True)):
            if number:
                put(path, file)
                wait_for(partial(reached, worker, "loaded", number), "the new model")
            stack.publish(part)
            stack.wait_until_processed()
            ends.append(ends_of(stack))
            put(path, b"no model")
            wait_for(partial(reached, worker, "refused", number + 1), "the refusal")
    expected: list[Alert] = []
    partitions: dict[object, Partition] = {}
    for file, end in zip([*files, files[0]], ends, strict=True):
        put(path, file)
        begins = {source: one.next_offset for source, one in partitions.items()}
        batches = (
            {
                source: new
                for source, batch in polled.items()
                if (new := [one for one in batch if one.offset >= begins.get(source, 0)])
            }
            for polled in batches_of_topic(stack.config, {source: (0, at) for source, at in end.items()})
        )
        expected += alerts_in(replay(batches, processor_of(load_model(path), stack.config), partitions))
    found = stack.alerts()
    assert without_clock(found) == without_clock(expected)
    assert {alert.model.version for alert in found} == {"1", "2"}


def test_an_idle_worker_changes_its_model_too(make_stack: Callable[..., Stack], tmp_path: Path) -> None:
    """Without events it serves the new model all the same, so that a roll-out can be seen to be complete."""
    stack = make_stack(partitions=1, metrics_port=0)
    path = tmp_path / "model.onnx"
    put(path, random_file(3, threshold=0.42))
    with stack.worker("--model", str(path), "--model-watch-ms", "100") as worker:
        worker.wait_until_logged("holding partitions")
        put(path, random_file(4, threshold=0.7, version="2"))
        wait_for(
            lambda: [one.labels["version"] for one in exposed(worker, "detector_model_info")] == ["2"],
            "the new model in service",
        )


@pytest.mark.parametrize("interval_ms", ["0", "60000"])
def test_a_file_that_is_not_looked_at_changes_nothing(
    make_stack: Callable[..., Stack], tmp_path: Path, interval_ms: str
) -> None:
    """Without a watch, or before its next look, the model at the start decides."""
    stack = make_stack(partitions=1)
    path = tmp_path / "model.onnx"
    put(path, random_file(3, threshold=0.42))
    with stack.worker("--model", str(path), "--model-watch-ms", interval_ms) as worker:
        worker.wait_until_logged("holding partitions")
        put(path, random_file(4, threshold=0.7, version="2"))
        stack.publish(records(sessions(33)))
        stack.wait_until_processed()
    assert {alert.model.version for alert in stack.alerts()} == {"1"}
