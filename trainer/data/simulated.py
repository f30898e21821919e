"""Labelled sessions that are simulated: the realistic preset, and the notebook's."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from producer.behaviour import realistic, seed
from producer.behaviour.attacks import ATTACK_FAMILIES
from producer.behaviour.realistic import RealisticBehaviour
from producer.behaviour.session import SimulatedSession
from trainer.data.sessions import DataError, Session, Sessions, Splits

REALISTIC_SESSIONS: Final = 150_000
TRAIN_ATTACKS: Final = 0.2
"""Share of attacks among the sessions trained on, far above any real one: the model has to see enough of them."""
VALID_LAWFUL: Final = 4 / 15
VALID_ATTACKS: Final = 2 / 75
TEST_LAWFUL: Final = 2 / 5
TEST_ATTACKS: Final = 1 / 25
BASE_RATE: Final = RealisticBehaviour().attack_rate


def simulated(sessions: Iterable[SimulatedSession]) -> Sessions:
    """Return simulated sessions with their truth."""
    return Sessions.of(list(lines_of_simulated(sessions)))


def lines_of_simulated(sessions: Iterable[SimulatedSession]) -> Iterator[Session]:
    """Yield simulated sessions with their truth, as lines of a data file."""
    for session in sessions:
        yield Session(
            session_id=session.session_id,
            actions=tuple(action.value for action in session.actions),
            label=session.label,
            timestamps_ms=tuple(session.timestamps_ms()),
            type=session.kind,
            customer_type=session.customer_type,
            attack_from=session.attack_from,
            account_id=session.account_id,
        )


def simulate(lawful: int, attacks: int, seed: int, behaviour: RealisticBehaviour | None = None) -> Sessions:
    """Simulate sessions of the realistic preset, so many of each side, in a random order.

    Args:
        lawful: sessions without an attack.
        attacks: sessions with one.
        seed: of the simulation.
        behaviour: customers and attack families; its rate is ignored. The preset's own if None.
    """
    given = behaviour or RealisticBehaviour()
    mixed = RealisticBehaviour(
        attack_rate=attacks / max(1, lawful + attacks),
        customers=given.customers,
        customer_types=given.customer_types,
        attack_families=given.attack_families,
        attacker_has_own_device=given.attacker_has_own_device,
    )
    return simulated(realistic.sessions(lawful + attacks, seed, mixed))


def realistic_splits(sessions: int, seed: int, left_out: Sequence[str] = ()) -> Splits:
    """Simulate the realistic preset: three simulations of their own, of customers who share nothing.

    Args:
        sessions: to train on; those for the threshold and the figures come on top, in proportion.
        seed: of all three.
        left_out: attack families that are in the test part alone.

    Raises:
        DataError: a family has no such name, or none is left.
    """
    names = {family.name for family in ATTACK_FAMILIES}
    if not set(left_out) < names and left_out:
        raise DataError(
            f"families {sorted(left_out)} to leave out: expected some, but not all, of {sorted(names)}"
        )
    seen = RealisticBehaviour(
        attack_families=tuple(family for family in ATTACK_FAMILIES if family.name not in left_out)
    )
    attacks = round(TRAIN_ATTACKS * sessions)
    return Splits(
        simulate(sessions - attacks, attacks, 1_000 * seed + 1, seen),
        simulate(round(VALID_LAWFUL * sessions), round(VALID_ATTACKS * sessions), 1_000 * seed + 2, seen),
        simulate(round(TEST_LAWFUL * sessions), round(TEST_ATTACKS * sessions), 1_000 * seed + 3),
    )


def seed_preset(count: int, random_seed: int, test_fraction: float) -> Splits:
    """Simulate the notebook's sessions, split as it splits them.

    The split is scikit-learn's `train_test_split(test_size, random_state)` without stratification; there is no part
    for threshold and calibration. A held-out session may equal one trained on: the two attacks are always alike. The
    notebook knows no times, and neither do these sessions.

    Raises:
        ValueError: a part would have no session.
    """
    test_count = int(np.ceil(count * test_fraction))
    if not 0 < test_count < count:
        raise ValueError(
            f"{count} sessions with {test_fraction} of them held out: expected some to train and some to test on"
        )
    sessions = replace(simulated(seed.sessions(count, random_seed)), times_ms=None)
    # The legacy generator is what scikit-learn uses, and its sequences are frozen (NEP 19).
    order = np.random.RandomState(random_seed).permutation(count)
    return Splits(
        sessions.take(order[test_count:]), sessions.take(order[:0]), sessions.take(order[:test_count])
    )
