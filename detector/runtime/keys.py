"""The keys of records, held against the ids that keep what belongs together in one partition."""

from collections.abc import Callable
from typing import NamedTuple

from detector.contract.events import SessionEvent


class Miskeyed(NamedTuple):
    """An event under another key than the id that is to partition it.

    Attributes:
        offset: where it lies.
        key: of its record.
        event: itself.
        of_history: the model reads the history of accounts.
    """

    offset: int
    key: bytes | None
    event: SessionEvent
    of_history: bool

    def told(self, pseudonym: Callable[[str], str]) -> str:
        """Return what is to be said of it and of others like it, with pseudonyms for ids."""
        if self.key is None:
            what = "no key"
        elif self.key == self.event.session_id.encode():
            what = "its session's id as the key"
        else:
            what = f"the key {pseudonym(self.key.decode(errors='surrogateescape'))}"
        return (
            f"the one at offset {self.offset}, of account {pseudonym(self.event.account_id)}, has {what}. Expected "
            f"{expected_key(of_history=self.of_history)}; see docs/how-to/keys.md"
        )


def expected_key(*, of_history: bool) -> str:
    """Return what keys are to be, and why."""
    if of_history:
        return (
            "the account's id as the key, since the model reads the history of accounts, and what one did in other partitions "
            "is unknown"
        )
    return "the account's id as the key, or the session's: what a session did in other partitions is another session's"
