"""A detector on the session's broker: real workers as processes, real topics, and what is on them."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec
from click.testing import CliRunner, Result
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from detector.cli import main
from detector.client.consumer import Consumer
from detector.contract.alerts import Alert, decode_alert
from detector.contract.dead_letters import DeadLetter
from detector.contract.topics import MAX_RECORD_BYTES
from detector.model.artifact import load_model, resolve_model_path
from detector.rules import rules_of
from detector.runtime.config import DetectorConfig
from detector.runtime.processing import Processed, processor_of
from detector.runtime.replaying import batches_of_topic, replay
from detector.runtime.settings import flag_of
from detector.runtime.topics import ensure_topics
from tests.waiting import PATIENCE_S, wait_for


class Worker:
    """One `python -m detector run`, or another command; `environment` comes on top of this process's, less the detector's own."""

    def __init__(
        self,
        arguments: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        command: str = "run",
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "detector", command, *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={name: value for name, value in os.environ.items() if not name.startswith("DETECTOR_")}
                | dict(environment or {}),
            )

    def kill(self) -> None:
        """End it without a chance to do anything about it."""
        self.process.kill()
        self.process.wait()

    close = kill

    def terminate(self) -> int:
        """Ask it to stop; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def last_words(self) -> str:
        """Wait until it has ended by itself, with exit code 1 and a message; return the last line of its log."""
        try:
            wait_for(lambda: self.process.poll() is not None, "the detector to end")
        finally:
            self.kill()
        text = self.log.read_text()
        assert self.process.returncode == 1, text
        assert "Traceback" not in text
        return text.splitlines()[-1]

    def wait_until_logged(self, text: str) -> None:
        """Wait until its log holds a text."""

        def logged() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return text in self.log.read_text()

        wait_for(logged, f"{text!r} in {self.log}")


def metrics_address(worker: Worker) -> str:
    """Return host and port of a worker's metrics, once it serves them."""
    worker.wait_until_logged("metrics on http://")
    return worker.log.read_text().partition("metrics on http://")[2].partition("/")[0]


def exposed(worker: Worker, name: str) -> list[Sample]:
    """Return the samples of a series that a worker exposes."""
    with urllib.request.urlopen(f"http://{metrics_address(worker)}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return [sample for family in families for sample in family.samples if sample.name == name]


class Stack:
    """Topics of one test and the workers on them.

    Args:
        bootstrap_servers: of a running broker.
        name: unique; begins the names of topics and group.
        folder: for the workers' logs.
        settings: of DetectorConfig, beyond what the test needs anyway.
    """

    def __init__(self, bootstrap_servers: str, name: str, folder: Path, **settings: Any) -> None:
        defaults: dict[str, Any] = {
            "model": "seed",
            "partitions": 4,
            "metrics_port": -1,
            "session_timeout_ms": 6_000,
        }
        self.config = DetectorConfig(
            bootstrap_servers=bootstrap_servers,
            group=f"{name}-group",
            input_topic=f"{name}-actions",
            alerts_topic=f"{name}-alerts",
            verdicts_topic=f"{name}-verdicts",
            **(defaults | settings),
        )
        self._folder = folder
        self._workers = 0
        admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
        ensure_topics(admin, self.config)
        # Simulated events have times of their own, weeks ago: where a topic takes them, a retention would delete some.
        kept = {"retention.ms": "-1"}
        admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, self.config.input_topic, kept)], raise_on_unknown=False
        )
        admin.close()

    def start(self, *arguments: str) -> Worker:
        """Start a worker."""
        self._workers += 1
        return Worker([*flags_of(self.config), *arguments], self._folder / f"worker-{self._workers}.log")

    @contextmanager
    def worker(self, *arguments: str) -> Iterator[Worker]:
        """Run a worker for the block; it must stop cleanly at its end, unless the block ended it."""
        worker = self.start(*arguments)
        try:
            yield worker
            if worker.process.poll() is None:
                assert worker.terminate() == 0, worker.log.read_text()
        finally:
            if worker.process.poll() is None:
                worker.kill()

    def publish(self, records: Iterable[tuple[bytes | None, bytes | None]]) -> int:
        """Publish (key, value) as they are; return how many."""
        producer = KafkaProducer(
            bootstrap_servers=self.config.bootstrap_servers, max_request_size=MAX_RECORD_BYTES, linger_ms=5
        )
        sent = [producer.send(self.config.input_topic, key=key, value=value) for key, value in records]
        producer.flush()
        for one in sent:
            one.get(timeout=PATIENCE_S)
        producer.close()
        return len(sent)

    def wait_until_processed(self) -> None:
        """Wait until the group has committed everything that is on the input topic."""
        consumer = KafkaConsumer(
            bootstrap_servers=self.config.bootstrap_servers,
            group_id=self.config.group,
            isolation_level="read_committed",
            enable_auto_commit=False,
        )
        # Not the end offsets: redriven events are published in transactions, whose markers take offsets.
        ends = {
            TopicPartition(record.topic, record.partition): record.offset + 1
            for record in self.read(self.config.input_topic)
        }
        try:
            wait_for(
                lambda: all(consumer.committed(source) == end for source, end in ends.items()),
                f"{ends} to be committed",
            )
        finally:
            consumer.close()

    def read(self, topic: str) -> list[Any]:
        """Read all committed records of a topic, each partition's in order."""
        return read_committed(self.config, topic)

    def alerts(self) -> list[Alert]:
        """Return the alerts on the topic, each partition's in order."""
        return alerts_of(self.config)

    def replayed(self, models: Path, out: Path) -> Result:
        """Run `replay --models` over the input topic; the models that decided are in a folder."""
        flags = flags_of(replace(self.config, model="", rules=""))
        return CliRunner().invoke(main, ["replay", *flags, "--models", str(models), "--out", str(out)])

    def expected(self) -> tuple[list[Alert], list[DeadLetter]]:
        """Return what the oracle makes of the input topic."""
        model = load_model(resolve_model_path(self.config.model))
        processor = processor_of(model, self.config, rules=rules_of(self.config.rules, model))
        made = list(replay(batches_of_topic(self.config), processor))
        return alerts_in(made), [letter for one in made for letter in one.letters]


def alerts_in(processed: Iterable[Processed]) -> list[Alert]:
    """Return the alerts of what was processed, in order."""
    return [alert for one in processed for alert in one.outcome.alerts]


def without_clock(alerts: Iterable[Alert]) -> list[tuple[str, ...]]:
    """Make alerts comparable: sorted by session, each session's in order, without the detector's clock."""
    stripped = [(alert.session_id, str(msgspec.structs.replace(alert, detected_at_ms=0))) for alert in alerts]
    return sorted(stripped, key=lambda one: one[0])


def flags_of(config: DetectorConfig) -> list[str]:
    """Return the command-line flags that give a worker these settings."""
    flags = []
    for one in fields(config):
        value = getattr(config, one.name)
        if value != one.default and not isinstance(value, bool):
            for each in value if isinstance(value, tuple) else (value,):
                flags += [flag_of(one), str(each)]
    return flags


def read_committed(config: DetectorConfig, topic: str) -> list[Any]:
    """Read all committed records of a topic, each partition's in order."""
    consumer = Consumer(
        bootstrap_servers=config.bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        max_partition_fetch_bytes=MAX_RECORD_BYTES,
    )
    sources = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
    consumer.assign(sources)
    consumer.seek_to_beginning(*sources)
    ends = consumer.end_offsets(sources)
    records: list[Any] = []

    def complete() -> bool:
        for polled in consumer.poll(timeout_ms=200).values():
            records.extend(polled)
        return all(consumer.position(source) >= end for source, end in ends.items())

    try:
        wait_for(complete, f"the end of {topic}")
    finally:
        consumer.close()
    return records


def alerts_of(config: DetectorConfig, topic: str = "") -> list[Alert]:
    """Return the alerts on the topic, each partition's in order."""
    return [decode_alert(record.value) for record in read_committed(config, topic or config.alerts_topic)]
