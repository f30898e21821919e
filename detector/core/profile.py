"""The profile of an account: what its earlier events left behind, as packed bytes, and the signals that rest on it.

Two kinds of memory. What happened, happened: since and count take note of an event at once, and keep it. What is usual
is learned from sessions that went well: each session's new devices and recipients, amounts and hour wait in a slot of their
own until it is over, and go to the account's habits then, or nowhere if it was blocked. So what was blocked never
becomes known, and in its own session a new device stays new to the end. All of it follows from the log alone (ADR 0032).

Every number is rounded to what is stored when it changes, so packing and unpacking at any cut changes no bit.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from math import log1p, sqrt
from struct import Struct
from typing import Final

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
_ENDED, _BLOCKED, _CLEARED = 1, 2, 4

_KNOWN, _VALUE = Struct("<II"), Struct("<BI")
_to_bytes, _of_bytes = Struct("<f").pack, Struct("<f").unpack


_Values = tuple[Value, ...]


@dataclass(slots=True)
class _Slot:
    """A session under way or just over: what it will teach.

    Attributes:
        first_s: when it began, by its own times; `last_s` its latest action.
        flags: _ENDED, _BLOCKED, and _CLEARED if a verdict has taken that back.
        last: hash of the last value of each change signal; 0 is none.
        numbers: of each deviation signal how many logarithms there were, their sum and that of their squares.
        values: those that are new to the account, by (index of the signal, hash), in the order in which they came.
    """

    first_s: int
    last_s: int
    flags: int
    last: list[int]
    numbers: list[tuple[int, float, float]]
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
    """

    __slots__ = (
        "_bins",
        "_counts",
        "_known",
        "_sessions",
        "_signals",
        "_since",
        "_slots",
        "_usual",
        "touched_ms",
    )

    def __init__(self, signals: Signals, packed: bytes = b"") -> None:
        self._signals = signals
        self._sessions = self.touched_ms = 0
        self._since = [0] * len(signals.placed[Kind.SINCE])
        self._counts = [(0, 0.0)] * len(signals.placed[Kind.COUNT])
        self._usual = [(0.0, 0.0, 0.0)] * len(signals.placed[Kind.DEVIATION])
        self._bins = [0] * HOURS
        self._known: list[dict[int, int]] = [{} for _ in signals.placed[Kind.NOVELTY]]
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
        if is_blocked and not slot.flags & _CLEARED:
            slot.flags |= _BLOCKED
        values = (action, gap_ms, at_ms, account_id, "1" if begins else None, *fields)
        codes = bytearray(self._signals.unread)
        self._tell_event(codes, values, slot)
        self._tell_facts(codes, values, at_s)
        self._tell_usual(codes, values, slot, at_s)
        slot.last_s = max(slot.last_s, at_s)
        if ends:
            slot.flags |= _ENDED
        return bytes(codes)

    def block(self, tag: bytes) -> None:
        """Forget what a session, blocked now, has taught so far and will teach. What happened stays: its facts."""
        slot = self._slots.get(tag)
        if slot is not None:
            slot.flags = slot.flags & ~_CLEARED | _BLOCKED
            slot.values.clear()
            slot.numbers = [(0, 0.0, 0.0)] * len(slot.numbers)

    def clear(self, tag: bytes) -> None:
        """Let a session that was blocked teach again, from here on."""
        if slot := self._slots.get(tag):
            slot.flags = slot.flags & ~_BLOCKED | _CLEARED

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
        if not begins and len(slots) == 1 and (slot := slots.get(tag)) is not None:
            return slot  # as nearly always: it is under way, and no other waits
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
            changes = len(self._signals.placed[Kind.CHANGE])
            slot = _Slot(at_s, at_s, 0, [0] * changes, [(0, 0.0, 0.0)] * len(self._usual))
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
        for place, hashed in slot.values:
            known = self._known[place]
            known[hashed] = known.pop(hashed, slot.first_s)  # to the end: the one longest unseen goes
            if len(known) > self._signals.placed[Kind.NOVELTY][place][-1].most:
                del known[next(iter(known))]

    # Each of these sets the codes of some kinds, for all signals of a kind at once: they take most of an event's time.

    def _tell_event(self, codes: bytearray, values: _Values, slot: _Slot) -> None:
        """Set what the event itself tells, or its session."""
        placed = self._signals.placed
        for at, source, one in placed[Kind.LEVEL]:
            if (value := values[source]) is not None:
                codes[at] = one.level(value)
        for at, source, one in placed[Kind.MAGNITUDE]:
            if (value := values[source]) is not None and (numeric := number(value)) is not None:
                codes[at] = FIRST + bisect_right(one.bounds, numeric)
        last = slot.last
        for place, (at, source, _) in enumerate(placed[Kind.CHANGE]):
            if (value := values[source]) is not None:
                before, now = last[place], value_hash(value) or 1  # 0 is none
                last[place] = now
                codes[at] = FIRST + (before != now) if before else UNKNOWN

    def _tell_facts(self, codes: bytearray, values: _Values, at_s: int) -> None:
        """Set what happened before, and take note of what happens now."""
        placed, since, counts = self._signals.placed, self._since, self._counts
        at_ms = at_s * 1_000
        for place, (at, source, one) in enumerate(placed[Kind.SINCE]):
            before, value = since[place], values[source]
            codes[at] = FIRST + bisect_right(one.bounds, at_ms - before * 1_000) if before else UNKNOWN
            if value is not None and one.is_about(value) and at_s > before:
                since[place] = at_s
        for place, (at, source, one) in enumerate(placed[Kind.COUNT]):
            (then_s, count), value = counts[place], values[source]
            if count and at_s > then_s:
                count *= 0.5 ** ((at_s - then_s) * 1_000 / one.half_life_ms)
            codes[at] = FIRST + bisect_right(one.bounds, count)
            if value is not None and one.is_about(value):
                counts[place] = max(then_s, at_s), _single(count + 1)

    def _tell_usual(self, codes: bytearray, values: _Values, slot: _Slot, at_s: int) -> None:
        """Set how the event lies to the account's habits; what it teaches waits in the session's slot."""
        placed, learns, waiting = self._signals.placed, not slot.flags & _BLOCKED, slot.values
        for place, (at, source, one) in enumerate(placed[Kind.NOVELTY]):
            if (value := values[source]) is None:
                continue
            hashed, known = value_hash(value), self._known[place]
            first_s = known.pop(hashed, None)
            if first_s is not None:
                known[hashed] = first_s  # to the end: the one longest unseen goes
                codes[at] = FIRST + 1 + bisect_right(one.bounds, (at_s - first_s) * 1_000)
                continue
            codes[at] = FIRST if known else UNKNOWN
            if learns and len(waiting) < MAX_WAITING:
                waiting[place, hashed] = None
        for place, (at, source, one) in enumerate(placed[Kind.DEVIATION]):
            if (value := values[source]) is not None:
                codes[at] = self._deviation(one, place, value, slot)
        for at, _, one in placed[Kind.HABIT]:
            codes[at] = self._habit(one, at_s)

    def _deviation(self, one: Signal, place: int, value: str | float, slot: _Slot) -> int:
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

    def _habit(self, one: Signal, at_s: int) -> int:
        if self._sessions < LEAST_SESSIONS:
            return UNKNOWN
        hour = at_s % _DAY_S // _BIN_S
        near = self._bins[hour - 1] + self._bins[hour] + self._bins[(hour + 1) % HOURS]
        return one.bucket(near / sum(self._bins))

    def packed(self) -> bytes:
        """Return it as plain bytes, whose head is a session's."""
        whole, of_slot = _layouts(self._signals)
        numbers = chain(self._since, *self._counts, *self._usual, map(len, self._known))
        parts = [pack(0, self.touched_ms, 0, PROFILE, b"", bytes(self._bins))]
        parts.append(whole.pack(self._sessions, *numbers, len(self._slots)))
        parts += [_KNOWN.pack(*one) for known in self._known for one in known.items()]
        for tag, slot in self._slots.items():
            kept = chain(slot.last, *slot.numbers)
            parts.append(of_slot.pack(tag, slot.first_s, slot.last_s, slot.flags, len(slot.values), *kept))
            parts += [_VALUE.pack(*key) for key in slot.values]
        return b"".join(parts)

    def _unpack(self, packed: bytes) -> None:
        whole, of_slot = _layouts(self._signals)
        _, self.touched_ms, _, at, _, _ = head(packed)
        self._bins = list(packed[at : at + HOURS])
        numbers = iter(whole.unpack_from(packed, at + HOURS))
        at += HOURS + whole.size
        self._sessions = next(numbers)
        self._since = [next(numbers) for _ in self._since]
        self._counts = [(next(numbers), next(numbers)) for _ in self._counts]
        self._usual = [(next(numbers), next(numbers), next(numbers)) for _ in self._usual]
        for known in self._known:
            end = at + next(numbers) * _KNOWN.size
            known.update(_KNOWN.iter_unpack(packed[at:end]))
            at = end
        for _ in range(next(numbers)):
            tag, first_s, last_s, flags, count, *kept = of_slot.unpack_from(packed, at)
            at += of_slot.size
            end = at + count * _VALUE.size
            waiting = dict.fromkeys(_VALUE.iter_unpack(packed[at:end]))
            at, last = end, kept[: -3 * len(self._usual) or None]
            triples = iter(kept[len(last) :])
            self._slots[tag] = _Slot(
                first_s, last_s, flags, last, list(zip(triples, triples, triples, strict=True)), waiting
            )


@lru_cache(64)
def _layouts(signals: Signals) -> tuple[Struct, Struct]:
    """Return how a profile's numbers are packed behind its bins, and those of each of its slots."""
    since, counts, usual, known, changes = (
        len(signals.placed[kind])
        for kind in (Kind.SINCE, Kind.COUNT, Kind.DEVIATION, Kind.NOVELTY, Kind.CHANGE)
    )
    whole = f"<H{since * 'I'}{counts * 'If'}{usual * 'fff'}{known * 'B'}B"
    return Struct(whole), Struct(f"<4sIIBB{changes * 'I'}{usual * 'Hff'}")


def _single(value: float) -> float:
    """Round to single precision, as it is stored."""
    rounded: float = _of_bytes(_to_bytes(value))[0]
    return rounded


def largest_bytes(signals: Signals) -> int:
    """Return how many bytes a packed profile can take."""
    whole, of_slot = _layouts(signals)
    known = sum(one.most * _KNOWN.size for one in signals.of(Kind.NOVELTY))
    waiting = MAX_WAITING * _VALUE.size if known else 0
    return HEAD_BYTES + HOURS + whole.size + known + MAX_SLOTS * (of_slot.size + waiting)
