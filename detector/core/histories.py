"""The profiles of the accounts in a batch: unpacked when first met, beside the committed ones, which are not changed."""

from typing import Any, Final, NamedTuple

from detector.contract.events import SessionEvent
from detector.core.partition import Delta, LongestIdle, Partition
from detector.core.profile import Profile, tag_of
from detector.core.session import profile_key, touched_ms
from detector.core.signals import Signals

_GAP_AT: Final = 4


class _Heard(NamedTuple):
    """An event as a profile was told it.

    Attributes:
        number: among all that were observed.
        session_id: its session's.
        found: what its account's profile was found as, if it was met with this event; None if it had been met before.
        seen: arguments of `Profile.observe`.
        told: its signals.
    """

    number: int
    session_id: str
    found: bytes | None
    seen: tuple[Any, ...]
    told: bytes


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
        self._met: dict[str, Profile] = {}
        self._heard: dict[str, list[_Heard]] = {}
        self._keys: list[str] = []
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
        session_id, account_id = event.session_id, event.account_id
        arguments = tag_of(session_id), account_id, event.action, *seen
        if not self.signals.remembers:
            return Profile(self.signals).observe(*arguments)
        key, found = profile_key(account_id), None
        if (profile := self._met.pop(key, None)) is None or now_ms - profile.touched_ms > self._timeout_ms:
            found = b"" if profile else self._found(key, now_ms)
            profile = Profile(self.signals, found)
        self._met[key] = profile  # to the end: in the order of the last touch
        profile.touched_ms = now_ms
        told = profile.observe(*arguments)
        heard = _Heard(len(self._keys), session_id, found, arguments, told)
        if (before := self._heard.get(key)) is None:
            self._heard[key] = [heard]
        else:
            before.append(heard)
        self._keys.append(key)
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
            for key in {self._keys[number] for number in blocking ^ self._blocking}:
                changed |= self._again(key, blocking)
            self._blocking = blocking
        return changed

    def _again(self, key: str, blocking: frozenset[int]) -> dict[int, bytes]:
        """Tell an account's events again."""
        changed, blocked, profile = dict[int, bytes](), set[str](), Profile(self.signals)
        for at, (number, session_id, found, seen, before) in enumerate(self._heard[key]):
            if found is not None:
                profile = Profile(self.signals, found)
            if seen[_GAP_AT] is None:
                blocked.discard(session_id)
            told = profile.observe(*seen[:-1], is_blocked=seen[-1] or session_id in blocked)
            if number in blocking:
                blocked.add(session_id)
                profile.block(seen[0])
            if told != before:
                changed[number] = told
                self._heard[key][at] = _Heard(number, session_id, found, seen, told)
        if key in self._met:  # else there was no room for it
            profile.touched_ms = self._met[key].touched_ms
            self._met[key] = profile
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
        return self._earlier | {one: profile.packed() for one, profile in self._met.items()}

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
