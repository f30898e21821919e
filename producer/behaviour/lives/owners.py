"""The owners of accounts: who they are, and what turns their lives take between two sessions."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from producer.behaviour.customers import CustomerType, draw_device
from producer.behaviour.lives.hours import (
    DAY_MS,
    FIRST_WEEKDAY,
    HOUR_MS,
    SATURDAY,
    STYLES,
    WEEK,
    Rhythm,
    Style,
    draw_rhythm,
)
from producer.behaviour.lives.networks import (
    CARRIERS,
    ELSEWHERE,
    HOME_COUNTRIES,
    Networks,
    Place,
    draw_country,
)
from producer.behaviour.lives.payees import Purse, draw_purse

HOLIDAYS_A_DAY: Final = 1 / 130
"""Probability that a day is the first of some days away."""
HOLIDAY_DAYS: Final = (3, 16)
ABROAD: Final = 0.7
"""Share of holidays spent in another country."""
AWAY_SHARE: Final = 0.5
"""Of the usual visits, while away."""
NETWORK_CHANGES_A_DAY: Final = 1 / 90
"""Probability of another network at home: a new address by the provider, or another flat."""
SHARED_DEVICE: Final = 0.15
"""Share of customers who also use a device of somebody else with an account: a household's computer."""
WORKS: Final = 0.45
"""Share of customers who also come from an office's network."""
HIDES: Final = 0.05
"""Share of customers who mostly come through a VPN."""
HIDES_MOSTLY: Final = 0.8
"""Share of their sessions in which they do, by an exit in their country."""
HIDES_ONCE: Final = 0.005
"""Probability that anybody does in one session, by an exit anywhere."""
PROVIDERS: Final = 3
"""Companies whose programs come to many accounts, each from one device and network."""
LETS_READ: Final = 0.08
"""Share of people whose account such a program reads, beside themselves."""
LINKS_A_DAY: Final = 1 / 1_500
UNLINKS_A_DAY: Final = 1 / 200
READS_A_DAY: Final = 0.8
FAVOURITE: Final = 0.7
"""Probability of the favourite device, where there are more."""
ON_THE_MOVE: Final = 0.4
"""Share of a telephone's sessions that come through its carrier."""
IN_A_CAFE: Final = 0.03
AT_WORK: Final = 0.7
"""Share of sessions in working hours that come from the office, of those who have one."""
WORKING_HOURS: Final = range(8, 18)


@dataclass(slots=True, eq=False)
class Owner:
    """One account's owner, as life has left them after the last session."""

    number: int
    account_id: str
    habits: CustomerType
    speed: float
    """Factor on the medians of the type's tempo."""
    rhythm: Rhythm
    purse: Purse
    devices: list[tuple[str, str]]
    """Identifier and channel of each, the favourite first."""
    country: str
    carrier: int
    office: int | None
    hides: bool
    mistypes: float
    """Probability of a failed login before one that succeeds."""
    provider: int | None = None
    """The company whose program this is, if it serves many accounts."""
    reader: int | None = None
    """The provider whose program reads this person's account."""
    reads_at_ms: int = 0
    """When in the day, about."""
    readers_password: int = 0
    """How often the password had been changed when the reader was told it."""
    moves: int = 0
    """How often the network at home has changed."""
    away_until: int = 0
    """Day of the return; 0 while at home."""
    away_in: str = ""
    came_back: bool = False
    """Whether there has been no session since the return."""
    busy_until_ms: int = 0
    """End of the last session."""
    passwords: int = 0
    """How often the password was changed, by whomever."""
    is_locked_out: bool = False
    """Whether the password is an attacker's."""
    was_robbed: bool = False

    @property
    def is_program(self) -> bool:
        """Whether no person comes."""
        return self.habits.channels == ("api",)

    def live_through(self, rng: random.Random, day: int) -> float:
        """Let a day bring what it brings; return the share of the usual visits that are to be expected."""
        if self.is_program:
            return 1.0
        if rng.random() < NETWORK_CHANGES_A_DAY:
            self.moves += 1
        if self.reader is None:
            if rng.random() < LINKS_A_DAY:
                self.let_read(rng)
        elif rng.random() < UNLINKS_A_DAY:
            self.reader = None
        if self.away_until:
            if day < self.away_until:
                return AWAY_SHARE
            self.away_until, self.came_back = 0, True
        elif rng.random() < HOLIDAYS_A_DAY:
            self.away_until = day + rng.randint(*HOLIDAY_DAYS)
            self.away_in = draw_country(rng, ELSEWHERE) if rng.random() < ABROAD else self.country
            return AWAY_SHARE
        return 1.0

    def let_read(self, rng: random.Random) -> None:
        """Let a provider's program read the account from now on, as applications for budgets do."""
        self.reader = rng.randrange(PROVIDERS)
        self.reads_at_ms = rng.randrange(DAY_MS)
        self.readers_password = self.passwords

    def draw_readings_ms(self, rng: random.Random, day: int) -> list[int]:
        """Draw when on a day the reader comes, Unix milliseconds; mostly once."""
        if self.reader is None or rng.random() >= READS_A_DAY:
            return []
        return [day * DAY_MS + (self.reads_at_ms + round(rng.gauss(0.0, HOUR_MS / 12))) % DAY_MS]

    def draw_device(self, rng: random.Random) -> tuple[str, str]:
        """Draw one of the owner's devices: identifier and channel."""
        return self.devices[0] if rng.random() < FAVOURITE else rng.choice(self.devices)

    def replace_device(self, rng: random.Random, *, keeps_old: float) -> tuple[str, str]:
        """Let a new device come into use, as the favourite if it is kept beside the old; return it."""
        new = draw_device(rng, self.habits)
        alike = [number for number, (_, channel) in enumerate(self.devices) if channel == new[1]]
        if alike and rng.random() >= keeps_old:
            self.devices[alike[0]] = new
        else:
            self.devices.insert(0, new)
            del self.devices[self.habits.devices + 1 :]
        return new

    def home(self, networks: Networks) -> Place:
        """Return the network at home, or that of the provider of a program."""
        if self.provider is not None:
            return networks.provider(self.provider)
        return networks.home(self.number, self.moves, self.country)

    def draw_place(self, rng: random.Random, at_ms: int, channel: str, networks: Networks) -> Place:
        """Draw where a session of the owner comes from."""
        if self.is_program:
            return self.home(networks)
        near = self.hides and rng.random() < HIDES_MOSTLY
        if near or rng.random() < HIDES_ONCE:
            return networks.exit(rng, self.country if near else "")
        country, carrier = self.country, self.carrier
        if self.away_until:
            country, carrier = self.away_in, rng.randrange(CARRIERS)
        if channel == "mobile" and rng.random() < ON_THE_MOVE:
            return networks.carrier(rng, country, carrier)
        if self.away_until or rng.random() < IN_A_CAFE:
            return networks.hotspot(rng, country)
        hour, weekday = at_ms % DAY_MS // HOUR_MS, (at_ms // DAY_MS + FIRST_WEEKDAY) % WEEK
        working = hour in WORKING_HOURS and weekday < SATURDAY
        if self.office is not None and working and rng.random() < AT_WORK:
            return networks.office(self.office, country)
        return self.home(networks)


def draw_owners(seed: int, customers: int, types: Sequence[CustomerType], networks: Networks) -> list[Owner]:
    """Draw the owners of a seed, each of a generator of their own."""
    owners: list[Owner] = []
    shares = [habits.share for habits in types]
    for number in range(customers):
        # Hashed, so that an account's id tells nothing of its owner.
        digest = hashlib.blake2b(f"{seed}/lives/{number}".encode(), digest_size=32).digest()
        rng = random.Random(digest)  # noqa: S311  a simulation, not a secret
        (habits,) = rng.choices(types, shares)
        owner = Owner(
            number=number,
            account_id=digest[:8].hex(),
            habits=habits,
            speed=habits.tempo.draw_speed(rng),
            rhythm=draw_rhythm(rng, STYLES.get(habits.name, Style()), habits.sessions_per_month / 30),
            purse=draw_purse(rng, habits, customers),
            devices=[draw_device(rng, habits) for _ in range(rng.randint(1, habits.devices))],
            country=draw_country(rng, HOME_COUNTRIES),
            carrier=rng.randrange(CARRIERS),
            office=rng.randrange(networks.offices) if rng.random() < WORKS else None,
            hides=rng.random() < HIDES,
            mistypes=rng.betavariate(1.2, 30.0),
        )
        if owner.is_program and not habits.occasions:  # it reads, for many
            owner.provider = rng.randrange(PROVIDERS)
            owner.devices = [(networks.machine(owner.provider), "api")]
        elif not owner.is_program and rng.random() < LETS_READ:
            owner.let_read(rng)
        if owners and not owner.is_program and rng.random() < SHARED_DEVICE:
            other = rng.choice(owners[-20:])
            if not other.is_program:
                owner.devices.append(other.devices[-1])
        owners.append(owner)
    return owners
