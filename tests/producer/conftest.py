"""Lives that several modules of tests look at; simulated once for each."""

from collections.abc import Iterator

import pytest

from producer.behaviour.lives.stream import LivesBehaviour, sessions
from producer.behaviour.session import SimulatedSession

START_MS = 1_767_571_200_000
"""A Monday's midnight, 2026-01-05."""
Begun = list[tuple[int, SimulatedSession]]


def lived(
    days: int, customers: int, seed: int, attack_rate: float = 0.01, start_ms: int = START_MS
) -> Iterator[tuple[int, SimulatedSession]]:
    """Live through some days."""
    behaviour = LivesBehaviour(attack_rate=attack_rate)
    return sessions(days=days, customers=customers, seed=seed, start_ms=start_ms, behaviour=behaviour)


@pytest.fixture(scope="module")
def lawful() -> Begun:
    """Six weeks of 300 customers whom nobody attacks."""
    return list(lived(42, 300, 5, attack_rate=0))


@pytest.fixture(scope="module")
def attacked() -> Begun:
    """Five weeks of customers who are attacked far more than in life, so that attacks can be counted."""
    return list(lived(35, 2_000, 6, attack_rate=0.1))
