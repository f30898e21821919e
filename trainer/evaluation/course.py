"""When sessions are blocked: after how many actions, and before or after the money has moved."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from detector.contract.actions import LARGE_MONEY, MOVES_MONEY
from trainer.evaluation.scoring import NEVER, Scored

AFTER: Final = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1_000)

Flags = NDArray[np.bool_]


class _Names(Protocol):
    @property
    def moves_money(self) -> Iterable[str]: ...
    @property
    def large_money(self) -> Iterable[str]: ...


class Money(NamedTuple):
    """Which actions move money: it is with them that an attack pays."""

    moves: frozenset[str]
    large: frozenset[str]

    @classmethod
    def of(cls, told: _Names) -> Self:
        """Return those that a model's metadata or a configuration names."""
        return cls(frozenset(told.moves_money), frozenset(told.large_money))


BUILT_IN: Final = Money(frozenset(MOVES_MONEY), frozenset(LARGE_MONEY))


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """Each session's first block, and what came before it.

    Attributes:
        attack: shape (sessions,), True for an attack.
        blocked: True where a score reaches the threshold; of an attack, first after the attacker's first action.
        number: actions until the block, 1 for the attacker's first; NEVER where not blocked, and of lawful sessions.
        seconds: from the attacker's first action until the block, of those attacks that are blocked; empty without times.
        has_money: attacks that move money.
        before_any: blocked before the first of it.
        before_last_large: blocked before their last large transfer; before their last, where none is large.
        by_last_large: … on it at the latest: stopped, where the bank holds a transfer until it is scored.
    """

    attack: Flags
    blocked: Flags
    number: NDArray[np.int64]
    seconds: NDArray[np.float64]
    has_money: Flags
    before_any: Flags
    before_last_large: Flags
    by_last_large: Flags

    @classmethod
    def of(cls, scored: Scored, threshold: float, money: Money) -> Self:
        """Follow sessions until their block."""
        sessions = scored.sessions
        attack, begins = sessions.labels == 1, sessions.attacked_from
        blocks = scored.first_blocks(threshold)
        blocked = (blocks != NEVER) & (~attack | (blocks >= begins))
        caught = blocked & attack
        number = np.where(caught, blocks - begins + 1, NEVER)
        first, last = _first_and_last(scored, money.moves)
        large = _first_and_last(scored, money.large)[1]
        last = np.where(large == NEVER, last, large)
        seconds = np.empty(0)
        if sessions.times_ms is not None:
            starts = sessions.starts[:-1][caught]
            ends_ms, begins_ms = (sessions.times_ms[starts + at[caught]] for at in (blocks, begins))
            seconds = (ends_ms - begins_ms) / 1000
        has = attack & (first != NEVER)
        return cls(
            attack,
            blocked,
            number,
            seconds,
            has,
            has & blocked & (blocks < first),
            has & blocked & (blocks < last),
            has & blocked & (blocks <= last),
        )

    def rates(self, known: NDArray[np.int64]) -> dict[str, tuple[Flags, Flags]]:
        """Return, for some of the sessions, what counts of which by the name of its rate."""
        attack, longest = self.attack[known], self.number[self.number != NEVER].max(initial=0)
        rates = {
            f"blocked_after_{count}": (self.number[known] <= count, attack)
            for place, count in enumerate(AFTER)
            if not place or AFTER[place - 1] < longest
        }
        if self.has_money[known].any():
            rates |= {
                "blocked_before_last_large": (self.before_last_large[known], self.has_money[known]),
                "blocked_by_last_large": (self.by_last_large[known], self.has_money[known]),
                "blocked_before_any_money": (self.before_any[known], self.has_money[known]),
            }
        return rates


def _first_and_last(scored: Scored, names: frozenset[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the index, in its session, of the attacker's first and last such action; NEVER where there is none."""
    sessions = scored.sessions
    chosen = np.array([name in names for name in sessions.names], np.bool_)
    marked = chosen[sessions.actions] & (sessions.targets == 1)
    position, starts = np.arange(len(marked)), sessions.starts[:-1]
    first = np.minimum.reduceat(np.where(marked, position, NEVER), starts)
    last = np.maximum.reduceat(np.where(marked, position, -1), starts)
    return np.where(last < 0, NEVER, first - starts), np.where(last < 0, NEVER, last - starts)
