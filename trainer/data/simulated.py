"""Labelled sessions that are simulated: lives, the realistic preset, and the notebook's."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from detector.contract.actions import Action
from detector.contract.fields import Value
from detector.core.encoding import Encoding
from detector.core.signals import Signal, Signals
from producer.behaviour import realistic, seed
from producer.behaviour.attacks import ATTACK_FAMILIES
from producer.behaviour.lives import stream as lives
from producer.behaviour.lives.attackers import SCHEMES
from producer.behaviour.lives.hours import DAY_MS
from producer.behaviour.lives.stream import LivesBehaviour
from producer.behaviour.realistic import RealisticBehaviour
from producer.behaviour.session import SimulatedSession
from trainer.data.observing import Loss, with_signals
from trainer.data.sessions import DataError, Session, Sessions, Splits, together_in

REALISTIC_SESSIONS: Final = 150_000
TRAIN_ATTACKS: Final = 0.2
"""Share of attacks among the sessions trained on, far above any real one: the model has to see enough of them."""
VALID_LAWFUL: Final = 4 / 15
VALID_ATTACKS: Final = 2 / 75
TEST_LAWFUL: Final = 2 / 5
TEST_ATTACKS: Final = 1 / 25
BASE_RATE: Final = RealisticBehaviour().attack_rate
BEGIN_MS: Final = 1_767_571_200_000
"""Of lives: Monday, 5 January 2026."""
LIFE_DAYS: Final = 60
WARM_UP_DAYS: Final = 30
RAISED_RATE: Final = 0.05
"""Of attacks, to train on, by lawful sessions. A higher one would leave no account as its owner made it."""
SESSIONS_A_DAY: Final = 0.7
"""Of a customer."""
FEWEST_CUSTOMERS: Final = 100
VALID_LIVES, TEST_LIVES = 0.25, 0.5
"""Sessions of those parts by those trained on."""
CHUNK_SESSIONS: Final = 50_000


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
    _check_left_out(left_out, {family.name for family in ATTACK_FAMILIES})
    seen = RealisticBehaviour(
        attack_families=tuple(family for family in ATTACK_FAMILIES if family.name not in left_out)
    )
    attacks = round(TRAIN_ATTACKS * sessions)
    return Splits(
        simulate(sessions - attacks, attacks, 1_000 * seed + 1, seen),
        simulate(round(VALID_LAWFUL * sessions), round(VALID_ATTACKS * sessions), 1_000 * seed + 2, seen),
        simulate(round(TEST_LAWFUL * sessions), round(TEST_ATTACKS * sessions), 1_000 * seed + 3),
    )


def lived(
    sessions: float,
    seed: int,
    behaviour: LivesBehaviour,
    fields: Sequence[str],
    changed: Callable[[Iterator[Session]], Iterator[Session]] = iter,
) -> Sessions:
    """Simulate lives: all sessions, those of the warm-up too.

    Args:
        sessions: about how many after the warm-up.
        seed: of the simulation.
        behaviour: who lives there.
        fields: of events, which signals read.
        changed: may change sessions on their way.
    """
    customers = max(FEWEST_CUSTOMERS, round(sessions / (LIFE_DAYS * SESSIONS_A_DAY)))
    stream = lives.sessions(
        days=WARM_UP_DAYS + LIFE_DAYS, customers=customers, seed=seed, start_ms=BEGIN_MS, behaviour=behaviour
    )
    rows = changed(_of_life(begins_ms, session, fields) for begins_ms, session in stream)
    pieces = []
    while piece := list(itertools.islice(rows, CHUNK_SESSIONS)):
        pieces.append(Sessions.of(piece))
    return together_in(*pieces)


def after_warm_up(
    whole: Sessions,
    signals: Sequence[Signal],
    idle_timeout_ms: int,
    loss: Loss | None = None,
    *,
    keeps_fields: bool = False,
) -> Sessions:
    """Return the sessions of lives after the warm-up, with the signals that rest on all days before.

    Args:
        whole: of `lived`.
        signals: to compute.
        idle_timeout_ms: a session without an action for longer has ended.
        loss: of histories.
        keeps_fields: whether signals are to be computed again, of sessions that are changed.
    """
    encoding = Encoding([action.value for action in Action], 1, signals=signals)
    observed = with_signals(whole, encoding, idle_timeout_ms, loss, keeps_fields=keeps_fields)
    begins_ms = observed.times_ms[observed.starts[:-1]]  # type: ignore[index]  # all have times
    return observed.take(np.flatnonzero(begins_ms >= BEGIN_MS + WARM_UP_DAYS * DAY_MS))


def _of_life(begins_ms: int, session: SimulatedSession, fields: Sequence[str]) -> Session:
    start_ms, details = BEGIN_MS + begins_ms, session.details
    columns: dict[str, tuple[Value, ...]] = {}
    for field in fields:
        name = field.removeprefix("attributes.")
        if name in session.attributes:
            columns[field] = (session.attributes[name],) * len(details)
        else:
            columns[field] = session.amounts if field == "amount" else tuple(one.get(name) for one in details)
    return Session(
        session_id=session.session_id,
        actions=tuple(action.value for action in session.actions),
        label=session.label,
        timestamps_ms=tuple(session.timestamps_ms(start_ms)),
        type=session.kind,
        customer_type=session.customer_type,
        attack_from=session.attack_from,
        account_id=session.account_id,
        attack_id=session.attack_id,
        fields=columns,
    )


def lives_splits(
    sessions: int,
    seed: int,
    *,
    signals: Sequence[Signal],
    idle_timeout_ms: int,
    loss: Loss | None = None,
    left_out: Sequence[str] = (),
    changed: Callable[[Iterator[Session]], Iterator[Session]] = iter,
) -> Splits:
    """Simulate lives: three simulations of their own, of customers who share nothing.

    Args:
        sessions: to train on, about; those for the threshold and the figures come on top, in proportion.
        seed: of all three.
        signals: to compute.
        idle_timeout_ms: a session without an action for longer has ended.
        loss: of the histories that are trained on.
        left_out: attack families that are in the test part alone.
        changed: may change the sessions that are trained on.

    Raises:
        DataError: a family has no such name, or none is left.
    """
    _check_left_out(left_out, {scheme.name for scheme in SCHEMES})
    schemes = tuple(scheme for scheme in SCHEMES if scheme.name not in left_out)
    fields, seen = Signals(signals).fields, LivesBehaviour(schemes=schemes)
    raised = replace(seen, attack_rate=RAISED_RATE)
    return Splits(
        after_warm_up(
            lived(sessions, 1_000 * seed + 1, raised, fields, changed), signals, idle_timeout_ms, loss
        ),
        after_warm_up(
            lived(VALID_LIVES * sessions, 1_000 * seed + 2, seen, fields), signals, idle_timeout_ms
        ),
        after_warm_up(
            lived(TEST_LIVES * sessions, 1_000 * seed + 3, LivesBehaviour(), fields), signals, idle_timeout_ms
        ),
    )


def _check_left_out(left_out: Sequence[str], names: set[str]) -> None:
    if not set(left_out) < names and left_out:
        raise DataError(
            f"families {sorted(left_out)} to leave out: expected some, but not all, of {sorted(names)}"
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
