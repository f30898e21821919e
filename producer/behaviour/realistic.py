"""The `realistic` preset: customers with habits, lawful sensitive sessions, and ten families of attack among them."""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from detector.contract.actions import Action
from producer.behaviour.attacks import (
    ATTACK_FAMILIES,
    AttackFamily,
    draw_attack,
    draw_attack_gaps_ms,
)
from producer.behaviour.customers import (
    CUSTOMER_TYPES,
    ROUTINE,
    CustomerType,
    draw_customer_gaps_ms,
    draw_device,
    draw_lawful,
    draw_occasion,
    draw_usual,
)
from producer.behaviour.session import (
    SMALL_BELOW,
    SimulatedSession,
    draw_id,
    shuffled,
    stream,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RealisticBehaviour:
    """What is simulated, and how much of it."""

    attack_rate: float = 0.01
    """Attacks among all sessions, 0 to 1; real ones lie nearer 1 in 10,000. Kept exact, rounded to a session."""
    customers: int = 20_000
    customer_types: tuple[CustomerType, ...] = CUSTOMER_TYPES
    attack_families: tuple[AttackFamily, ...] = ATTACK_FAMILIES
    attacker_has_own_device: float = 0.7
    """Otherwise the customer's own: malware, or remote control. Always so for a session taken over."""

    def __post_init__(self) -> None:
        if not 0 <= self.attack_rate <= 1:
            raise ValueError(f"attack_rate is {self.attack_rate}: expected a share from 0 to 1")
        if self.customers < len(self.customer_types):
            raise ValueError(
                f"{self.customers} customers: expected one of each type, {len(self.customer_types)}, or more"
            )


@dataclass(frozen=True, slots=True)
class _Customer:
    """One account's owner, the same in every session of a seed."""

    account_id: str
    habits: CustomerType
    speed: float
    devices: tuple[tuple[str, str], ...]
    """Identifier and channel of each."""


class _Population:
    """The customers of a seed, made from their number when needed: nothing is kept."""

    def __init__(self, seed: int, behaviour: RealisticBehaviour) -> None:
        types = behaviour.customer_types
        whole = sum(habits.share for habits in types)
        edges = accumulate((habits.share / whole for habits in types), initial=0.0)
        self._edges = [round(edge * behaviour.customers) for edge in edges]
        self._types = types
        self._seed = seed
        self._by_sessions = [habits.share * habits.sessions_per_month for habits in types]
        self._by_attacks = [habits.share * habits.target_weight for habits in types]

    def draw_visitor(self, rng: random.Random) -> _Customer:
        """Draw who opens a lawful session: each type as often as its customers come."""
        return self._draw(rng, self._by_sessions)

    def draw_target(self, rng: random.Random) -> _Customer:
        """Draw whose account is attacked."""
        return self._draw(rng, self._by_attacks)

    def _draw(self, rng: random.Random, weights: list[float]) -> _Customer:
        (index,) = rng.choices(range(len(self._types)), weights)
        first, end = self._edges[index], self._edges[index + 1]
        number = first + int(rng.random() * max(1, end - first))
        # Hashed, so that the account's id tells nothing of its owner's type.
        digest = hashlib.blake2b(f"{self._seed}/{number}".encode(), digest_size=32).digest()
        habits = self._types[index]
        own = random.Random(digest)  # noqa: S311  a simulation, not a secret
        return _Customer(
            account_id=digest[:8].hex(),
            habits=habits,
            speed=habits.tempo.draw_speed(own),
            devices=tuple(draw_device(own, habits) for _ in range(own.randint(1, habits.devices))),
        )


def sessions(
    count: int, seed: int, behaviour: RealisticBehaviour = RealisticBehaviour()
) -> Iterator[SimulatedSession]:
    """Yield `count` sessions lazily, in a random order, with the number of attacks kept exact."""
    mix, ids, who, what, when, amounts = (
        stream(seed, f"realistic/{purpose}") for purpose in ("mix", "ids", "who", "what", "when", "amounts")
    )
    population = _Population(seed, behaviour)
    families = behaviour.attack_families
    weights = [family.weight for family in families]
    attacks = round(count * behaviour.attack_rate) if families else 0
    for side in shuffled(mix, {"lawful": count - attacks, "attack": attacks}):
        if side == "lawful":
            customer = population.draw_visitor(who)
            occasion = draw_occasion(what, customer.habits)
            actions = draw_lawful(what, customer.habits, occasion)
            gaps_ms = draw_customer_gaps_ms(when, customer.habits, customer.speed, actions, occasion)
            kind = ROUTINE if occasion is None else occasion.name
            attack_from = None
            is_new_device = occasion is not None and occasion.new_device
        else:
            customer = population.draw_target(who)
            (family,) = mix.choices(families, weights)
            before = [Action.LOGIN]
            if family.in_session:
                before += draw_usual(what, customer.habits)
            attack_from = len(before) if family.in_session else 0
            taken = draw_attack(what, family)
            actions = before + taken
            gaps_ms = draw_customer_gaps_ms(when, customer.habits, customer.speed, before, None)
            gaps_ms += draw_attack_gaps_ms(when, family, taken)
            kind = family.name
            is_new_device = not family.in_session and who.random() < behaviour.attacker_has_own_device
        device, channel = draw_device(who, customer.habits) if is_new_device else who.choice(customer.devices)
        yield SimulatedSession(
            session_id=draw_id(ids),
            account_id=customer.account_id,
            kind=kind,
            customer_type=customer.habits.name,
            attack_from=attack_from,
            actions=tuple(actions),
            gaps_ms=tuple(gaps_ms),
            amounts=tuple(
                _draw_amount(amounts, action, is_attack=attack_from is not None) for action in actions
            ),
            attributes={"device": device, "channel": channel},
        )


def _draw_amount(rng: random.Random, action: Action, *, is_attack: bool) -> float | None:
    """Draw dollars: attackers take more, and split just below the limit, but never outside what customers pay."""
    if action is Action.TRANSFER_SMALL:
        # The triangular distribution leans towards its mode.
        return round(rng.triangular(1.0, SMALL_BELOW - 0.01, 450.0 if is_attack else 40.0), 2)
    if action is Action.TRANSFER_LARGE:
        return round(min(10_000.01 + rng.lognormvariate(9.0 if is_attack else 8.3, 1.0), 250_000.0), 2)
    return None
