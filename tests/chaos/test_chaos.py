"""The alerts on the topic equal the oracle's through faults; and a build that breaks a promise is caught.

The long run is `make chaos`.
"""

import pytest

from tests.chaos.__main__ import describe
from tests.chaos.harness import run

SHORT_RUN = [
    "kill worker in-commit",
    "zombie",
    "network cut",
    "broker killed",
    "worker joins or leaves",
    "kill worker in-snapshot",
    "transaction timeout",
    "partition added",
    "terminate worker",
]


@pytest.mark.timeout(600)
def test_faults_lose_and_double_nothing() -> None:
    """Through one fault of each main kind: no alert lost, doubled, wrong or out of order, every event accounted for."""
    report = run(2, SHORT_RUN)
    assert report.sound, describe(report)
    assert report.alerts > 0
    assert report.dead_letters > 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("build", "faults"),
    [
        ("alerts-twice", ["terminate worker"]),
        ("offsets-outside", ["terminate worker"]),
        ("no-state", ["terminate worker", "terminate worker", "terminate worker"]),
    ],
)
def test_a_broken_build_is_caught(build: str, faults: list[str]) -> None:
    """The harness can fail: alerts published twice, offsets ahead of alerts, and forgotten state are all noticed."""
    report = run(3, faults, broken=build)
    assert not report.sound
    assert report.lost or report.doubled or report.wrong or report.disordered, describe(report)
