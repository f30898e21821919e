"""The alerts on the topic equal the oracle's through faults; and a build that breaks a promise is caught.

`make verify` runs most of this, `make chaos` the long run.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from detector.runtime.health import EXIT_STALLED
from tests.chaos.__main__ import describe
from tests.chaos.cluster import ChaosError, Cluster, until
from tests.chaos.harness import possible_faults, run
from tests.chaos.judging import Report, judge
from tests.chaos.traffic import Publisher, traffic

SHORT_RUN = [
    "rolling upgrade",
    "rules changed",
    "kill worker in-commit",
    "zombies in a rebalance",
    "network cut",
    "model changed",
    "broker killed",
    "kill worker in-snapshot",
    "transaction timeout",
    "model changed",
    "rules changed",
    "partition added",
    "workers join or leave",
    "poison batch",
    "wild clocks",
    "model fails",
    "state topic with retention",
    "alerts topic narrow",
    "dead-letter topic narrow",
    "old worker joins",
    "state deleted",
]
"""Those of the old version are left out where this checkout's history does not have it."""


SMOKE = ["kill worker in-commit", "network cut", "broker killed", "model changed", "poison batch"]
"""One of each kind: what befalls workers, network and brokers, and what operators and producers do."""


@pytest.mark.timeout(600)
def test_a_fault_of_each_kind_loses_and_doubles_nothing() -> None:
    """The smoke of the run below, and of `make chaos`: no alert lost, doubled, wrong or out of order."""
    report = run(4, SMOKE)
    assert report.sound, describe(report)
    assert report.alerts > 0
    assert report.dead_letters > 0


@pytest.mark.long
@pytest.mark.timeout(900)
def test_faults_lose_and_double_nothing() -> None:
    """Through one fault of each main kind: no alert lost, doubled, wrong or out of order, every event accounted for."""
    kinds = [kind for kind in SHORT_RUN if kind in possible_faults()]
    report = run(2, kinds)
    assert report.sound, describe(report)
    assert report.alerts > 0
    assert report.shadow_alerts > 0
    assert report.models > 1
    assert report.dead_letters > report.failed > 0
    assert report.refused > 0
    assert report.rebuilds > 0
    assert report.refusals.total() >= 2


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("build", "fault", "broken"),
    [
        ("alerts-twice", "terminate worker", lambda report: report.doubled and report.dead_letters_off),
        ("alerts-apart", "terminate worker", lambda report: report.lost),
        # These workers stay to the end: a healthy successor would write what it knows of their state anew.
        ("no-state", "short pause", lambda report: report.states_off),
        ("silent-model", "model changed", lambda report: report.wrong and report.lost),
        ("skips-unread", "poison batch", lambda report: report.dead_letters_off),
        (
            "failures-leave-traces",
            "model fails",
            lambda report: report.wrong or report.lost or report.states_off,
        ),
    ],
)
def test_a_broken_build_is_caught(build: str, fault: str, broken: Callable[[Report], bool]) -> None:
    """The harness can fail: alerts twice or apart from their offsets, forgotten state, what fails unseen are noticed."""
    report = run(3, [fault, fault], broken=build)
    assert not report.sound
    assert broken(report), describe(report)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_offsets_committed_before_the_transaction_are_caught() -> None:
    """Offsets ahead of their state stop the detector: it says so, and never goes on from a state that is not theirs."""
    with pytest.raises(ChaosError, match="somebody moved the group's offsets"):
        run(3, ["short pause"], broken="offsets-first")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_hanging_commit_ends_the_worker(tmp_path: Path) -> None:
    """A commit that the broker never answers ends the worker with exit code 70; its successor loses and doubles nothing."""
    with Cluster(tmp_path, stall_timeout_ms=4_000) as cluster:
        cluster.create_topics()
        config, records = cluster.config, traffic(4, 1_700_000_000_000)
        with Publisher(config.bootstrap_servers, config.input_topic, records) as publisher:
            hanging = cluster.start_worker(("hang-in-commit", 10))
            until(lambda: not hanging.alive, "the watchdog to end the worker")
            assert hanging.process.returncode == EXIT_STALLED
            assert hanging.said("the loop has stood still")
            cluster.nodes[0].broker.resume()
            cluster.await_committed(cluster.ends())
            publisher.stop()
        cluster.await_committed(cluster.ends())
        report = Report()
        judge(cluster, report)
    assert report.sound, describe(report)
    assert report.alerts > 0
