"""How long a million live sessions take to come back, and what they weigh in the process.

    PYTHONPATH=. python benchmarks/restore.py [SESSIONS] [REPETITIONS]

The state log is filled with sessions (ids of 32 characters), written with the detector's own codec; a worker then
restores it. They have as many actions as those of the `realistic` preset, or a full window each, the packaged
model's. Memory is the process's resident size beside that of a worker without sessions, in the same run.
"""

import itertools
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import psutil
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from broker import EmbeddedBroker
from detector.core.encoding import STEP_BYTES
from detector.core.partition import Partition
from detector.core.session import EVENT_HASH_BYTES, Session, pack
from detector.model.artifact import default_model_path, load_model
from detector.runtime.config import DetectorConfig
from detector.runtime.state_log import encode_snapshot
from detector.runtime.topics import ensure_topics
from producer.behaviour import realistic

METRICS_PORT = 19_108
PATIENCE_S = 300.0


def realistic_lengths() -> list[int]:
    """Return the numbers of actions of some sessions of the `realistic` preset."""
    return [len(session.actions) for session in realistic.sessions(5_000, 1)]


def fill(config: DetectorConfig, sessions: int, lengths: Sequence[int] = ()) -> int:
    """Write a snapshot of `sessions` live sessions of these lengths in turn, full windows by default.

    Returns:
        its size in bytes.
    """
    encoding = load_model(default_model_path()).encoding
    actions = itertools.cycle([min(length, encoding.window) for length in lengths] or [encoding.window])
    now_ms = time.time_ns() // 1_000_000
    steps = encoding.steps(["LOGIN", *["VIEW_BALANCE"] * (encoding.window - 1)])
    admin = KafkaAdminClient(bootstrap_servers=config.bootstrap_servers)
    ensure_topics(admin, config)
    admin.close()
    producer = KafkaProducer(bootstrap_servers=config.bootstrap_servers, max_request_size=4 * 1024 * 1024)
    written = 0
    for number in range(config.partitions):
        partition = Partition()
        partition.stream_time_ms = now_ms
        for _ in range(sessions // config.partitions):
            count = next(actions)
            hashes = secrets.token_bytes(EVENT_HASH_BYTES * count)
            packed = pack(Session(now_ms, now_ms, count, 0, False, steps[: count * STEP_BYTES], hashes))  # noqa: FBT003
            partition.sessions[secrets.token_hex(16)] = packed
        for value in encode_snapshot(partition, encoding.fingerprint):
            producer.send(config.state_topic, value, partition=number)
            written += len(value)
        producer.flush()
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=config.bootstrap_servers, group_id=config.group)
    consumer.commit(
        {TopicPartition(config.input_topic, n): OffsetAndMetadata(0) for n in range(config.partitions)}
    )
    consumer.close()
    return written


def measure(config: DetectorConfig, folder: Path) -> tuple[float, float, int]:
    """Start a worker; return the seconds it restored for, from start to ready, and its resident size in bytes."""
    flags = [
        "--bootstrap-servers",
        config.bootstrap_servers,
        "--group",
        config.group,
        "--input-topic",
        config.input_topic,
    ]
    began_s = time.monotonic()
    with (folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "detector", "run", *flags, "--metrics-port", str(METRICS_PORT)], stderr=log
        )
    try:
        while not ready():
            if worker.poll() is not None or time.monotonic() - began_s > PATIENCE_S:
                raise SystemExit((folder / "worker.log").read_text())
            time.sleep(0.02)
        ready_s = time.monotonic() - began_s
        url = f"http://127.0.0.1:{METRICS_PORT}/metrics"
        text = urllib.request.urlopen(url, timeout=10).read().decode()
        samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
        restored_s = sum(one.value for one in samples if one.name == "detector_restore_seconds_sum")
        return restored_s, ready_s, psutil.Process(worker.pid).memory_info().rss
    finally:
        worker.terminate()
        worker.wait(30)


def ready() -> bool:
    """Ask the worker."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/readyz", timeout=5).close()
    except OSError:
        return False
    return True


def main() -> None:
    """Measure and print the table."""
    sessions = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    repetitions = int(sys.argv[2]) if len(sys.argv) > 2 else 3  # noqa: PLR2004
    with EmbeddedBroker() as broker, tempfile.TemporaryDirectory() as name:
        usual, full, empty = (
            DetectorConfig(bootstrap_servers=broker.bootstrap_servers, group=group, input_topic=f"{group}-in")
            for group in ("usual", "full", "empty")
        )
        written = {
            "realistic lengths": fill(usual, sessions, realistic_lengths()),
            "full windows": fill(full, sessions),
        }
        fill(empty, 0)
        table = Table(
            "run",
            "sessions",
            "restored in",
            "start to ready",
            "resident",
            "bytes a session",
            title=f"{sessions:,} live sessions",
        )
        for run in range(repetitions):
            _, _, without = measure(empty, Path(name))
            for kind, config in zip(written, (usual, full), strict=True):
                restored_s, ready_s, resident = measure(config, Path(name))
                table.add_row(
                    str(run + 1), kind, f"{restored_s:.2f} s", f"{ready_s:.2f} s", f"{resident / 2**20:,.0f} MiB",
                    f"{(resident - without) / sessions:.0f}",
                )  # fmt: skip
        Console(width=100).print(table)
        for kind, size in written.items():
            Console(width=100).print(f"state log, {kind}: {size / sessions:.0f} bytes a session")


if __name__ == "__main__":
    main()
