"""What each kind of signal means, written down plainly: nothing is packed, kept ready or left out."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from math import log1p, sqrt

from detector.contract.fields import Value
from detector.core.plan import HOURS, MAX_SLOTS, MAX_WAITING
from detector.core.profile import (
    LEAST_SESSIONS,
    LEAST_SPREAD,
    LEAST_WEIGHT,
    MEMORY,
    OVER_AFTER_S,
)
from detector.core.signals import (
    ABSENT,
    BUILT_IN,
    FIRST,
    UNKNOWN,
    Kind,
    Signal,
    Signals,
    category,
    number,
    value_hash,
)

HOUR_S = 3_600
DAY_S = 24 * HOUR_S


@dataclass
class Waiting:
    """A session, and what it will teach its account once it is over."""

    first_s: int
    last_s: int
    ended: bool = False
    blocked: bool = False
    doubted: bool = False
    last: dict[str, int] = field(default_factory=dict)
    logarithms: dict[str, tuple[int, float, float]] = field(default_factory=dict)
    values: list[tuple[str, int]] = field(default_factory=list)


class PlainProfile:
    """As `detector.core.profile.Profile`, by the names of the signals."""

    def __init__(self, signals: Signals) -> None:
        self.signals = signals
        self.sessions = 0
        self.hours = [0] * HOURS
        self.since: dict[str, int] = {}
        self.counts: dict[str, tuple[int, float]] = {}
        self.usual: dict[str, tuple[float, float, float]] = {}
        self.known: dict[str, dict[int, int]] = {one.name: {} for one in signals.of(Kind.NOVELTY)}
        self.waiting: dict[bytes, Waiting] = {}

    def observe(
        self,
        tag: bytes,
        account_id: str,
        action: str,
        at_ms: int,
        gap_ms: int | None,
        fields: Sequence[Value],
        ends: bool = False,  # noqa: FBT001, FBT002
        is_blocked: bool = False,  # noqa: FBT001, FBT002
    ) -> bytes:
        """Return an event's signals, one after the other, and take note of it."""
        at_s = min(max(at_ms // 1_000, 1), 2**32 - 1)
        session = self.session(tag, at_s, begins=gap_ms is None)
        session.blocked |= is_blocked
        begin = "1" if gap_ms is None else None
        names = (*BUILT_IN, *self.signals.fields)
        values = dict(zip(names, (action, gap_ms, at_ms, account_id, begin, *fields), strict=True))
        told = bytes(self.told(one, values[one.of], session, at_s) for one in self.signals.declared)
        session.last_s = max(session.last_s, at_s)
        session.ended |= ends
        return told

    def doubt(self, tag: bytes, *, is_doubted: bool) -> None:
        """A challenged session teaches nothing unless it passes."""
        if session := self.waiting.get(tag):
            session.doubted = is_doubted

    def block(self, tag: bytes) -> None:
        """A blocked session teaches nothing."""
        if session := self.waiting.get(tag):
            session.blocked = True
            session.values, session.logarithms = [], {}

    def session(self, tag: bytes, at_s: int, *, begins: bool) -> Waiting:
        """Sessions that are over are learned from; one more than there is room for teaches nothing."""
        for one, waiting in list(self.waiting.items()):
            is_over = begins if one == tag else waiting.ended or at_s - waiting.last_s > OVER_AFTER_S
            if is_over:
                del self.waiting[one]
                if not waiting.blocked and not waiting.doubted:
                    self.learn(waiting)
        session = self.waiting.pop(tag, None)
        if session is None:
            if len(self.waiting) == MAX_SLOTS:
                del self.waiting[next(iter(self.waiting))]
            session = Waiting(at_s, at_s)
        self.waiting[tag] = session
        return session

    def learn(self, session: Waiting) -> None:
        """Take over the hour, the numbers and the values of a session that went well."""
        self.sessions = min(self.sessions + 1, 2**16 - 1)
        self.hours[session.first_s % DAY_S // (2 * HOUR_S)] += 1
        if max(self.hours) > 255:
            self.hours = [one // 2 for one in self.hours]
        for name, (count, sum_, squares) in session.logarithms.items():
            weight, mean, mean_square = self.usual.get(name, (0.0, 0.0, 0.0))
            before = weight * MEMORY
            now = before + 1
            self.usual[name] = (
                single(now),
                single((before * mean + sum_ / count) / now),
                single((before * mean_square + squares / count) / now),
            )
        most = {one.name: one.most for one in self.signals.of(Kind.NOVELTY)}
        for name, hashed in session.values:
            known = self.known[name]
            known[hashed] = known.pop(hashed, session.first_s)
            if len(known) > most[name]:
                del known[next(iter(known))]  # the one longest unseen

    def told(self, one: Signal, value: Value, session: Waiting, at_s: int) -> int:  # noqa: PLR0911  a kind each
        """Return a signal's code, and let it take note of the value."""
        match one.kind:
            case Kind.SINCE:
                return self.told_since(one, value, at_s)
            case Kind.COUNT:
                return self.told_count(one, value, at_s)
            case Kind.HABIT:
                return self.told_habit(one, at_s)
            case _ if value is None:
                return ABSENT
            case Kind.LEVEL:
                return FIRST + (*one.values, category(value)).index(category(value))
            case Kind.MAGNITUDE:
                return ABSENT if (numeric := number(value)) is None else bucket(one, numeric)
            case Kind.CHANGE:
                before, now = session.last.get(one.name), value_hash(value) or 1
                session.last[one.name] = now
                return UNKNOWN if before is None else FIRST + (before != now)
            case Kind.NOVELTY:
                return self.told_novelty(one, value_hash(value), session, at_s)
            case _:
                return self.told_deviation(one, number(value), session)

    def told_since(self, one: Signal, value: Value, at_s: int) -> int:
        """How long ago it was last, before this event."""
        before = self.since.get(one.name)
        if is_about(one, value):
            self.since[one.name] = max(at_s, before or 0)
        return UNKNOWN if before is None else bucket(one, (at_s - before) * 1_000)

    def told_count(self, one: Signal, value: Value, at_s: int) -> int:
        """How often it was, before this event; each time weighs half after the half-life."""
        then_s, count = self.counts.get(one.name, (0, 0.0))
        if count:
            count *= 0.5 ** (max(at_s - then_s, 0) * 1_000 / one.half_life_ms)
        if is_about(one, value):
            self.counts[one.name] = max(then_s, at_s), single(count + 1)
        return bucket(one, count)

    def told_habit(self, one: Signal, at_s: int) -> int:
        """Which share of the sessions began about this hour."""
        if self.sessions < LEAST_SESSIONS:
            return UNKNOWN
        hour = at_s % DAY_S // (2 * HOUR_S)
        about = (hour - 1, hour, (hour + 1) % HOURS)
        return bucket(one, sum(self.hours[at] for at in about) / sum(self.hours))

    def told_novelty(self, one: Signal, hashed: int, session: Waiting, at_s: int) -> int:
        """For how long the account has known the value; a new one waits until its session is over."""
        known = self.known[one.name]
        if hashed in known:
            known[hashed] = known.pop(hashed)  # not the one longest unseen any more
            return 1 + bucket(one, (at_s - known[hashed]) * 1_000)
        is_new = (one.name, hashed) not in session.values
        if is_new and not session.blocked and len(session.values) < MAX_WAITING:
            session.values.append((one.name, hashed))
        return FIRST if known else UNKNOWN

    def told_deviation(self, one: Signal, numeric: float | None, session: Waiting) -> int:
        """How far its logarithm lies from the account's mean, in standard deviations."""
        if numeric is None or numeric < 0:
            return ABSENT
        logarithm = log1p(numeric)
        count, sum_, squares = session.logarithms.get(one.name, (0, 0.0, 0.0))
        if not session.blocked and count < 2**16 - 1:
            session.logarithms[one.name] = (
                count + 1,
                single(sum_ + logarithm),
                single(squares + logarithm**2),
            )
        weight, mean, mean_square = self.usual.get(one.name, (0.0, 0.0, 0.0))
        if weight < LEAST_WEIGHT:
            return UNKNOWN
        spread = max(sqrt(max(mean_square - mean * mean, 0.0)), LEAST_SPREAD)
        return bucket(one, (logarithm - mean) / spread)


def is_about(one: Signal, value: Value) -> bool:
    """Tell whether since and count take note of a value."""
    return value is not None and (not one.values or category(value) in one.values)


def bucket(one: Signal, numeric: float) -> int:
    """Return the code of a number between the bounds."""
    return FIRST + len(list(takewhile(lambda bound: bound <= numeric, one.bounds)))


def single(value: float) -> float:
    """Round to single precision."""
    rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return rounded
