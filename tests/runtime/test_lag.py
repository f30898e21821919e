"""Lag: what waits is seen from outside, above all when nothing is committed."""

from collections.abc import Callable

from tests.runtime.conftest import SetTopic
from tests.runtime.stack import Stack, Worker, exposed, wait_for
from tests.runtime.test_end_to_end import records, sessions


def total(worker: Worker, name: str) -> float | None:
    """Return the sum of a series over its labels, None if there is none."""
    found = [sample.value for sample in exposed(worker, name)]
    return sum(found) if found else None


def test_what_waits_is_exposed_while_no_commit_succeeds(
    make_stack: Callable[..., Stack], set_topic: SetTopic
) -> None:
    """A partition shows itself once restored, and events whose transaction fails count as lag."""
    stack = make_stack(partitions=1, metrics_port=0)
    with stack.worker() as worker:
        wait_for(lambda: total(worker, "detector_lag_events") == 0, "the partition")
        # A compacted topic takes no record without a key, as those of the state are.
        set_topic(stack.config.state_topic, "cleanup.policy", "compact")
        published = stack.publish(records(sessions(20)))
        wait_for(lambda: total(worker, "detector_lag_events") == published, "what waits")
        assert total(worker, "detector_scores_total") == 0
        worker.kill()
    set_topic(stack.config.state_topic, "cleanup.policy", "delete")
    with stack.worker() as mended:
        wait_for(lambda: total(mended, "detector_scores_total") == published, "the end of it")
        assert total(mended, "detector_lag_events") == 0
