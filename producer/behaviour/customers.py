"""Customers of the `realistic` preset: who they are, what they usually do, and what they seldom but lawfully do.

The numbers are assumptions, chosen for their order and stated so that they can be argued with and changed: no
bank publishes its sessions. What matters is that every single sign of an attack is also shown by customers.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from detector.contract.actions import Action
from producer.behaviour.timing import PERSON, PROGRAM, Tempo, Waits

BROWSING: Final = (Action.VIEW_BALANCE, Action.VIEW_TRANSACTIONS)
LONGEST_ROUTINE: Final = 200
ROUTINE: Final = "routine"
"""The kind of a lawful session without an occasion."""
GREETED_BY_BALANCE: Final = 0.6
"""Probability that a session begins with the balance, as the start page of most applications does."""


@dataclass(frozen=True, slots=True)
class Step:
    """An action that a script takes with some probability, once or several times running."""

    action: Action
    probability: float = 1.0
    fewest: int = 1
    most: int = 1

    def draw(self, rng: random.Random) -> list[Action]:
        """Draw what the step comes to this time; perhaps nothing."""
        if rng.random() >= self.probability:
            return []
        return [self.action] * rng.randint(self.fewest, self.most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """A lawful reason for sensitive actions. The steps fall somewhere in an otherwise usual session."""

    name: str
    steps: tuple[Step, ...]
    hesitation: float = 1.0
    """Factor on every gap: people are slower at what they seldom do."""
    browsing: float = 0.25
    """Probability of looking something up before each step."""
    new_device: bool = False


LARGE_TRANSFER: Final = Occasion(name="large_transfer", steps=(Step(Action.TRANSFER_LARGE, 1.0, 1, 2),))
"""A large sum to a known recipient: savings, tax, a supplier."""
NEW_RECIPIENT: Final = Occasion(
    name="new_recipient",
    steps=(Step(Action.ADD_RECIPIENT, 1.0, 1, 2), Step(Action.TRANSFER_SMALL, 0.9, 1, 2)),
)
"""A first small payment to somebody."""
NEW_RECIPIENT_LARGE: Final = Occasion(
    name="new_recipient_large",
    steps=(
        Step(Action.ADD_RECIPIENT),
        Step(Action.TRANSFER_SMALL, 0.2),
        Step(Action.TRANSFER_LARGE, 1.0, 1, 2),
    ),
    hesitation=1.2,
)
"""A car, a builder, the deposit of a house: the same actions as a quick drain."""
PASSWORD_CHANGE: Final = Occasion(name="password_change", steps=(Step(Action.CHANGE_PASSWORD),))
PASSWORD_CHANGE_LARGE: Final = Occasion(
    name="password_change_large",
    steps=(Step(Action.CHANGE_PASSWORD), Step(Action.TRANSFER_LARGE, 1.0, 1, 2)),
    hesitation=1.2,
)
"""The password had to be changed before the payment the customer came for."""
PASSWORD_CHANGE_NEW_RECIPIENT_LARGE: Final = Occasion(
    name="password_change_new_recipient_large",
    steps=(Step(Action.CHANGE_PASSWORD), Step(Action.ADD_RECIPIENT), Step(Action.TRANSFER_LARGE, 1.0, 1, 2)),
    hesitation=1.2,
)
AFTER_HOLIDAYS: Final = Occasion(
    name="after_holidays",
    steps=(
        Step(Action.CHANGE_PASSWORD, 0.4),
        Step(Action.VIEW_TRANSACTIONS, 0.9, 1, 4),
        Step(Action.ADD_RECIPIENT, 0.15),
        Step(Action.TRANSFER_SMALL, 0.7, 1, 5),
        Step(Action.TRANSFER_LARGE, 0.1),
    ),
    hesitation=1.4,
)
"""After weeks away: the password is forgotten, and what has gathered is paid in one sitting."""
NEW_DEVICE: Final = Occasion(
    name="new_device",
    steps=(
        Step(Action.CHANGE_PASSWORD, 0.3),
        Step(Action.VIEW_BALANCE, 0.8, 1, 2),
        Step(Action.ADD_RECIPIENT, 0.1),
        Step(Action.TRANSFER_SMALL, 0.2),
        Step(Action.TRANSFER_LARGE, 0.05),
    ),
    hesitation=1.3,
    new_device=True,
)
"""A new telephone is set up."""


LEFT_OPEN: Final = Waits()
"""Where a session can live for hours, as a slow attack needs, customers leave theirs open too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerType:
    """Habits shared by a part of the customers."""

    name: str
    share: float
    """Of all customers."""
    sessions_per_month: float
    target_weight: float
    """How much more often than their number says they are attacked; 0 for never."""
    usual: Mapping[Action, float]
    """Weights of the usual actions."""
    length_median: float
    """Usual actions in a session, after LOGIN."""
    length_sigma: float
    occasions: Mapping[Occasion, float]
    """Probability of each in one session."""
    tempo: Tempo = PERSON
    confirms: float = 0.5
    """Probability of a look at the account after a transfer."""
    logs_out: float = 0.5
    """Probability of ending with LOGOUT; other sessions just stop."""
    left_open: float = 0.04
    """Share of sessions kept open for hours, in another tab or an application in the background."""
    devices: int = 2
    """Most devices a customer has."""
    channels: tuple[str, ...] = ("mobile", "web")


_OCCASIONS: Final[Mapping[Occasion, float]] = {
    LARGE_TRANSFER: 0.004,
    NEW_RECIPIENT: 0.02,
    NEW_RECIPIENT_LARGE: 0.003,
    PASSWORD_CHANGE: 0.01,
    PASSWORD_CHANGE_LARGE: 0.0008,
    PASSWORD_CHANGE_NEW_RECIPIENT_LARGE: 0.0005,
    AFTER_HOLIDAYS: 0.006,
    NEW_DEVICE: 0.01,
}

CUSTOMER_TYPES: Final = (
    # Looks at the balance on a telephone, pays friends.
    CustomerType(
        name="everyday",
        share=0.52,
        sessions_per_month=18,
        target_weight=1.0,
        usual={Action.VIEW_BALANCE: 5, Action.VIEW_TRANSACTIONS: 4, Action.TRANSFER_SMALL: 1},
        length_median=2.6,
        length_sigma=0.6,
        occasions=_OCCASIONS,
        logs_out=0.3,
    ),
    # Comes to pay a stack of bills, one after the other: many small transfers are nothing unusual.
    CustomerType(
        name="bill_payer",
        share=0.20,
        sessions_per_month=8,
        target_weight=1.0,
        usual={Action.VIEW_BALANCE: 3, Action.VIEW_TRANSACTIONS: 3, Action.TRANSFER_SMALL: 7},
        length_median=6.0,
        length_sigma=0.6,
        occasions={**_OCCASIONS, NEW_RECIPIENT: 0.06, LARGE_TRANSFER: 0.01},
    ),
    # Reads everything twice, logs out always.
    CustomerType(
        name="unhurried",
        share=0.14,
        sessions_per_month=4,
        target_weight=2.0,
        usual={Action.VIEW_BALANCE: 4, Action.VIEW_TRANSACTIONS: 6, Action.TRANSFER_SMALL: 2},
        length_median=5.0,
        length_sigma=0.5,
        occasions={**_OCCASIONS, PASSWORD_CHANGE: 0.03, AFTER_HOLIDAYS: 0.02},
        tempo=replace(
            PERSON, median_s={action: 2.2 * s for action, s in PERSON.median_s.items()}, interruption=0.03
        ),
        confirms=0.8,
        logs_out=0.9,
        devices=1,
    ),
    # Moves large sums between known accounts.
    CustomerType(
        name="affluent",
        share=0.06,
        sessions_per_month=8,
        target_weight=3.0,
        usual={
            Action.VIEW_BALANCE: 4,
            Action.VIEW_TRANSACTIONS: 4,
            Action.TRANSFER_SMALL: 1,
            Action.TRANSFER_LARGE: 0.3,
        },
        length_median=5.0,
        length_sigma=0.6,
        occasions={**_OCCASIONS, LARGE_TRANSFER: 0.08, NEW_RECIPIENT_LARGE: 0.02},
        devices=3,
    ),
    # An open window all day: long sessions, long gaps, suppliers old and new.
    CustomerType(
        name="business",
        share=0.06,
        sessions_per_month=30,
        target_weight=2.0,
        usual={
            Action.VIEW_BALANCE: 3,
            Action.VIEW_TRANSACTIONS: 5,
            Action.TRANSFER_SMALL: 4,
            Action.TRANSFER_LARGE: 0.4,
            Action.ADD_RECIPIENT: 0.1,
        },
        length_median=14.0,
        length_sigma=0.8,
        occasions={**_OCCASIONS, NEW_RECIPIENT: 0.06, NEW_RECIPIENT_LARGE: 0.02, LARGE_TRANSFER: 0.05},
        tempo=replace(
            PERSON,
            median_s={action: 0.7 * s for action, s in PERSON.median_s.items()},
            interruption=0.08,
            interruption_median_s=1_200.0,
        ),
        left_open=0.15,
        devices=3,
        channels=("web",),
    ),
    # Fetches balances for a budget application.
    CustomerType(
        name="aggregator",
        share=0.015,
        sessions_per_month=90,
        target_weight=0.0,
        usual={Action.VIEW_BALANCE: 1, Action.VIEW_TRANSACTIONS: 3},
        length_median=6.0,
        length_sigma=0.9,
        occasions={},
        tempo=PROGRAM,
        logs_out=0.6,
        left_open=0.05,
        devices=1,
        channels=("api",),
    ),
    # Runs a company's payments: fast, long, large sums and new suppliers among them, and all of it lawful.
    CustomerType(
        name="payment_script",
        share=0.005,
        sessions_per_month=60,
        target_weight=0.0,
        usual={
            Action.VIEW_BALANCE: 2,
            Action.VIEW_TRANSACTIONS: 2,
            Action.TRANSFER_SMALL: 12,
            Action.TRANSFER_LARGE: 1.5,
            Action.ADD_RECIPIENT: 0.3,
        },
        length_median=12.0,
        length_sigma=0.9,
        occasions={
            NEW_RECIPIENT: 0.15,
            NEW_RECIPIENT_LARGE: 0.05,
            LARGE_TRANSFER: 0.1,
            PASSWORD_CHANGE: 0.01,
        },
        tempo=PROGRAM,
        confirms=0.2,
        logs_out=0.9,
        devices=1,
        channels=("api",),
    ),
)


def draw_usual(rng: random.Random, habits: CustomerType) -> list[Action]:
    """Draw the usual actions of one session, at least one, without LOGIN and LOGOUT."""
    length = max(1, round(math.exp(rng.gauss(math.log(habits.length_median), habits.length_sigma))))
    kinds, weights = list(habits.usual), list(habits.usual.values())
    done: list[Action] = []
    while len(done) < min(length, LONGEST_ROUTINE):
        if not done and rng.random() < GREETED_BY_BALANCE:
            done.append(Action.VIEW_BALANCE)
            continue
        (action,) = rng.choices(kinds, weights)
        done.append(action)
        if action in {Action.TRANSFER_SMALL, Action.TRANSFER_LARGE} and rng.random() < habits.confirms:
            done.append(rng.choice(BROWSING))
    return done


def draw_occasion(rng: random.Random, habits: CustomerType) -> Occasion | None:
    """Draw the occasion of one session; mostly none."""
    left = rng.random()
    for occasion, probability in habits.occasions.items():
        if left < probability:
            return occasion
        left -= probability
    return None


def draw_lawful(rng: random.Random, habits: CustomerType, occasion: Occasion | None) -> list[Action]:
    """Draw the actions of one lawful session, LOGIN first."""
    done = draw_usual(rng, habits)
    if occasion is not None:
        steps: list[Action] = []
        for step in occasion.steps:
            for action in step.draw(rng):
                if rng.random() < occasion.browsing:
                    steps.append(rng.choice(BROWSING))
                steps.append(action)
                if (
                    action in {Action.TRANSFER_SMALL, Action.TRANSFER_LARGE}
                    and rng.random() < habits.confirms
                ):
                    steps.append(rng.choice(BROWSING))
        at = rng.randint(0, len(done))
        done[at:at] = steps
    if rng.random() < habits.logs_out:
        done.append(Action.LOGOUT)
    return [Action.LOGIN, *done]


def draw_customer_gaps_ms(
    rng: random.Random,
    habits: CustomerType,
    speed: float,
    actions: Sequence[Action],
    occasion: Occasion | None,
) -> list[int]:
    """Draw a customer's gaps, the first 0: own speed, the day's form, and hesitation at what is seldom done."""
    speed = speed * math.exp(rng.gauss(0.0, 0.2)) * (1.0 if occasion is None else occasion.hesitation)
    gaps_ms = habits.tempo.draw_gaps_ms(rng, actions[1:], speed)
    if rng.random() < habits.left_open:
        gaps_ms = LEFT_OPEN.draw_over(rng, gaps_ms)
    return [0, *gaps_ms]


def draw_device(rng: random.Random, habits: CustomerType) -> tuple[str, str]:
    """Draw a device's identifier and channel."""
    return f"{rng.getrandbits(48):012x}", rng.choice(habits.channels)
