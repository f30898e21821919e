"""Faults of producers: batches as no client of ours makes them, and clocks that are wild."""

import gzip
import random
import time
from collections.abc import Sequence
from contextlib import closing

from kafka import KafkaProducer

from detector.contract.events import SessionEvent, encode_event
from tests.chaos.cluster import Cluster
from tests.client.batches import (
    COMPRESSED,
    GZIP,
    Written,
    batch,
    body,
    compressed,
    overflowing,
    publish_batch,
)

WILD = "wild-"
"""Begins the ids of sessions whose clocks are wild."""
_ATTACK = ("LOGIN", "ADD_RECIPIENT", "TRANSFER_LARGE")
_YEAR_2099_MS = 4_102_358_400_000
_YEAR_1990_MS = 631_152_000_000
_ANY_MS = str(2**63 - 1)
_MB = 1_000_000
_BOMB_MB = 70
"""More than a batch may expand to."""


def poison_batches(cluster: Cluster, rng: random.Random) -> None:
    """Batches that the broker takes and few clients can read, sessions that are taken over in each.

    Some can't be read by anybody: one that expands to more than there may be, one with a time that is none.
    """
    kinds = rng.sample(list(COMPRESSED), rng.randint(2, 4))
    for kind in kinds:
        _publish(cluster, compressed(_attack(cluster, rng), kind), rng)
    bomb = body([Written(b"bomb", bytes(_MB))] * _BOMB_MB)
    _publish(cluster, batch(gzip.compress(bomb, 1), _BOMB_MB, codec=GZIP), rng)
    if rng.random() < 0.5:
        cluster.set_topic(cluster.config.input_topic, message_timestamp_type="CreateTime")
        _publish(cluster, overflowing(_attack(cluster, rng)), rng)
        cluster.set_topic(cluster.config.input_topic, message_timestamp_type="LogAppendTime")
    _publish(cluster, compressed(_attack(cluster, rng), kinds[0]), rng)


def wild_clocks(cluster: Cluster, rng: random.Random) -> None:
    """For some seconds the input has its producers' times, and a few producers live in 1990 or 2099."""
    topic, begin = cluster.config.input_topic, cluster.ends()
    cluster.set_topic(topic, message_timestamp_type="CreateTime", message_timestamp_after_max_ms=_ANY_MS)
    name = f"{WILD}{rng.getrandbits(32):x}"
    deadline_s = time.monotonic() + rng.uniform(3, 5)
    with closing(KafkaProducer(bootstrap_servers=cluster.config.bootstrap_servers)) as producer:
        while time.monotonic() < deadline_s:
            now_ms = time.time_ns() // 1_000_000
            stamped_ms, occurred_ms = (
                rng.choice([_YEAR_2099_MS, _YEAR_1990_MS, at_ms]) for at_ms in (now_ms, cluster.start_ms)
            )
            session_id, action = f"{name}-{rng.randrange(4)}", rng.choice(_ATTACK)
            (event,) = _events(session_id, [action], occurred_ms + rng.randrange(60_000), rng)
            producer.send(topic, encode_event(event), key=session_id.encode(), timestamp_ms=stamped_ms)
            time.sleep(rng.uniform(0, 0.3))
        producer.flush()
    cluster.set_topic(topic, message_timestamp_type="LogAppendTime")
    cluster.notes.wild.append((begin, cluster.ends()))


def _attack(cluster: Cluster, rng: random.Random) -> Sequence[Written]:
    """Return the events of some sessions that are taken over."""
    events = [
        event
        for _ in range(rng.randint(1, 3))
        for event in _events(f"poison-{rng.getrandbits(32):x}", _ATTACK, cluster.start_ms, rng)
    ]
    return [Written(event.session_id.encode(), encode_event(event)) for event in events]


def _events(session_id: str, actions: Sequence[str], from_ms: int, rng: random.Random) -> list[SessionEvent]:
    return [
        SessionEvent(
            event_id=f"{rng.getrandbits(64):x}",
            session_id=session_id,
            account_id=session_id,
            action=action,
            occurred_at_ms=from_ms + number * 1_000,
        )
        for number, action in enumerate(actions)
    ]


def _publish(cluster: Cluster, whole: bytes, rng: random.Random) -> None:
    """Publish a batch to any partition, by the broker that leads it."""
    topic, partition = cluster.config.input_topic, rng.randrange(cluster.partitions)
    publish_batch(cluster.address_of_leader(topic, partition), topic, whole, partition)
