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
        ends_several: the last session of each attack of several sessions that moves money.
        before_first_large: … of which one is blocked before their first large transfer; before their first, where none is
            large.
    """

    attack: Flags
    blocked: Flags
    number: NDArray[np.int64]
    seconds: NDArray[np.float64]
    has_money: Flags
    before_any: Flags
    before_last_large: Flags
    by_last_large: Flags
    ends_several: Flags
    before_first_large: Flags

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
        first_large, large = _first_and_last(scored, money.large)
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
            *_over_sessions(scored, np.where(caught, blocks, NEVER), first, first_large),
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
        if self.ends_several[known].any():
            rates["several_blocked_before_large"] = self.before_first_large[known], self.ends_several[known]
        return rates

    def stops(self, known: NDArray[np.int64]) -> dict[str, tuple[Flags, Flags]]:
        """Return what a second factor stops of some of the sessions, where this is the course until it is asked for."""
        attack, blocked, has_money = self.attack[known], self.blocked[known], self.has_money[known]
        rates = {"lawful_challenged": (blocked & ~attack, ~attack), "stopped": (blocked & attack, attack)}
        if has_money.any():
            rates |= {
                "stopped_before_last_large": (self.before_last_large[known], has_money),
                "stopped_by_last_large": (self.by_last_large[known], has_money),
            }
        return rates


def _over_sessions(
    scored: Scored, blocks: NDArray[np.int64], first: NDArray[np.int64], first_large: NDArray[np.int64]
) -> tuple[Flags, Flags]:
    """Mark the last session of each attack of several that moves money, and those of which one is blocked before."""
    sessions = scored.sessions
    ends, in_time = np.zeros((2, len(sessions)), np.bool_)
    ids, times_ms = sessions.attack_ids, sessions.times_ms
    if ids is None or times_ms is None:
        return ends, in_time
    of_attacks = np.flatnonzero((sessions.labels == 1) & (np.array(ids.names, object)[ids.codes] != ""))
    codes = ids.codes[of_attacks]

    def earliest_ms(places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return when the first of an attack's sessions comes to its place."""
        place = places[of_attacks]
        at = sessions.starts[:-1][of_attacks] + np.where(place == NEVER, 0, place)
        earliest = np.full(len(ids.names), NEVER)
        np.minimum.at(earliest, codes, np.where(place == NEVER, NEVER, times_ms[at]))
        return earliest

    money_ms = earliest_ms(first_large)
    money_ms = np.where(money_ms == NEVER, earliest_ms(first), money_ms)
    several = (np.bincount(codes, minlength=len(ids.names)) > 1) & (money_ms != NEVER)
    last = np.zeros(len(ids.names), np.int64)
    last[codes] = of_attacks  # of several the last written holds
    ends[last[several]] = True
    in_time[last[several & (earliest_ms(blocks) < money_ms)]] = True
    return ends, in_time


def _first_and_last(scored: Scored, names: frozenset[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the index, in its session, of the attacker's first and last such action; NEVER where there is none."""
    sessions = scored.sessions
    chosen = np.array([name in names for name in sessions.names], np.bool_)
    marked = chosen[sessions.actions] & (sessions.targets == 1)
    position, starts = np.arange(len(marked)), sessions.starts[:-1]
    first = np.minimum.reduceat(np.where(marked, position, NEVER), starts)
    last = np.maximum.reduceat(np.where(marked, position, -1), starts)
    return np.where(last < 0, NEVER, first - starts), np.where(last < 0, NEVER, last - starts)
