"""The live sessions of one input partition."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from detector.core.alerted import Alerted
from detector.core.breaker import BreakerState
from detector.core.listed import Listed, size_bytes

_Key = TypeVar("_Key")
_Kept = TypeVar("_Kept")


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
        alerted: sessions that alerts or verdicts told of, by key and in that order; None for those that went.
        heard_at_ms: the broker's time of the latest event, 0 if it is not known.
    """

    next_offset: int
    stream_time_ms: int
    removed: list[str]
    touched: dict[str, bytes]
    listed: Mapping[str, Listed | None] = {}
    breaker: BreakerState = BreakerState()
    forgotten: Sequence[str] = ()
    profiles: Mapping[str, bytes] = {}
    alerted: Mapping[bytes, Alerted | None] = {}
    heard_at_ms: int = 0


class Partition:
    """Live sessions of one input partition, and how far its log was read.

    `sessions` maps a session id to its packed state and is ordered by the last touch, the longest idle first.
    Stream time never runs backwards, so the order is that of `touched_ms` as well: what expires next, and what
    is evicted next, is always at the front. `profiles` has those of accounts in the same way, `alerted` the
    sessions that alerts were published on. `listed` holds the listed accounts, `listed_bytes` what they take.
    """

    def __init__(self, next_offset: int = 0) -> None:
        self.next_offset = next_offset
        self.stream_time_ms = self.heard_at_ms = 0
        self.sessions: dict[str, bytes] = {}
        self.profiles: dict[str, bytes] = {}
        self.listed: dict[str, Listed] = {}
        self.listed_bytes = 0
        self.alerted: dict[bytes, Alerted] = {}
        self.breaker = BreakerState()

    def unchanged(self, next_offset: int) -> Delta:
        """Return what a batch changes that ends there and comes to nothing."""
        now_ms, heard_at_ms = self.stream_time_ms, self.heard_at_ms
        return Delta(next_offset, now_ms, [], {}, breaker=self.breaker, heard_at_ms=heard_at_ms)

    def apply(self, delta: Delta) -> None:
        """Take over what a committed batch changed."""
        _write(self.sessions, delta.removed, delta.touched)
        _write(self.profiles, delta.forgotten, delta.profiles)
        for account_id, listing in delta.listed.items():
            self.list(account_id, listing)
        for key, alerted in delta.alerted.items():
            self.tell(key, alerted)
        self.breaker = delta.breaker
        self.next_offset = delta.next_offset
        self.stream_time_ms, self.heard_at_ms = delta.stream_time_ms, delta.heard_at_ms

    def list(self, account_id: str, listing: Listed | None) -> None:
        """List an account, or clear it."""
        self.listed_bytes += size_bytes(account_id, listing) - size_bytes(
            account_id, self.listed.pop(account_id, None)
        )
        if listing is not None:
            self.listed[account_id] = listing

    def tell(self, key: bytes, alerted: Alerted | None) -> None:
        """Take note of what is told of an alerted session, or that it went."""
        self.alerted.pop(key, None)
        if alerted is not None:
            self.alerted[key] = alerted


def _write(table: dict[str, bytes], removed: Iterable[str], touched: Mapping[str, bytes]) -> None:
    for key in removed:
        table.pop(key, None)
    for key, packed in touched.items():
        table.pop(key, None)  # a key is moved to the end only by being removed first
        table[key] = packed


class LongestIdle(Generic[_Key, _Kept]):
    """Walks the entries of a committed table that a batch has not touched or removed, the longest idle first.

    One walk serves a whole batch, since nothing is taken out of the partition before the commit.

    Args:
        table: in the order of the last touch.
        passed_over: where the batch notes what it touches and removes.
    """

    def __init__(self, table: Mapping[_Key, _Kept], passed_over: Sequence[Collection[_Key]]) -> None:
        self._items: Iterator[tuple[_Key, _Kept]] = iter(table.items())
        self._passed_over = passed_over
        self._head = next(self._items, None)

    def peek(self) -> tuple[_Key, _Kept] | None:
        """Return the next of them, None if there is none left."""
        while self._head is not None and any(self._head[0] in one for one in self._passed_over):
            self._head = next(self._items, None)
        return self._head
