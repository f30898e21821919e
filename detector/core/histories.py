"""The profiles of the accounts in a batch: unpacked when first met, beside the committed ones, which are not changed."""

from collections.abc import Mapping
from typing import Final

from detector.contract.events import SessionEvent
from detector.contract.fields import Value
from detector.contract.verdicts import Finding, Verdict
from detector.core.partition import Delta, LongestIdle, Partition
from detector.core.profile import Profile, tag_of
from detector.core.session import Trust, profile_key, touched_ms
from detector.core.signals import Signals

_Seen = tuple[bytes, str, str, int, int | None, tuple[Value, ...], bool, bool]
"""Arguments of `Profile.observe`."""
_Heard = tuple[str, str, bytes | None, _Seen | tuple[bytes], bytes]
"""An event as its account's profile was told it: the profile's key, the session's id, what the profile was found as if it
was met with this event, arguments, of one that was passed over the session's tag alone, and signals."""

_MAX_AHEAD_MS: Final = 24 * 60 * 60 * 1000
"""How far ahead of stream time a fact is noted at most: one of the year 9999 would be the account's latest for good. A day,
since stream time may be late after a quiet night."""


class Histories:
    """Gives each event its account's profile.

    Args:
        partition: the committed state.
        signals: of the model.
        max_accounts: most profiles kept for the partition; beyond it the one longest unseen goes.
        timeout_ms: an account unseen for longer, by stream time, is met as a new one.
        over_after_ms: a session without an action for longer teaches its account.
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
        over_after_ms: int,
        pending: Delta | None = None,
    ) -> None:
        self.signals, self._max_accounts, self._timeout_ms = signals, max_accounts, timeout_ms
        self._over_after_s = -(-over_after_ms // 1_000)
        self._committed = partition.profiles
        self._earlier = {} if pending is None else dict(pending.profiles)
        self._met: dict[str, Profile] = {}
        self._heard: list[_Heard] = []
        self._trust: Mapping[int, Trust] = {}
        self.forgotten = set() if pending is None else set(pending.forgotten)
        self.expired = self.evicted = 0
        self._longest_unseen = LongestIdle(self._committed, (self._met, self._earlier, self.forgotten))
        new = sum(one in self.forgotten or one not in self._committed for one in self._earlier)
        self._live = len(self._committed) - len(self.forgotten) + new

    def observe(
        self,
        event: SessionEvent,
        now_ms: int,
        at_ms: int,
        gap_ms: int | None,
        fields: tuple[Value, ...],
        *,
        ends: bool,
        is_blocked: bool,
    ) -> bytes:
        """Return an event's signals, and take note of it; see `Profile.observe`. `now_ms` is stream time, 0 if not known yet."""
        account_id = event.account_id
        if now_ms:
            at_ms = min(at_ms, now_ms + _MAX_AHEAD_MS)
        seen = tag_of(event.session_id), account_id, event.action, at_ms, gap_ms, fields, ends, is_blocked
        if not self.signals.remembers:
            return Profile(self.signals).observe(*seen)
        key, profile, found = self._met_by(account_id, now_ms)
        told = profile.observe(*seen)
        self._heard.append((key, event.session_id, found, seen, told))
        return told

    def judge(self, verdict: Verdict, now_ms: int, since_ms: int | None) -> None:
        """Let an account with a history forget what a fraudulent session has taught it, or learn again from a lawful one.

        Nothing may have been observed yet: what was, could be told again, and would not know of it.

        Args:
            verdict: on a session.
            now_ms: stream time.
            since_ms: when a fraudulent one began to be so, as far as that is known.
        """
        key = profile_key(verdict.account_id)
        packed = self._kept(key)
        if packed is None or self._is_old(packed, now_ms):
            return
        profile, tag = self._profile(packed), tag_of(verdict.session_id)
        profile.touched_ms = now_ms
        if verdict.verdict is Finding.FRAUD:
            profile.forget(tag, since_ms)
        else:
            profile.clear(tag)
        self._earlier.pop(key, None)  # to the end: in the order of the last touch
        self._earlier[key] = profile.packed()

    def knows(self, account_id: str) -> bool:
        """Tell whether an account has a profile that no event of the batch has met."""
        return self._kept(profile_key(account_id)) is not None

    def pass_over(self, event: SessionEvent, now_ms: int) -> None:
        """Take note of an event that teaches nothing, but may block its session."""
        if self.signals.remembers:
            key, _, found = self._met_by(event.account_id, now_ms)
            self._heard.append((key, event.session_id, found, (tag_of(event.session_id),), b""))

    def _met_by(self, account_id: str, now_ms: int) -> tuple[str, Profile, bytes | None]:
        """Return an account's key and profile and, as it is met now, what it was found as."""
        key, found = profile_key(account_id), None
        if (profile := self._met.pop(key, None)) is None or now_ms - profile.touched_ms > self._timeout_ms:
            found = b"" if profile else self._found(key, now_ms)
            profile = self._profile(found)
        self._met[key] = profile  # to the end: in the order of the last touch
        profile.touched_ms = now_ms
        return key, profile, found

    def settle(self, trust: Mapping[int, Trust]) -> dict[int, bytes]:
        """Let these events, and no others, change what becomes of what their sessions teach, from there on.

        Args:
            trust: by their numbers, in the order in which events were observed, from 0.

        Returns:
            the signals of later events that have become others by that, by the number.
        """
        heard, changed = self._heard, dict[int, bytes]()
        others = dict(trust.items() ^ self._trust.items()) if self.signals.remembers else ()
        again, self._trust = {heard[number][0]: self._profile(b"") for number in others}, trust
        blocked: set[tuple[str, str]] = set()
        for number, (key, session_id, found, seen, before) in enumerate(heard if again else ()):
            if key not in again:
                continue
            if found is not None:
                again[key] = self._profile(found)
            session, told = (key, session_id), before
            if len(seen) > 1:
                *_, gap_ms, _, _, was_blocked = seen
                if gap_ms is None:
                    blocked.discard(session)
                told = again[key].observe(*seen[:-1], was_blocked or session in blocked)
            match trust.get(number):
                case None:
                    pass
                case Trust.BLOCKED:
                    blocked.add(session)
                    again[key].block(seen[0])
                case doubted_or_cleared:
                    again[key].doubt(seen[0], is_doubted=doubted_or_cleared is Trust.DOUBTED)
            if told != before:
                heard[number] = key, session_id, found, seen, told
                changed[number] = told
        for key in again.keys() & self._met.keys():  # else there was no room for it
            again[key].touched_ms = self._met[key].touched_ms
            self._met[key] = again[key]
        return changed

    def _profile(self, packed: bytes) -> Profile:
        return Profile(self.signals, packed, self._over_after_s)

    def _kept(self, key: str) -> bytes | None:
        packed = self._earlier.get(key)
        if packed is None and key not in self.forgotten:
            packed = self._committed.get(key)
        return packed

    def _found(self, key: str, now_ms: int) -> bytes:
        packed = self._kept(key)
        self._earlier.pop(key, None)
        if packed is None:
            self._make_room()
        elif self._is_old(packed, now_ms):
            packed = None
        return packed or b""

    def expire(self, now_ms: int, most: int) -> None:
        """Drop so many at most of those that are too old, which are as good as gone, and of those that are too many.

        There are too many where there was more room before: under other settings, or with fewer partitions.
        """
        while most > 0 and (oldest := self._longest_unseen.peek()):
            if self._is_old(oldest[1], now_ms):
                self.expired += 1
            elif self._live > self._max_accounts:
                self.evicted += 1
            else:
                return
            self._drop(oldest[0])
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
