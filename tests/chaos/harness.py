"""One run: faults drawn from a seed on a real cluster under load, and what is on its topics held against the oracle."""

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.chaos.cluster import Cluster, until
from tests.chaos.disk import can_mount
from tests.chaos.faults import FAULTS, OLD_WORKER, ROLLING_UPGRADE
from tests.chaos.judging import Report, judge
from tests.chaos.traffic import Publisher, traffic
from tests.chaos.versions import has_old_version

TOPICS_LATE = "topics created late"
_OF_OLD_VERSION = {OLD_WORKER, ROLLING_UPGRADE}


def possible_faults() -> set[str]:
    """Return the kinds that can be produced on this machine, from this checkout."""
    disk = set() if can_mount() else {"disk full"}
    versions = set() if has_old_version() else _OF_OLD_VERSION
    return FAULTS.keys() - disk - versions


def draw(seed: int, count: int) -> list[str]:
    """Draw kinds of faults, of the possible ones; the same for the same seed.

    With an odd seed old workers are among them, and an upgrade comes first if it can; with an even one none are, and
    the models read signals, which they don't know.
    """
    possible = possible_faults() - (set() if seed % 2 else _OF_OLD_VERSION)
    weights = {kind: weight for kind, (weight, _) in FAULTS.items() if kind in possible}
    first = [ROLLING_UPGRADE] if ROLLING_UPGRADE in possible else []
    drawn = random.Random(f"{seed}/kinds").choices(list(weights), list(weights.values()), k=count)
    return [*first, *drawn][:count]


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
        kinds: the faults, in their order; a rolling upgrade comes first. Where old workers are among them, the models
            read no signals.
        brokers: how many, 1 or 3.
        broken: a broken build that the first two workers are, to see that it is noticed.
        say: told what is going on.
        keep: folder for data and logs; a temporary one by default.

    Raises:
        ChaosError: the cluster did not recover in time.
    """
    rng = random.Random(f"{seed}/faults")
    report = Report()
    kinds = sorted(kinds, key=lambda kind: kind != ROLLING_UPGRADE)
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as name,
        Cluster(
            keep or Path(name), brokers=brokers, signals=not _OF_OLD_VERSION.intersection(kinds)
        ) as cluster,
    ):
        early = cluster.start_worker()
        until(lambda: not early.alive, "the worker that came before its topics to end")
        assert early.process.returncode == 1, "a worker went on without topics, or crashed"
        cluster.workers.remove(early)
        cluster.create_topics()
        began_s = time.monotonic()
        records = traffic(seed, cluster.start_ms, is_new=kinds[0] != ROLLING_UPGRADE)
        with Publisher(cluster.config.bootstrap_servers, cluster.config.input_topic, records) as publisher:
            for _ in range(2):
                if kinds[0] == ROLLING_UPGRADE:
                    cluster.start_old_worker()
                else:
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
