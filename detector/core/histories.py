"""The profiles of the accounts in a batch: unpacked when first met, beside the committed ones, which are not changed."""

from dataclasses import dataclass, field
from typing import Any

from detector.contract.events import SessionEvent
from detector.contract.fields import Value
from detector.core.partition import Delta, LongestIdle, Partition
from detector.core.profile import Profile, tag_of
from detector.core.session import profile_key, touched_ms
from detector.core.signals import Signals


@dataclass(slots=True, eq=False)
class _Met:
    """A profile as it was found, and what it was told since: numbers of events, and how they were observed."""

    profile: Profile
    found: bytes
    heard: list[tuple[int, tuple[Any, ...], bool, bool]] = field(default_factory=list)


class Histories:
    """Gives each event its account's profile.

    Args:
        partition: the committed state.
        signals: of the model.
        max_accounts: most profiles kept for the partition; beyond it the one longest unseen goes.
        timeout_ms: an account unseen for longer, by stream time, is met as a new one.
        pending: what earlier events of the same batch come to.

    Attributes:
        signals: of the model.
        forgotten: keys of the accounts whose committed profiles are dropped.
        expired: how many profiles went for their age.
        evicted: how many for want of room.
    """

    def __init__(
        self,
        partition: Partition,
        signals: Signals,
        max_accounts: int,
        timeout_ms: int,
        pending: Delta | None = None,
    ) -> None:
        self.signals, self._max_accounts, self._timeout_ms = signals, max_accounts, timeout_ms
        self._committed = partition.profiles
        self._earlier = {} if pending is None else dict(pending.profiles)
        self._met: dict[str, _Met] = {}
        self._by_event: list[_Met] = []
        self._told: list[bytes] = []
        self._blocking: frozenset[int] = frozenset()
        self.forgotten = set() if pending is None else set(pending.forgotten)
        self.expired = self.evicted = 0
        self._longest_unseen = LongestIdle(self._committed, (self._met, self._earlier, self.forgotten))
        new = sum(one in self.forgotten or one not in self._committed for one in self._earlier)
        self._live = len(self._committed) - len(self.forgotten) + new

    def observe(
        self,
        event: SessionEvent,
        fields: tuple[Value, ...],
        now_ms: int,
        at_ms: int,
        gap_ms: int | None,
        *,
        ends: bool,
        is_blocked: bool,
    ) -> bytes:
        """Return an event's signals, and take note of it; see `Profile.observe`. `now_ms` is stream time."""
        heard = tag_of(event.session_id), event.account_id, event.action, at_ms, gap_ms, fields
        if not self.signals.remembers:
            return Profile(self.signals).observe(*heard)
        met = self._of(event.account_id, now_ms)
        met.heard.append((len(self._told), heard, ends, is_blocked))
        self._by_event.append(met)
        told = met.profile.observe(*heard, ends=ends, is_blocked=is_blocked)
        self._told.append(told)
        return told

    def block(self, blocking: frozenset[int]) -> dict[int, bytes]:
        """Let these events, and no others, block their sessions: what these have taught is forgotten, from there on.

        Args:
            blocking: their numbers, in the order in which events were observed, from 0.

        Returns:
            the signals of later events that have become others by that, by the number.
        """
        changed: dict[int, bytes] = {}
        if self.signals.remembers:
            for met in {self._by_event[one] for one in blocking ^ self._blocking}:
                changed |= self._again(met, blocking)
            self._blocking = blocking
        return changed

    def _again(self, met: _Met, blocking: frozenset[int]) -> dict[int, bytes]:
        changed, profile = {}, Profile(self.signals, met.found)
        for number, heard, ends, is_blocked in met.heard:
            told = profile.observe(*heard, ends=ends, is_blocked=is_blocked)
            if number in blocking:
                profile.block(heard[0])
            if told != self._told[number]:
                self._told[number] = changed[number] = told
        profile.touched_ms, met.profile = met.profile.touched_ms, profile
        return changed

    def _of(self, account_id: str, now_ms: int) -> _Met:
        key = profile_key(account_id)
        if (met := self._met.pop(key, None)) is None:
            packed = self._earlier.pop(key, None)
            if packed is None and key not in self.forgotten:
                packed = self._committed.get(key)
            if packed is None:
                self._make_room()
            elif self._is_old(packed, now_ms):
                packed = None
            met = self._begun(packed or b"")
        elif now_ms - met.profile.touched_ms > self._timeout_ms:
            met = self._begun(b"")
        met.profile.touched_ms = now_ms
        self._met[key] = met  # to the end: in the order of the last touch
        return met

    def _begun(self, packed: bytes) -> _Met:
        return _Met(Profile(self.signals, packed), packed)

    def expire(self, now_ms: int, most: int) -> None:
        """Drop so many of those that are too old, at most. Those that are left are as good as gone."""
        while most > 0 and (oldest := self._longest_unseen.peek()) and self._is_old(oldest[1], now_ms):
            self._drop(oldest[0])
            self.expired += 1
            most -= 1

    def packed(self) -> dict[str, bytes]:
        """Return the profiles as the batch leaves them, in the order of their last touch."""
        return self._earlier | {one: met.profile.packed() for one, met in self._met.items()}

    def _is_old(self, packed: bytes, now_ms: int) -> bool:
        return now_ms - touched_ms(packed) > self._timeout_ms

    def _make_room(self) -> None:
        """See to the room for one more."""
        if self._live < self._max_accounts:
            self._live += 1
            return
        oldest = self._longest_unseen.peek()
        if oldest is not None:
            self._drop(oldest[0])
            self.evicted += 1
            self._live += 1
            return
        for touched in (self._earlier, self._met):  # all that are left were met in this very batch
            if touched:
                key = next(iter(touched))
                del touched[key]
                if key in self._committed:
                    self.forgotten.add(key)
                self.evicted += 1
                return

    def _drop(self, key: str) -> None:
        self.forgotten.add(key)
        self._live -= 1
