"""Faults of operators: what they set, put in service, start or delete by mistake, and mend."""

import random
import re
import signal
import statistics
import time
from contextlib import closing
from typing import Any

from kafka import KafkaProducer, TopicPartition

from detector.model.artifact import load_model
from detector.runtime.recovery import StateRefusedError
from detector.runtime.restored_state import RestoredState
from detector.runtime.topics import specifications
from tests.chaos.cluster import Cluster, until
from tests.chaos.models import VERSIONS
from tests.chaos.worker import Worker
from tests.runtime.stack import read_committed

_UNREAD_FORMAT = "state record of format 04"
"""What a worker of the old version says of a state log of the new one."""
_REBUILT = re.compile(r"rebuilt \S+\[(\d+)\] from offsets \d+ to (\d+)")
_SPOILT = (
    ("retention.ms", "1000", "-1"),
    ("retention.bytes", "1000", "-1"),
    ("cleanup.policy", "compact", "delete"),
)
"""Settings of the state topic, with a value that would lose state and the one that they should have."""
_LATEST_ALERTS = 50
_BATCH_BYTES = 100
"""Of a batch with one record, beside what the record holds."""
_NARROW_LETTERS_BYTES = 12_000
_GARBAGE_BYTES = (20_000, 60_000)


def delete_state(cluster: Cluster, rng: random.Random) -> None:
    """All workers stop, and the beginning of a partition's state log is deleted, or all of it.

    The next worker must refuse to go on; one that is told to rebuilds the partition from the input.
    """
    cluster.stop_workers()
    source = rng.choice([one for one, offset in cluster.committed().items() if offset])
    before = _harmful_cut(cluster, source.partition, rng)
    target = TopicPartition(cluster.config.state_topic, source.partition)
    with cluster.admin() as admin:
        admin.delete_records({target: before})
    cluster.await_refusal(cluster.start_worker(), "--rebuild-from-input")
    rebuilding = cluster.start_worker(None, "--rebuild-from-input")
    until(lambda: bool(_rebuilt(rebuilding)) or not rebuilding.alive, "a partition to be rebuilt")
    rebuilds = {
        TopicPartition(cluster.config.input_topic, number): end for number, end in _rebuilt(rebuilding)
    }
    cluster.notes.rebuilds += rebuilds.items()
    # Nobody else may have the partition before its log was written anew, with its next event.
    cluster.await_committed({one: end + 1 for one, end in rebuilds.items()}, supervised=False)


def _rebuilt(worker: Worker) -> list[tuple[int, int]]:
    """Return what a worker has rebuilt: partitions, and the input offsets up to which it did."""
    found = [_REBUILT.search(line) for line in worker.said("rebuilt")]
    return [(int(one[1]), int(one[2])) for one in found if one]


def _harmful_cut(cluster: Cluster, partition: int, rng: random.Random) -> int:
    """Draw an offset before which a state log can't be spared; -1 is its end."""
    fingerprint = load_model(cluster.model_path).encoding.fingerprint
    log = [
        one
        for one in read_committed(cluster.config, cluster.config.state_topic)
        if one.partition == partition
    ]

    def refused(begin: int) -> bool:
        restored = RestoredState(fingerprint)
        for record in log[begin:]:
            restored.add(record.offset, record.value)
        try:
            restored.end()
        except StateRefusedError:
            return True
        return False

    harmful = [log[begin].offset for begin in range(1, len(log)) if refused(begin)]
    chosen: int = rng.choice([*rng.sample(harmful, min(len(harmful), 3)), -1])
    return chosen


def spoil_state_topic(cluster: Cluster, rng: random.Random) -> None:
    """The state topic is given a retention, or compaction: a worker that starts refuses it, until it is mended."""
    name, wrong, right = rng.choice(_SPOILT)
    topic, setting = cluster.config.state_topic, name.replace(".", "_")
    refusal = f"topic {topic} has {name}={wrong}"
    cluster.excuse(refusal)  # whoever connects anew in the meantime refuses it as well
    cluster.set_topic(topic, **{setting: wrong})
    try:
        cluster.await_refusal(cluster.start_worker(), refusal)
    finally:
        cluster.set_topic(topic, **{setting: right})


def narrow_alerts(cluster: Cluster, rng: random.Random) -> None:
    """For some seconds the alerts topic takes only the smaller half of the alerts."""
    topic = cluster.config.alerts_topic
    sizes = [_size_bytes(one) for one in read_committed(cluster.config, topic)[-_LATEST_ALERTS:]]
    most = int(statistics.median(sizes or [0])) + _BATCH_BYTES
    begin = cluster.committed()
    cluster.set_topic(topic, max_message_bytes=str(most))
    time.sleep(rng.uniform(2, 4))
    cluster.await_committed(cluster.ends())  # a loaded machine may not have come so far yet
    _widen(cluster, topic)
    cluster.notes.narrow.append((begin, cluster.ends()))


def _size_bytes(record: Any) -> int:
    """Return how much a record of the alerts topic holds."""
    headers = sum(len(name) + len(value) for name, value in record.headers)
    return len(record.key) + len(record.value) + headers


def narrow_dead_letters(cluster: Cluster, rng: random.Random) -> None:
    """For some seconds the dead-letter topic takes no large ones, while there is large garbage on the input."""
    topic = cluster.config.dead_letter_topic
    begin = cluster.committed()
    cluster.set_topic(topic, max_message_bytes=str(_NARROW_LETTERS_BYTES))
    with closing(KafkaProducer(bootstrap_servers=cluster.config.bootstrap_servers)) as producer:
        for _ in range(rng.randint(1, 4)):
            garbage = rng.randbytes(rng.randint(*_GARBAGE_BYTES))
            producer.send(cluster.config.input_topic, garbage, key=b"garbage %d" % rng.randrange(99))
            time.sleep(rng.uniform(0, 0.5))
        producer.flush()
    cluster.await_committed(cluster.ends())
    _widen(cluster, topic)
    cluster.notes.narrow.append((begin, cluster.ends()))


def _widen(cluster: Cluster, topic: str) -> None:
    """Let a topic take what it took when it was created."""
    (created,) = [one for one in specifications(cluster.config) if one.name == topic]
    cluster.set_topic(topic, max_message_bytes=created.configs["max.message.bytes"])


def change_model_for_a_failing_one(cluster: Cluster, rng: random.Random) -> None:
    """A model that answers NaN to some windows is put in service under load, and taken out again."""
    cluster.put_failing_model()
    time.sleep(rng.uniform(2, 4))
    cluster.await_committed(cluster.ends())  # a loaded machine may not have come so far yet
    cluster.put_model(rng.randrange(len(VERSIONS)))


def join_old_worker(cluster: Cluster, rng: random.Random) -> None:
    """A worker of the old version joins: it can't read the state of the partitions that it is given, and ends."""
    for worker in rng.sample(cluster.workers, max(0, len(cluster.workers) - 2)):
        worker.send(signal.SIGTERM)  # so that there is one for it
    old = cluster.start_old_worker()
    cluster.await_refusal(old, _UNREAD_FORMAT)


def upgrade(cluster: Cluster, rng: random.Random) -> None:
    """The workers are of the old version, and are replaced one by one: the new ones read their state."""
    cluster.excuse(_UNREAD_FORMAT)  # an old one that is given a partition which a new one had
    for old in list(cluster.workers):
        new = cluster.start_worker()
        until(lambda one=new: one.at_work or not one.alive, "a new worker to hold partitions")  # type: ignore[misc]
        time.sleep(rng.uniform(0.5, 2))
        old.send(signal.SIGTERM)
        until(lambda one=old: not one.alive, "an old worker to end")  # type: ignore[misc]
    cluster.notes.of_old_version = cluster.committed()
