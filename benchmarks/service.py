"""The whole service on the real broker beside a loop that does nothing, and beside others that do the same work."""

import gc
import itertools
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from kafka import KafkaAdminClient, KafkaProducer

from benchmarks.results import Ratio, Result, Row, quotients, repeated
from broker import EmbeddedBroker
from detector.contract.events import SessionAction, encode_event
from detector.contract.verdicts import Finding, Verdict, encode_verdict
from detector.model.artifact import PLAIN_MODELS, Model, load_model, packaged_model_path
from detector.model.rules import Rules
from detector.runtime.config import DetectorConfig
from detector.runtime.garbage import relax_garbage_collection
from detector.runtime.health import Heartbeat
from detector.runtime.membership import Membership
from detector.runtime.metrics import DetectorMetrics
from detector.runtime.service import Detector
from detector.runtime.state_writer import StateWriter
from detector.runtime.topics import ensure_topics
from detector.runtime.transaction import Transactor
from producer.behaviour import seed
from producer.behaviour.interleave import interleave, schedule
from producer.behaviour.lives import stream as lives
from producer.behaviour.lives.hours import DAY_MS
from producer.behaviour.session import stream

INPUT = "benchmark-actions"
LIVES = "benchmark-lives"
BATCHES = (500, 2_000, 5_000)
PEER_BATCH = 2_000
LIVE_SESSIONS = 5_000
CUSTOMERS = 2_000
BARE_LIVES = f"bare loop on lives, batches of {PEER_BATCH:,}"
ON_LIVES = ("default", "history")
COLLECTING = f"default model, batches of {PEER_BATCH:,}, Python's own garbage collection"
STATELESS = f"default model, batches of {PEER_BATCH:,}, sessions not written"
QUIX_BATCHES = f"Quix Streams, a checkpoint every {PEER_BATCH:,} events"
QUIX_DEFAULT = "Quix Streams, a checkpoint every 5 s (its default)"
_PATIENCE_S = 120.0
_PARTITIONS = 4
_UNTOUCHED = gc.get_threshold()
_PEERS = Path(__file__).parent / "peers"


class Reading(NamedTuple):
    """A topic read: events a second, from the first batch to the last, and what each event cost by stage of the loop."""

    events_per_s: float
    stages_us: Mapping[str, float]


def config_of(
    bootstrap_servers: str, batch_events: int, input_topic: str = INPUT, partitions: int = _PARTITIONS
) -> DetectorConfig:
    """Return settings with a group, and so a state log, of its own."""
    return DetectorConfig(
        bootstrap_servers=bootstrap_servers,
        group=f"b-{uuid.uuid4().hex[:8]}",
        input_topic=input_topic,
        partitions=partitions,
        batch_max_events=batch_events,
        metrics_port=-1,
    )


def publish(
    bootstrap_servers: str, events: int, input_topic: str = INPUT, partitions: int = _PARTITIONS
) -> int:
    """Publish about so many events of sessions simulated with a fixed seed; return how many."""
    start_ms = time.time_ns() // 1_000_000 - 3_600_000
    simulated = seed.sessions(max(1, events // 5), 1)
    scheduled = schedule(simulated, live_sessions=LIVE_SESSIONS, rng=stream(1, "schedule"))
    return _publish(bootstrap_servers, interleave(scheduled, start_ms=start_ms), input_topic, partitions)


def publish_lives(
    bootstrap_servers: str, events: int, input_topic: str = LIVES, verdict_every: int = 0
) -> int:
    """Publish so many events of lives, with their attributes, and a verdict after each so many; return how many events."""
    days = 1 + events // CUSTOMERS
    start_ms = time.time_ns() // 1_000_000 // DAY_MS * DAY_MS - days * DAY_MS
    lived = interleave(
        lives.sessions(days=days, customers=CUSTOMERS, seed=1, start_ms=start_ms), start_ms=start_ms
    )
    return _publish(
        bootstrap_servers, itertools.islice(lived, events), input_topic, _PARTITIONS, verdict_every
    )


def _publish(
    bootstrap_servers: str,
    events: Iterator[SessionAction],
    input_topic: str,
    partitions: int,
    verdict_every: int = 0,
) -> int:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
    ensure_topics(admin, config_of(bootstrap_servers, 1, input_topic, partitions))
    admin.close()
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers, linger_ms=20, batch_size=256 * 1024)
    count = 0
    for count, event in enumerate(events, start=1):
        producer.send(input_topic, encode_event(event), key=event.account_id.encode())
        if verdict_every and count % verdict_every == 0:
            for partition in range(partitions):  # as `relay-verdicts` does
                producer.send(
                    input_topic, _verdict_of(event, count), event.account_id.encode(), None, partition
                )
        if count % 20_000 == 0:
            producer.flush()
    producer.flush()
    producer.close()
    return count


def _verdict_of(event: SessionAction, number: int) -> bytes:
    """Return a verdict on an event's session, every other one of fraud."""
    verdict = Verdict(
        verdict_id=str(number),
        account_id=event.account_id,
        session_id=event.session_id,
        verdict=Finding.FRAUD if number % 2 else Finding.LAWFUL,
        by="benchmark",
        decided_at_ms=event.occurred_at_ms,
    )
    return encode_verdict(verdict)


def detector(
    bootstrap_servers: str,
    model: str | Model,
    batch_events: int,
    events: int,
    *,
    input_topic: str = INPUT,
    relaxed: bool = True,
    stateful: bool = True,
    rules: Rules | None = None,
) -> Reading:
    """Read a topic from its start with one worker.

    `relaxed` is how the worker is shipped; without it Python's collector runs as it does by default (ADR 0013).
    What keeping the sessions in the transaction costs is told by a worker that doesn't, of which `stateful` is false.
    """
    gc.unfreeze()
    gc.set_threshold(*_UNTOUCHED)
    if relaxed:
        relax_garbage_collection()
    metrics, stop = DetectorMetrics(), threading.Event()
    config = config_of(bootstrap_servers, batch_events, input_topic)
    if rules:
        config = replace(config, rules="by text")  # so that there is a topic for what is told in shadow
    loaded = load_model(packaged_model_path(model)) if isinstance(model, str) else model
    worker = Detector(config, loaded, metrics, Heartbeat(), rules=rules)
    thread = threading.Thread(target=worker.run, args=(stop,))

    def scored() -> float:
        value = metrics.registry.get_sample_value("detector_events_total", {"outcome": "scored"})
        return value or 0.0

    def spent_s() -> dict[str, float]:
        samples = (sample for family in metrics.stage_seconds.collect() for sample in family.samples)
        return {one.labels["stage"]: one.value for one in samples if one.name.endswith("_sum")}

    deadline_s = time.monotonic() + _PATIENCE_S
    with nullcontext() if stateful else patch.object(StateWriter, "values", lambda *_: ([], [])):
        thread.start()
        try:
            while not (first := scored()):
                _wait(deadline_s)
            began_s, before_s = time.monotonic(), spent_s()
            while (seen := scored()) < events:
                _wait(deadline_s)
            took_s, counted = time.monotonic() - began_s, seen - first
            each_us = {one: (s - before_s.get(one, 0.0)) / counted * 1e6 for one, s in spent_s().items()}
            each_us["what no stage counts"] = took_s / counted * 1e6 - sum(each_us.values())
            return Reading(counted / took_s, each_us)
        finally:
            stop.set()
            thread.join()


def _wait(deadline_s: float) -> None:
    if time.monotonic() > deadline_s:
        raise TimeoutError(
            f"not every event was scored in {_PATIENCE_S:.0f} s: expected fewer events, or a free machine"
        )
    time.sleep(0.002)


def bare(bootstrap_servers: str, batch_events: int, events: int, input_topic: str = INPUT) -> Reading:
    """Poll and commit the offsets in a transaction, with the detector's own clients, and do nothing else."""
    config = config_of(bootstrap_servers, batch_events, input_topic)
    membership = Membership(config, config.group)
    deadline_s, read, began_s = time.monotonic() + _PATIENCE_S, 0, 0.0
    try:
        with Transactor(config, config.group) as transactor:
            while read < events:
                records = membership.poll()
                dropped, gained = membership.settle(set())
                if gained:
                    beginnings = membership.consumer.beginning_offsets(list(gained))
                    for source in gained - dropped:
                        membership.seek(source, beginnings[source])
                    continue
                if not records:
                    _wait(deadline_s)
                    continue
                positions = {source: part[-1].offset + 1 for source, part in records.items()}
                transactor.commit([], positions, membership.identity())
                count = sum(map(len, records.values()))
                if not read:
                    began_s, first = time.monotonic(), count
                read += count
            return Reading((read - first) / (time.monotonic() - began_s), {})
    finally:
        membership.close()


def peer(script: str, python: str, bootstrap_servers: str, events: int, *more: str) -> Reading:
    """Run another's program on the same topic; it prints events a second, from its first event to its last."""
    arguments = [
        bootstrap_servers,
        INPUT,
        f"p-{uuid.uuid4().hex[:8]}",
        str(events),
        str(packaged_model_path("seed")),
        *more,
    ]
    done = subprocess.run(
        [python, str(_PEERS / script), *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{script} ended with {done.returncode}: {done.stderr[-2_000:]}")
    return Reading(float(done.stdout.split()[-1]), {})


def run(repetitions: int, events: int, peers_python: str | None) -> list[Result]:
    """Measure both models at each batch size in turns with the bare loop, and the peers beside them."""
    with EmbeddedBroker() as broker:
        servers = broker.bootstrap_servers
        count, lived = publish(servers, events), publish_lives(servers, events)
        contenders: dict[str, Callable[[], Reading]] = {
            f"bare loop, batches of {size:,}": partial(bare, servers, size, count) for size in BATCHES
        }
        contenders |= {
            f"{name} model, batches of {size:,}": partial(detector, servers, name, size, count)
            for name in PLAIN_MODELS
            for size in BATCHES
        }
        contenders[BARE_LIVES] = partial(bare, servers, PEER_BATCH, lived, LIVES)
        contenders |= {
            f"{name} model on lives, batches of {PEER_BATCH:,}": partial(
                detector, servers, name, PEER_BATCH, lived, input_topic=LIVES
            )
            for name in ON_LIVES
        }
        contenders[COLLECTING] = partial(detector, servers, "default", PEER_BATCH, count, relaxed=False)
        contenders[STATELESS] = partial(detector, servers, "default", PEER_BATCH, count, stateful=False)
        contenders["newcomer's script"] = partial(peer, "newcomer.py", sys.executable, servers, 100)
        if peers_python is not None:
            some = min(count, 40_000)
            contenders[QUIX_BATCHES] = partial(peer, "quix.py", peers_python, servers, some, str(PEER_BATCH))
            contenders[QUIX_DEFAULT] = partial(peer, "quix.py", peers_python, servers, some, "0")
        read = repeated(contenders, repetitions)
    runs = {name: [one.events_per_s for one in readings] for name, readings in read.items()}
    ratios = [
        Ratio(
            f"{name} model by the bare loop, batches of {size:,}",
            quotients(runs[f"{name} model, batches of {size:,}"], runs[f"bare loop, batches of {size:,}"]),
            0.6,
        )
        for name in PLAIN_MODELS
        for size in BATCHES
    ]
    ratios += [
        Ratio(
            f"{name} model by the bare loop, both on lives, batches of {PEER_BATCH:,}",
            quotients(runs[f"{name} model on lives, batches of {PEER_BATCH:,}"], runs[BARE_LIVES]),
            0.4 if name == "history" else None,
        )
        for name in ON_LIVES
    ]
    own = runs[f"seed model, batches of {PEER_BATCH:,}"]
    history = runs[f"history model on lives, batches of {PEER_BATCH:,}"]
    for name, target in ((QUIX_BATCHES, 4.0), (QUIX_DEFAULT, 4.0), ("newcomer's script", None)):
        if name in runs:
            ratios += [
                Ratio(
                    f"seed model, batches of {PEER_BATCH:,}, by {name}", quotients(own, runs[name]), target
                ),
                Ratio(
                    f"history model on lives by {name}, seed model", quotients(history, runs[name]), target
                ),
            ]
    shipped = runs[f"default model, batches of {PEER_BATCH:,}"]
    ratios.append(
        Ratio(
            "garbage collection relaxed by Python's own, default model", quotients(shipped, runs[COLLECTING])
        )
    )
    ratios.append(Ratio("sessions written by not, default model", quotients(shipped, runs[STATELESS])))
    rows = [Row(name, "events/s", figures) for name, figures in runs.items()]
    targets = {f"{name} model, batches of {PEER_BATCH:,}": 60_000.0 for name in PLAIN_MODELS}
    how = (
        f"One worker on the embedded broker reads {count:,} events, published before, exactly once with state; 2 cores "
        f"shared with the broker; {repetitions} repetitions in turns. The bare loop polls and commits offsets in a "
        "transaction with the same clients. Quix Streams keeps a window a session in its state, scores each event with "
        "the same seed model in onnxruntime and publishes alerts, exactly once, up to 40,000 events, until its last checkpoint is committed. By default "
        "it commits every 5 s, and an alert is readable only then; so it is measured with our batches too. The newcomer's script reads "
        "with kafka-python and json and calls `model.predict` for each of 100 events. Lives are those of "
        f"{CUSTOMERS:,} customers, {lived:,} events with amounts, devices, networks, countries, recipients and outcomes, "
        "which the history model reads."
    )
    return [Result("service", "Whole service", how, rows, ratios, targets), _by_stage(read)]


def _by_stage(read: Mapping[str, list[Reading]]) -> Result:
    """Say what an event costs, stage by stage."""
    rows = [
        Row(f"{name} {where}, {stage}", "µs an event", [one.stages_us[stage] for one in readings])
        for name, where, readings in (
            *(
                (f"{one} model", "on lives", read[f"{one} model on lives, batches of {PEER_BATCH:,}"])
                for one in ON_LIVES
            ),
            *(
                (f"{one} model", "on its topic", read[f"{one} model, batches of {PEER_BATCH:,}"])
                for one in PLAIN_MODELS
            ),
        )
        for stage in readings[0].stages_us
    ]
    how = (
        f"Of the same runs, in batches of {PEER_BATCH:,}: the time of each stage of the loop by the events scored, from the worker's "
        "own `detector_stage_seconds`. Stages are those of the loop's code: poll and settle (Kafka's client and the group), decode "
        "(JSON to events), stage (window, signals and profile), score (the network), decide (thresholds, rules, alerts), reason "
        "(what an alert gives as its reasons), commit (the transaction with alerts and state), apply (the batch becomes the state)."
    )
    return Result("stages", "What an event costs, stage by stage", how, rows, [])
