"""Where sessions come from: countries, and networks as a prefix or provider would name them."""

import hashlib
import random
from collections.abc import Mapping
from typing import Final, NamedTuple

HOME_COUNTRIES: Final[Mapping[str, float]] = {"DE": 0.82, "AT": 0.07, "CH": 0.05, "NL": 0.03, "FR": 0.03}
"""Where customers live, with weights."""
ELSEWHERE: Final[Mapping[str, float]] = {
    "ES": 8,
    "IT": 8,
    "FR": 5,
    "GR": 4,
    "AT": 4,
    "NL": 4,
    "TR": 4,
    "US": 4,
    "GB": 4,
    "PL": 3,
    "CH": 2,
    "PT": 2,
    "HR": 2,
    "SE": 2,
    "TH": 2,
    "EG": 1,
    "RO": 1,
    "BR": 1,
    "VN": 1,
    "NG": 1,
}
"""Where they go, where exits of VPNs stand, and where attackers sit, with weights: no country is the attackers'."""
EXITS: Final = 40
CARRIERS: Final = 4
CARRIER_PREFIXES: Final = 8
CUSTOMERS_A_HOTSPOT: Final = 50
CUSTOMERS_A_KIOSK: Final = 300
CUSTOMERS_AN_OFFICE: Final = 30


class Place(NamedTuple):
    """Where a session comes from."""

    network: str
    """Eight hexadecimal digits, whatever the kind of network."""
    country: str
    """ISO 3166-1, two letters."""


def draw_country(rng: random.Random, weights: Mapping[str, float]) -> str:
    """Draw a country."""
    return rng.choices(list(weights), list(weights.values()))[0]


class Networks:
    """The networks of a seed: named when needed, nothing is kept but the exits of VPNs.

    Args:
        seed: of the simulation.
        customers: how many, which says how many networks they share.
    """

    def __init__(self, seed: int, customers: int) -> None:
        self._seed = seed
        self._kiosks = max(1, customers // CUSTOMERS_A_KIOSK)
        self._hotspots = max(4, customers // CUSTOMERS_A_HOTSPOT)
        self.offices = max(1, customers // CUSTOMERS_AN_OFFICE)
        rng = random.Random(f"{seed}/exits")  # noqa: S311  a simulation, not a secret
        everywhere = {**ELSEWHERE, "DE": 20.0}
        self._exits = [
            Place(self._name("exit", number), draw_country(rng, everywhere)) for number in range(EXITS)
        ]

    def _name(self, *what: str | int, digest_size: int = 4) -> str:
        return hashlib.blake2b(repr((self._seed, *what)).encode(), digest_size=digest_size).hexdigest()

    def home(self, number: int, moves: int, country: str) -> Place:
        """Return a customer's network at home, which is another one after each of its `moves`."""
        return Place(self._name("home", number, moves), country)

    def carrier(self, rng: random.Random, country: str, carrier: int) -> Place:
        """Draw one of the prefixes from which a carrier's telephones appear."""
        return Place(self._name("carrier", country, carrier, rng.randrange(CARRIER_PREFIXES)), country)

    def office(self, number: int, country: str) -> Place:
        """Return an office's network, one of `offices`, which its people share."""
        return Place(self._name("office", country, number), country)

    def hotspot(self, rng: random.Random, country: str) -> Place:
        """Draw a café's or hotel's network."""
        return Place(self._name("hotspot", country, rng.randrange(self._hotspots)), country)

    def provider(self, number: int) -> Place:
        """Return the network of a company whose programs come to many accounts."""
        return Place(self._name("provider", number), "DE")

    def kiosk(self, rng: random.Random) -> str:
        """Draw a device that stands where many come: a branch's terminal, a hotel's computer."""
        return self._name("kiosk", rng.randrange(self._kiosks), digest_size=6)

    def machine(self, provider: int) -> str:
        """Return the device that a provider's programs come from."""
        return self._name("machine", provider, digest_size=6)

    def exit(self, rng: random.Random, country: str = "") -> Place:
        """Draw a VPN's exit, in a country if one is given and has any: attackers use them, and customers do."""
        near = [place for place in self._exits if place.country == country]
        return rng.choice(near or self._exits)
