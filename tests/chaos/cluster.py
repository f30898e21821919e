"""A broker of its own with two proxied listeners, and workers on it that can be hurt."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewPartitions
from kafka.errors import KafkaError

from broker import EmbeddedBroker
from detector.contract.topics import MAX_RECORD_BYTES
from detector.runtime.config import DetectorConfig
from detector.runtime.topics import ensure_topics
from tests.chaos.proxy import Proxy
from tests.runtime.stack import flags_of

SESSION_TIMEOUT_MS = 4_000
TRANSACTION_TIMEOUT_MS = 2_500
STALL_TIMEOUT_MS = 15_000
PATIENCE_S = 120.0
_PROXIES = 2


class ChaosError(Exception):
    """The run could not go on: something did not come back in time."""


class WorkerEndedError(Exception):
    """A worker ended while the cluster was waited for; another must take its place."""


def free_ports(count: int) -> list[int]:
    """Return ports that are free now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


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
    """One worker process, healthy or with a fault built in."""

    def __init__(
        self, name: str, flags: Sequence[str], log: Path, fault: tuple[str, int] | None = None
    ) -> None:
        self.name = name
        self._log = log
        program = (
            ["detector", "run"] if fault is None else ["tests.chaos.launcher", fault[0], str(fault[1]), "run"]
        )
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *program, *flags], stdout=output, stderr=subprocess.STDOUT
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still lives."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def said(self, text: str) -> list[str]:
        """Return the lines of its log that hold a text."""
        return [line for line in self._log.read_text(errors="replace").splitlines() if text in line]

    @property
    def at_work(self) -> bool:
        """Whether it lives, and said last that it holds partitions."""
        said = self.said("holding partitions")
        return self.alive and bool(said) and not said[-1].endswith("[]")

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None


class Cluster:
    """Broker, topics, traffic and workers of one run. A context manager; leaving it ends everything.

    Args:
        folder: for data and logs.
        partitions: of the topics at the start.
    """

    def __init__(self, folder: Path, partitions: int = 4) -> None:
        self.folder = folder
        port, controller_port, *self._listener_ports = free_ports(2 + 2 * _PROXIES)
        proxied, self._proxy_ports = self._listener_ports[:_PROXIES], self._listener_ports[_PROXIES:]
        names = [f"PROXIED{number}" for number in range(_PROXIES)]
        listeners = [f"{name}://127.0.0.1:{at}" for name, at in zip(names, proxied, strict=True)]
        advertised = [f"{name}://127.0.0.1:{at}" for name, at in zip(names, self._proxy_ports, strict=True)]
        main = f"PLAINTEXT://127.0.0.1:{port}"
        self.broker = EmbeddedBroker(
            port=port,
            data_dir=folder / "broker",
            properties={
                "listeners": ",".join([main, *listeners, f"CONTROLLER://127.0.0.1:{controller_port}"]),
                "advertised.listeners": ",".join([main, *advertised]),
                "inter.broker.listener.name": "PLAINTEXT",
                "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
                "listener.security.protocol.map": ",".join(
                    f"{name}:PLAINTEXT" for name in ["PLAINTEXT", "CONTROLLER", *names]
                ),
                # A dead worker's transaction is given up soon, so that a run has time for many.
                "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
            },
        )
        self.proxies = [Proxy(at, target) for at, target in zip(self._proxy_ports, proxied, strict=True)]
        self.config = DetectorConfig(
            bootstrap_servers=f"127.0.0.1:{port}",
            group="chaos",
            input_topic="chaos-actions",
            alerts_topic="chaos-alerts",
            partitions=partitions,
            idle_timeout_ms=120_000,
            max_sessions=30,
            batch_max_events=60,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            stall_timeout_ms=STALL_TIMEOUT_MS,
            snapshot_min_bytes=30_000,
            snapshot_ratio=1,
            metrics_port=-1,
        )
        self.partitions = partitions
        self.workers: list[Worker] = []
        self._started = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start broker and proxies, and create the topics."""
        self._stack.enter_context(self.broker)
        for proxy in self.proxies:
            self._stack.enter_context(proxy)
        return self

    def __exit__(self, *_: object) -> None:
        """End everything."""
        for worker in self.workers:
            worker.send(signal.SIGKILL)
            worker.process.wait()
        self._stack.close()

    def create_topics(self) -> None:
        """Create the topics the workers need."""
        admin = self.admin()
        ensure_topics(admin, self.config)
        admin.close()

    def admin(self) -> KafkaAdminClient:
        """Return an admin client, past the proxies."""
        return KafkaAdminClient(bootstrap_servers=self.config.bootstrap_servers)

    def start_worker(self, fault: tuple[str, int] | None = None) -> Worker:
        """Start a worker behind one of the proxies."""
        self._started += 1
        flags = flags_of(self.config)
        flags[flags.index("--bootstrap-servers") + 1] = (
            f"127.0.0.1:{self._proxy_ports[self._started % _PROXIES]}"
        )
        name = f"worker-{self._started}"
        worker = Worker(name, [*flags, "--no-create-topics"], self.folder / f"{name}.log", fault)
        self.workers.append(worker)
        return worker

    def proxy_of(self, worker: Worker) -> Proxy:
        """Return the proxy a worker talks through."""
        return self.proxies[int(worker.name.rsplit("-", 1)[1]) % _PROXIES]

    def at_work(self) -> list[Worker]:
        """Return the workers that hold partitions."""
        return [worker for worker in self.workers if worker.at_work]

    def reap(self) -> list[Worker]:
        """Forget workers that ended; return them."""
        ended = [worker for worker in self.workers if not worker.alive]
        self.workers = [worker for worker in self.workers if worker.alive]
        return ended

    def add_partition(self) -> None:
        """Give the input topic, and with it everything after it, one partition more."""
        self.partitions += 1
        admin = self.admin()
        admin.create_partitions({self.config.input_topic: NewPartitions(total_count=self.partitions)})
        admin.close()

    def ends(self) -> dict[TopicPartition, int]:
        """Return the input's end offsets."""
        consumer = KafkaConsumer(bootstrap_servers=self.config.bootstrap_servers)
        try:
            sources = [TopicPartition(self.config.input_topic, n) for n in range(self.partitions)]
            return dict(consumer.end_offsets(sources))
        finally:
            consumer.close()

    def committed(self) -> dict[TopicPartition, int]:
        """Return the group's committed offsets."""
        consumer = KafkaConsumer(
            bootstrap_servers=self.config.bootstrap_servers,
            group_id=self.config.group,
            enable_auto_commit=False,
        )
        try:
            sources = [TopicPartition(self.config.input_topic, n) for n in range(self.partitions)]
            return {source: consumer.committed(source) or 0 for source in sources}
        finally:
            consumer.close()

    def await_committed(self, ends: dict[TopicPartition, int]) -> float:
        """Wait until the group has committed at least `ends`; return the seconds it took.

        Raises:
            WorkerEndedError: a worker ended meanwhile.
            ChaosError: it took too long.
        """
        consumer = KafkaConsumer(
            bootstrap_servers=self.config.bootstrap_servers,
            group_id=self.config.group,
            isolation_level="read_committed",
            enable_auto_commit=False,
        )

        def reached() -> bool:
            if not all(worker.alive for worker in self.workers):
                raise WorkerEndedError
            try:
                return all((consumer.committed(one) or 0) >= end for one, end in ends.items() if end)
            except KafkaError:
                return False  # the broker is on its way back

        try:
            return until(reached, f"{ends} to be committed")
        finally:
            consumer.close()


class Traffic(threading.Thread):
    """Publishes at a steady rate through whatever happens, past the proxies."""

    def __init__(self, cluster: Cluster, records: Iterator[tuple[bytes, bytes | None]], per_s: float) -> None:
        super().__init__(name="traffic", daemon=True)
        self._cluster = cluster
        self._records = records
        self._per_s = per_s
        self._stopping = threading.Event()
        self.published = 0

    def run(self) -> None:
        """Publish until stopped."""
        topic = self._cluster.config.input_topic
        producer = KafkaProducer(
            bootstrap_servers=self._cluster.config.bootstrap_servers,
            max_request_size=MAX_RECORD_BYTES,
            linger_ms=10,
            max_block_ms=120_000,
            reconnect_backoff_max_ms=500,
            metadata_max_age_ms=2_000,
        )
        next_s = time.monotonic()
        while not self._stopping.is_set():
            if self.published % 200 == 0:  # what the broker does not take is not piled up
                producer.flush()
                next_s = max(next_s, time.monotonic() - 1)
            key, value = next(self._records)
            producer.send(topic, value, key=key)
            self.published += 1
            next_s += 1 / self._per_s
            time.sleep(max(0.0, next_s - time.monotonic()))
        producer.flush()
        producer.close()

    def stop(self) -> None:
        """End it, and wait for what it sent."""
        self._stopping.set()
        self.join(PATIENCE_S)
        if self.is_alive():
            raise ChaosError("the traffic did not end")
