"""A broker of its own with proxied listeners, and workers on it that can be hurt."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import NewPartitions
from kafka.errors import KafkaError

from broker import EmbeddedBroker
from detector.model.artifact import default_model_path
from detector.model.at_hand import ModelsAtHand
from detector.runtime.config import DetectorConfig
from detector.runtime.topics import ensure_topics
from tests.chaos.nodes import SIDES, Nodes
from tests.chaos.proxy import Proxy
from tests.model.models import changed_file
from tests.runtime.stack import flags_of
from tests.runtime.test_model_watch import put

SESSION_TIMEOUT_MS = 3_000
TRANSACTION_TIMEOUT_MS = 1_500
STALL_TIMEOUT_MS = 12_000
SETTINGS: dict[str, Any] = {
    "partitions": 4,
    "idle_timeout_ms": 120_000,
    "max_future_ms": 30_000,
    "max_sessions": 120,
    "batch_max_events": 60,
    "session_timeout_ms": SESSION_TIMEOUT_MS,
    "transaction_timeout_ms": TRANSACTION_TIMEOUT_MS,
    "max_poll_interval_ms": 20_000,
    "stall_timeout_ms": STALL_TIMEOUT_MS,
    "snapshot_min_bytes": 30_000,
    "snapshot_ratio": 1,
    "metrics_port": -1,
    "model_watch_ms": 200,
    "shadow_model": "default",
    "shadow_threshold": 0.3,
}
"""Of DetectorConfig: short times, so that a run has time for many faults, and limits that the traffic exceeds."""
VERSIONS = {"1": 0.45, "2": 0.8, "3": 0.2}
"""Thresholds of the models that may be in service, by their versions."""
FEWEST_WORKERS = 2
MOST_FAILURES = 5
PATIENCE_S = 120.0
_EXIT_FAILED = 1


class ChaosError(Exception):
    """The run could not go on: something did not come back in time."""


def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> float:
    """Wait for a condition; return the seconds it took.

    Raises:
        ChaosError: it did not come to hold.
    """
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > patience_s:
            raise ChaosError(f"waited {patience_s:g} s for {what}")
        time.sleep(0.05)
    return time.monotonic() - began_s


class Worker:
    """One worker process, healthy or with a fault of `tests.chaos.launcher` built in."""

    def __init__(
        self,
        number: int,
        flags: Sequence[str],
        log: Path,
        fault: tuple[str, int] | None,
        broker: EmbeddedBroker,
    ) -> None:
        self.number = number
        self._log = log
        program = ["detector"] if fault is None else ["tests.chaos.launcher", fault[0], str(fault[1])]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *program, "run", *flags],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "CHAOS_BROKER_PID": str(broker.pid if broker.running else 0)},
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still lives."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def said(self, text: str) -> list[str]:
        """Return the lines of its log that hold a text."""
        return [line for line in self._log.read_text(errors="replace").splitlines() if text in line]

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    @property
    def at_work(self) -> bool:
        """Whether it lives, and said last that it holds partitions."""
        said = self.said("holding partitions")
        return self.alive and bool(said) and not said[-1].endswith("[]")


class Cluster:
    """Brokers, proxies, topics and workers of one run. A context manager; leaving it ends everything.

    Attributes:
        nodes: the brokers.
        endings: exit codes of the workers that ended.
        failures: the last line of each worker that failed.

    Args:
        folder: for data and logs.
        brokers: how many: 1 or 3.
        settings: of DetectorConfig, over SETTINGS.
    """

    def __init__(self, folder: Path, *, brokers: int = 1, **settings: Any) -> None:
        self.folder = folder
        self._nodes = Nodes(folder, brokers)
        self.nodes = self._nodes.all
        self.config = DetectorConfig(
            bootstrap_servers=self._nodes.bootstrap_servers,
            group="chaos",
            input_topic="chaos-actions",
            alerts_topic="chaos-alerts",
            **(SETTINGS | settings),
        )
        self.partitions = self.config.partitions
        self._model_path = folder / "model.onnx"
        self._models = [
            changed_file(default_model_path(), threshold=threshold, version=version)
            for version, threshold in VERSIONS.items()
        ]
        self.put_model(0)
        self.workers: list[Worker] = []
        self.endings: Counter[int] = Counter()
        self.failures: list[str] = []
        self._started = 0

    def __enter__(self) -> Self:
        """Start brokers and proxies."""
        self._nodes.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """End everything."""
        for worker in self.workers:
            worker.send(signal.SIGKILL)
            worker.process.wait()
        self._nodes.__exit__()

    def create_topics(self) -> None:
        """Create the topics the workers need."""
        admin = KafkaAdminClient(bootstrap_servers=self.config.bootstrap_servers)
        ensure_topics(admin, self.config)
        admin.close()

    def start_worker(self, fault: tuple[str, int] | None = None) -> Worker:
        """Start a worker behind one of the proxies."""
        self._started += 1
        number = self._started
        flags = flags_of(self.config)
        flags[flags.index("--bootstrap-servers") + 1] = self._nodes.proxied_servers(number % SIDES)
        log = self.folder / f"worker-{number}.log"
        flags += ["--no-create-topics", "--model", str(self._model_path)]
        worker = Worker(number, flags, log, fault, self.nodes[0].broker)
        self.workers.append(worker)
        return worker

    def put_model(self, number: int) -> None:
        """Put one of the models in the place of the one in service, as an operator would."""
        put(self._model_path, self._models[number])

    def put_damaged_model(self) -> None:
        """Put a file there that is none; no worker may be started until a model is back."""
        put(self._model_path, self._models[0][:-1_000])

    def models(self) -> ModelsAtHand:
        """Return all models that may have been in service."""
        folder = self.folder / "models"
        folder.mkdir()
        for number, model in enumerate(self._models):
            (folder / f"{number}.onnx").write_bytes(model)
        return ModelsAtHand(folder)

    def proxies_of(self, worker: Worker) -> list[Proxy]:
        """Return the proxies a worker talks through, one for each broker."""
        return [node.proxies[worker.number % SIDES] for node in self.nodes]

    def at_work(self) -> list[Worker]:
        """Return the workers that hold partitions."""
        return [worker for worker in self.workers if worker.at_work]

    def supervise(self) -> None:
        """Count the workers that ended, and keep some at work, as an orchestrator would.

        Raises:
            ChaosError: workers keep failing.
        """
        for worker in [one for one in self.workers if not one.alive]:
            self.workers.remove(worker)
            self.endings[worker.process.returncode] += 1
            if worker.process.returncode == _EXIT_FAILED:
                self.failures.append(f"worker {worker.number}: {(worker.said('') or ['no word'])[-1]}")
        if len(self.failures) > MOST_FAILURES:
            raise ChaosError(f"workers keep failing, the last one: {self.failures[-1]}")
        while len(self.workers) < FEWEST_WORKERS:
            self.start_worker()

    def add_partition(self) -> None:
        """Give the input topic a partition more."""
        self.partitions += 1
        admin = KafkaAdminClient(bootstrap_servers=self.config.bootstrap_servers)
        admin.create_partitions({self.config.input_topic: NewPartitions(total_count=self.partitions)})
        admin.close()

    def ends(self) -> dict[TopicPartition, int]:
        """Return the input's end offsets."""
        consumer = self._consumer()
        try:
            return dict(consumer.end_offsets(self._sources()))
        finally:
            consumer.close()

    def committed(self) -> dict[TopicPartition, int]:
        """Return the group's committed offsets."""
        consumer = self._consumer()
        try:
            return {source: consumer.committed(source) or 0 for source in self._sources()}
        finally:
            consumer.close()

    def await_committed(self, ends: dict[TopicPartition, int]) -> float:
        """Wait until the group has committed at least `ends`, and supervise; return the seconds it took.

        Raises:
            ChaosError: it took too long, or workers keep failing.
        """
        consumer = self._consumer()

        def reached() -> bool:
            self.supervise()
            try:
                return all((consumer.committed(one) or 0) >= end for one, end in ends.items())
            except KafkaError:
                return False  # the broker is on its way back

        try:
            return until(reached, f"the group to commit {ends}")
        finally:
            consumer.close()

    def _sources(self) -> list[TopicPartition]:
        return [TopicPartition(self.config.input_topic, number) for number in range(self.partitions)]

    def _consumer(self) -> KafkaConsumer:
        """Return a consumer that sees what is committed for good, past the proxies."""
        return KafkaConsumer(
            bootstrap_servers=self.config.bootstrap_servers,
            group_id=self.config.group,
            isolation_level="read_committed",
            enable_auto_commit=False,
        )
