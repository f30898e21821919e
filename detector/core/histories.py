"""The profiles of the accounts in a batch: unpacked when first met, beside the committed ones, which are not changed."""

from collections.abc import Iterable, Sequence

from detector.contract.events import SessionEvent
from detector.contract.fields import Value
from detector.contract.verdicts import Finding, Verdict
from detector.core.partition import Delta, LongestIdle, Partition
from detector.core.profile import Profile, tag_of
from detector.core.session import profile_key, touched_ms
from detector.core.signals import Signals


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
        self.forgotten = set() if pending is None else set(pending.forgotten)
        self.expired = self.evicted = 0
        self._longest_unseen = LongestIdle(self._committed, (self._met, self._earlier, self.forgotten))
        new = sum(one in self.forgotten or one not in self._committed for one in self._earlier)
        self._live = len(self._committed) - len(self.forgotten) + new

    def observe(
        self,
        event: SessionEvent,
        fields: Sequence[Value],
        now_ms: int,
        at_ms: int,
        gap_ms: int | None,
        *,
        ends: bool,
        is_blocked: bool,
    ) -> bytes:
        """Return an event's signals, and take note of it; see `Profile.observe`. `now_ms` is stream time."""
        profile = self._of(event.account_id, now_ms)
        tag = tag_of(event.session_id)
        return profile.observe(
            tag, event.account_id, event.action, at_ms, gap_ms, fields, ends=ends, is_blocked=is_blocked
        )

    def judge(self, verdict: Verdict, now_ms: int, since_ms: int | None) -> None:
        """Let an account with a history forget what a fraudulent session has taught it, or learn again from a lawful one.

        Args:
            verdict: on a session.
            now_ms: stream time.
            since_ms: when a fraudulent one began to be so, as far as that is known.
        """
        key = profile_key(verdict.account_id)
        met, packed = self._met.get(key), self._earlier.get(key)
        if packed is None and key not in self.forgotten:
            packed = self._committed.get(key)
        last_ms = met.touched_ms if met else touched_ms(packed) if packed else None
        if last_ms is None or now_ms - last_ms > self._timeout_ms:
            return
        profile, tag = self._of(verdict.account_id, now_ms), tag_of(verdict.session_id)
        if verdict.verdict is Finding.FRAUD:
            profile.forget(tag, since_ms)
        else:
            profile.clear(tag)

    def _of(self, account_id: str, now_ms: int) -> Profile:
        if not self.signals.remembers:
            return Profile(self.signals)
        key = profile_key(account_id)
        profile = self._met.pop(key, None)
        if profile is None:
            packed = self._earlier.pop(key, None)
            if packed is None and key not in self.forgotten:
                packed = self._committed.get(key)
            if packed is None:
                self._make_room()
            elif self._is_old(packed, now_ms):
                packed = None
            profile = Profile(self.signals, packed or b"")
        elif now_ms - profile.touched_ms > self._timeout_ms:
            profile = Profile(self.signals)
        profile.touched_ms = now_ms
        self._met[key] = profile  # to the end: in the order of the last touch
        return profile

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

    def packed(self, blocked: Iterable[tuple[str, str]]) -> dict[str, bytes]:
        """Return the profiles as the batch leaves them, in the order of their last touch.

        Args:
            blocked: account and id of the sessions that the batch has blocked.
        """
        for account_id, session_id in blocked:
            if profile := self._met.get(profile_key(account_id)):  # else there was no room for it
                profile.block(tag_of(session_id))
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
