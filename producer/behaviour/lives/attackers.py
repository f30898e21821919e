"""Attackers in lives: how they get in, what they can take, attacks over several sessions, and stolen passwords tried in masses.

The single sessions are those of `producer.behaviour.attacks`.
"""

import random
from dataclasses import dataclass, field, replace
from typing import Final

from detector.contract.actions import Action
from producer.behaviour.attacks import (
    ATTACK_FAMILIES,
    AttackFamily,
    draw_around,
    draw_attack,
    draw_attack_gaps_ms,
)
from producer.behaviour.customers import Step, draw_customer_gaps_ms, draw_device, draw_usual
from producer.behaviour.lives.hours import DAY_MS, HOUR_MS
from producer.behaviour.lives.networks import ELSEWHERE, Networks, Place, draw_country
from producer.behaviour.lives.owners import Owner
from producer.behaviour.lives.payees import LEAST_LARGE, draw_recipient
from producer.behaviour.lives.visits import (
    FAILED,
    OwnersHand,
    attributes_of,
    carried,
    draw_delay_ms,
    finished,
)
from producer.behaviour.session import SMALL_BELOW, SimulatedSession

_PATIENT: Final = {"practised": 0.6, "like_a_customer": 0.4}
_QUICK: Final = {"hurried": 0.5, "practised": 0.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One session of an attack."""

    name: str
    """`look`, `lock`, `try` or `take`; the label file says which."""
    family: AttackFamily
    after_median_h: float = 0.0
    """Hours since the session before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """A family of attacks, of one session or of several."""

    name: str
    stages: tuple[Stage, ...]
    weight: float = 1.0
    """How often, beside the others."""
    tries_many: bool = False
    """Whether its accounts are found by trying passwords in masses, from one device."""


def _stage(name: str, after_median_h: float, family: AttackFamily) -> Stage:
    return Stage(name=name, family=replace(family, name=name), after_median_h=after_median_h)


_LOOK: Final = AttackFamily(name="look", steps=(), operators=_PATIENT, looks_around=(1, 6), logs_out=0.6)
_STUFFED: Final = replace(_LOOK, operators={"script": 0.7, "practised": 0.3}, looks_around=(1, 3))
_LOCK: Final = AttackFamily(
    name="lock",
    steps=(Step(Action.CHANGE_PASSWORD), Step(Action.ADD_RECIPIENT, 0.4)),
    operators=_QUICK,
)
_TRY: Final = AttackFamily(
    name="try",
    steps=(Step(Action.ADD_RECIPIENT), Step(Action.TRANSFER_SMALL)),
    operators=_PATIENT,
    looks_around=(0, 4),
)
_TAKE: Final = AttackFamily(
    name="take",
    steps=(Step(Action.ADD_RECIPIENT, 0.9), Step(Action.TRANSFER_LARGE, 1.0, 1, 3)),
    operators=_QUICK,
    padding=(0, 1),
)

LOOK_THEN_TAKE: Final = Scheme(
    name="look_then_take", stages=(_stage("look", 0.0, _LOOK), _stage("take", 20.0, _TAKE))
)
"""Looks around today, takes tomorrow."""
LOCK_THEN_TAKE: Final = Scheme(
    name="lock_then_take", stages=(_stage("lock", 0.0, _LOCK), _stage("take", 2.0, _TAKE))
)
"""Changes the lock in one session, takes the money in the next."""
SMALL_THEN_LARGE: Final = Scheme(
    name="small_then_large", stages=(_stage("try", 0.0, _TRY), _stage("take", 16.0, _TAKE))
)
"""Tries the recipient with a small sum, comes back for the large one."""
CREDENTIAL_STUFFING: Final = Scheme(
    name="credential_stuffing",
    stages=(_stage("look", 0.0, _STUFFED), _stage("take", 12.0, _TAKE)),
    tries_many=True,
)
"""One device tries stolen passwords on many accounts; where one fits, it looks, and the money goes later."""

SCHEMES: Final = (
    *(
        Scheme(name=family.name, stages=(Stage(name="take", family=family),), weight=family.weight)
        for family in ATTACK_FAMILIES
    ),
    LOOK_THEN_TAKE,
    LOCK_THEN_TAKE,
    SMALL_THEN_LARGE,
    CREDENTIAL_STUFFING,
)

ATTEMPT: Final = "attempt"
"""The stage in which nobody got in."""
FAILED_ATTEMPT: Final = "failed_attempt"
"""The type of such a session: lawful by its label, since there was nothing to block."""
ATTEMPTS: Final = (30, 120)
"""Accounts that one mass of stolen passwords is tried on, fewest and most; no more than a third of all."""
FITS: Final = 0.06
"""Probability that a stolen password fits."""
BETWEEN_ATTEMPTS_MEDIAN_S: Final = 45.0
MISTYPES: Final = 0.1
"""Probability that an attacker's first password is an old one."""

MALWARE, NEIGHBOUR, OWN = "malware", "neighbour", "own"
ACCESS: Final = {MALWARE: 0.3, NEIGHBOUR: 0.3, OWN: 0.4}
"""How they come, with weights: through the owner's own device and network; from a device of their own through
some customer's network; from a device and a network of their own."""
SEEM_NEAR: Final = 0.6
"""Probability that a network of their own is one in the owner's country."""
OTHER_PLACE: Final = 0.4
"""Probability that an attack goes on from another network."""
DEVICE_AGAIN: Final = 0.4
"""Probability that a crew's device shows itself as the one of its last attack."""
MULE_AGAIN: Final = 0.6
"""Probability that the money goes where a crew's last went."""
POOR_TARGETS: Final = 0.3
"""Probability of going on with an account in which there is no large sum."""
ADDS_AGAIN: Final = 0.2
"""Probability that a recipient of an earlier session of the attack is added again."""


@dataclass(slots=True, eq=False)
class Crew:
    """People who attack many accounts."""

    country: str
    hour: float
    """Of the day, about which they work, in UTC."""
    device: str = ""
    mule: str = ""

    def draw_time_ms(self, rng: random.Random, day: int) -> int:
        """Draw when on a day they begin an attack."""
        return day * DAY_MS + int(rng.gauss(self.hour, 4.0) % 24.0 * HOUR_MS)


@dataclass(slots=True, eq=False)
class Attack:
    """An attack on one account, from its first session to its last."""

    attack_id: str
    scheme: Scheme
    owner: Owner
    crew: Crew
    access: str
    device: tuple[str, str]
    place: Place
    mule: str
    passwords: int
    """How often the account's password had been changed when they learnt it."""
    has_recipient: bool = False
    stages_left: list[Stage] = field(default_factory=list)


def draw_crews(rng: random.Random, count: int) -> list[Crew]:
    """Draw who attacks: mostly by day, as customers come."""
    return [Crew(draw_country(rng, {**ELSEWHERE, "DE": 20.0}), rng.gauss(14.0, 4.0)) for _ in range(count)]


def draw_attack_on(
    rng: random.Random,
    attack_id: str,
    scheme: Scheme,
    owner: Owner,
    crew: Crew,
    neighbour: Owner,
    networks: Networks,
    at_ms: int,
) -> Attack:
    """Draw how an account is to be attacked.

    Args:
        rng: drawn from.
        attack_id: of this attack.
        scheme: of what family.
        owner: whose account.
        crew: who attacks.
        neighbour: the customer whose network they may come through.
        networks: of the simulation.
        at_ms: when it begins, Unix milliseconds.
    """
    (access,) = rng.choices(list(ACCESS), list(ACCESS.values()))
    if scheme.stages[0].family.in_session:
        access = MALWARE
    if access == MALWARE:
        device = owner.draw_device(rng)
        place = owner.draw_place(rng, at_ms, device[1], networks)
    else:
        fresh, channel = draw_device(rng, owner.habits)
        if not crew.device or rng.random() >= DEVICE_AGAIN:
            crew.device = fresh
        device = crew.device, channel
        if access == NEIGHBOUR and not neighbour.is_program:
            place = neighbour.home(networks)
        else:
            place = _own_place(rng, crew, owner, networks)
    if not crew.mule or rng.random() >= MULE_AGAIN:
        crew.mule = draw_recipient(rng)
    return Attack(
        attack_id,
        scheme,
        owner,
        crew,
        access,
        device,
        place,
        crew.mule,
        owner.passwords,
        stages_left=list(scheme.stages),
    )


def _own_place(rng: random.Random, crew: Crew, owner: Owner, networks: Networks) -> Place:
    """Draw a VPN's exit, a telephone in the owner's country or in the crew's, or a café."""
    (kind,) = rng.choices(("exit", "carrier", "hotspot"), (0.5, 0.35, 0.15))
    near = rng.random() < SEEM_NEAR
    if kind == "exit":
        return networks.exit(rng, owner.country if near else "")
    country = owner.country if near else crew.country
    if kind == "carrier":
        return networks.carrier(rng, country, owner.carrier)
    return networks.hotspot(rng, country)


def move_on(rng: random.Random, attack: Attack, networks: Networks, at_ms: int) -> None:
    """Let an attack go on from wherever the owner's device is now, or perhaps from another network."""
    if attack.access == MALWARE:
        attack.place = attack.owner.draw_place(rng, at_ms, attack.device[1], networks)
    elif attack.access == OWN and rng.random() < OTHER_PLACE:
        attack.place = _own_place(rng, attack.crew, attack.owner, networks)


class AttackersHand:
    """How an attacker pays: to the mule, up to what is there.

    Args:
        rng: drawn from.
        attack: whose mule and owner.
        taken: the actions to come, with no more large transfers than the account can pay.
        at_ms: when, Unix milliseconds.
        pads: whether small transfers beside large ones may be there to look harmless, to somebody known.
    """

    def __init__(
        self, rng: random.Random, attack: Attack, taken: list[Action], at_ms: int, *, pads: bool
    ) -> None:
        self._rng, self._attack, self._at_ms = rng, attack, at_ms
        self._large_left = taken.count(Action.TRANSFER_LARGE)
        self._pads = pads and self._large_left > 0
        self._small_median = 40.0 if self._large_left else 430.0  # below the limit that asks questions

    def add_recipient(self) -> str:
        """Add the mule."""
        self._attack.has_recipient = True
        return self._attack.mule

    def pay(self, action: Action) -> tuple[str, float]:
        """Make a transfer; return to whom and how many dollars."""
        rng, purse, recipient = self._rng, self._attack.owner.purse, self._attack.mule
        large = action is Action.TRANSFER_LARGE
        self._large_left -= large
        there = purse.funds(self._at_ms) - LEAST_LARGE * self._large_left
        if large:
            amount = LEAST_LARGE + max(0.0, there - LEAST_LARGE) * rng.betavariate(2.0, 1.2)
        else:
            amount = max(1.0, min(rng.triangular(1.0, SMALL_BELOW - 0.01, self._small_median), there))
            if self._pads and rng.random() < 0.5:  # noqa: PLR2004  to look harmless
                recipient = purse.draw_known(rng, large=False).recipient
        amount = int(100 * amount) / 100
        purse.spend(amount, self._at_ms)
        return recipient, amount


def draw_stage(rng: random.Random, session_id: str, attack: Attack, at_ms: int) -> SimulatedSession:
    """Draw the next session of an attack, and let it change the owner's life.

    An attacker whose password no longer fits fails to log in, and the attack ends.
    """
    owner, stage = attack.owner, attack.stages_left.pop(0)
    family = stage.family
    if attack.access != MALWARE and attack.passwords != owner.passwords:
        attack.stages_left.clear()
        return draw_failed(rng, session_id, owner, attack.device, attack.place, attack.attack_id)
    before = [Action.LOGIN]
    failures = int(not family.in_session and attack.access != MALWARE and rng.random() < MISTYPES)
    before += [Action.LOGIN] * failures
    if family.in_session:
        before += draw_usual(rng, owner.habits)
    taken = _draw_taken(rng, attack, family, at_ms)
    hand = AttackersHand(rng, attack, taken, at_ms, pads=family.padding[1] > 0)
    amounts, details = carried(before, failures, OwnersHand(rng, owner, at_ms, None, None))
    more = carried(taken, 0, hand)
    if family.in_session:
        gaps_ms = draw_customer_gaps_ms(rng, owner.habits, owner.speed, before, None)
        gaps_ms += draw_attack_gaps_ms(rng, family, taken)
    else:
        gaps_ms = [0, *draw_attack_gaps_ms(rng, family, [*before[1:], *taken])]
    if (changes := taken.count(Action.CHANGE_PASSWORD)) > 0:
        owner.passwords += changes
        attack.passwords = owner.passwords
        owner.is_locked_out = True
    if family.in_session:
        owner.busy_until_ms = at_ms + sum(gaps_ms)
    owner.was_robbed = owner.was_robbed or (stage.name == "take" and rng.random() < 0.5)  # noqa: PLR2004  who notices
    return finished(
        SimulatedSession(
            session_id=session_id,
            account_id=owner.account_id,
            kind=attack.scheme.name,
            customer_type=owner.habits.name,
            attack_from=len(before) if family.in_session else 0,
            actions=(*before, *taken),
            gaps_ms=tuple(gaps_ms),
            amounts=(*amounts, *more[0]),
            attributes=attributes_of(*attack.device, attack.place),
            details=(*details, *more[1]),
            attack_id=attack.attack_id,
            stage=stage.name,
        )
    )


def draw_next_ms(rng: random.Random, attack: Attack, ended_ms: int) -> int:
    """Draw when the next session of an attack begins; there must be one."""
    return ended_ms + draw_delay_ms(rng, attack.stages_left[0].after_median_h)


def _draw_taken(rng: random.Random, attack: Attack, family: AttackFamily, at_ms: int) -> list[Action]:
    """Draw the attacker's actions, with no more large transfers than the account can pay."""
    if len(attack.scheme.stages) == 1:
        taken = draw_attack(rng, family)
    else:
        taken = draw_around(rng, family, [step.draw(rng) for step in family.steps])
    if attack.has_recipient and rng.random() >= ADDS_AGAIN:
        taken = [action for action in taken if action is not Action.ADD_RECIPIENT] or taken
    affordable = int(attack.owner.purse.funds(at_ms) // LEAST_LARGE)
    for position, action in enumerate(taken):
        if action is Action.TRANSFER_LARGE:
            if affordable < 1:
                taken[position] = Action.TRANSFER_SMALL
            affordable -= 1
    return taken


def draw_failed(
    rng: random.Random, session_id: str, owner: Owner, device: tuple[str, str], place: Place, attack_id: str
) -> SimulatedSession:
    """Draw a session of an attacker whose password does not fit: failed logins, and no more."""
    actions = [Action.LOGIN] * rng.choice((1, 1, 1, 2, 3))
    return SimulatedSession(
        session_id=session_id,
        account_id=owner.account_id,
        kind=FAILED_ATTEMPT,
        customer_type=owner.habits.name,
        attack_from=None,
        actions=tuple(actions),
        gaps_ms=(0, *draw_attack_gaps_ms(rng, _STUFFED, actions[1:])),
        amounts=(None,) * len(actions),
        attributes=attributes_of(*device, place),
        details=(FAILED,) * len(actions),
        attack_id=attack_id,
        stage=ATTEMPT,
    )
