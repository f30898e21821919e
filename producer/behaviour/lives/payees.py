"""Whom money goes to and how much: payees with their usual amounts, and what is in an account."""

import hashlib
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

from producer.behaviour.customers import CustomerType
from producer.behaviour.lives.hours import DAY_MS
from producer.behaviour.session import LARGE_ABOVE, SMALL_BELOW

MOST_PAYEES: Final = 40
"""Of each size; the one paid least is forgotten."""
PAID_BY_MANY: Final = {"small": 0.5, "large": 0.4}
"""Share of new payees whom other customers pay too: suppliers of power, shops, landlords, clubs."""
COMPANIES: Final = 60
"""Of these, as many and one more for two customers; the first are paid by nearly all, the last by a few."""
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
def _company(number: int) -> str:
    return hashlib.blake2b(f"company {number}".encode(), digest_size=8).hexdigest()


@dataclass(slots=True)
class Purse:
    """What one customer can pay, and to whom."""

    small: list[Payee]
    large: list[Payee]
    """At least one of each; those paid most come first."""
    companies: int
    """How many there are to pay."""
    small_median: float
    """Dollars, of the usual sums of small payees."""
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

    def draw_new(self, rng: random.Random, *, large: bool) -> Payee:
        """Draw somebody new to pay, with the sum that will be usual."""
        if rng.random() < PAID_BY_MANY["large" if large else "small"]:
            recipient = _company(int(self.companies * rng.random() ** 3))
        else:
            recipient = draw_recipient(rng)
        if large:
            median = min(LARGE_ABOVE + rng.lognormvariate(8.3, 1.0), 200_000.0)
        else:
            median = min(rng.lognormvariate(math.log(self.small_median), 1.0), SMALL_BELOW - 1.0)
        return Payee(recipient, median, rng.choice((0.01, 0.15, 0.6)))  # a standing sum, a bill, a friend

    def add(self, payee: Payee) -> None:
        """Keep a new payee, in the middle of the others."""
        payees = self.small if payee.median < SMALL_BELOW else self.large
        payees.insert(len(payees) // 2, payee)
        del payees[MOST_PAYEES:]


def draw_purse(rng: random.Random, habits: CustomerType, customers: int) -> Purse:
    """Draw what a customer has, and whom they have paid before.

    Args:
        rng: drawn from.
        habits: of the customer's type.
        customers: how many share the companies.
    """
    purse = Purse(
        small=[],
        large=[],
        companies=COMPANIES + customers // 2,
        small_median=180.0 if habits.name in {"business", "payment_script"} else 60.0,
        usual=rng.lognormvariate(math.log(USUAL_FUNDS.get(habits.name, FUNDS_OF_OTHERS)), 0.9),
    )
    known = 1 + round((3.0 + habits.length_median) * rng.lognormvariate(0.0, 0.4))
    purse.small += [purse.draw_new(rng, large=False) for _ in range(min(known, MOST_PAYEES))]
    purse.large += [purse.draw_new(rng, large=True) for _ in range(rng.randint(1, 3))]
    return purse
