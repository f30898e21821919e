"""Signals: what a model reads of an event beside its action and the gap before it, and of its account's history.

A model file declares them. Each comes out as one small number: 0 pads, ABSENT is a field that is not there or can't be
read, UNKNOWN is what only a history tells where there is none, and from FIRST on it is what the kind says. Training and
serving compute them by this very code, with `detector.core.profile` for what rests on the account's history.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from typing import Final

import msgspec

from detector.contract.fields import FieldReader

ABSENT, UNKNOWN, FIRST = 1, 2, 3
MAX_SIGNALS: Final = 32
MAX_BOUNDS: Final = 250
MAX_KNOWN: Final = 32
_FIELD_PREFIX: Final = "attributes."
_LONGEST_NUMBER: Final = 32
_LONGEST_REMEMBERED: Final = 64


class Kind(StrEnum):
    """What a signal tells."""

    LEVEL = "level"
    """Which of `values` a category is; FIRST + their number is any other."""
    MAGNITUDE = "magnitude"
    """Between which `bounds` a number lies."""
    DEVIATION = "deviation"
    """How far a number lies from the account's earlier ones, in their standard deviations of its logarithm."""
    NOVELTY = "novelty"
    """For how long the account has known a value, in milliseconds; FIRST is never."""
    CHANGE = "change"
    """Whether a value differs (FIRST + 1) from the one before in the session (FIRST)."""
    SINCE = "since"
    """How long ago, in milliseconds, the account last had such a value before."""
    COUNT = "count"
    """How often the account had such a value before, an occurrence counting half after `half_life_ms`."""
    HABIT = "habit"
    """Which share of the account's sessions begins about this hour of the day."""


OF_ACTION, OF_GAP, OF_TIME, OF_ACCOUNT, OF_BEGIN = (
    "action",
    "gap_ms",
    "occurred_at_ms",
    "account_id",
    "session_begin",
)
BUILT_IN: Final = (OF_ACTION, OF_GAP, OF_TIME, OF_ACCOUNT, OF_BEGIN)
"""What every event has, in the order of the values before its own fields. `session_begin` is there where one begins."""
_OF_HISTORY: Final = {Kind.DEVIATION, Kind.NOVELTY, Kind.SINCE, Kind.COUNT, Kind.HABIT}
_BOUNDED: Final = {*_OF_HISTORY, Kind.MAGNITUDE}


class Signal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One signal, as declared.

    Attributes:
        name: in explanations.
        kind: what it tells.
        of: the field: `amount`, `attributes.` and a path, or one of BUILT_IN.
        bounds: ascending, between which buckets lie; of all kinds but level and change.
        values: of a level, its categories; of since and count, the values that they are about: any, if there are none.
        most: of novelty, values known at a time: the one longest unseen goes.
        half_life_ms: of count.

    Raises:
        ValueError: it contradicts itself.
    """

    name: str
    kind: Kind
    of: str
    bounds: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    most: int = 8
    half_life_ms: int = 0

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a signal without a name: expected one, for explanations")
        told = f"signal {self.name!r}"
        if self.of not in BUILT_IN and self.of != "amount" and not self.of.startswith(_FIELD_PREFIX):
            raise ValueError(
                f"{told} is of {self.of!r}: expected amount, attributes.NAME, or one of {BUILT_IN}"
            )
        ascending = all(low < high for low, high in pairwise(self.bounds))
        finite = all(math.isfinite(bound) for bound in self.bounds)
        if not (ascending and finite and len(self.bounds) <= MAX_BOUNDS):
            raise ValueError(f"{told} has the bounds {self.bounds}: expected up to {MAX_BOUNDS}, ascending")
        if (self.kind in _BOUNDED) != bool(self.bounds):
            expected = "some" if self.kind in _BOUNDED else "none of this kind"
            raise ValueError(f"{told} of kind {self.kind} has {len(self.bounds)} bounds: expected {expected}")
        if len(set(self.values)) != len(self.values) or len(self.values) > MAX_BOUNDS:
            raise ValueError(f"{told} has {len(self.values)} values: expected up to {MAX_BOUNDS}, each once")
        if self.kind is Kind.LEVEL and not self.values:
            raise ValueError(f"{told} has no values: expected the categories that are told apart")
        if not 1 <= self.most <= MAX_KNOWN:
            raise ValueError(f"{told} knows {self.most} values: expected 1 to {MAX_KNOWN}")
        if (self.kind is Kind.COUNT) != (self.half_life_ms > 0):
            expected = (
                "a count's above 0, the milliseconds after which an occurrence counts half, as 86400000 for a day"
                if self.kind is Kind.COUNT
                else "none, it is a count's"
            )
            raise ValueError(
                f"{told} of kind {self.kind} has half_life_ms {self.half_life_ms or 'not given'}: expected {expected}"
            )
        if (self.kind is Kind.HABIT) != (self.of == OF_TIME):
            raise ValueError(
                f"{told} of kind {self.kind} is of {self.of}: expected habits, and them alone, of {OF_TIME}"
            )

    @property
    def codes(self) -> int:
        """How many codes there are, the padding's 0 included."""
        if self.kind is Kind.LEVEL:
            return FIRST + len(self.values) + 1
        if self.kind is Kind.CHANGE:
            return FIRST + 2
        return FIRST + len(self.bounds) + (2 if self.kind is Kind.NOVELTY else 1)

    @property
    def is_of_history(self) -> bool:
        """Whether it rests on what the account did before."""
        return self.kind in _OF_HISTORY

    def usual(self, code: int) -> int:
        """Return what stands for a code where the account does as it always does; itself where nothing does.

        That is a value known for longest, a number as ever, the last of them long ago, none counted, the likeliest hour;
        of level and magnitude, which know no history, an absent field.
        """
        if code == ABSENT or (self.kind is Kind.CHANGE and code == UNKNOWN):
            return code
        match self.kind:
            case Kind.LEVEL | Kind.MAGNITUDE:
                return ABSENT
            case Kind.DEVIATION:
                return self.bucket(0)
            case Kind.CHANGE | Kind.COUNT:
                return FIRST
            case _:
                return self.codes - 1

    def bucket(self, number: float) -> int:
        """Return the code of a number between the bounds."""
        return FIRST + bisect_right(self.bounds, number)


class Signals:
    """The signals of a model, in the order of its file.

    Args:
        declared: as in the file.

    Attributes:
        fields: of the event that are read beside BUILT_IN: `amount`, or `attributes.` and a path.
        reader: reads their values from an event's JSON, as `read` does alone.
        placed: of each kind the signals, each with its own index and that of its field in the values of an event, BUILT_IN
            ones before its fields.
        unread: the codes of an event of which nothing is known.
        of_history: whether one of them rests on what the account did before.
        remembers: whether anything is kept from one event to the next.

    Raises:
        ValueError: there are too many, two have the same name, or one's field lies within another's.
    """

    def __init__(self, declared: Sequence[Signal] = ()) -> None:
        names = [one.name for one in declared]
        if len(declared) > MAX_SIGNALS or len(set(names)) != len(names):
            raise ValueError(f"signals {names}: expected up to {MAX_SIGNALS}, each name once")
        self.declared = tuple(declared)
        self.fields = tuple(dict.fromkeys(one.of for one in declared if one.of not in BUILT_IN))
        self.reader = FieldReader(self.fields)
        self.read = self.reader.read
        places = (*BUILT_IN, *self.fields)
        self.placed = {
            kind: tuple(
                (at, places.index(one.of), one) for at, one in enumerate(declared) if one.kind is kind
            )
            for kind in Kind
        }
        self.unread = bytes([ABSENT]) * len(declared)
        self.of_history = any(one.is_of_history for one in declared)
        self.remembers = self.of_history or any(one.kind is Kind.CHANGE for one in declared)

    def of(self, kind: Kind) -> tuple[Signal, ...]:
        """Return those of a kind."""
        return tuple(one for _, _, one in self.placed[kind])

    def __len__(self) -> int:
        return len(self.declared)

    def __bool__(self) -> bool:
        return bool(self.declared)

    @property
    def codes(self) -> tuple[int, ...]:
        """How many codes each has, the padding's 0 included."""
        return tuple(one.codes for one in self.declared)


@lru_cache(65_536, typed=True)
def _hash(value: str | float) -> int:
    text = category(value).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=4).digest(), "little")


def value_hash(value: str | float) -> int:
    """Return 32 bits that stand for a category in an account's history.

    Among the 32 values at most that an account knows of a field, a new one is taken for known once in 10^8 times. Who
    knows an owner's value needs no collision: he can send that very value.
    """
    if value.__class__ is str and len(value) > _LONGEST_REMEMBERED:
        return _hash.__wrapped__(value)
    return _hash(value)


def category(value: str | float) -> str:
    """Return a value as a category."""
    if isinstance(value, str):
        return value
    is_whole = isinstance(value, float) and value.is_integer()
    return repr(int(value) if is_whole else value)  # 5 and 5.0 are the same number in JSON


def number(value: str | float) -> float | None:
    """Return a value as a finite number; None if it is none. A text that reads as one is one."""
    if isinstance(value, str):
        if len(value) > _LONGEST_NUMBER:
            return None
        try:
            value = float(value)
        except ValueError:
            return None
    return value if math.isfinite(value) else None
