"""The profile of an account: what its earlier events left behind, as packed bytes, and the signals that rest on it.

Two kinds of memory. What happened, happened: since and count take note of an event at once, and keep it. What is usual
is learned from sessions that went well: each session's devices, recipients, amounts and hour wait in a slot of their
own until it is over, and go to the account's habits then, or nowhere if it was blocked. So what was blocked never
becomes known, and in its own session a new device stays new to the end. All of it follows from the log alone (ADR 0032).

Every number is rounded to what is stored when it changes, so packing and unpacking at any cut changes no bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from math import log1p, sqrt
from struct import Struct
from typing import Any, Final, NamedTuple

from detector.contract.fields import Value
from detector.core.session import HEAD_BYTES, PROFILE, head, pack
from detector.core.signals import ABSENT, FIRST, UNKNOWN, Kind, Signal, Signals, number, value_hash

MAX_SLOTS: Final = 3
"""Sessions of an account that wait at a time. One more takes the place of the longest unseen, which teaches nothing."""
MAX_WAITING: Final = 16
"""Values that wait in a slot; what comes beyond is not learned."""
OVER_AFTER_S: Final = 1_800
"""A session without an action for longer is over, by the time of its account's next event."""
LEAST_SESSIONS: Final = 3
"""That a habit is told by."""
MEMORY: Final = 0.98
"""What earlier numbers still weigh after each session that brings some: the last 50 such sessions count most."""
LEAST_SPREAD: Final = 0.25
"""Smallest standard deviation of a logarithm: who always paid the same sum may pay a quarter more."""
HOURS: Final = 12
"""Bins of the day, of two hours each (UTC)."""
TAG_BYTES: Final = 4
_BIN_S: Final = 7_200
_DAY_S: Final = 86_400
_MAX_S: Final = 0xFFFFFFFF  # in the year 2106; later times are all alike
_MAX_COUNT: Final = 0xFFFF
_MAX_BIN: Final = 0xFF
_ENDED, _BLOCKED = 1, 2

_BYTE, _COUNT, _SECONDS = Struct("<B"), Struct("<H"), Struct("<I")
_COUNTED, _USUAL, _KNOWN = Struct("<If"), Struct("<fff"), Struct("<IIHH")
_SLOT, _NUMBERS, _VALUE = Struct("<4sIIBB"), Struct("<Hff"), Struct("<BIH")
_to_bytes, _of_bytes = Struct("<f").pack, Struct("<f").unpack


class Known(NamedTuple):
    """A value that an account knows: its hash, since when, the last day since 1970, and how many events had it."""

    hashed: int
    first_s: int
    last_day: int
    seen: int


@dataclass(slots=True)
class _Slot:
    """A session under way or just over: what it will teach.

    Attributes:
        first_s: when it began, by its own times; `last_s` its latest action.
        flags: _ENDED, _BLOCKED.
        last: hash of the last value of each change signal; 0 is none.
        numbers: of each deviation signal how many logarithms there were, their sum and that of their squares.
        values: how often each value was seen, by (index of the signal, hash).
    """

    first_s: int
    last_s: int
    flags: int
    last: list[int]
    numbers: list[tuple[int, float, float]]
    values: dict[tuple[int, int], int] = field(default_factory=dict)


@lru_cache(16_384)
def tag_of(session_id: str) -> bytes:
    """Return what a session is known by in its account's profile."""
    return blake2b(session_id.encode(), digest_size=TAG_BYTES).digest()


class Profile:
    """An account's profile, unpacked for as long as a batch takes.

    Args:
        signals: of the model.
        packed: as it was left; empty for an account without a history.
    """

    __slots__ = (
        "_bins",
        "_counts",
        "_first_s",
        "_known",
        "_last_ms",
        "_sessions",
        "_signals",
        "_since",
        "_slots",
        "_usual",
        "touched_ms",
    )

    def __init__(self, signals: Signals, packed: bytes = b"") -> None:
        self._signals = signals
        self._last_ms = self._first_s = self._sessions = 0
        self.touched_ms = 0
        self._since = [0] * len(signals.of(Kind.SINCE))
        self._counts = [(0, 0.0)] * len(signals.of(Kind.COUNT))
        self._usual = [(0.0, 0.0, 0.0)] * len(signals.of(Kind.DEVIATION))
        self._bins = [0] * HOURS
        self._known: list[list[Known]] = [[] for _ in signals.of(Kind.NOVELTY)]
        self._slots: dict[bytes, _Slot] = {}
        if packed:
            self._unpack(packed)

    def observe(
        self,
        tag: bytes,
        account_id: str,
        action: str,
        at_ms: int,
        gap_ms: int | None,
        fields: Sequence[Value],
        *,
        ends: bool = False,
        is_blocked: bool = False,
    ) -> bytes:
        """Return an event's signals, by what was before it, and take note of it.

        Args:
            tag: of its session.
            account_id: its account's.
            action: its name.
            at_ms: its time, not before that of its session's last event.
            gap_ms: since that; None where a session begins.
            fields: values of the signals' fields, in their order.
            ends: whether the action ends its session.
            is_blocked: whether its session was blocked before, and so teaches nothing.

        Returns:
            one byte a signal.
        """
        begins = gap_ms is None
        at_s = min(max(at_ms // 1_000, 1), _MAX_S)
        slot = self._slot_of(tag, at_s, begins=begins)
        if is_blocked:
            slot.flags |= _BLOCKED
        values = (action, gap_ms, at_ms, account_id, "1" if begins else None, *fields)
        codes = bytes(
            [
                self._code(one, place, values[source], slot, at_s)
                for one, source, place in self._signals.compiled
            ]
        )
        slot.last_s = max(slot.last_s, at_s)
        if ends:
            slot.flags |= _ENDED
        self._first_s = self._first_s or at_s
        self._last_ms = max(self._last_ms, at_ms)
        return codes

    def block(self, tag: bytes) -> None:
        """Forget what a session, blocked now, has taught so far and will teach. What happened stays: its facts."""
        slot = self._slots.get(tag)
        if slot is not None:
            slot.flags |= _BLOCKED
            slot.values.clear()
            slot.numbers = [(0, 0.0, 0.0)] * len(slot.numbers)

    def _slot_of(self, tag: bytes, at_s: int, *, begins: bool) -> _Slot:
        slots = self._slots
        for one, waiting in list(slots.items()):
            is_over = waiting.flags & _ENDED or at_s - waiting.last_s > OVER_AFTER_S
            if begins if one == tag else is_over:
                del slots[one]
                if not waiting.flags & _BLOCKED:
                    self._learn(waiting)
        slot = slots.pop(tag, None)
        if slot is None:
            if len(slots) == MAX_SLOTS:
                del slots[next(iter(slots))]
            changes, numbers = self._signals.of(Kind.CHANGE), self._signals.of(Kind.DEVIATION)
            slot = _Slot(at_s, at_s, 0, [0] * len(changes), [(0, 0.0, 0.0)] * len(numbers))
        slots[tag] = slot  # to the end: in the order of the last action
        return slot

    def _learn(self, slot: _Slot) -> None:
        self._sessions = min(self._sessions + 1, _MAX_COUNT)
        hour = slot.first_s % _DAY_S // _BIN_S
        self._bins[hour] += 1
        if self._bins[hour] > _MAX_BIN:
            self._bins = [count // 2 for count in self._bins]
        for place, (count, sum_, squares) in enumerate(slot.numbers):
            if count:
                weight, mean, mean_square = self._usual[place]
                before = weight * MEMORY
                now = before + count
                self._usual[place] = (
                    _single(now),
                    _single((before * mean + sum_) / now),
                    _single((before * mean_square + squares) / now),
                )
        for (place, hashed), count in slot.values.items():
            known = self._known[place]
            at = next((index for index, one in enumerate(known) if one.hashed == hashed), None)
            first_s, seen = (slot.first_s, 0) if at is None else (known[at].first_s, known.pop(at).seen)
            known.append(Known(hashed, first_s, slot.last_s // _DAY_S, min(seen + count, _MAX_COUNT)))
            del known[: -self._signals.of(Kind.NOVELTY)[place].most]

    def _code(self, one: Signal, place: int, value: Value, slot: _Slot, at_s: int) -> int:
        code = ABSENT
        match one.kind:
            case Kind.SINCE:
                code = self._since_code(one, place, value, at_s)
            case Kind.COUNT:
                code = self._count_code(one, place, value, at_s)
            case _ if value is None:
                pass
            case Kind.NOVELTY:
                code = self._novelty_code(one, place, value, slot, at_s)
            case Kind.DEVIATION:
                code = self._deviation_code(one, place, value, slot)
            case Kind.HABIT:
                code = self._habit_code(one, at_s)
            case Kind.CHANGE:
                before, slot.last[place] = slot.last[place], value_hash(value) or 1  # 0 is none
                code = FIRST + (before != slot.last[place]) if before else UNKNOWN
            case Kind.LEVEL:
                code = one.level(value)
            case Kind.MAGNITUDE:
                numeric = number(value)
                code = ABSENT if numeric is None else one.bucket(numeric)
        return code

    def _since_code(self, one: Signal, place: int, value: Value, at_s: int) -> int:
        before = self._since[place]
        if one.is_about(value):
            self._since[place] = max(before, at_s)
        return one.bucket(max(at_s - before, 0) * 1_000) if before else UNKNOWN

    def _count_code(self, one: Signal, place: int, value: Value, at_s: int) -> int:
        then_s, count = self._counts[place]
        if count:
            count *= 0.5 ** (max(at_s - then_s, 0) * 1_000 / one.half_life_ms)
        if one.is_about(value):
            self._counts[place] = max(then_s, at_s), _single(count + 1)
        return one.bucket(count)

    def _novelty_code(self, one: Signal, place: int, value: str | float, slot: _Slot, at_s: int) -> int:
        hashed, known = value_hash(value), self._known[place]
        if not slot.flags & _BLOCKED:
            seen = slot.values.get((place, hashed), 0)
            if seen or len(slot.values) < MAX_WAITING:
                slot.values[place, hashed] = min(seen + 1, _MAX_COUNT)
        for found in known:
            if found.hashed == hashed:
                return 1 + one.bucket(max(at_s - found.first_s, 0) * 1_000)
        return FIRST if known else UNKNOWN

    def _deviation_code(self, one: Signal, place: int, value: str | float, slot: _Slot) -> int:
        numeric = number(value)
        if numeric is None or numeric < 0:
            return ABSENT
        logarithm = log1p(numeric)
        count, sum_, squares = slot.numbers[place]
        if not slot.flags & _BLOCKED and count < _MAX_COUNT:
            slot.numbers[place] = count + 1, _single(sum_ + logarithm), _single(squares + logarithm**2)
        weight, mean, mean_square = self._usual[place]
        if weight < LEAST_SESSIONS:
            return UNKNOWN
        spread = max(sqrt(max(mean_square - mean * mean, 0.0)), LEAST_SPREAD)
        return one.bucket((logarithm - mean) / spread)

    def _habit_code(self, one: Signal, at_s: int) -> int:
        if self._sessions < LEAST_SESSIONS:
            return UNKNOWN
        hour = at_s % _DAY_S // _BIN_S
        near = self._bins[hour - 1] + self._bins[hour] + self._bins[(hour + 1) % HOURS]
        return one.bucket(near / sum(self._bins))

    def packed(self) -> bytes:
        """Return it as plain bytes, whose head is a session's."""
        parts = [pack(self._last_ms, self.touched_ms, self._first_s, PROFILE, b"", bytes(self._bins))]
        parts += [_COUNT.pack(self._sessions), *map(_SECONDS.pack, self._since)]
        parts += [_COUNTED.pack(*one) for one in self._counts]
        parts += [_USUAL.pack(*one) for one in self._usual]
        for known in self._known:
            parts += [bytes([len(known)]), *(_KNOWN.pack(*one) for one in known)]
        parts.append(bytes([len(self._slots)]))
        for tag, slot in self._slots.items():
            parts.append(_SLOT.pack(tag, slot.first_s, slot.last_s, slot.flags, len(slot.values)))
            parts += [_SECONDS.pack(one) for one in slot.last]
            parts += [_NUMBERS.pack(*one) for one in slot.numbers]
            parts += [_VALUE.pack(*key, count) for key, count in slot.values.items()]
        return b"".join(parts)

    def _unpack(self, packed: bytes) -> None:
        self._last_ms, self.touched_ms, self._first_s, at, _, _ = head(packed)
        self._bins = list(packed[at : at + HOURS])
        at += HOURS

        def take(layout: Struct) -> tuple[Any, ...]:
            nonlocal at
            at += layout.size
            return layout.unpack_from(packed, at - layout.size)

        (self._sessions,) = take(_COUNT)
        self._since = [take(_SECONDS)[0] for _ in self._since]
        self._counts = [take(_COUNTED) for _ in self._counts]
        self._usual = [take(_USUAL) for _ in self._usual]
        self._known = [[Known(*take(_KNOWN)) for _ in range(take(_BYTE)[0])] for _ in self._known]
        for _ in range(take(_BYTE)[0]):
            tag, first_s, last_s, flags, count = take(_SLOT)
            last = [take(_SECONDS)[0] for _ in self._signals.of(Kind.CHANGE)]
            numbers = [take(_NUMBERS) for _ in self._usual]
            values = {(place, hashed): seen for place, hashed, seen in (take(_VALUE) for _ in range(count))}
            self._slots[tag] = _Slot(first_s, last_s, flags, last, numbers, values)


def _single(value: float) -> float:
    """Round to single precision, as it is stored."""
    rounded: float = _of_bytes(_to_bytes(value))[0]
    return rounded


def largest_bytes(signals: Signals) -> int:
    """Return how many bytes a packed profile can take."""
    known = sum(1 + one.most * _KNOWN.size for one in signals.of(Kind.NOVELTY))
    numbers, changes = len(signals.of(Kind.DEVIATION)), len(signals.of(Kind.CHANGE))
    waiting = MAX_WAITING * _VALUE.size if known else 0
    slot = _SLOT.size + changes * _SECONDS.size + numbers * _NUMBERS.size + waiting
    facts = len(signals.of(Kind.SINCE)) * _SECONDS.size + len(signals.of(Kind.COUNT)) * _COUNTED.size
    return (
        HEAD_BYTES
        + HOURS
        + _COUNT.size
        + facts
        + numbers * _USUAL.size
        + known
        + _BYTE.size
        + MAX_SLOTS * slot
    )
