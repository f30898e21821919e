"""One run: faults drawn from a seed on a real cluster under load, and what is on its topics held against the oracle."""

import random
import signal
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from kafka import TopicPartition

from detector.contract.alerts import Alert
from detector.core.memo import ScoreMemo
from detector.core.partition import Partition
from detector.core.session import touched_ms
from detector.core.shadowing import Challenger
from detector.model.artifact import Model, default_model_path, load_model
from detector.runtime.epochs import epochs_of_group, replay_epochs
from detector.runtime.replaying import batches_of_topic
from detector.runtime.state_log import decode_state
from detector.runtime.state_log import replay as replay_state
from tests.chaos.cluster import Cluster, until
from tests.chaos.disk import can_mount
from tests.chaos.faults import FAULTS
from tests.chaos.traffic import Publisher, traffic
from tests.runtime.stack import alerts_in, alerts_of, read_committed

TOPICS_LATE = "topics created late"
_START_BEFORE_MS = 48 * 3_600_000
"""Event time begins so long before the clock's: a run's traffic spans hours and must not lie in the future."""
_MAY_END_WITH = {0, -signal.SIGKILL, -signal.SIGTERM, 70}
"""SIGTERM ends a worker by itself until Python is up and it listens."""


@dataclass(slots=True)
class Report:
    """What a run came to.

    Attributes:
        faults: how many of each kind.
        recovery_s: by kind, seconds from the end of a fault until all input published by then was committed.
        events: records on the input topic.
        alerts: on the alerts topic.
        dead_letters: on the dead-letter topic.
        lost: alerts that the oracle has and the topic has not.
        doubled: alerts that the topic has more often than the oracle.
        wrong: alerts that only the topic has.
        disordered: sessions whose alerts lie in another order than the oracle's.
        dead_letters_off: dead letters lost, doubled or wrong.
        models: how many decided.
        shadow_alerts: of the challenger, on the shadow topic.
        shadows_off: of them lost, doubled or wrong.
        states_off: partitions whose state log leads to other sessions than the oracle's.
        unaccounted: records of the input beyond the committed offsets, or short of them.
        endings: exit codes of workers that ended.
        failures: the last line of each worker that failed.
    """

    faults: Counter[str] = field(default_factory=Counter)
    recovery_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    events: int = 0
    alerts: int = 0
    dead_letters: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    disordered: int = 0
    dead_letters_off: int = 0
    models: int = 0
    shadow_alerts: int = 0
    shadows_off: int = 0
    states_off: int = 0
    unaccounted: int = 0
    endings: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether every promise was kept, and no worker ended but as it should."""
        off = self.lost + self.doubled + self.wrong + self.disordered
        off += self.dead_letters_off + self.shadows_off + self.states_off + self.unaccounted
        return off == 0 and set(self.endings) <= _MAY_END_WITH


def draw(seed: int, count: int) -> list[str]:
    """Draw kinds of faults, of those that can be produced on this machine; the same for the same seed."""
    possible = {kind: weight for kind, (weight, _) in FAULTS.items() if kind != "disk full" or can_mount()}
    return random.Random(f"{seed}/kinds").choices(list(possible), list(possible.values()), k=count)


def run(
    seed: int,
    kinds: Sequence[str],
    *,
    brokers: int = 1,
    broken: str | None = None,
    say: Callable[[str], None] = lambda _: None,
    keep: Path | None = None,
) -> Report:
    """Run a cluster through faults and judge it.

    Args:
        seed: of the traffic, and of each fault's victims and times.
        kinds: the faults, in their order.
        brokers: how many, 1 or 3.
        broken: a broken build that the first two workers are, to see that it is noticed.
        say: told what is going on.
        keep: folder for data and logs; a temporary one by default.

    Raises:
        ChaosError: the cluster did not recover in time.
    """
    rng = random.Random(f"{seed}/faults")
    report = Report()
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as name,
        Cluster(keep or Path(name), brokers=brokers) as cluster,
    ):
        report.endings, report.failures = cluster.endings, cluster.failures
        early = cluster.start_worker()
        until(lambda: not early.alive, "the worker that came before its topics to end")
        assert early.process.returncode == 1, "a worker went on without topics, or crashed"
        cluster.workers.remove(early)
        cluster.create_topics()
        began_s = time.monotonic()
        records = traffic(seed, time.time_ns() // 1_000_000 - _START_BEFORE_MS)
        with Publisher(cluster.config.bootstrap_servers, cluster.config.input_topic, records) as publisher:
            for _ in range(2):
                cluster.start_worker(None if broken is None else (broken, 5))
            until(
                lambda: all(one.at_work or not one.alive for one in cluster.workers),
                "the first workers to hold partitions",
            )
            cluster.await_committed(cluster.ends())
            report.faults[TOPICS_LATE] += 1
            report.recovery_s[TOPICS_LATE].append(time.monotonic() - began_s)
            for number, kind in enumerate(kinds, start=1):
                FAULTS[kind][1](cluster, rng)
                report.faults[kind] += 1
                seconds = cluster.await_committed(cluster.ends())
                report.recovery_s[kind].append(seconds)
                say(
                    f"{number}/{len(kinds)} {kind}: recovered in {seconds:.1f} s, {len(cluster.workers)} workers"
                )
            publisher.stop()
        cluster.await_committed(cluster.ends())
        judge(cluster, report)
    return report


def judge(cluster: Cluster, report: Report) -> None:
    """Hold what is on the topics against the oracle. Everything published must have been committed."""
    config, models = cluster.config, cluster.models()
    model = load_model(default_model_path())
    challenger = Challenger(
        config.challenger(model.threshold, model.reference), ScoreMemo(model.encoding, model.score)
    )
    partitions: dict[TopicPartition, Partition] = {}
    made = list(
        replay_epochs(
            batches_of_topic(config), models, epochs_of_group(config), config, partitions, challenger
        )
    )
    expected, letters = alerts_in(made), [letter for one in made for letter in one.letters]
    shadows = [alert for one in made for alert in one.outcome.shadow_alerts]
    found = alerts_of(config)
    report.models = len({alert.model.sha256 for alert in found})
    of_challenger, of_its_oracle = (
        Counter(map(_comparable, one)) for one in (alerts_of(config, config.shadow_topic), shadows)
    )
    report.shadow_alerts = of_challenger.total()
    report.shadows_off = (of_challenger - of_its_oracle).total() + (of_its_oracle - of_challenger).total()
    published_letters = read_committed(config, config.dead_letter_topic)
    ends, committed = cluster.ends(), cluster.committed()
    report.events = sum(ends.values())
    report.alerts, report.dead_letters = len(found), len(published_letters)
    wanted, seen = Counter(map(_comparable, expected)), Counter(map(_comparable, found))
    report.lost = sum((wanted - seen).values())
    report.doubled = sum(count - wanted[one] for one, count in seen.items() if 0 < wanted[one] < count)
    report.wrong = sum(count for one, count in seen.items() if not wanted[one])
    orders, wanted_orders = _by_session(found), _by_session(expected)
    report.disordered = sum(orders[session] != wanted_orders.get(session) for session in orders)
    of_topic = Counter(
        (headers["dlq-source-partition"], headers["dlq-source-offset"], headers["dlq-reason"], one.value)
        for one in published_letters
        for headers in [{name: value.decode() for name, value in one.headers}]
    )
    of_oracle = Counter((str(one.partition), str(one.offset), one.reason.value, one.value) for one in letters)
    report.dead_letters_off = sum((of_topic - of_oracle).values()) + sum((of_oracle - of_topic).values())
    report.unaccounted = sum(abs(end - committed[source]) for source, end in ends.items())
    report.states_off = _states_off(cluster, model, partitions)


def _states_off(cluster: Cluster, model: Model, partitions: dict[TopicPartition, Partition]) -> int:
    """Count the partitions whose state log leads to other live sessions than the oracle's."""
    config, restored = cluster.config, defaultdict[int, Partition](Partition)
    for record in read_committed(config, config.state_topic):
        state = decode_state(record.value, model.encoding.fingerprint)
        replay_state(restored[record.partition], [state])
    return sum(
        _live(oracle, config.idle_timeout_ms) != _live(restored[source.partition], config.idle_timeout_ms)
        for source, oracle in partitions.items()
    )


def _live(partition: Partition, idle_timeout_ms: int) -> tuple[int, list[tuple[str, bytes]]]:
    """Return stream time and live sessions in order; one that expired may be gone already or about to."""
    oldest_ms = partition.stream_time_ms - idle_timeout_ms
    live = [(name, packed) for name, packed in partition.sessions.items() if touched_ms(packed) >= oldest_ms]
    return partition.stream_time_ms, live


def _comparable(alert: Alert) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(alert, detected_at_ms=0))


def _by_session(alerts: Iterable[Alert]) -> dict[tuple[int, str], list[str]]:
    """Return the ids of alerts by partition and session, in the order of the partition."""
    orders: dict[tuple[int, str], list[str]] = defaultdict(list)
    for alert in alerts:
        orders[alert.source.partition, alert.session_id].append(alert.alert_id)
    return orders
