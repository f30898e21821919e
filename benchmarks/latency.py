"""From the intended time of an event to its alert in the hands of a read_committed subscriber, at fixed rates.

The load is open: an event that is sent late still counts from the moment it was due, so that a stalled service can't
hide its stall by holding the load back (coordinated omission).
"""

import math
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.results import Ratio, Result, Row, quotients
from broker import EmbeddedBroker
from detector.contract.events import SessionEvent, encode_event
from detector.model.artifact import PACKAGED_MODELS
from detector.runtime.config import DetectorConfig
from detector.runtime.topics import ensure_topics

RATES = (500, 5_000, 20_000)
COMPARED_RATES = (500, 5_000)
BATCHES = (100, 2_000, 5_000)
BATCH_RATE = 5_000
_ALERTS_PER_S = 50
_ATTACK = ("LOGIN", "CHANGE_PASSWORD", "ADD_RECIPIENT", "TRANSFER_LARGE")
_WARM_UP_S = 2.0
_DRAIN_S = 10.0


class _Alert(msgspec.Struct):
    event_id: str
    received_at_ms: int
    detected_at_ms: int


class _Seen(NamedTuple):
    """An alert in the hands of the subscriber: when, and its event's age on the broker, then and at the decision."""

    at_s: float
    age_ms: float
    decided_age_ms: float


def _subscribe(
    config: DetectorConfig, seen: dict[str, _Seen], stop: threading.Event, ready: threading.Event
) -> None:
    decode = msgspec.json.Decoder(_Alert).decode
    consumer = KafkaConsumer(
        bootstrap_servers=config.bootstrap_servers, isolation_level="read_committed", fetch_max_wait_ms=50
    )
    sources = [TopicPartition(config.alerts_topic, number) for number in range(config.partitions)]
    consumer.assign(sources)
    consumer.seek_to_beginning()
    for source in sources:
        consumer.position(source)
    ready.set()
    while not stop.is_set():
        for records in consumer.poll(timeout_ms=100).values():
            now_s, now_ms = time.monotonic(), time.time_ns() / 1e6
            for alert in (decode(record.value) for record in records):
                ages_ms = now_ms - alert.received_at_ms, float(alert.detected_at_ms - alert.received_at_ms)
                seen.setdefault(alert.event_id, _Seen(now_s, *ages_ms))
    consumer.close()


def _publish(config: DetectorConfig, rate: int, seconds: float) -> tuple[dict[str, float], float]:
    """Publish at a fixed rate; return each event's intended time, and the seconds the generator ended late."""
    producer = KafkaProducer(bootstrap_servers=config.bootstrap_servers, linger_ms=1)
    due_s: dict[str, float] = {}
    attack_every = max(len(_ATTACK), rate // _ALERTS_PER_S)
    began_s, total = time.monotonic() + 0.05, int(rate * seconds)
    index = 0
    while index < total:
        now_s = time.monotonic()
        until = min(total, int((now_s - began_s) * rate) + 1)
        if index >= until:
            time.sleep(max(0.0, min(0.002, began_s + index / rate - now_s)))
            continue
        occurred_at_ms = time.time_ns() // 1_000_000
        for number in range(index, until):
            attack, place = divmod(number, attack_every)
            if place < len(_ATTACK):
                session_id, action = f"attack-{attack}", _ATTACK[place]
            else:
                session_id, action = f"calm-{number // 100}-{number % 10}", "VIEW_BALANCE"
            event = SessionEvent(
                event_id=str(number),
                session_id=session_id,
                account_id=session_id,
                action=action,
                occurred_at_ms=occurred_at_ms,
            )
            due_s[event.event_id] = began_s + number / rate
            producer.send(config.input_topic, encode_event(event), key=session_id.encode())
        index = until
    late_s = time.monotonic() - (began_s + total / rate)
    producer.flush()
    producer.close()
    return due_s, late_s


def measure(servers: str, model: str, rate: int, batch_events: int, seconds: float) -> dict[str, float]:
    """Run one worker under one load; return percentiles in ms, ages in turns of the loop, and how late the load was."""
    name = uuid.uuid4().hex[:8]
    config = DetectorConfig(
        bootstrap_servers=servers,
        group=f"l-{name}",
        input_topic=f"in-{name}",
        alerts_topic=f"out-{name}",
        partitions=2,
    )
    admin = KafkaAdminClient(bootstrap_servers=servers)
    ensure_topics(admin, config)
    admin.close()
    seen: dict[str, _Seen] = {}
    stop, ready = threading.Event(), threading.Event()
    flags = {
        "--bootstrap-servers": servers,
        "--group": config.group,
        "--input-topic": config.input_topic,
        "--alerts-topic": config.alerts_topic,
        "--batch-max-events": str(batch_events),
        "--model": model,
        "--metrics-port": "0",
    }
    command = [sys.executable, "-m", "detector", "run", *(word for pair in flags.items() for word in pair)]
    with tempfile.NamedTemporaryFile() as log:
        worker = subprocess.Popen(command, stderr=log, stdout=log, env=os.environ)
        subscriber = threading.Thread(target=_subscribe, args=(config, seen, stop, ready), daemon=True)
        subscriber.start()
        try:
            ready.wait(30)
            _warm_up(config, worker, seen)
            seen.clear()
            before, began_s = _turns(Path(log.name)), time.monotonic()
            due_s, late_s = _publish(config, rate, seconds)
            turn_ms = (time.monotonic() - began_s) * 1_000 / (_turns(Path(log.name)) - before)
            _drain(seen)
        finally:
            stop.set()
            worker.terminate()
            worker.wait(60)
            subscriber.join(10)
    of_load = {event_id: one for event_id, one in seen.items() if event_id in due_s}
    taken_ms = [(one.at_s - due_s[event_id]) * 1_000 for event_id, one in of_load.items()]
    if len(taken_ms) < _ALERTS_PER_S * seconds / 2:
        raise RuntimeError(
            f"{len(taken_ms)} alerts at {rate} events/s: expected about {_ALERTS_PER_S * seconds:.0f}"
        )
    p50, p99, p999 = np.percentile(taken_ms, [50, 99, 99.9]).tolist()
    return {
        "p50": p50,
        "p99": p99,
        "p99.9": p999,
        "generator late": max(0.0, late_s * 1_000),
        "turn": turn_ms,
        "turns to the decision": float(np.median([one.decided_age_ms for one in of_load.values()])) / turn_ms,
        "turns to the alert": float(np.median([one.age_ms for one in of_load.values()])) / turn_ms,
    }


def _turns(log: Path) -> float:
    """Return how many batches the worker has committed, from its metrics, whose address is in its log."""
    address = log.read_text().partition("metrics on ")[2].partition("/metrics")[0]
    with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:  # noqa: S310  our own worker
        families = text_string_to_metric_families(answer.read().decode())
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == "detector_stage_seconds_count" and sample.labels["stage"] == "commit"
        )


def _warm_up(config: DetectorConfig, worker: "subprocess.Popen[bytes]", seen: dict[str, _Seen]) -> None:
    """Send attacks until the first alert arrives, then let the worker settle."""
    producer, deadline_s = KafkaProducer(bootstrap_servers=config.bootstrap_servers), time.monotonic() + 60
    while not seen:
        if worker.poll() is not None or time.monotonic() > deadline_s:
            raise RuntimeError(
                "the worker gave no alert in 60 s: expected one for an attack; see its configuration"
            )
        name = uuid.uuid4().hex
        for number, action in enumerate(_ATTACK):
            event = SessionEvent(
                event_id=f"{name}-{number}",
                session_id=name,
                account_id=name,
                action=action,
                occurred_at_ms=time.time_ns() // 1_000_000,
            )
            producer.send(config.input_topic, encode_event(event), key=name.encode())
        producer.flush()
        time.sleep(0.2)
    producer.close()
    time.sleep(_WARM_UP_S)


def _drain(seen: dict[str, _Seen]) -> None:
    """Wait until no further alert arrives."""
    deadline_s, before = time.monotonic() + 60, -1
    while time.monotonic() < deadline_s and (count := len(seen)) != before:
        before = count
        time.sleep(_DRAIN_S / 5)


def run(repetitions: int, seconds: float) -> list[Result]:
    """Measure each model at each rate, and batch sizes at one of them."""
    cases = {
        f"{model} model, {rate:,} events/s": (model, rate, 2_000)
        for model in PACKAGED_MODELS
        for rate in RATES
    }
    cases |= {
        f"seed model, {BATCH_RATE:,} events/s, batches of at most {size:,}": ("seed", BATCH_RATE, size)
        for size in BATCHES
        if size != 2_000  # noqa: PLR2004  measured above
    }
    runs: dict[str, list[dict[str, float]]] = {case: [] for case in cases}
    with EmbeddedBroker() as broker:
        for _ in range(repetitions):
            for case, (model, rate, size) in cases.items():
                runs[case].append(measure(broker.bootstrap_servers, model, rate, size, seconds))
    figures = {
        f"{case}, {which}": [one[which] for one in measured]
        for case, measured in runs.items()
        for which in runs[case][0]
    }
    rows = [Row(name, "turns" if ", turns" in name else "ms", values) for name, values in figures.items()]
    slow, base = f"seed model, {BATCH_RATE:,} events/s", f"seed model, {RATES[0]:,} events/s"
    ratios = [
        Ratio(
            f"{which}: {BATCH_RATE:,} by {RATES[0]:,} events/s, seed model",
            quotients(figures[f"{slow}, {which}"], figures[f"{base}, {which}"]),
            None,
            lower_is_better=True,
        )
        for which in ("p50", "p99")
        if all(math.isfinite(one) for one in figures[f"{base}, {which}"])
    ]
    ratios += [
        Ratio(
            f"p99 of the {model} by the seed model, {rate:,} events/s",
            quotients(
                figures[f"{model} model, {rate:,} events/s, p99"],
                figures[f"seed model, {rate:,} events/s, p99"],
            ),
            1.2,
            lower_is_better=True,
        )
        for model in ("default", "history")
        for rate in COMPARED_RATES
    ]
    ratios += [
        Ratio(
            f"turns of the loop to an alert at the median, {model} model, {rate:,} events/s",
            figures[f"{model} model, {rate:,} events/s, turns to the alert"],
            1.6,
            lower_is_better=True,
        )
        for model in PACKAGED_MODELS
        for rate in COMPARED_RATES
    ]
    targets = {}
    for model in PACKAGED_MODELS:
        targets[f"{model} model, {BATCH_RATE:,} events/s, p50"] = 20.0
        targets[f"{model} model, {BATCH_RATE:,} events/s, p99"] = 45.0
    how = (
        f"Open load for {seconds:.0f} s on 2 partitions, {_ALERTS_PER_S} attacks a second in it; from the intended send "
        "time to the alert read by a read_committed subscriber. Worker, broker, load generator and subscriber share 2 "
        f"cores; {repetitions} repetitions in turns. 'Generator late' is how far the load itself was behind at its end: "
        "where it is large, the machine could not produce the rate. "
        "A turn is the time by the batches committed in it; turns to the decision and to the alert are the median age of an "
        "alert's event on the broker, when it was decided and when the subscriber had its alert, by that. An event that "
        "arrives at any moment of a turn and is decided in the next has an age of 1.5 turns. "
        f"A run has about {_ALERTS_PER_S * seconds:.0f} alerts: of so few, p99.9 is all but the longest."
    )
    return [Result("latency", "Latency, event to alert", how, rows, ratios, targets)]
