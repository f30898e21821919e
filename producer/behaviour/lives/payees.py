"""Whom money goes to and how much: payees with their usual amounts, and what is in an account."""

import hashlib
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

from producer.behaviour.lives.hours import DAY_MS
from producer.behaviour.session import LARGE_ABOVE, SMALL_BELOW

MOST_PAYEES: Final = 40
"""Of each size; the one paid least is forgotten."""
BILLERS: Final = 60
"""Companies that many customers pay, the first of them the most."""
REFILL_MS: Final = 30 * DAY_MS
"""An account that was emptied is back at two thirds of its usual level after so long."""
LEAST_LARGE: Final = LARGE_ABOVE + 0.01
"""Dollars of a large transfer, at the least."""

USUAL_FUNDS: Final[Mapping[str, float]] = {
    "bill_payer": 12_000.0,
    "unhurried": 25_000.0,
    "affluent": 150_000.0,
    "business": 90_000.0,
    "payment_script": 500_000.0,
}
"""Median dollars within reach (accounts of savings and credit among them), by type of customer."""
FUNDS_OF_OTHERS: Final = 14_000.0


class Payee(NamedTuple):
    """Somebody a customer pays."""

    recipient: str
    median: float
    """Dollars, usually."""
    sigma: float
    """Of single amounts about it, log-normal."""

    def draw_amount(self, rng: random.Random) -> float:
        """Draw one payment's dollars, within the bounds of the contract's transfers."""
        factor = math.exp(rng.gauss(0.0, self.sigma))
        if self.median < SMALL_BELOW:
            return round(min(max(1.0, self.median * factor), SMALL_BELOW - 0.01), 2)
        return round(LEAST_LARGE + (self.median - LARGE_ABOVE) * factor, 2)


def draw_recipient(rng: random.Random) -> str:
    """Draw somebody nobody else pays: 16 hexadecimal digits."""
    return f"{rng.getrandbits(64):016x}"


@cache
def _biller(number: int) -> str:
    return hashlib.blake2b(f"biller {number}".encode(), digest_size=8).hexdigest()


def draw_payee(rng: random.Random, *, large: bool) -> Payee:
    """Draw somebody new to pay: a company that others pay too, or somebody of the customer's own."""
    known_to_many = rng.random() < (0.15 if large else 0.4)
    recipient = _biller(int(BILLERS * rng.random() ** 2)) if known_to_many else draw_recipient(rng)
    if large:
        median = min(LARGE_ABOVE + rng.lognormvariate(8.3, 1.0), 200_000.0)
    else:
        median = min(rng.lognormvariate(math.log(60.0), 1.0), SMALL_BELOW - 1.0)
    return Payee(recipient, median, rng.choice((0.01, 0.15, 0.6)))  # a standing sum, a bill, a friend


@dataclass(slots=True)
class Purse:
    """What one customer can pay, and to whom."""

    small: list[Payee]
    large: list[Payee]
    """At least one of each; those paid most come first."""
    usual: float
    """Dollars within reach when nothing special has happened."""
    missing: float = 0.0
    missing_since_ms: int = 0

    def funds(self, at_ms: int) -> float:
        """Return the dollars that are there."""
        return self.usual - self._missing(at_ms)

    def spend(self, dollars: float, at_ms: int) -> None:
        """Take dollars out; they come back with time."""
        self.missing = min(self.usual, self._missing(at_ms) + dollars)
        self.missing_since_ms = at_ms

    def _missing(self, at_ms: int) -> float:
        return self.missing * math.exp(min(0, self.missing_since_ms - at_ms) / REFILL_MS)

    def draw_known(self, rng: random.Random, *, large: bool) -> Payee:
        """Draw a payee of before, the first ones more often."""
        payees = self.large if large else self.small
        return payees[int(len(payees) * rng.random() ** 2)]

    def add(self, payee: Payee) -> None:
        """Keep a new payee, in the middle of the others."""
        payees = self.small if payee.median < SMALL_BELOW else self.large
        payees.insert(len(payees) // 2, payee)
        del payees[MOST_PAYEES:]


def draw_purse(rng: random.Random, type_name: str, devoted: float) -> Purse:
    """Draw what a customer has, and whom they have paid before.

    Args:
        rng: drawn from.
        type_name: of the customer.
        devoted: about how many payees.
    """
    usual = rng.lognormvariate(math.log(USUAL_FUNDS.get(type_name, FUNDS_OF_OTHERS)), 0.9)
    return Purse(
        small=[
            draw_payee(rng, large=False) for _ in range(1 + round(devoted * rng.lognormvariate(0.0, 0.4)))
        ][:MOST_PAYEES],
        large=[draw_payee(rng, large=True) for _ in range(rng.randint(1, 3))],
        usual=usual,
    )
