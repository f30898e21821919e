"""What bounds a worker: shared out by what the input is, and recorded with what decides."""

from collections.abc import Callable
from dataclasses import replace

from detector.runtime.config import DetectorConfig
from detector.runtime.epochs import epochs_of_group
from detector.runtime.topics import fitted
from tests.runtime.stack import Stack, exposed, without_clock
from tests.runtime.test_end_to_end import records, sessions


def test_the_sessions_of_a_worker_are_shared_out_among_the_partitions(
    make_stack: Callable[..., Stack],
) -> None:
    """Each partition has its share, by the partitions that the input has, whatever the flag says and whoever holds it.

    So a worker that holds all of them is bounded, and which session is evicted depends on no worker.
    """
    stack = make_stack(partitions=3, metrics_port=0, max_sessions=32)
    stack.publish(records(sessions(400)))
    with stack.worker("--partitions", "8") as worker, stack.worker("--partitions", "7") as other:
        stack.wait_until_processed()
        live = [sample.value for one in (worker, other) for sample in exposed(one, "detector_live_sessions")]
        evicted = [
            sample.value
            for one in (worker, other)
            for sample in exposed(one, "detector_evicted_sessions_total")
        ]
    assert max(live) == 10
    assert sum(evicted) > 0
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0])
    config = stack.config
    recorded = {
        (one.partitions, one.max_sessions) for epochs in epochs_of_group(config).values() for one in epochs
    }
    assert recorded == {(3, 32)}
    assert fitted(replace(config, partitions=8)) == config


def test_no_partition_is_left_without_a_session() -> None:
    """With more partitions than sessions each still has one."""
    assert DetectorConfig(max_sessions=3, partitions=8).session_limits.max_sessions == 1
