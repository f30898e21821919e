"""Rebalances under load: workers come and go, and those that stay read on with what they hold."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kafka import KafkaProducer

from detector.contract.events import encode_event
from producer.behaviour import seed
from producer.behaviour.interleave import interleave, schedule
from producer.behaviour.session import stream
from tests.runtime.stack import Stack, Worker, exposed, without_clock

_EVENTS_PER_S = 1_500
_HOLDING_S = 4.0
_NOW_MS = 1_790_000_000_000


@contextmanager
def load(stack: Stack) -> Iterator[None]:
    """Publish simulated sessions at a steady rate for the block."""
    stop = threading.Event()

    def publish() -> None:
        producer = KafkaProducer(bootstrap_servers=stack.config.bootstrap_servers, linger_ms=5)
        planned = schedule(seed.sessions(1_000_000, 3), live_sessions=500, rng=stream(3, "schedule"))
        began_s = time.monotonic()
        for number, event in enumerate(interleave(planned, start_ms=_NOW_MS)):
            if stop.is_set():
                break
            producer.send(stack.config.input_topic, encode_event(event), key=event.session_id.encode())
            time.sleep(max(0.0, began_s + number / _EVENTS_PER_S - time.monotonic()))
        producer.flush()
        producer.close()

    publishing = threading.Thread(target=publish)
    publishing.start()
    try:
        yield
    finally:
        stop.set()
        publishing.join()


def held(worker: Worker) -> list[set[int]]:
    """Return the partitions that a worker held, one set after each change."""
    lists = re.findall(r"holding partitions \[(.*)\]", worker.log.read_text())
    return [{int(number) for number in one.split(",") if number} for one in lists]


def test_workers_that_stay_are_not_harmed_by_those_that_come_and_go(make_stack: Callable[..., Stack]) -> None:
    """Twice a worker joins and leaves under load: no batch is fenced, and what stays is restored once."""
    stack = make_stack(partitions=8, metrics_port=0)
    with stack.worker() as steady:
        steady.wait_until_logged("holding partitions")
        with load(stack):
            for _ in range(2):
                time.sleep(_HOLDING_S)
                with stack.worker() as passing:
                    passing.wait_until_logged("holding partitions")
                    time.sleep(_HOLDING_S)
                    assert {sample.value for sample in exposed(passing, "detector_recoveries_total")} <= {0.0}
            time.sleep(_HOLDING_S)
        stack.wait_until_processed()
        recoveries = {
            sample.labels["kind"]: sample.value for sample in exposed(steady, "detector_recoveries_total")
        }
        assert (recoveries.get("rejoin", 0), recoveries.get("restore", 0)) == (0, 0), steady.log.read_text()
        sets = held(steady)
        assert sets[-1] == set(range(8))
        gained = sum(len(after - before) for before, after in zip([set(), *sets], sets, strict=False))
        assert [sample.value for sample in exposed(steady, "detector_restore_seconds_count")] == [gained]
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0])
