"""How long live sessions and accounts take to come back, what they weigh in the process, and what snapshots cost a batch.

The state log is filled with sessions (ids of 32 characters) by the detector's own writer; a worker then restores it.
They have as many actions as those of the `realistic` preset, or a full window each, the packaged model's. Accounts have
profiles of customers who lived for a month, and are beside windows of the model that reads them. The log is
as short as it can be, one snapshot, or as long as it gets: batches of 2,000 sessions drawn at random are written until
a second snapshot is about to be whole. Meanwhile the time is taken that encoding a batch's state takes, with and
without a slice beside it. Memory is the process's resident size beside that of a worker without sessions.
"""

import itertools
import random
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import psutil
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.results import Result, Row
from benchmarks.studies.accounts import profiles
from broker import EmbeddedBroker
from detector.core.encoding import Encoding
from detector.core.partition import Delta, Partition
from detector.core.session import EVENT_HASH_BYTES, head, pack, profile_key, with_touched_ms
from detector.core.signals import Signals
from detector.model.artifact import load_model, resolve_model_path
from detector.runtime.config import DetectorConfig
from detector.runtime.state_writer import StateWriter
from detector.runtime.topics import ensure_topics
from producer.behaviour import realistic
from trainer.data.declared import DEFAULT_SIGNALS

METRICS_PORT = 19_108
PATIENCE_S = 300.0
_LIVE = {"detector_live_sessions", "detector_live_accounts"}
_BATCH_EVENTS = 2_000


def realistic_lengths() -> list[int]:
    """Return the numbers of actions of some sessions of the `realistic` preset."""
    return [len(session.actions) for session in realistic.sessions(5_000, 1)]


class Filled(NamedTuple):
    """What was written: bytes of all logs, and seconds that encoding each batch took, with a slice and without."""

    log_bytes: int
    with_slice_s: list[float]
    without_s: list[float]


@cache
def lived_profiles() -> list[bytes]:
    """Return the profiles of some accounts."""
    return list(profiles(30, 300, Signals(DEFAULT_SIGNALS)))


def touched_profile(number: int, now_ms: int) -> bytes:
    """Return one of them, touched now."""
    some = lived_profiles()
    return with_touched_ms(some[number % len(some)], now_ms)


def partition_of(sessions: int, lengths: Sequence[int], encoding: Encoding, accounts: int = 0) -> Partition:
    """Return a partition with so many live sessions of these lengths in turn, full windows by default, and accounts."""
    actions = itertools.cycle([min(length, encoding.window) for length in lengths] or [encoding.window])
    partition = Partition()
    partition.stream_time_ms = time.time_ns() // 1_000_000
    for _ in range(sessions):
        partition.sessions[secrets.token_hex(16)] = packed(partition.stream_time_ms, next(actions), encoding)
    for number in range(accounts):
        key = profile_key(secrets.token_hex(16))
        partition.profiles[key] = touched_profile(number, partition.stream_time_ms)
    return partition


def packed(now_ms: int, actions: int, encoding: Encoding) -> bytes:
    """Return a session of so many actions, the last one now."""
    steps = encoding.steps(["LOGIN", *["VIEW_BALANCE"] * (actions - 1)])
    return pack(now_ms, now_ms, actions, 0, steps, secrets.token_bytes(EVENT_HASH_BYTES * actions))


def batches(
    partition: Partition, config: DetectorConfig, encoding: Encoding
) -> Iterator[tuple[list[bytes], float, bool]]:
    """Yield what each batch on a partition writes until a second snapshot is about to be whole.

    Yields:
        its records, the seconds that encoding them took, and whether there was a slice among them.
    """
    draw = random.Random(1)  # noqa: S311  a benchmark draws the same each time
    writer = StateWriter(
        config.snapshot_ratio, config.snapshot_min_bytes, encoding.fingerprint, partition, None
    )
    ids = list(partition.sessions)
    accounts = list(partition.profiles)
    lengths = {one: head(packed)[2] for one, packed in partition.sessions.items()}
    for number in itertools.count(1):
        now_ms = partition.stream_time_ms + 1
        touched = {
            one: packed(now_ms, lengths[one], encoding)
            for one in draw.sample(ids, min(len(ids), _BATCH_EVENTS))
        }
        met = {
            one: touched_profile(at, now_ms)
            for at, one in enumerate(draw.sample(accounts, min(len(accounts), _BATCH_EVENTS)))
        }
        delta = Delta(number, now_ms, [], touched, profiles=met)
        began_s = time.perf_counter()
        values = writer.values(partition, delta)
        taken_s = time.perf_counter() - began_s
        if writer.committed(range(1, 1 + sum(map(len, values)))) is not None and number > 1:
            return
        partition.apply(delta)
        yield [*values[0], *values[1]], taken_s, bool(values[0])


def fill(
    config: DetectorConfig,
    sessions: int,
    lengths: Sequence[int] = (),
    *,
    longest: bool = False,
    accounts: int = 0,
) -> Filled:
    """Write logs of `sessions` live sessions and `accounts` together, each as short or as long as it may be.

    Returns:
        what was written.
    """
    encoding = load_model(resolve_model_path(config.model)).encoding
    admin = KafkaAdminClient(bootstrap_servers=config.bootstrap_servers)
    ensure_topics(admin, config)
    admin.close()
    producer = KafkaProducer(bootstrap_servers=config.bootstrap_servers, max_request_size=4 * 1024 * 1024)
    filled, offsets = Filled(0, [], []), {}
    for number in range(config.partitions):
        share = accounts // config.partitions
        partition = partition_of(sessions // config.partitions, lengths, encoding, share)
        written = batches(partition, config, encoding)
        for values, taken_s, sliced in written if longest else itertools.islice(written, 1):
            producer.send(config.input_topic, b"{}", partition=number)  # for the group to have read
            for value in values:
                producer.send(config.state_topic, value, partition=number)
            filled = filled._replace(log_bytes=filled.log_bytes + sum(map(len, values)))
            if partition.next_offset > 1:
                (filled.with_slice_s if sliced else filled.without_s).append(taken_s)
        producer.flush()
        offsets[TopicPartition(config.input_topic, number)] = OffsetAndMetadata(partition.next_offset)
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=config.bootstrap_servers, group_id=config.group)
    consumer.commit(offsets)
    consumer.close()
    return filled


def measure(config: DetectorConfig, folder: Path, held: int) -> tuple[float, float, int]:
    """Start a worker; return the seconds it restored for, from start to ready, and its resident size in bytes.

    Raises:
        SystemExit: it ended, was not ready in time, or has not `held` sessions and accounts together.
    """
    flags = [
        "--bootstrap-servers",
        config.bootstrap_servers,
        "--group",
        config.group,
        "--input-topic",
        config.input_topic,
        "--model",
        config.model,
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
        live = sum(one.value for one in samples if one.name in _LIVE)
        if live != held:
            raise SystemExit(
                f"{config.group}: {live:,.0f} sessions and accounts came back: expected {held:,}"
            )
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


def run(repetitions: int, sessions: int) -> list[Result]:
    """Measure realistic lengths and full windows, each with the shortest log and the longest, and accounts beside them."""
    accounts = 2 * sessions
    kinds = {
        "realistic lengths, shortest log": (False, realistic_lengths(), 0),
        "realistic lengths, longest log": (True, realistic_lengths(), 0),
        "full windows, shortest log": (False, (), 0),
        "full windows, longest log": (True, (), 0),
        f"realistic lengths, longest log, {accounts:,} accounts": (True, realistic_lengths(), accounts),
    }
    rows: dict[tuple[str, str], list[float]] = {}
    with EmbeddedBroker() as broker, tempfile.TemporaryDirectory() as name:
        configs = [
            DetectorConfig(
                bootstrap_servers=broker.bootstrap_servers,
                group=f"r-{at}",
                input_topic=f"r-{at}-in",
                partitions=1,
                model="history" if held else "default",
            )
            for at, (_, _, held) in enumerate(kinds.values())
        ]
        empty = {
            one.model: replace(one, group=f"r-{one.model}", input_topic=f"r-{one.model}-in")
            for one in configs
        }
        for config in empty.values():
            fill(config, 0)
        for (kind, (longest, lengths, held)), config in zip(kinds.items(), configs, strict=True):
            filled = fill(config, sessions, lengths, longest=longest, accounts=held)
            rows[f"{kind}, log", "MiB"] = [filled.log_bytes / 2**20]
            for which, times_s in (("with a slice", filled.with_slice_s), ("without", filled.without_s)):
                if times_s:
                    rows[f"{kind}, state of a batch encoded, {which}, longest", "ms"] = [max(times_s) * 1_000]
        for _ in range(repetitions):
            without = {model: measure(config, Path(name), 0)[2] for model, config in empty.items()}
            for (kind, (_, _, held)), config in zip(kinds.items(), configs, strict=True):
                restored_s, ready_s, resident = measure(config, Path(name), sessions + held)
                for what, unit, value in (
                    ("restored", "s", restored_s),
                    ("start to ready", "s", ready_s),
                    (
                        "memory",
                        "bytes a session or account",
                        (resident - without[config.model]) / (sessions + held),
                    ),
                ):
                    rows.setdefault((f"{kind}, {what}", unit), []).append(value)
    how = (
        f"A worker restores {sessions:,} live sessions of one partition from its state log, as short as it can be (one snapshot) "
        f"or as long as it gets (until a second one is about to be whole); {repetitions} repetitions in turns. Memory is the "
        "process's resident size beside that of a worker of the same model without any. A batch's state is that of 2,000 "
        "sessions, and of 2,000 accounts where there are any."
    )
    targets = {f"{kind}, restored": 15.0 if held else 3.0 for kind, (_, _, held) in kinds.items()}
    targets |= {name: 200.0 for name, unit in rows if unit == "ms"}
    measured = [Row(name, unit, values) for (name, unit), values in rows.items()]
    return [Result("restore", "Restoring live sessions", how, measured, [], targets)]
