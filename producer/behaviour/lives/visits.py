"""Lawful sessions of a life, and the lawful twins of what attackers do: one for each sign, those of several sessions too."""

import random
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Final, NamedTuple, Protocol

import msgspec

from detector.contract.actions import Action
from producer.behaviour.customers import (
    AFTER_HOLIDAYS,
    CUSTOMER_TYPES,
    LARGE_TRANSFER,
    NEW_DEVICE,
    NEW_RECIPIENT,
    NEW_RECIPIENT_LARGE,
    PASSWORD_CHANGE,
    ROUTINE,
    Occasion,
    Step,
    draw_customer_gaps_ms,
    draw_lawful,
    draw_occasion,
)
from producer.behaviour.lives.hours import DAY_MS, HOUR_MS
from producer.behaviour.lives.networks import Networks, Place
from producer.behaviour.lives.owners import Owner
from producer.behaviour.lives.payees import Payee, draw_recipient
from producer.behaviour.session import SMALL_BELOW, SimulatedSession

LONGEST_SESSION_MS: Final = DAY_MS
"""What would come later in a session does not come."""
SUCCEEDED: Final = {"outcome": "success"}
FAILED: Final = {"outcome": "failure"}

MOVES_BANK: Final = Occasion(
    name="moves_bank",
    steps=(Step(Action.ADD_RECIPIENT), Step(Action.TRANSFER_SMALL, 0.4), Step(Action.TRANSFER_LARGE)),
    hesitation=1.2,
)
"""The account is emptied, by its owner, to somebody new: the twin of amounts up to what is there."""
PAYS_IN_PARTS: Final = Occasion(
    name="pays_in_parts", steps=(Step(Action.ADD_RECIPIENT, 0.7), Step(Action.TRANSFER_SMALL, 1.0, 3, 24))
)
"""Rent, a tax, a journey: more than a small transfer and less than a large one is paid in parts. The twin of a split sum."""
OF_LIFE: Final[Mapping[Occasion, float]] = {MOVES_BANK: 0.0006, PAYS_IN_PARTS: 0.006}
"""Occasions of every person, beside those of the type."""
PLANNED_PURCHASE: Final = replace(NEW_RECIPIENT_LARGE, name="planned_purchase")
TRIED_WITH_SMALL: Final = replace(LARGE_TRANSFER, name="tried_with_small_before")
AFTER_NEW_PASSWORD: Final = replace(NEW_RECIPIENT_LARGE, name="large_after_new_password")
AFTER_NEW_DEVICE: Final = replace(NEW_RECIPIENT_LARGE, name="large_after_new_device")
FORGOTTEN: Final = "forgotten_password"
"""Failed logins, and the password set anew: at once, or in a later session if the customer gives up."""
GIVES_UP: Final = "gives_up"
LOCKED_OUT: Final = "locked_out"
"""The same, since an attacker has changed the password: the owner takes the account back."""

FORGETS: Final = 0.003
FORGETS_AWAY: Final = 0.15
"""In the first session after days away."""
RESETS_AT_ONCE: Final = 0.6
CLEARS_COOKIES: Final = 0.004
"""Probability that a device is not known again: an identifier is what an application or a browser keeps."""
BORROWS: Final = 0.002
"""Probability of a device that is many people's: a branch's, a hotel's."""
PAYS_THE_NEW: Final = 0.85
"""Probability that a transfer goes to the recipient just added."""
ONE_OFF: Final = 0.08
"""Probability of a payment to somebody never seen, by an invoice's code, and never again."""


class Plan(NamedTuple):
    """What an owner has in mind for a visit."""

    occasion: Occasion | None = None
    payee: Payee | None = None
    """Whom to pay."""
    resets: bool = False
    """Whether it is to set a forgotten password anew."""


class Follow(NamedTuple):
    """A plan that a session of some kind leads to."""

    probability: float
    occasion: Occasion | None
    after_median_h: float


FOLLOWS: Final[Mapping[str, tuple[Follow, ...]]] = {
    ROUTINE: (Follow(0.003, PLANNED_PURCHASE, 22.0),),
    NEW_RECIPIENT.name: (Follow(0.12, TRIED_WITH_SMALL, 24.0),),
    PASSWORD_CHANGE.name: (Follow(0.08, AFTER_NEW_PASSWORD, 8.0),),
    FORGOTTEN: (Follow(0.08, AFTER_NEW_PASSWORD, 8.0),),
    NEW_DEVICE.name: (Follow(0.6, None, 6.0), Follow(0.08, AFTER_NEW_DEVICE, 20.0)),
}
"""The twins of attacks that span sessions, by the kind of the session before."""
COMES_AGAIN: Final = 4.0
"""Median hours until the customer who gave up comes again."""

Later = Callable[[int, Plan], None]
"""Takes the time of a planned visit, Unix milliseconds, and the plan."""


def draw_delay_ms(rng: random.Random, median_h: float) -> int:
    """Draw the time until a next session that the last one led to."""
    return max(60_000, round(HOUR_MS * median_h * rng.lognormvariate(0.0, 1.0)))


def draw_visit(
    rng: random.Random,
    session_id: str,
    owner: Owner,
    at_ms: int,
    plan: Plan,
    networks: Networks,
    later: Later,
) -> SimulatedSession:
    """Draw an owner's session, and let it change the owner's life."""
    forgets = FORGETS_AWAY if owner.came_back else 0.0 if owner.is_program else FORGETS
    occasion = plan.occasion or _reason_to_come(rng, owner)
    owner.came_back = owner.was_robbed = False
    kind = ROUTINE if occasion is None else occasion.name
    failures = 0
    if plan.resets or owner.is_locked_out or (plan.occasion is None and rng.random() < forgets):
        kind, occasion = (LOCKED_OUT if owner.is_locked_out else FORGOTTEN), None
        failures = rng.randint(0 if plan.resets else 2, 3)
        if not plan.resets and rng.random() >= RESETS_AT_ONCE:
            kind = GIVES_UP
        else:
            owner.is_locked_out = False
    elif not owner.is_program and rng.random() < owner.mistypes:
        failures = 1 + int(rng.random() < 0.2)  # noqa: PLR2004  mistyped again
    actions = [Action.LOGIN] if kind == GIVES_UP else draw_lawful(rng, owner.habits, occasion)
    if kind in {FORGOTTEN, LOCKED_OUT}:
        actions.insert(1, Action.CHANGE_PASSWORD)
    actions = [Action.LOGIN] * (failures - (kind == GIVES_UP)) + actions
    owner.passwords += actions.count(Action.CHANGE_PASSWORD)
    device, channel = _draw_device(rng, owner, occasion, networks)
    hands = OwnersHand(rng, owner, at_ms, plan.payee, occasion)
    amounts, details = carried(actions, failures, hands)
    session = finished(
        SimulatedSession(
            session_id=session_id,
            account_id=owner.account_id,
            kind=kind,
            customer_type=owner.habits.name,
            attack_from=None,
            actions=tuple(actions),
            gaps_ms=tuple(draw_customer_gaps_ms(rng, owner.habits, owner.speed, actions, occasion)),
            amounts=tuple(amounts),
            attributes=attributes_of(device, channel, owner.draw_place(rng, at_ms, channel, networks)),
            details=tuple(details),
        )
    )
    owner.busy_until_ms = at_ms + session.duration_ms
    if kind == GIVES_UP:
        later(owner.busy_until_ms + draw_delay_ms(rng, COMES_AGAIN), Plan(resets=True))
    for follow in () if owner.is_program else FOLLOWS.get(kind, ()):
        if rng.random() < follow.probability:
            payee = hands.added if follow.occasion is TRIED_WITH_SMALL else None
            if payee is not None:
                payee = payee._replace(median=owner.purse.draw_new(rng, large=True).median)
            then_ms = owner.busy_until_ms + draw_delay_ms(rng, follow.after_median_h)
            later(then_ms, Plan(follow.occasion, payee))
    return session


READS: Final = "reader"
"""A provider's program comes to a person's account."""
READER_REFUSED: Final = "reader_refused"
"""The same, with a password that has been changed since."""
READER: Final = next(habits for habits in CUSTOMER_TYPES if habits.name == "aggregator")
TELLS_READER: Final = 0.3
"""Probability that the owner tells a reader the new password, after a refusal, if the owner knows it."""


def draw_reading(
    rng: random.Random, session_id: str, owner: Owner, provider: int, networks: Networks
) -> SimulatedSession:
    """Draw a session of the program of a provider whom the owner lets read."""
    refused = owner.readers_password != owner.passwords
    if refused and not owner.is_locked_out and rng.random() < TELLS_READER:
        owner.readers_password = owner.passwords
    actions = [Action.LOGIN] if refused else draw_lawful(rng, READER, None)
    amounts, details = carried(actions, int(refused), OwnersHand(rng, owner, 0, None, None))
    return finished(
        SimulatedSession(
            session_id=session_id,
            account_id=owner.account_id,
            kind=READER_REFUSED if refused else READS,
            customer_type=owner.habits.name,
            attack_from=None,
            actions=tuple(actions),
            gaps_ms=tuple(draw_customer_gaps_ms(rng, READER, READER.tempo.draw_speed(rng), actions, None)),
            amounts=tuple(amounts),
            attributes=attributes_of(networks.machine(provider), "api", networks.provider(provider)),
            details=tuple(details),
        )
    )


def _reason_to_come(rng: random.Random, owner: Owner) -> Occasion | None:
    if owner.was_robbed:
        return PASSWORD_CHANGE
    if owner.came_back and rng.random() < 0.4:  # noqa: PLR2004  of returns
        return AFTER_HOLIDAYS
    return draw_occasion(rng, owner.habits)


def _draw_device(
    rng: random.Random, owner: Owner, occasion: Occasion | None, networks: Networks
) -> tuple[str, str]:
    if occasion is not None and occasion.new_device:
        return owner.replace_device(rng, keeps_old=0.3)
    chance = 1.0 if owner.is_program else rng.random()
    if chance < CLEARS_COOKIES:
        return owner.replace_device(rng, keeps_old=0.0)
    if chance < CLEARS_COOKIES + BORROWS:
        return networks.kiosk(rng), "web"
    return owner.draw_device(rng)


class Hand(Protocol):
    """Whoever adds recipients and pays."""

    def add_recipient(self) -> str:
        """Add somebody; return who it is."""

    def pay(self, action: Action) -> tuple[str, float]:
        """Make a transfer; return to whom and how many dollars."""


class OwnersHand:
    """How an owner pays: known payees their usual amounts, new ones, and a purchase now and then.

    Who makes a large payment has seen to it that the money is there.
    """

    def __init__(
        self, rng: random.Random, owner: Owner, at_ms: int, payee: Payee | None, occasion: Occasion | None
    ) -> None:
        self.added: Payee | None = None
        self._rng, self._owner, self._at_ms = rng, owner, at_ms
        self._payee = payee
        self._occasion = occasion

    def add_recipient(self) -> str:
        """Add somebody new; return who it is."""
        self.added = self._owner.purse.draw_new(self._rng, large=False)
        return self.added.recipient

    def pay(self, action: Action) -> tuple[str, float]:
        """Make a transfer; return to whom and how many dollars."""
        rng, purse = self._rng, self._owner.purse
        large = action is Action.TRANSFER_LARGE
        if self._payee is not None and large:
            payee = self._payee
            purse.add(payee)
        elif self.added is not None and rng.random() < PAYS_THE_NEW:
            payee = self.added
            if large:
                payee = payee._replace(median=purse.draw_new(rng, large=True).median)
            purse.add(payee)
        elif rng.random() < ONE_OFF:
            payee = purse.draw_new(rng, large=large)._replace(recipient=draw_recipient(rng))
        else:
            payee = purse.draw_known(rng, large=large)
        amount = payee.draw_amount(rng)
        if not large and self._occasion is PAYS_IN_PARTS:
            amount = round(rng.triangular(150.0, SMALL_BELOW - 0.01, 480.0), 2)
        elif large and self._occasion is MOVES_BANK:
            amount = max(amount, round(purse.funds(self._at_ms) * rng.uniform(0.85, 1.0), 2))
        purse.spend(amount, self._at_ms)
        return payee.recipient, amount


def carried(
    actions: Sequence[Action], failures: int, hand: Hand
) -> tuple[list[float | None], list[dict[str, str]]]:
    """Return each action's amount, and what its event carries of its own.

    Args:
        actions: of which the first `failures` are failed logins.
        failures: see there.
        hand: that adds recipients and pays.
    """
    amounts: list[float | None] = []
    details: list[dict[str, str]] = []
    for number, action in enumerate(actions):
        amount, detail = None, _NOTHING
        if action is Action.LOGIN:
            detail = FAILED if number < failures else SUCCEEDED
        elif action is Action.ADD_RECIPIENT:
            detail = {"recipient": hand.add_recipient()}
        elif action is Action.TRANSFER_SMALL or action is Action.TRANSFER_LARGE:
            recipient, amount = hand.pay(action)
            detail = {"recipient": recipient}
        amounts.append(amount)
        details.append(detail)
    return amounts, details


_NOTHING: Final[dict[str, str]] = {}


def attributes_of(device: str, channel: str, place: Place) -> dict[str, str]:
    """Return what every event of a session carries."""
    return {"device": device, "channel": channel, "country": place.country, "network": place.network}


def finished(session: SimulatedSession) -> SimulatedSession:
    """Return a session without what lies beyond `LONGEST_SESSION_MS`; nearly always as it is."""
    if session.duration_ms <= LONGEST_SESSION_MS:
        return session
    kept = bisect_right(list(accumulate(session.gaps_ms)), LONGEST_SESSION_MS)
    kept_session = msgspec.structs.replace(
        session,
        actions=session.actions[:kept],
        gaps_ms=session.gaps_ms[:kept],
        amounts=session.amounts[:kept],
        details=session.details[:kept],
    )
    if session.attack_from is None or session.attack_from < kept:
        return kept_session
    return msgspec.structs.replace(kept_session, kind=ROUTINE, attack_from=None, attack_id="", stage="")
