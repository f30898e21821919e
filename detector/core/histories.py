"""The profiles of the accounts in a batch: unpacked when first met, beside the committed ones, which are not changed."""

from typing import Any

from detector.contract.events import SessionEvent
from detector.core.partition import Delta, LongestIdle, Partition
from detector.core.profile import Profile, tag_of
from detector.core.session import profile_key, touched_ms
from detector.core.signals import Signals


class _Met:
    """A profile as it was found, and as it is by what it was told since: numbers of events, themselves, their signals."""

    __slots__ = ("found", "heard", "profile")

    def __init__(self, signals: Signals, found: bytes) -> None:
        self.found, self.profile = found, Profile(signals, found)
        self.heard: list[tuple[int, tuple[Any, ...], bytes]] = []


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
        self._blocking: frozenset[int] = frozenset()
        self.forgotten = set() if pending is None else set(pending.forgotten)
        self.expired = self.evicted = 0
        self._longest_unseen = LongestIdle(self._committed, (self._met, self._earlier, self.forgotten))
        new = sum(one in self.forgotten or one not in self._committed for one in self._earlier)
        self._live = len(self._committed) - len(self.forgotten) + new

    def observe(self, event: SessionEvent, now_ms: int, *seen: Any) -> bytes:
        """Return an event's signals, and take note of it.

        Args:
            event: itself.
            now_ms: stream time with it.
            seen: what else `Profile.observe` needs, from the event's time on.
        """
        account_id = event.account_id
        heard = tag_of(event.session_id), account_id, event.action, *seen
        if not self.signals.remembers:
            return Profile(self.signals).observe(*heard)
        key, by_event = profile_key(account_id), self._by_event
        if (met := self._met.pop(key, None)) is None or now_ms - met.profile.touched_ms > self._timeout_ms:
            met = _Met(self.signals, b"" if met else self._found(key, now_ms))
        self._met[key] = met  # to the end: in the order of the last touch
        profile = met.profile
        profile.touched_ms = now_ms
        told = profile.observe(*heard)
        met.heard.append((len(by_event), heard, told))
        by_event.append(met)
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
        before, touched_ms, changed = met.heard, met.profile.touched_ms, dict[int, bytes]()
        met.profile, met.heard = Profile(self.signals, met.found), []
        for number, heard, told in before:
            now_told = met.profile.observe(*heard)
            met.heard.append((number, heard, now_told))
            if number in blocking:
                met.profile.block(heard[0])
            if now_told != told:
                changed[number] = now_told
        met.profile.touched_ms = touched_ms
        return changed

    def _found(self, key: str, now_ms: int) -> bytes:
        packed = self._earlier.pop(key, None)
        if packed is None and key not in self.forgotten:
            packed = self._committed.get(key)
        if packed is None:
            self._make_room()
        elif self._is_old(packed, now_ms):
            packed = None
        return packed or b""

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
