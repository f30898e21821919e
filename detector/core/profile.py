"""The profile of an account: what its earlier events left behind, as packed bytes, and the signals that rest on it.

Two kinds of memory. What happened, happened: since and count take note of an event at once, and keep it. What is usual
is learned from sessions that went well: each session's new devices and recipients, amounts and hour wait in a slot of their
own until it is over, and go to the account's habits then, or nowhere if it was blocked. So what was blocked never
becomes known, and in its own session a new device stays new to the end. All of it follows from the log alone (ADR 0032).

Every number is rounded to what is stored when it changes, so packing and unpacking at any cut changes no bit. From one
event to the next little changes: a signal's code stands until its value is another, or the time has come at which it
would be, or what it rests on has changed (ADR 0035).
"""

import struct
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from math import inf, log1p, log2, sqrt
from typing import Final

from detector.contract.fields import Value
from detector.core.plan import FIELDS_FROM, HOURS, KNOWN, MAX_SLOTS, MAX_WAITING, VALUE, Facts, plan_of
from detector.core.session import PROFILE, head, pack
from detector.core.signals import (
    ABSENT,
    FIRST,
    UNKNOWN,
    Signal,
    Signals,
    category,
    number,
    value_hash,
)

OVER_AFTER_S: Final = 1_800
"""A session without an action for longer is over, unless sessions live for longer."""
LEAST_SESSIONS: Final = 3
"""That a habit is told by."""
MEMORY: Final = 0.98
"""What earlier numbers still weigh after each session that brings some: the last 50 such sessions count most."""
LEAST_WEIGHT: Final = 1 + MEMORY + MEMORY**2 - 1e-6
"""Of LEAST_SESSIONS that brought numbers, one after the other, as stored."""
LEAST_SPREAD: Final = 0.25
"""Smallest standard deviation of a logarithm: who always paid the same sum may pay a quarter more."""
TAG_BYTES: Final = 4
_BIN_S: Final = 7_200
_DAY_S: Final = 86_400
_MAX_S: Final = 0xFFFFFFFF  # in the year 2106; later times are all alike
_MAX_COUNT: Final = 0xFFFF
_MAX_BIN: Final = 0xFF
_ENDED, _BLOCKED, _CLEARED, _DOUBTED = 1, 2, 4, 8

_UNCHANGED: Final = (ABSENT, FIRST)
_to_bytes, _of_bytes = struct.Struct("<f").pack, struct.Struct("<f").unpack


@dataclass(slots=True)
class _Slot:
    """A session under way or just over: what it will teach.

    Attributes:
        first_s: when it began, by its own times; `last_s` its latest action.
        flags: _ENDED, _BLOCKED, _CLEARED if a verdict has taken that back, and _DOUBTED.
        numbers: hash of the last value of each change signal, 0 is none; then of each deviation signal how many
            logarithms there were, their sum and that of their squares.
        values: those that are new to the account, by (index of the signal, hash), in the order in which they came.
    """

    first_s: int
    last_s: int
    flags: int
    numbers: list[float]
    values: dict[tuple[int, int], None] = field(default_factory=dict)


@lru_cache(16_384)
def tag_of(session_id: str) -> bytes:
    """Return what a session is known by in its account's profile."""
    return blake2b(session_id.encode(), digest_size=TAG_BYTES).digest()


class Profile:
    """An account's profile, unpacked for as long as a batch takes.

    Args:
        signals: of the model.
        packed: as it was left; empty for an account without a history.
        over_after_s: a session without an action for longer is over, by the time of its account's next event; no less than
            the detector lets a session live, or it would teach before its end.
    """

    __slots__ = (
        "_bins",
        "_codes",
        "_from_s",
        "_known",
        "_numbers",
        "_over_after_s",
        "_plan",
        "_repeat",
        "_slots",
        "_told",
        "_until_s",
        "_values",
        "touched_ms",
    )

    def __init__(self, signals: Signals, packed: bytes = b"", over_after_s: int = OVER_AFTER_S) -> None:
        self._plan = plan = plan_of(signals)
        self._over_after_s = over_after_s
        self._slots: dict[bytes, _Slot] = {}
        self._codes = bytearray(signals.unread)
        self._values = plan.untold
        self._repeat: tuple[Value, ...] | None = (
            None  # fields of an event like which the next one is told `_told`
        )
        self._told = b""
        self._from_s = self._until_s = 0.0  # the codes stand for times between these; first for none
        if packed:
            self._unpack(packed)
            return
        self.touched_ms = 0
        self._numbers: list[float] = plan.blank.copy()  # of sessions, since, count, deviation
        self._bins = [0] * HOURS
        self._known: list[dict[int, int]] = [{} for _ in plan.most]

    def observe(
        self,
        tag: bytes,
        account_id: str,
        action: str,
        at_ms: int,
        gap_ms: int | None,
        fields: tuple[Value, ...],
        ends: bool = False,  # noqa: FBT001, FBT002  passed on as it is, of every event
        is_blocked: bool = False,  # noqa: FBT001, FBT002
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
        at_s = min(at_ms // 1_000 or 1, _MAX_S)
        slot = self._slots.get(tag)
        if slot is None or gap_ms is None or len(self._slots) > 1:  # else it is under way, and no other waits
            slot = self._slot_of(tag, at_s, begins=gap_ms is None)
        slot.last_s = max(slot.last_s, at_s)
        if ends or is_blocked:
            slot.flags |= ends * _ENDED | (is_blocked and not slot.flags & _CLEARED) * _BLOCKED
        stands = self._from_s <= at_s < self._until_s
        self._from_s = at_s
        if stands and fields == self._repeat and action not in self._plan.noted_actions:
            return self._told
        if not stands:
            self._tell_all(at_s)
        values = (action, gap_ms, at_ms, account_id, "1" if gap_ms is None else None, *fields)
        repeats = self._tell_event(values, slot, at_s, anew=not stands)
        told = self._told = bytes(self._codes)
        for source, by_category, of_any in self._plan.noted_by:
            if (value := values[source]) is not None:
                facts = by_category.get(category(value), of_any) if by_category else of_any
                if facts:
                    self._note(facts, at_s)
                    self._told = bytes(self._codes)
                    repeats = repeats and source < FIELDS_FROM
        self._repeat = fields if repeats else None
        return told

    def block(self, tag: bytes) -> None:
        """Forget what a session, blocked now, has taught so far and will teach. What happened stays: its facts."""
        slot = self._slots.get(tag)
        if slot is not None:
            slot.flags = slot.flags & ~_CLEARED | _BLOCKED
            slot.values.clear()
            for _, _, _, _, learned in self._plan.deviations:
                slot.numbers[learned : learned + 3] = 0, 0, 0

    def doubt(self, tag: bytes, *, is_doubted: bool) -> None:
        """Let a session teach nothing once it is over, or teach again: it was challenged now, or has passed."""
        if (slot := self._slots.get(tag)) is not None:
            slot.flags = slot.flags | _DOUBTED if is_doubted else slot.flags & ~_DOUBTED

    def clear(self, tag: bytes) -> None:
        """Let a session that was blocked or challenged teach again, from here on."""
        if slot := self._slots.get(tag):
            slot.flags = slot.flags & ~(_BLOCKED | _DOUBTED) | _CLEARED

    def forget(self, tag: bytes, since_ms: int | None) -> None:
        """Forget what a fraudulent session has taught, and will teach: each value that is known since its time or later.

        Args:
            tag: of the session.
            since_ms: when it began to be fraudulent; None takes its beginning, if it still waits.
        """
        slot = self._slots.get(tag)
        self.block(tag)
        if since_ms is None and slot is None:
            return
        since_s = since_ms // 1_000 if since_ms is not None else slot.first_s if slot is not None else 0
        for known in self._known:
            for hashed in [one for one, first_s in known.items() if first_s >= since_s]:
                del known[hashed]

    def _slot_of(self, tag: bytes, at_s: int, *, begins: bool) -> _Slot:
        slots = self._slots
        for one, waiting in list(slots.items()):
            is_over = waiting.flags & _ENDED or at_s - waiting.last_s > self._over_after_s
            if begins if one == tag else is_over:
                del slots[one]
                if not waiting.flags & (_BLOCKED | _DOUBTED):
                    self._learn(waiting)
        slot = slots.pop(tag, None)
        if slot is None:
            if len(slots) == MAX_SLOTS:
                del slots[next(iter(slots))]
            slot = _Slot(at_s, at_s, 0, self._plan.blank_slot.copy())
        slots[tag] = slot  # to the end: in the order of the last action
        self._until_s = 0  # what this session waits to teach, and what another one taught, is told anew
        return slot

    def _learn(self, slot: _Slot) -> None:
        plan, numbers = self._plan, self._numbers
        numbers[0] = min(numbers[0] + 1, _MAX_COUNT)
        hour = slot.first_s % _DAY_S // _BIN_S
        self._bins[hour] += 1
        if self._bins[hour] > _MAX_BIN:
            self._bins = [count // 2 for count in self._bins]
        for _, _, _, usual, learned in plan.deviations:
            count, sum_, squares = slot.numbers[learned : learned + 3]
            if count:
                weight, mean, mean_square = numbers[usual : usual + 3]
                before = weight * MEMORY
                now = (
                    before + 1
                )  # however many it brought: a session weighs one, or one would be what is usual
                numbers[usual : usual + 3] = (
                    _single(now),
                    _single((before * mean + sum_ / count) / now),
                    _single((before * mean_square + squares / count) / now),
                )
        for place, hashed in slot.values:
            known = self._known[place]
            known[hashed] = known.pop(hashed, slot.first_s)  # to the end: the one longest unseen goes
            if len(known) > plan.most[place]:
                del known[next(iter(known))]

    def _tell_event(self, values: tuple[Value, ...], slot: _Slot, at_s: int, *, anew: bool) -> bool:
        """Tell what rests on an event's values, and on its time as well if `anew`.

        Returns:
            whether another event like it would be told the same of them.
        """
        plan, codes, before, repeats = self._plan, self._codes, self._values, self._plan.repeats
        self._values = values
        for at, source, by_category, of_any in plan.levels:
            if (value := values[source]) != before[source]:
                codes[at] = ABSENT if value is None else by_category.get(category(value), of_any)
        for at, source, one in plan.magnitudes:
            if (value := values[source]) != before[source]:
                numeric = None if value is None else number(value)
                codes[at] = ABSENT if numeric is None else one.bucket(numeric)
        for place, (at, source, bounds_s) in enumerate(plan.novelties):
            if (value := values[source]) != before[source] or anew:
                codes[at] = self._novelty(place, bounds_s, value, slot, at_s)
        for place, (at, source, _) in enumerate(plan.changes):
            codes[at] = code = self._change(place, values[source], slot)
            repeats = repeats and code in _UNCHANGED
        for at, source, one, usual, learned in plan.deviations:
            if (value := values[source]) is None:
                codes[at] = ABSENT
            else:
                codes[at], repeats = self._deviation(one, usual, learned, value, slot), False
        return repeats

    def _tell_all(self, at_s: int) -> None:
        """Tell what rests on the account's past and on time alone."""
        self._until_s = inf
        self._tell(self._plan.facts, at_s)
        for at, _, one in self._plan.habits:
            self._codes[at] = self._habit(one, at_s)

    def _tell(self, facts: Facts, at_s: int) -> None:
        codes, numbers, until_s = self._codes, self._numbers, self._until_s
        for at, place, bounds_s in facts.since:
            if not (before_s := numbers[place]):
                codes[at] = UNKNOWN
                continue
            bucket = bisect_right(bounds_s, at_s - before_s)
            codes[at] = FIRST + bucket
            until_s = min(until_s, before_s + bounds_s[bucket])
        for at, place, bounds, half_life_ms in facts.counts:
            count = numbers[place + 1]
            if count and (after_s := at_s - numbers[place]) > 0:
                count *= 0.5 ** (after_s * 1_000 / half_life_ms)
            bucket = bisect_right(bounds, count)
            codes[at] = FIRST + bucket
            if bucket and (bound := bounds[bucket - 1]) > 0:
                falls_s = at_s + log2(count / bound) * half_life_ms / 1_000 - 2  # what is rounded is far less
                if falls_s < until_s:
                    until_s = max(falls_s, at_s + 1)
        self._until_s = until_s

    def _note(self, facts: Facts, at_s: int) -> None:
        """Take note of what happened now."""
        numbers = self._numbers
        for _, place, _ in facts.since:
            numbers[place] = max(numbers[place], at_s)
        for _, place, _, half_life_ms in facts.counts:
            count = numbers[place + 1]
            if (after_s := at_s - numbers[place]) > 0:
                numbers[place] = at_s
                count *= 0.5 ** (after_s * 1_000 / half_life_ms)
            numbers[place + 1] = _single(count + 1)
        self._tell(facts, at_s)

    def _novelty(self, place: int, bounds_s: tuple[float, ...], value: Value, slot: _Slot, at_s: int) -> int:
        if value is None:
            return ABSENT
        hashed, known = value_hash(value), self._known[place]
        first_s = known.pop(hashed, None)
        if first_s is None:
            if not slot.flags & _BLOCKED and len(slot.values) < MAX_WAITING:
                slot.values[place, hashed] = None  # it waits until the session is over
            return FIRST if known else UNKNOWN
        known[hashed] = first_s  # to the end: the one longest unseen goes
        bucket = bisect_right(bounds_s, at_s - first_s)
        self._until_s = min(self._until_s, first_s + bounds_s[bucket])
        return FIRST + 1 + bucket

    def _change(self, place: int, value: Value, slot: _Slot) -> int:
        if value is None:
            return ABSENT
        before, now = slot.numbers[place], value_hash(value) or 1  # 0 is none
        slot.numbers[place] = now
        return FIRST + (before != now) if before else UNKNOWN

    def _deviation(self, one: Signal, usual: int, learned: int, value: str | float, slot: _Slot) -> int:
        numeric = number(value)
        if numeric is None or numeric < 0:
            return ABSENT
        logarithm = log1p(numeric)
        count, sum_, squares = slot.numbers[learned : learned + 3]
        if not slot.flags & _BLOCKED and count < _MAX_COUNT:
            slot.numbers[learned : learned + 3] = (
                count + 1,
                _single(sum_ + logarithm),
                _single(squares + logarithm**2),
            )
        weight, mean, mean_square = self._numbers[usual : usual + 3]
        if weight < LEAST_WEIGHT:
            return UNKNOWN
        spread = max(sqrt(max(mean_square - mean * mean, 0.0)), LEAST_SPREAD)
        return one.bucket((logarithm - mean) / spread)

    def _habit(self, one: Signal, at_s: int) -> int:
        if self._numbers[0] < LEAST_SESSIONS:
            return UNKNOWN
        self._until_s = min(self._until_s, at_s - at_s % _BIN_S + _BIN_S)
        hour = at_s % _DAY_S // _BIN_S
        near = self._bins[hour - 1] + self._bins[hour] + self._bins[(hour + 1) % HOURS]
        return one.bucket(near / sum(self._bins))

    def packed(self) -> bytes:
        """Return it as plain bytes, whose head is a session's."""
        plan, known = self._plan, self._known
        counts = [len(one) for one in known]
        parts = [
            pack(0, self.touched_ms, 0, PROFILE, b"", bytes(self._bins)),
            plan.whole.pack(*self._numbers, *counts, len(self._slots)),
            struct.pack(
                f"<{2 * sum(counts)}I", *[each for one in known for pair in one.items() for each in pair]
            ),
        ]
        for tag, slot in self._slots.items():
            parts.append(
                plan.slot.pack(tag, slot.first_s, slot.last_s, slot.flags, len(slot.values), *slot.numbers)
            )
            parts += [VALUE.pack(*key) for key in slot.values]
        return b"".join(parts)

    def _unpack(self, packed: bytes) -> None:
        plan = self._plan
        _, self.touched_ms, _, at, _, _ = head(packed)
        self._bins = list(packed[at : at + HOURS])
        *numbers, slots = plan.whole.unpack_from(packed, at + HOURS)
        at += HOURS + plan.whole.size
        self._numbers, counts = numbers[: len(plan.blank)], numbers[len(plan.blank) :]
        end = at + sum(counts) * KNOWN.size
        pairs = KNOWN.iter_unpack(packed[at:end])
        self._known = [dict(islice(pairs, count)) for count in counts]
        at = end
        for _ in range(slots):
            tag, first_s, last_s, flags, count, *kept = plan.slot.unpack_from(packed, at)
            at += plan.slot.size
            end = at + count * VALUE.size
            waiting = dict.fromkeys(VALUE.iter_unpack(packed[at:end]))
            self._slots[tag] = _Slot(first_s, last_s, flags, kept, waiting)
            at = end


def _single(value: float) -> float:
    """Round to single precision, as it is stored."""
    rounded: float = _of_bytes(_to_bytes(value))[0]
    return rounded
