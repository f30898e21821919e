"""The circuit breaker: blocks become reviews while too many of a partition's sessions reach the threshold.

A model that has gone bad must not lock every customer out. What is counted is what the model wants, not what is
done: sessions begun and sessions that reached the threshold, once each, over a sliding window of stream time. So the
breaker closes when the model, or the traffic, is itself again, and not because it held the blocks back. The counts
are part of the partition's state: every worker, and a replay, sees the breaker open and close at the same event.
"""

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

SLOTS = 10
"""Steps in which the window slides: counts leave it a tenth of it at a time."""


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """When the breaker opens.

    Attributes:
        max_block_share: sessions that reach the threshold, of those that begin. It closes again at half of it, so
            that it does not flutter.
        min_blocks: it takes that many in the window, however few began.
        window_ms: of stream time.
    """

    max_block_share: float
    min_blocks: int
    window_ms: int


class BreakerState(NamedTuple):
    """What a partition knows of its breaker.

    Attributes:
        is_open: blocks are reviews now.
        counts: (begin of the slot in stream time, sessions begun, sessions that reached the threshold), in order.
    """

    is_open: bool = False
    counts: tuple[tuple[int, int, int], ...] = ()


class Breaker:
    """Carries a state over a batch. Without limits it stays closed and counts nothing.

    Attributes:
        opened: how often it opened since it was made.
    """

    def __init__(self, limits: BreakerLimits | None, state: BreakerState) -> None:
        self._limits = limits
        self._is_open = state.is_open and limits is not None
        self._counts = deque(state.counts if limits is not None else ())
        self._begun = sum(begun for _, begun, _ in self._counts)
        self._blocks = sum(blocks for _, _, blocks in self._counts)
        self.opened = 0

    @property
    def state(self) -> BreakerState:
        """Where it is now."""
        return BreakerState(self._is_open, tuple(self._counts))

    @property
    def is_open(self) -> bool:
        """Whether it is open at the event last counted."""
        return self._is_open

    def count(self, stream_time_ms: int, *, begun: int = 0, blocks: int = 0) -> None:
        """Move on to an event, and count what it brought.

        Args:
            stream_time_ms: of the partition, at the event; never runs backwards.
            begun: sessions that began with it.
            blocks: sessions that reached the threshold with it for the first time.
        """
        limits = self._limits
        if limits is None:
            return
        self._slide(stream_time_ms, limits)
        if begun or blocks:
            slot_ms = max(1, limits.window_ms // SLOTS)
            at_ms = stream_time_ms - stream_time_ms % slot_ms
            before = self._counts.pop() if self._counts and self._counts[-1][0] >= at_ms else (at_ms, 0, 0)
            self._counts.append((before[0], before[1] + begun, before[2] + blocks))
            self._begun += begun
            self._blocks += blocks
        share = limits.max_block_share * self._begun
        if self._is_open:
            self._is_open = 2 * self._blocks > share
        elif self._blocks >= limits.min_blocks and self._blocks > share:
            self._is_open = True
            self.opened += 1

    def _slide(self, stream_time_ms: int, limits: BreakerLimits) -> None:
        while self._counts and self._counts[0][0] <= stream_time_ms - limits.window_ms:
            _, begun, blocks = self._counts.popleft()
            self._begun -= begun
            self._blocks -= blocks
