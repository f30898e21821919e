"""Families of account takeover for the `realistic` preset: each named, documented, seeded and parametric.

All follow the stages that fraud teams tell apart: perhaps a look around, perhaps a changed credential to keep the
owner out, a recipient the attacker controls, the money. The signs are those of the literature, and only as strong as
there: little time between a change of the account and the payment, practised handling of forms with little
knowledge of the account (FinCEN advisory FIN-2011-A016, "Account takeover activity"; FFIEC, "Authentication in an
Internet banking environment", supplement of 2011; the vendors of behavioural biometrics). Customers show every one
of the signs as well, see `customers`.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from detector.contract.actions import Action
from producer.behaviour.customers import BROWSING, Step
from producer.behaviour.timing import PERSON, PROGRAM, Tempo, Waits, medians_s

PRACTISED: Final = Tempo(
    median_s=medians_s(balance=5, transactions=9, small=13, large=18, password=16, recipient=20, logout=7),
    spread=0.45,
)
"""A person who has filled in these forms often: pastes the mule's account number, reads balances like anybody."""
HURRIED: Final = Tempo(
    median_s=medians_s(balance=3, transactions=5, small=7, large=10, password=9, recipient=11, logout=4),
    spread=0.45,
)
"""A person who expects to be cut off."""
SCRIPT: Final = PROGRAM
"""A program, throttled by some to pass for a person: at the tempo of lawful programs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackFamily:
    """How one family of attackers proceeds; every number is a parameter."""

    name: str
    steps: tuple[Step, ...]
    """The attack itself, in its usual order."""
    operators: Mapping[str, float]
    """Weights of who does it: a key of `OPERATORS`."""
    weight: float = 1.0
    """How often, beside the other families."""
    looks_around: tuple[int, int] = (0, 2)
    """Fewest and most looks at the account before the first step."""
    padding: tuple[int, int] = (0, 0)
    """Fewest and most harmless actions between two steps; a session's own most is drawn first."""
    padding_transfers: float = 0.1
    """Share of small transfers, to known recipients, among the harmless actions."""
    any_order: bool = False
    waits: Waits | None = None
    logs_out: float = 0.5
    in_session: bool = False
    """Whether it takes over a customer's open session instead of logging in."""


OPERATORS: Final[Mapping[str, Tempo]] = {
    "practised": PRACTISED,
    "hurried": HURRIED,
    "script": SCRIPT,
    "like_a_customer": PERSON,
}

QUICK_DRAIN: Final = AttackFamily(
    name="quick_drain",
    steps=(Step(Action.ADD_RECIPIENT), Step(Action.TRANSFER_LARGE, 1.0, 1, 3)),
    operators={"hurried": 0.7, "practised": 0.3},
)
"""In, a new recipient, the money, out: the notebook's first attack with a person's variety."""
PASSWORD_RESET: Final = AttackFamily(
    name="password_reset",
    steps=(
        Step(Action.CHANGE_PASSWORD),
        Step(Action.ADD_RECIPIENT, 0.3),
        Step(Action.TRANSFER_LARGE, 1.0, 1, 2),
    ),
    operators={"hurried": 0.6, "practised": 0.4},
)
"""The owner is locked out first: the notebook's second attack."""
BENIGN_PADDED: Final = AttackFamily(
    name="benign_padded",
    steps=(
        Step(Action.CHANGE_PASSWORD, 0.4),
        Step(Action.ADD_RECIPIENT, 0.9),
        Step(Action.TRANSFER_LARGE, 1.0, 1, 2),
    ),
    operators={"practised": 0.8, "like_a_customer": 0.2},
    padding=(1, 3),
)
"""Harmless actions between the steps, to break up the pattern."""
INTERLEAVED: Final = AttackFamily(
    name="interleaved",
    steps=(
        Step(Action.CHANGE_PASSWORD, 0.4),
        Step(Action.ADD_RECIPIENT, 0.9),
        Step(Action.TRANSFER_LARGE, 1.0, 1, 2),
    ),
    operators={"practised": 0.7, "like_a_customer": 0.3},
    looks_around=(2, 8),
    padding=(2, 9),
    padding_transfers=0.15,
)
"""The steps lost in a long session of browsing, too far apart for a short window."""
SLOW: Final = AttackFamily(
    name="slow",
    steps=(
        Step(Action.CHANGE_PASSWORD, 0.5),
        Step(Action.ADD_RECIPIENT, 0.9),
        Step(Action.TRANSFER_LARGE, 1.0, 1, 2),
    ),
    operators={"practised": 0.8, "like_a_customer": 0.2},
    looks_around=(0, 4),
    padding=(0, 2),
    waits=Waits(),
)
"""Spread over hours, past every limit on speed."""
SPLIT: Final = AttackFamily(
    name="split",
    steps=(
        Step(Action.CHANGE_PASSWORD, 0.25),
        Step(Action.ADD_RECIPIENT, 0.9, 1, 2),
        Step(Action.TRANSFER_SMALL, 1.0, 6, 24),
    ),
    operators={"hurried": 0.5, "practised": 0.3, "script": 0.2},
)
"""Many small transfers in place of a large one, each below the limit that asks questions."""
REORDERED: Final = AttackFamily(
    name="reordered",
    steps=(
        Step(Action.CHANGE_PASSWORD, 0.7),
        Step(Action.ADD_RECIPIENT, 0.9),
        Step(Action.TRANSFER_SMALL, 0.4),
        Step(Action.TRANSFER_LARGE, 1.0, 1, 2),
    ),
    operators={"practised": 0.6, "hurried": 0.4},
    padding=(0, 1),
    any_order=True,
)
"""The same steps in any order: the money may go first, to a recipient of an earlier visit, and the lock change after."""
MID_SESSION_HIJACK: Final = AttackFamily(
    name="mid_session_hijack",
    steps=(
        Step(Action.CHANGE_PASSWORD, 0.4),
        Step(Action.ADD_RECIPIENT, 0.9),
        Step(Action.TRANSFER_LARGE, 1.0, 1, 3),
    ),
    operators={"hurried": 0.5, "practised": 0.3, "script": 0.2},
    looks_around=(0, 1),
    in_session=True,
)
"""A customer's session, taken over with its cookie or by remote control; all before `attack_from` is lawful."""
SCRIPTED_FAST: Final = AttackFamily(
    name="scripted_fast",
    steps=(
        Step(Action.CHANGE_PASSWORD, 0.4),
        Step(Action.ADD_RECIPIENT, 0.9),
        Step(Action.TRANSFER_LARGE, 1.0, 1, 4),
    ),
    operators={"script": 1.0},
    looks_around=(0, 4),
    logs_out=0.7,
)
"""A program works through stolen credentials."""
HUMAN_OPERATED: Final = AttackFamily(
    name="human_operated",
    steps=(
        Step(Action.CHANGE_PASSWORD, 0.35),
        Step(Action.ADD_RECIPIENT, 0.85),
        Step(Action.TRANSFER_SMALL, 0.4),
        Step(Action.TRANSFER_LARGE, 1.0, 1, 2),
    ),
    operators={"practised": 0.7, "like_a_customer": 0.3},
    looks_around=(1, 5),
    padding=(0, 2),
)
"""A patient person: looks around, tries the recipient with a small sum, then takes the large one."""

ATTACK_FAMILIES: Final = (
    QUICK_DRAIN,
    PASSWORD_RESET,
    BENIGN_PADDED,
    INTERLEAVED,
    SLOW,
    SPLIT,
    REORDERED,
    MID_SESSION_HIJACK,
    SCRIPTED_FAST,
    HUMAN_OPERATED,
)


def draw_attack(rng: random.Random, family: AttackFamily) -> list[Action]:
    """Draw the attacker's actions, without the LOGIN."""
    steps = [step.draw(rng) for step in family.steps]
    if not any(Action.CHANGE_PASSWORD in step or Action.ADD_RECIPIENT in step for step in steps):
        steps.insert(0, [Action.ADD_RECIPIENT])  # the money has to reach somebody
    return draw_around(rng, family, steps)


def draw_around(rng: random.Random, family: AttackFamily, steps: list[list[Action]]) -> list[Action]:
    """Draw what the attacker does around `steps`: looks, harmless actions, perhaps a LOGOUT."""
    if family.any_order:
        rng.shuffle(steps)
    done = _looks(rng, rng.randint(*family.looks_around), transfers=0.0)
    fewest, most = family.padding
    most = rng.randint(fewest, most)
    for position, action in enumerate(action for step in steps for action in step):
        if position:
            done += _looks(rng, rng.randint(fewest, most), transfers=family.padding_transfers)
        done.append(action)
    done += _looks(rng, int(rng.random() < _LAST_LOOK), transfers=0.0)
    if rng.random() < family.logs_out:
        done.append(Action.LOGOUT)
    return done


_LAST_LOOK: Final = 0.3
"""Probability that an attacker looks whether the money has gone."""


def draw_attack_gaps_ms(rng: random.Random, family: AttackFamily, actions: Sequence[Action]) -> list[int]:
    """Draw the gap before each of the attacker's `actions`, by an operator drawn for the session."""
    (operator,) = rng.choices(list(family.operators), list(family.operators.values()))
    tempo = OPERATORS[operator]
    gaps_ms = tempo.draw_gaps_ms(rng, actions, tempo.draw_speed(rng))
    return gaps_ms if family.waits is None else family.waits.draw_over(rng, gaps_ms)


def _looks(rng: random.Random, count: int, transfers: float) -> list[Action]:
    """Draw `count` harmless actions, a share of them small transfers."""
    return [Action.TRANSFER_SMALL if rng.random() < transfers else rng.choice(BROWSING) for _ in range(count)]
