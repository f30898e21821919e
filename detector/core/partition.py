"""The live sessions of one input partition."""

from collections.abc import Mapping
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
    """

    next_offset: int
    stream_time_ms: int
    removed: list[str]
    touched: dict[str, bytes]
    listed: Mapping[str, Listing | None] = {}
    breaker: BreakerState = BreakerState()


class Partition:
    """Live sessions of one input partition, and how far its log was read.

    `sessions` maps a session id to its packed state and is ordered by the last touch, the longest idle first.
    Stream time never runs backwards, so the order is that of `touched_ms` as well: what expires next, and what
    is evicted next, is always at the front. `listed` holds the listed accounts.
    """

    def __init__(self, next_offset: int = 0) -> None:
        self.next_offset = next_offset
        self.stream_time_ms = 0
        self.sessions: dict[str, bytes] = {}
        self.listed: dict[str, Listing] = {}
        self.breaker = BreakerState()

    def apply(self, delta: Delta) -> None:
        """Take over what a committed batch changed."""
        sessions = self.sessions
        for session_id in delta.removed:
            sessions.pop(session_id, None)
        for session_id, packed in delta.touched.items():
            sessions.pop(session_id, None)  # a key is moved to the end only by being removed first
            sessions[session_id] = packed
        for account_id, listing in delta.listed.items():
            if listing is None:
                self.listed.pop(account_id, None)
            else:
                self.listed[account_id] = listing
        self.breaker = delta.breaker
        self.next_offset = delta.next_offset
        self.stream_time_ms = delta.stream_time_ms
