"""The live sessions of one input partition."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from detector.contract.accounts import Listing
from detector.core.breaker import BreakerState


class Delta(NamedTuple):
    """What a batch changes in a partition. Applied only once its transaction committed.

    Attributes:
        next_offset: input offset after the batch.
        stream_time_ms: highest event time read so far.
        removed: ids of expired and evicted sessions; dropped before `touched` is written.
        touched: packed sessions by id, in the order of their last touch.
        listed: accounts that were listed, or cleared (None).
        breaker: the circuit breaker after the batch.
        forgotten: keys of accounts whose profiles are dropped, before `profiles` are written.
        profiles: packed profiles by the accounts' keys, in the order of their last touch.
    """

    next_offset: int
    stream_time_ms: int
    removed: list[str]
    touched: dict[str, bytes]
    listed: Mapping[str, Listing | None] = {}
    breaker: BreakerState = BreakerState()
    forgotten: Sequence[str] = ()
    profiles: Mapping[str, bytes] = {}


class Partition:
    """Live sessions of one input partition, and how far its log was read.

    `sessions` maps a session id to its packed state and is ordered by the last touch, the longest idle first.
    Stream time never runs backwards, so the order is that of `touched_ms` as well: what expires next, and what
    is evicted next, is always at the front. `profiles` has those of accounts in the same way. `listed` holds the
    listed accounts.
    """

    def __init__(self, next_offset: int = 0) -> None:
        self.next_offset = next_offset
        self.stream_time_ms = 0
        self.sessions: dict[str, bytes] = {}
        self.profiles: dict[str, bytes] = {}
        self.listed: dict[str, Listing] = {}
        self.breaker = BreakerState()

    def apply(self, delta: Delta) -> None:
        """Take over what a committed batch changed."""
        _write(self.sessions, delta.removed, delta.touched)
        _write(self.profiles, delta.forgotten, delta.profiles)
        for account_id, listing in delta.listed.items():
            if listing is None:
                self.listed.pop(account_id, None)
            else:
                self.listed[account_id] = listing
        self.breaker = delta.breaker
        self.next_offset = delta.next_offset
        self.stream_time_ms = delta.stream_time_ms


def _write(table: dict[str, bytes], removed: Iterable[str], touched: Mapping[str, bytes]) -> None:
    for key in removed:
        table.pop(key, None)
    for key, packed in touched.items():
        table.pop(key, None)  # a key is moved to the end only by being removed first
        table[key] = packed


class LongestIdle:
    """Walks the entries of a committed table that a batch has not touched or removed, the longest idle first.

    One walk serves a whole batch, since nothing is taken out of the partition before the commit.

    Args:
        table: in the order of the last touch.
        passed_over: where the batch notes what it touches and removes.
    """

    def __init__(self, table: Mapping[str, bytes], passed_over: Sequence[Collection[str]]) -> None:
        self._items: Iterator[tuple[str, bytes]] = iter(table.items())
        self._passed_over = passed_over
        self._head = next(self._items, None)

    def peek(self) -> tuple[str, bytes] | None:
        """Return the next of them, None if there is none left."""
        while self._head is not None and any(self._head[0] in one for one in self._passed_over):
            self._head = next(self._items, None)
        return self._head
