"""Several workers that share a topic's partitions, and how soon a worker scores after its start."""

import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from kafka import KafkaAdminClient
from kafka.errors import RetriableError

from benchmarks.results import Ratio, Result, Row, quotients, repeated
from benchmarks.service import publish
from broker import EmbeddedBroker
from detector.model.artifact import PLAIN_MODELS

WORKERS = (1, 2, 4, 8)
_PATIENCE_S = 180.0
_TOPIC = "scaling-actions"


@contextmanager
def _workers(servers: str, group: str, count: int, topic: str, model: str) -> Iterator[None]:
    """Run workers of one group; end them by their process ids."""
    flags = ["--bootstrap-servers", servers, "--group", group, "--input-topic", topic]
    command = [sys.executable, "-m", "detector", "run", *flags, "--model", model, "--metrics-port", "-1"]
    with tempfile.TemporaryFile() as log:
        started = [subprocess.Popen(command, stdout=log, stderr=log) for _ in range(count)]
        try:
            yield
        finally:
            for one in started:
                one.terminate()
            for one in started:
                one.wait(60)


def _committed(admin: KafkaAdminClient, group: str) -> int:
    """Return how many input events the group has committed."""
    try:
        offsets = admin.list_group_offsets({group: None})[group]
    except RetriableError:  # the broker is still making the topic that holds groups
        return 0
    return sum(max(0, one.offset) for one in offsets.values())


def drained(servers: str, workers: int, events: int, model: str) -> float:
    """Read the topic with so many workers; return events a second, over the 80 % in the middle."""
    group = f"s-{uuid.uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=servers)
    deadline_s, began = time.monotonic() + _PATIENCE_S, (0.0, 0)
    try:
        with _workers(servers, group, workers, _TOPIC, model):
            while True:
                done, now_s = _committed(admin, group), time.monotonic()
                if not began[1] and done >= events // 10:
                    began = (now_s, done)
                if done >= events * 9 // 10:
                    return (done - began[1]) / max(1e-3, now_s - began[0])
                if now_s > deadline_s:
                    raise TimeoutError(
                        f"{done:,} of {events:,} events in {_PATIENCE_S:.0f} s with {workers} workers"
                    )
                time.sleep(0.02)
    finally:
        admin.close()


def first_score_s(servers: str, model: str) -> float:
    """Start a worker beside a broker that answers; return the seconds until its first committed batch of scores."""
    group = f"f-{uuid.uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=servers)
    try:
        began_s = time.monotonic()
        with _workers(servers, group, 1, _TOPIC, model):
            while not _committed(admin, group):
                if time.monotonic() - began_s > _PATIENCE_S:
                    raise TimeoutError(f"no score within {_PATIENCE_S:.0f} s of the worker's start")
                time.sleep(0.01)
            return time.monotonic() - began_s
    finally:
        admin.close()


def run(repetitions: int, events: int) -> list[Result]:
    """Measure the number of workers, and start-up with both models."""
    with EmbeddedBroker() as broker:
        servers = broker.bootstrap_servers
        count = publish(servers, events, _TOPIC, partitions=max(WORKERS))
        runs = repeated(
            {
                f"{number} workers": (lambda number=number: drained(servers, number, count, "default"))
                for number in WORKERS
            },  # type: ignore[misc]
            repetitions,
        )
        starts = repeated(
            {
                f"{model} model, start to first score": (lambda model=model: first_score_s(servers, model))
                for model in PLAIN_MODELS
            },  # type: ignore[misc]
            repetitions,
        )
    one = runs["1 workers"]
    ratios = [
        Ratio(f"{number} workers by 1", quotients(runs[f"{number} workers"], one)) for number in WORKERS[1:]
    ]
    scaling = Result(
        "scaling",
        "Workers",
        f"{count:,} events in {max(WORKERS)} partitions, default model, each worker a process; events a second over the "
        f"middle 80 %; {repetitions} repetitions in turns. The broker, this "
        "program and the workers share 2 cores: a third worker has none left to itself.",
        [Row(name, "events/s", figures) for name, figures in runs.items()],
        ratios,
    )
    start = Result(
        "start",
        "Start-up",
        "From the start of the process to its first committed batch of scores; the broker is up and the topic full. "
        f"{repetitions} repetitions in turns.",
        [Row(name, "s", figures) for name, figures in starts.items()],
        [],
        dict.fromkeys(starts, 2.0),
    )
    return [scaling, start]
