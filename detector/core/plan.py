"""What a model's signals need of an event, and where the profile of an account keeps their numbers: worked out once a model."""

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import inf
from typing import Final, NamedTuple

from detector.core.session import HEAD_BYTES
from detector.core.signals import BUILT_IN, FIRST, OF_ACTION, OF_BEGIN, Kind, Signal, Signals

MAX_SLOTS: Final = 3
"""Sessions of an account that wait at a time. One more takes the place of the longest unseen, which teaches nothing."""
MAX_WAITING: Final = 16
"""Values that wait in a slot; what comes beyond is not learned."""
HOURS: Final = 12
"""Bins of the day, of two hours each (UTC)."""
KNOWN, VALUE = struct.Struct("<II"), struct.Struct("<BI")
"""How a known value is packed, and one that waits in a slot."""
_ACTION, _BEGIN, FIELDS_FROM = BUILT_IN.index(OF_ACTION), BUILT_IN.index(OF_BEGIN), len(BUILT_IN)
_OF_VALUES: Final = (Kind.LEVEL, Kind.MAGNITUDE, Kind.NOVELTY, Kind.CHANGE, Kind.DEVIATION)


class Plan:
    """Which of an event's values a model's signals are of, and where a profile keeps their numbers.

    Attributes:
        levels: with index, index of the value, codes by category, and that of any other.
        magnitudes: as placed.
        novelties: with index, index of the value, and bounds in seconds, in the order of the known.
        changes, habits: as placed.
        facts: of since and count.
        noted_by: of each value that since or count is of, its index and the facts that take note of it: by the category
            that it is, and of any other.
        deviations: with index, index of the value, and where their numbers lie, in a profile and in a slot.
        most: values of each novelty known at a time.
        untold: in place of the values of an event, none of which are these.
        blank, blank_slot: numbers of a profile and of a slot without history.
        whole: packs a profile's numbers, how many values of each novelty are known, and how many slots there are.
        slot: packs a slot.
        noted_actions: that facts take note of.
        repeats: whether no signal is told or notes by what is another with each event, as the gap before it.
    """

    def __init__(self, signals: Signals) -> None:
        placed = signals.placed
        since, counts, usual = placed[Kind.SINCE], placed[Kind.COUNT], placed[Kind.DEVIATION]
        self.levels = tuple(
            (at, source, {value: FIRST + code for code, value in enumerate(one.values)}, one.codes - 1)
            for at, source, one in placed[Kind.LEVEL]
        )
        self.magnitudes, novelties = placed[Kind.MAGNITUDE], placed[Kind.NOVELTY]
        self.novelties = tuple((at, source, _seconds(one.bounds)) for at, source, one in novelties)
        self.most = tuple(one.most for _, _, one in novelties)
        self.changes, self.habits = placed[Kind.CHANGE], placed[Kind.HABIT]
        first_count = 1 + len(since)
        first_usual = first_count + 2 * len(counts)
        numbers = [*range(1, first_count), *range(first_count, first_usual, 2)]
        facts = list(zip(since + counts, numbers, strict=True))
        self.facts = Facts.of((at, one, place) for (at, _, one), place in facts)
        self.noted_by = tuple(
            (source, *_noted([(at, one, place) for (at, of, one), place in facts if of == source]))
            for source in sorted({of for (_, of, _), _ in facts})
        )
        self.deviations = tuple(
            (at, source, one, first_usual + 3 * place, len(self.changes) + 3 * place)
            for place, (at, source, one) in enumerate(usual)
        )
        self.noted_actions = frozenset(
            value for (_, of, one), _ in facts if of == _ACTION for value in one.values
        )
        told_by = {of for kind in _OF_VALUES for _, of, _ in placed[kind]}
        noted_by = {of for (_, of, one), _ in facts if of != _BEGIN and (of != _ACTION or not one.values)}
        self.untold: tuple[object, ...] = (object(),) * (FIELDS_FROM + len(signals.fields))
        self.repeats = min(told_by | noted_by, default=FIELDS_FROM) >= FIELDS_FROM
        self.blank: list[float] = [0] * (first_usual + 3 * len(usual))
        self.blank_slot: list[float] = [0] * (len(self.changes) + 3 * len(usual))
        self.whole = struct.Struct(
            f"<H{len(since) * 'I'}{len(counts) * 'If'}{len(usual) * 'fff'}{len(novelties) * 'B'}B"
        )
        self.slot = struct.Struct(f"<4sIIBB{len(self.changes) * 'I'}{len(usual) * 'Hff'}")


class Facts(NamedTuple):
    """Signals of since, each with index, where its number lies and bounds in seconds; and of count, with their half-lives."""

    since: tuple[tuple[int, int, tuple[float, ...]], ...]
    counts: tuple[tuple[int, int, tuple[float, ...], int], ...]

    @classmethod
    def of(cls, placed: Iterable[tuple[int, Signal, int]]) -> "Facts":
        """Return them of signals with their indices, and where their numbers lie."""
        placed = list(placed)
        return cls(
            tuple((at, place, _seconds(one.bounds)) for at, one, place in placed if one.kind is Kind.SINCE),
            tuple(
                (at, place, one.bounds, one.half_life_ms)
                for at, one, place in placed
                if one.kind is Kind.COUNT
            ),
        )


def _seconds(bounds_ms: Iterable[float]) -> tuple[float, ...]:
    """Return from how many whole seconds on a duration reaches each bound; and one that none reaches."""
    exact = (bound.as_integer_ratio() for bound in bounds_ms)
    return (*(-(-numerator // (1_000 * denominator)) for numerator, denominator in exact), inf)


def _noted(placed: Sequence[tuple[int, Signal, int]]) -> tuple[dict[str, Facts], Facts | None]:
    """Return which facts take note of a value, by its category, and which of any other."""
    named = {value for _, one, _ in placed for value in one.values}
    by_category = {
        value: Facts.of(one for one in placed if not one[1].values or value in one[1].values)
        for value in named
    }
    of_any = [one for one in placed if not one[1].values]
    return by_category, Facts.of(of_any) if of_any else None


plan_of = lru_cache(64)(Plan)


def largest_bytes(signals: Signals) -> int:
    """Return how many bytes a packed profile can take."""
    plan = plan_of(signals)
    known = sum(plan.most) * KNOWN.size
    waiting = MAX_WAITING * VALUE.size if known else 0
    return HEAD_BYTES + HOURS + plan.whole.size + known + MAX_SLOTS * (plan.slot.size + waiting)
