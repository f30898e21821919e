"""The lives of all customers as one stream of sessions, in the order of their beginnings: days of a calendar, lazily."""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Final

from producer.behaviour.customers import CUSTOMER_TYPES, CustomerType, draw_device
from producer.behaviour.lives.attackers import (
    ATTEMPTS,
    BETWEEN_ATTEMPTS_MEDIAN_S,
    FITS,
    OWN,
    POOR_TARGETS,
    SCHEMES,
    Attack,
    Crew,
    Scheme,
    draw_attack_on,
    draw_crews,
    draw_failed,
    draw_next_ms,
    draw_stage,
    move_on,
)
from producer.behaviour.lives.hours import DAY_MS, HOUR_MS, MONTH_DAYS
from producer.behaviour.lives.networks import Networks
from producer.behaviour.lives.owners import Owner, draw_owners
from producer.behaviour.lives.payees import LEAST_LARGE
from producer.behaviour.lives.visits import OF_LIFE, Plan, draw_reading, draw_visit
from producer.behaviour.session import SimulatedSession, draw_gap_ms, draw_id, stream

CREWS: Final = 12
WHILE_OWNERS_COME: Final = 0.35
"""Share of attacks at a time at which the owner might come; others in the hours of the crew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LivesBehaviour:
    """What is simulated beside the number of days and of customers."""

    attack_rate: float = 0.01
    """Attacks, each of one session or more, by the lawful sessions expected; in the mean. Attempts come on top."""
    customer_types: tuple[CustomerType, ...] = CUSTOMER_TYPES
    schemes: tuple[Scheme, ...] = SCHEMES

    def __post_init__(self) -> None:
        if not 0 <= self.attack_rate <= 1:
            raise ValueError(f"attack_rate is {self.attack_rate}: expected a share from 0 to 1")


def sessions(
    *, days: int, customers: int, seed: int, start_ms: int, behaviour: LivesBehaviour = LivesBehaviour()
) -> Iterator[tuple[int, SimulatedSession]]:
    """Yield all sessions that begin in `days` days, each with its beginning in milliseconds after `start_ms`.

    They come in the order of their beginnings; hours and weekdays are those of the calendar (UTC). What is held
    grows with the customers, not with the days.

    Args:
        days: how long.
        customers: how many accounts.
        seed: of all that is drawn; with the same start, the same sessions.
        start_ms: Unix milliseconds.
        behaviour: who lives there.

    Raises:
        ValueError: `days` or `customers` below 1.
    """
    if days < 1 or customers < 1:
        raise ValueError(f"{days} days of {customers} customers: expected 1 or more of each")
    return _Lives(customers, seed, behaviour).run(start_ms, start_ms + days * DAY_MS)


class _Lives:
    def __init__(self, customers: int, seed: int, behaviour: LivesBehaviour) -> None:
        self._rng = stream(seed, "lives/customers")
        self._evil = stream(seed, "lives/attackers")
        self._ids = stream(seed, "lives/ids")
        self._networks = Networks(seed, customers)
        types = tuple(
            replace(habits, occasions={**habits.occasions, **OF_LIFE})
            if "api" not in habits.channels
            else habits
            for habits in behaviour.customer_types
        )
        self._owners = draw_owners(seed, customers, types, self._networks)
        self._targets = list(accumulate(owner.habits.target_weight for owner in self._owners))
        self._crews = draw_crews(self._evil, CREWS)
        self._schemes = behaviour.schemes
        a_day = sum(owner.habits.sessions_per_month for owner in self._owners) / MONTH_DAYS
        can_be = bool(behaviour.schemes) and self._targets[-1] > 0
        self._attacks_a_day = behaviour.attack_rate * a_day if can_be else 0.0
        self._agenda: list[tuple[int, int, Callable[[int], SimulatedSession | None]]] = []
        self._order = 0
        fewest, most = ATTEMPTS
        a_third = max(1, customers // 3)
        self._attempts = min(fewest, a_third), min(most, a_third)

    def run(self, start_ms: int, end_ms: int) -> Iterator[tuple[int, SimulatedSession]]:
        for day in range(start_ms // DAY_MS, -(-end_ms // DAY_MS)):
            self._plan_day(day)
            until_ms = min(end_ms, (day + 1) * DAY_MS)
            while self._agenda and self._agenda[0][0] < until_ms:
                at_ms, _, begin = heapq.heappop(self._agenda)
                if at_ms >= start_ms and (session := begin(at_ms)) is not None:
                    yield at_ms - start_ms, session

    def _at(self, at_ms: int, begin: Callable[[int], SimulatedSession | None]) -> None:
        """Put the beginning of a session, or of what may become one, on the agenda."""
        self._order += 1
        heapq.heappush(self._agenda, (at_ms, self._order, begin))

    def _plan_day(self, day: int) -> None:
        for owner in self._owners:
            share = owner.live_through(self._rng, day)
            for at_ms in owner.rhythm.draw_visits_ms(self._rng, day, share):
                self._at(at_ms, partial(self._visit, owner, Plan()))
            for at_ms in owner.draw_readings_ms(self._rng, day):
                self._at(at_ms, partial(self._read, owner))
        for scheme in self._draw_schemes():
            self._plan_attack(scheme, day)

    def _visit(self, owner: Owner, plan: Plan, at_ms: int) -> SimulatedSession | None:
        if at_ms <= owner.busy_until_ms:  # there already
            return None
        return draw_visit(
            self._rng,
            draw_id(self._ids),
            owner,
            at_ms,
            plan,
            self._networks,
            lambda later_ms, planned: self._at(later_ms, partial(self._visit, owner, planned)),
        )

    def _read(self, owner: Owner, _at_ms: int) -> SimulatedSession | None:
        if owner.reader is None:
            return None
        return draw_reading(self._rng, draw_id(self._ids), owner, owner.reader, self._networks)

    def _draw_schemes(self) -> Iterator[Scheme]:
        """Draw the families of the attacks that begin on one day: of each a Poisson number."""
        whole = sum(scheme.weight for scheme in self._schemes)
        for scheme in self._schemes:
            expected = self._attacks_a_day * scheme.weight / whole
            if scheme.tries_many:  # a mass of attempts, for as many accounts as fit
                expected /= FITS * sum(self._attempts) / 2
            arrived = self._evil.expovariate(1.0)
            while arrived < expected:
                yield scheme
                arrived += self._evil.expovariate(1.0)

    def _plan_attack(self, scheme: Scheme, day: int) -> None:
        rng, crew, owner = self._evil, self._evil.choice(self._crews), self._draw_target()
        if scheme.tries_many:
            device = draw_device(rng, owner.habits)
            attempts = rng.randint(*self._attempts)
            mass = partial(self._attempt, scheme, crew, device, draw_id(self._ids), attempts)
            self._at(crew.draw_time_ms(rng, day), mass)
            return
        with_owner = scheme.stages[0].family.in_session or rng.random() < WHILE_OWNERS_COME
        at_ms = owner.rhythm.draw_time_ms(rng, day) if with_owner else crew.draw_time_ms(rng, day)
        self._at(at_ms, partial(self._attack, scheme, crew, owner))

    def _draw_target(self) -> Owner:
        """Draw whose account is attacked: rather one in which there is something."""
        while True:
            (owner,) = self._evil.choices(self._owners, cum_weights=self._targets)
            if owner.purse.usual >= LEAST_LARGE or self._evil.random() < POOR_TARGETS:
                return owner

    def _attack(self, scheme: Scheme, crew: Crew, owner: Owner, at_ms: int) -> SimulatedSession | None:
        if scheme.stages[0].family.in_session and at_ms <= owner.busy_until_ms:  # in a session that is drawn
            self._at(owner.busy_until_ms + HOUR_MS, partial(self._attack, scheme, crew, owner))
            return None
        neighbour = self._evil.choice(self._owners)
        attack = draw_attack_on(
            self._evil, draw_id(self._ids), scheme, owner, crew, neighbour, self._networks, at_ms
        )
        return self._stage(attack, at_ms)

    def _attempt(
        self, scheme: Scheme, crew: Crew, device: tuple[str, str], mass_id: str, left: int, at_ms: int
    ) -> SimulatedSession:
        """Try a password on some account, and go on to the next."""
        rng = self._evil
        if left > 1:
            gap_ms = draw_gap_ms(rng, BETWEEN_ATTEMPTS_MEDIAN_S, 1.2, DAY_MS / 1_000)
            self._at(at_ms + gap_ms, partial(self._attempt, scheme, crew, device, mass_id, left - 1))
        place = self._networks.exit(rng)
        if rng.random() >= FITS:
            return draw_failed(rng, draw_id(self._ids), rng.choice(self._owners), device, place, mass_id)
        owner = self._draw_target()
        crew.device, _ = device
        attack = draw_attack_on(rng, draw_id(self._ids), scheme, owner, crew, owner, self._networks, at_ms)
        attack.access, attack.device, attack.place = OWN, device, place
        return self._stage(attack, at_ms)

    def _go_on(self, attack: Attack, at_ms: int) -> SimulatedSession:
        move_on(self._evil, attack, self._networks, at_ms)
        return self._stage(attack, at_ms)

    def _stage(self, attack: Attack, at_ms: int) -> SimulatedSession:
        session = draw_stage(self._evil, draw_id(self._ids), attack, at_ms)
        if attack.stages_left:
            next_ms = draw_next_ms(self._evil, attack, at_ms + session.duration_ms)
            self._at(next_ms, partial(self._go_on, attack))
        return session
