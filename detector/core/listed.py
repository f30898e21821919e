"""Listed accounts in a batch, beside the committed ones, which are not changed: by an operator for good, by a verdict for a time."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from detector.contract.listings import Listing
from detector.contract.verdicts import Finding, Verdict
from detector.core.alerted import key_of

OVERHEAD_BYTES: Final = 100
"""Counted for each beside its id: the objects and their place in the table."""

_GRAVER_FIRST: Final = (Listing.DENY, Listing.ALLOW)


class Timed(NamedTuple):
    """What a verdict has listed an account as.

    Attributes:
        listing: allowed or denied …
        until_ms: … until then, by stream time.
        session: that the verdict is on, as alerted sessions are kept under.
        decided_at_ms: when the verdict was decided, by its own clock.
    """

    listing: Listing
    until_ms: int
    session: bytes
    decided_at_ms: int


Listed = Listing | Timed


def size_bytes(account_id: str, listed: Listed | None) -> int:
    """Return about how much memory a listed account takes."""
    return 0 if listed is None else len(account_id.encode()) + OVERHEAD_BYTES


class ListedAccounts:
    """Those of a partition as a batch leaves them.

    Args:
        committed: of the partition, by account.
        committed_bytes: what they take.
        most_bytes: that all may take.
        pending: what earlier entries of the same batch have changed.

    Attributes:
        changed: by account; None for those that were cleared.
    """

    def __init__(
        self,
        committed: Mapping[str, Listed],
        committed_bytes: int,
        most_bytes: int,
        pending: Mapping[str, Listed | None],
    ) -> None:
        self._committed, self._most_bytes = committed, most_bytes
        self.changed = dict(pending)
        self._bytes = committed_bytes + sum(
            size_bytes(account_id, listed) - size_bytes(account_id, committed.get(account_id))
            for account_id, listed in pending.items()
        )

    def of(self, account_id: str, now_ms: int) -> Listing | None:
        """Return what an account is listed as, at this stream time."""
        listed = self.kept(account_id)
        if listed is None or isinstance(listed, Listing):
            return listed
        return listed.listing if now_ms < listed.until_ms else None

    def kept(self, account_id: str) -> Listed | None:
        """Return what is kept of an account, be its time over or not."""
        if account_id in self.changed:
            return self.changed[account_id]
        return self._committed.get(account_id)

    def put(self, account_id: str, listed: Listed | None, now_ms: int) -> bool:
        """List an account, or clear it; tell whether there was room. None is made but of those whose time is over."""
        before = self.kept(account_id)
        more = size_bytes(account_id, listed) - size_bytes(account_id, before)
        if more > 0 and self._bytes + more > self._most_bytes:
            self._drop_what_is_over(now_ms)
            if self._bytes + more > self._most_bytes:
                return False
        self._bytes += more
        self.changed[account_id] = listed
        return True

    def judge(self, verdict: Verdict, now_ms: int, lasts_ms: int) -> bool:
        """List a verdict's account for so long, or end what an earlier one on the session has listed it as.

        An operator's word stands above a verdict's, and a fraud of another session above what is lawful in this one.

        Returns:
            whether there was room.
        """
        account_id, before = verdict.account_id, self.kept(verdict.account_id)
        session = key_of(account_id, verdict.session_id)
        listing = Listing.DENY if verdict.verdict is Finding.FRAUD else Listing.ALLOW
        if isinstance(before, Listing):
            return True
        if before is not None and before.session == session:
            # One that is known does not begin its time anew, nor one decided earlier.
            if (before.decided_at_ms, before.listing) == (verdict.decided_at_ms, listing):
                return True
            if before.decided_at_ms > verdict.decided_at_ms:
                return True
        elif before is not None and now_ms < before.until_ms and (before.listing, listing) == _GRAVER_FIRST:
            return True
        if lasts_ms:
            return self.put(
                account_id, Timed(listing, now_ms + lasts_ms, session, verdict.decided_at_ms), now_ms
            )
        if before is not None and before.session == session:
            self.put(account_id, None, now_ms)
        return True

    def _drop_what_is_over(self, now_ms: int) -> None:
        for account_id, listed in {**self._committed, **self.changed}.items():
            if isinstance(listed, Timed) and listed.until_ms <= now_ms:
                self.changed[account_id] = None
                self._bytes -= size_bytes(account_id, listed)
