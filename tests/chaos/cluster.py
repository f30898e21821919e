"""A broker of its own with proxied listeners, and the workers on it."""

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions
from kafka.errors import KafkaError

from detector.model.at_hand import ModelsAtHand
from detector.runtime.config import DetectorConfig
from detector.runtime.topics import ensure_topics
from tests.chaos.models import RULES, base_file, failing_model_file, model_files
from tests.chaos.nodes import SIDES, Nodes
from tests.chaos.proxy import Proxy
from tests.chaos.versions import unpack_old_version
from tests.chaos.worker import Worker
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
}
"""Of DetectorConfig: short times, so that a run has time for many faults, and limits that the traffic exceeds."""
ACCOUNTS: dict[str, Any] = {
    "max_accounts": 320,
    "account_timeout_ms": 1_200_000,
    "challenge_threshold": 0.7,
    "breaker_max_block_share": 0.6,
    "breaker_probation_sessions": 40,
    "breaker_min_blocks": 20,
    "max_alerted": 400,
    "fraud_listing_ms": 120_000,
    "cleared_listing_ms": 60_000,
}
"""Likewise, of models with signals; old versions know no such settings. The breaker opens now and then."""
FEWEST_WORKERS = 2
MOST_FAILURES = 5
PATIENCE_S = 120.0
_EXIT_FAILED = 1
_END_PATIENCE_S = 20.0
_START_BEFORE_MS = 48 * 3_600_000
"""Event time begins so long before the clock's: a run's traffic spans hours and must not lie in the future."""

Offsets = dict[TopicPartition, int]
Stretch = tuple[Offsets, Offsets]
"""Of the input: from some offsets up to others. A partition that the first do not name begins at 0."""


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


@dataclass(slots=True)
class Notes:
    """What was done to a cluster and its log does not tell: the judge has to know it.

    Attributes:
        rebuilds: input offsets up to which a partition was rebuilt.
        narrow: stretches of the input in which a topic took less than the detector writes.
        wild: stretches in which some clocks were wild.
        of_old_version: offsets up to which workers of the old version may have decided.
    """

    rebuilds: list[tuple[TopicPartition, int]] = field(default_factory=list)
    narrow: list[Stretch] = field(default_factory=list)
    wild: list[Stretch] = field(default_factory=list)
    of_old_version: Offsets = field(default_factory=dict)


class Cluster:
    """Brokers, proxies, topics and workers of one run. A context manager; leaving it ends everything.

    Attributes:
        nodes: the brokers.
        partitions: how many the input has.
        start_ms: when event time begins.
        model_path: of the model in service.
        rules_path: of the rules beside it; old versions know none.
        challenger_path: of the one in shadow, which the others are made from.
        endings: exit codes of the workers that ended.
        failures: the last line of each worker that failed.
        refusals: workers that ended as they should, by what they said.
        notes: for the judge.

    Args:
        folder: for data and logs.
        brokers: how many: 1 or 3.
        signals: whether the models read signals, the history of accounts among them. Old versions know none.
        settings: of DetectorConfig, over SETTINGS.
    """

    def __init__(self, folder: Path, *, brokers: int = 1, signals: bool = True, **settings: Any) -> None:
        self.folder = folder
        self.challenger_path = folder / "challenger.onnx"
        self.challenger_path.write_bytes(base_file(signals=signals))
        self.rules_path = folder / "rules.toml"
        self.put_rules(0)
        self._nodes = Nodes(folder, brokers)
        self.nodes = self._nodes.all
        self.config = DetectorConfig(
            bootstrap_servers=self._nodes.bootstrap_servers,
            group="chaos",
            input_topic="chaos-actions",
            alerts_topic="chaos-alerts",
            shadow_model=str(self.challenger_path),
            shadow_threshold=0.75 if signals else 0.3,
            **(SETTINGS | (ACCOUNTS if signals else {}) | settings),
        )
        self.partitions = self.config.partitions
        self.start_ms = time.time_ns() // 1_000_000 - _START_BEFORE_MS
        self.model_path = folder / "model.onnx"
        self._models = model_files(self.challenger_path, signals=signals)
        self._failing_model = failing_model_file(self.challenger_path)
        self.put_model(0)
        self.workers: list[Worker] = []
        self.endings: Counter[int] = Counter()
        self.failures: list[str] = []
        self.refusals: Counter[str] = Counter()
        self.notes = Notes()
        self._excused: set[str] = set()
        self._started = 0
        self._old_version: Path | None = None

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
        with self.admin() as admin:
            ensure_topics(admin, self.config)

    @contextmanager
    def admin(self) -> Iterator[KafkaAdminClient]:
        """Open an admin client, past the proxies, for the block."""
        with closing(KafkaAdminClient(bootstrap_servers=self.config.bootstrap_servers)) as admin:
            yield admin

    def set_topic(self, topic: str, **settings: str) -> None:
        """Change settings of a topic, their names with underscores for dots."""
        wanted = {name.replace("_", "."): value for name, value in settings.items()}
        with self.admin() as admin:
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, wanted)])

    def address_of_leader(self, topic: str, partition: int) -> str:
        """Return where to reach the broker that leads a partition, past the proxies."""
        with self.admin() as admin:
            (described,) = admin.describe_topics([topic])
        (leader,) = [
            one["leader_id"] for one in described["partitions"] if one["partition_index"] == partition
        ]
        return self.nodes[int(leader) - 1].address

    def start_old_worker(self) -> Worker:
        """Start a worker of the old version, whose `--max-sessions` are a partition's, with a model that it can read."""
        if self._old_version is None:
            self._old_version = unpack_old_version(self.folder / "old-version")
        share = self.config.session_limits.max_sessions
        model = self.folder / "first.onnx"
        model.write_bytes(self._models[0])
        arguments = ("--max-sessions", str(share), "--model", str(model))
        return self.start_worker(None, *arguments, code=self._old_version)

    def start_worker(
        self, fault: tuple[str, int] | None = None, *arguments: str, code: Path | None = None
    ) -> Worker:
        """Start a worker behind one of the proxies."""
        self._started += 1
        number = self._started
        flags = flags_of(self.config)
        flags[flags.index("--bootstrap-servers") + 1] = self._nodes.proxied_servers(number % SIDES)
        log = self.folder / f"worker-{number}.log"
        flags += ["--no-create-topics", "--model", str(self.model_path), *arguments]
        if code is None:
            flags += ["--rules", str(self.rules_path)]
        worker = Worker(number, flags, log, fault, self.nodes[0].broker, code)
        self.workers.append(worker)
        return worker

    def put_model(self, number: int) -> None:
        """Put one of the models in the place of the one in service, as an operator would."""
        put(self.model_path, self._models[number])

    def put_rules(self, number: int) -> None:
        """Put one of the rules files in the place of the one in service."""
        put(self.rules_path, RULES[number])

    def put_refused_rules(self) -> None:
        """Put rules there that fit no model; no worker may be started until others are back."""
        self._await_begun()
        put(self.rules_path, RULES[-1].replace(b"amount", b"sum"))

    def put_damaged_model(self) -> None:
        """Put a file there that is none; no worker may be started until a model is back."""
        self._await_begun()
        put(self.model_path, self._models[0][:-1_000])

    def put_failing_model(self) -> None:
        """Put a model there that answers NaN to some windows."""
        put(self.model_path, self._failing_model)

    def _await_begun(self) -> None:
        """Wait until those that were started have read their files: what begins with one that is refused ends."""
        until(
            lambda: all(one.said(", threshold ") or not one.alive for one in self.workers),
            "workers to read their model and rules",
        )

    def models(self) -> ModelsAtHand:
        """Return all models that may have been in service."""
        folder = self.folder / "models"
        folder.mkdir()
        for number, model in enumerate([*self._models, self._failing_model]):
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
        self._count_ended()
        if len(self.failures) > MOST_FAILURES:
            raise ChaosError(f"workers keep failing, the last one: {self.failures[-1]}")
        while len(self.workers) < FEWEST_WORKERS:
            self.start_worker()

    def _count_ended(self) -> None:
        for worker in [one for one in self.workers if not one.alive]:
            self.workers.remove(worker)
            last = (worker.said("") or ["no word"])[-1]
            failed = worker.process.returncode == _EXIT_FAILED
            excuse = next((text for text in sorted(self._excused) if text in last), None)
            if failed and excuse is not None:
                self.refusals[excuse] += 1
                continue
            self.endings[worker.process.returncode] += 1
            if failed:
                self.failures.append(f"worker {worker.number}: {last}")

    def excuse(self, text: str) -> None:
        """Let workers end with exit code 1 from now on, if the last that they say has this text."""
        self._excused.add(text)

    def await_refusal(self, worker: Worker, text: str) -> None:
        """Wait for a worker to end with exit code 1 and a text in its last line.

        Raises:
            ChaosError: it went on, or ended otherwise.
        """
        until(lambda: not worker.alive, f"worker {worker.number} to refuse: {text}")
        last = (worker.said("") or ["no word"])[-1]
        if worker.process.returncode != _EXIT_FAILED or text not in last:
            raise ChaosError(
                f"worker {worker.number} ended with {worker.process.returncode}: {last}; expected 1 and {text!r}"
            )
        self.workers.remove(worker)
        self.refusals[text] += 1

    def stop_workers(self) -> None:
        """Stop all workers, in order if they can."""
        for worker in self.workers:
            worker.send(signal.SIGCONT)
            worker.send(signal.SIGTERM)
        with suppress(ChaosError):
            until(lambda: not any(one.alive for one in self.workers), "workers to stop", _END_PATIENCE_S)
        for worker in self.workers:
            worker.send(signal.SIGKILL)
            worker.process.wait()
        self._count_ended()

    def add_partition(self) -> None:
        """Give the input topic a partition more."""
        self.partitions += 1
        with self.admin() as admin:
            admin.create_partitions({self.config.input_topic: NewPartitions(total_count=self.partitions)})

    def ends(self) -> Offsets:
        """Return the input's end offsets."""
        consumer = self._consumer()
        try:
            return dict(consumer.end_offsets(self._sources()))
        finally:
            consumer.close()

    def committed(self) -> Offsets:
        """Return the group's committed offsets."""
        consumer = self._consumer()
        try:
            return {source: consumer.committed(source) or 0 for source in self._sources()}
        finally:
            consumer.close()

    def await_committed(self, ends: Offsets, *, supervised: bool = True) -> float:
        """Wait until the group has committed at least `ends`, and supervise; return the seconds it took.

        Raises:
            ChaosError: it took too long, or workers keep failing.
        """
        consumer = self._consumer()

        def reached() -> bool:
            if supervised:
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
