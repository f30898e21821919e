"""How long partitions stand still when they change hands between live workers under load.

One worker stays; a second joins and leaves in turn. Every committed batch leaves a record with its time in the
partition's state log, so the gap of a hand-over is the longest time between two of a partition's records while it
lasts. Load goes on throughout and reaches every partition many times a second.
"""

import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from benchmarks.restore import fill
from benchmarks.results import Result, Row
from broker import EmbeddedBroker
from detector.contract.events import SessionEvent, encode_event
from detector.runtime.config import DetectorConfig

SETTLE_S = 8.0


def load(config: DetectorConfig, events_per_s: float, stop: threading.Event) -> None:
    """Publish events of ever new sessions, evenly over time."""
    producer = KafkaProducer(bootstrap_servers=config.bootstrap_servers, linger_ms=5)
    count, began_s = 0, time.monotonic()
    while not stop.is_set():
        due = int((time.monotonic() - began_s) * events_per_s)
        for number in range(count, due):
            event = SessionEvent(
                event_id=str(number),
                session_id=f"load-{number // 5}",
                account_id=f"load-{number // 5}",
                action="VIEW_BALANCE",
                occurred_at_ms=time.time_ns() // 1_000_000,
            )
            producer.send(config.input_topic, encode_event(event), key=event.account_id.encode())
        count = due
        time.sleep(0.005)
    producer.close()


def worker(config: DetectorConfig, log: Path) -> subprocess.Popen[bytes]:
    """Start a worker."""
    flags = [
        "--bootstrap-servers",
        config.bootstrap_servers,
        "--group",
        config.group,
        "--input-topic",
        config.input_topic,
    ]
    keep_all = ["--snapshot-min-bytes", str(2**40), "--metrics-port", "-1"]
    with log.open("ab") as output:
        return subprocess.Popen([sys.executable, "-m", "detector", "run", *flags, *keep_all], stderr=output)


def commit_times_ms(config: DetectorConfig) -> list[list[int]]:
    """Return the times of the committed batches of each partition."""
    consumer = KafkaConsumer(bootstrap_servers=config.bootstrap_servers, isolation_level="read_committed")
    sources = [TopicPartition(config.state_topic, number) for number in range(config.partitions)]
    consumer.assign(sources)
    consumer.seek_to_beginning(*sources)
    ends = consumer.end_offsets(sources)
    times: list[list[int]] = [[] for _ in sources]
    while any(consumer.position(source) < ends[source] for source in sources):
        for source, records in consumer.poll(timeout_ms=200).items():
            times[source.partition] += [record.timestamp for record in records]
    consumer.close()
    return times


def run(handovers: int, events_per_s: float, sessions: int) -> list[Result]:
    """Measure the gaps of joins and leaves in turn."""
    windows: list[tuple[str, int, int]] = []
    with EmbeddedBroker() as broker, tempfile.TemporaryDirectory() as name:
        config = DetectorConfig(
            bootstrap_servers=broker.bootstrap_servers, group="handover", input_topic="handover-in"
        )
        fill(config, sessions)
        stop = threading.Event()
        loading = threading.Thread(target=load, args=(config, events_per_s, stop))
        steady = worker(config, Path(name) / "steady.log")
        loading.start()
        time.sleep(SETTLE_S)
        second = None
        for _ in range(handovers):
            kind, begin_ms = ("join" if second is None else "leave"), time.time_ns() // 1_000_000
            if second is None:
                second = worker(config, Path(name) / "second.log")
            else:
                second.terminate()
                second.wait(30)
                second = None
            time.sleep(SETTLE_S)
            windows.append((kind, begin_ms, time.time_ns() // 1_000_000))
        stop.set()
        loading.join()
        for process in (steady, second):
            if process is not None:
                process.terminate()
                process.wait(30)
        times = commit_times_ms(config)
    rows, targets = [], {}
    for kind in ("join", "leave"):
        gaps = [
            max(np.diff([at for at in partition if begin_ms <= at <= end_ms]), default=end_ms - begin_ms)
            for one, begin_ms, end_ms in windows
            if one == kind
            for partition in times
        ]
        for which, value in zip(
            ("p50", "p99", "longest"), np.percentile(gaps, [50, 99, 100]).tolist(), strict=True
        ):
            rows.append(Row(f"{kind}, {which} of {len(gaps)} gaps", "ms", [value]))
        targets[f"{kind}, p99 of {len(gaps)} gaps"] = 1_000.0
    how = (
        f"One worker stays, a second joins and leaves in turn, {handovers} hand-overs, under {events_per_s:,.0f} events/s with "
        f"{sessions:,} live sessions in {config.partitions} partitions: the longest time between two committed batches of a partition while it lasts."
    )
    return [Result("handover", "Hand-over between workers", how, rows, [], targets)]
