"""One run: faults drawn from a seed on a real cluster under load, and the alerts held against the oracle."""

import random
import signal
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from detector.contract.alerts import Alert
from detector.contract.dead_letters import DeadLetter
from detector.model.artifact import default_model_path, load_model
from detector.runtime.replaying import batches_of_topic, replay
from tests.chaos.cluster import Cluster, Traffic, WorkerEndedError, until
from tests.chaos.faults import FAULTS
from tests.chaos.traffic import traffic
from tests.runtime.stack import alerts_of, read_committed

EVENTS_PER_S = 400.0
_START_BEFORE_MS = 48 * 3_600_000
_MAY_END_WITH = {0, -signal.SIGKILL, -signal.SIGTERM, 70}


@dataclass(slots=True)
class Report:
    """What a run came to.

    Attributes:
        faults: how many of each kind.
        recovery_s: by kind, seconds from the end of a fault until all input published by then was committed.
        events: records on the input topic.
        alerts: on the alerts topic.
        dead_letters: on the dead-letter topic.
        lost, doubled, wrong: alerts the oracle has and the topic not; the topic more often than the oracle; and
            the topic only.
        disordered: sessions whose alerts lie in another order than the oracle's.
        dead_letters_off: dead letters lost, doubled or wrong.
        unaccounted: records of the input beyond the committed offsets.
        endings: exit codes of workers that ended on their own.
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
    unaccounted: int = 0
    endings: Counter[int] = field(default_factory=Counter)

    @property
    def sound(self) -> bool:
        """Whether every promise was kept."""
        kept = not (self.lost or self.doubled or self.wrong or self.disordered)
        return kept and not (self.dead_letters_off or self.unaccounted) and set(self.endings) <= _MAY_END_WITH


def run(
    seed: int,
    kinds: Sequence[str] | int,
    *,
    broken: str | None = None,
    say: Callable[[str], None] = lambda _: None,
    keep: Path | None = None,
) -> Report:
    """Run a cluster through faults and judge it.

    Args:
        seed: of the traffic and the faults.
        kinds: the faults, by name; or how many to draw.
        broken: a broken build that the first two workers are, to see that it is noticed.
        say: told what is going on.
        keep: folder for data and logs; a temporary one by default.

    Raises:
        ChaosError: the cluster did not recover in time.
    """
    rng = random.Random(f"{seed}/faults")
    if isinstance(kinds, int):
        kinds = rng.choices(list(FAULTS), [weight for weight, _ in FAULTS.values()], k=kinds)
    report = Report()
    with tempfile.TemporaryDirectory(prefix="chaos-") as name, Cluster(keep or Path(name)) as cluster:
        early = (
            cluster.start_worker()
        )  # the topics are not there yet: it must say so and end, and lose nothing
        until(lambda: not early.alive, "the worker that came before its topics to end")
        assert early.process.returncode == 1
        cluster.reap()
        cluster.create_topics()
        start_ms = time.time_ns() // 1_000_000 - _START_BEFORE_MS
        flow = Traffic(cluster, traffic(seed, start_ms), EVENTS_PER_S)
        flow.start()
        for _ in range(2):
            cluster.start_worker(None if broken is None else (broken, 5))
        until(
            lambda: all(worker.at_work or not worker.alive for worker in cluster.workers),
            "both workers to hold partitions",
        )
        _recovery_s(cluster, report)
        for number, kind in enumerate(kinds, start=1):
            FAULTS[kind][1](cluster, rng)
            report.faults[kind] += 1
            _replace_ended(cluster, report)
            seconds = _recovery_s(cluster, report)
            report.recovery_s[kind].append(seconds)
            say(f"{number}/{len(kinds)} {kind}: recovered in {seconds:.1f} s, {len(cluster.workers)} workers")
        flow.stop()
        _recovery_s(cluster, report)
        _judge(cluster, report)
    return report


def _recovery_s(cluster: Cluster, report: Report) -> float:
    """Wait until everything published by now is committed, replacing workers that end meanwhile."""
    ends, began_s = cluster.ends(), time.monotonic()
    while True:
        try:
            cluster.await_committed(ends)
        except WorkerEndedError:
            _replace_ended(cluster, report)
        else:
            return time.monotonic() - began_s


def _replace_ended(cluster: Cluster, report: Report) -> None:
    """Count workers that ended, and keep two at work, as an orchestrator would."""
    ended = cluster.reap()
    report.endings.update(worker.process.returncode for worker in ended)
    while len(cluster.workers) < 2:
        cluster.start_worker()


def _judge(cluster: Cluster, report: Report) -> None:
    config = cluster.config
    letters: list[DeadLetter] = []
    expected = list(
        replay(batches_of_topic(config), load_model(default_model_path()), config, letters.append)
    )
    found = alerts_of(config)
    published_letters = read_committed(config, config.dead_letter_topic)
    report.events = sum(cluster.ends().values())
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
    report.unaccounted = sum(cluster.ends().values()) - sum(cluster.committed().values())


def _comparable(alert: Alert) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(alert, detected_at_ms=0))


def _by_session(alerts: Iterable[Alert]) -> dict[str, list[Any]]:
    orders: dict[str, list[Any]] = defaultdict(list)
    for alert in sorted(
        alerts, key=lambda one: (one.source.partition,)
    ):  # stable: a partition's order is kept
        orders[alert.session_id].append(alert.alert_id)
    return orders
