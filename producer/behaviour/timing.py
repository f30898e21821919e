"""How long people and programs take before each action."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from detector.contract.actions import Action
from producer.behaviour.session import draw_gap_ms

LONGEST_GAP_S: Final = 12 * 3600.0
"""No session outlives a working day between two actions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tempo:
    """Log-normal gaps before each action, whose median depends on the action (reading is quick, forms are slow).

    `spread` is the log-standard deviation of one operator's own speed about the medians, `sigma` that of single
    gaps about the operator's. An interruption (a telephone call, another tab) replaces a gap now and then.
    """

    median_s: Mapping[Action, float]
    sigma: float = 0.7
    spread: float = 0.35
    interruption: float = 0.01
    """Probability that a gap is an interruption."""
    interruption_median_s: float = 150.0
    interruption_sigma: float = 1.0

    def draw_speed(self, rng: random.Random) -> float:
        """Draw one operator's factor on all medians; below 1 is faster."""
        return math.exp(rng.gauss(0.0, self.spread))

    def draw_gap_ms(self, rng: random.Random, action: Action, speed: float) -> int:
        """Draw the gap before `action`, in milliseconds."""
        if rng.random() < self.interruption:
            return draw_gap_ms(rng, self.interruption_median_s, self.interruption_sigma, LONGEST_GAP_S)
        return draw_gap_ms(rng, self.median_s[action] * speed, self.sigma, LONGEST_GAP_S)

    def draw_gaps_ms(self, rng: random.Random, actions: Sequence[Action], speed: float) -> list[int]:
        """Draw the gap before each of `actions`."""
        return [self.draw_gap_ms(rng, action, speed) for action in actions]


def medians_s(
    *,
    balance: float,
    transactions: float,
    small: float,
    large: float,
    password: float,
    recipient: float,
    logout: float,
) -> Mapping[Action, float]:
    """Return the median seconds before each action; a LOGIN in mid-session counts as a password typed."""
    return {
        Action.LOGIN: password,
        Action.VIEW_BALANCE: balance,
        Action.VIEW_TRANSACTIONS: transactions,
        Action.TRANSFER_SMALL: small,
        Action.TRANSFER_LARGE: large,
        Action.CHANGE_PASSWORD: password,
        Action.ADD_RECIPIENT: recipient,
        Action.LOGOUT: logout,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Long waits between the actions of a session that is kept open for hours."""

    probability: float = 0.45
    """Of a wait in place of a usual gap."""
    median_s: float = 2_400.0
    sigma: float = 0.8
    spread: float = 0.5
    """Log-standard deviation of a session's own median."""

    expected_most: float = 6.0
    """Expected waits in one session at most, so that a long one does not last for days."""

    def draw_over(self, rng: random.Random, gaps_ms: Sequence[int]) -> list[int]:
        """Replace some of `gaps_ms` by waits."""
        median_s = self.median_s * math.exp(rng.gauss(0.0, self.spread))
        probability = min(self.probability, self.expected_most / max(1, len(gaps_ms)))
        return [
            draw_gap_ms(rng, median_s, self.sigma, LONGEST_GAP_S) if rng.random() < probability else gap_ms
            for gap_ms in gaps_ms
        ]


PERSON: Final = Tempo(
    median_s=medians_s(balance=4, transactions=9, small=25, large=40, password=30, recipient=50, logout=10)
)
"""A customer: a page of figures is read in seconds; a recipient's account number is looked up and typed, a large
sum is checked and confirmed."""

PROGRAM: Final = Tempo(
    median_s=medians_s(
        balance=0.5, transactions=0.6, small=0.7, large=0.7, password=0.8, recipient=0.8, logout=0.4
    ),
    sigma=0.5,
    spread=0.9,
    interruption=0.003,
    interruption_median_s=30.0,
)
"""An honest program on an interface for programs: sub-second, throttled to seconds by some."""
