"""The circuit breaker: blocks become challenges while a model, or the traffic, gives no reason to believe in them.

What is counted is what the model wants, not what is done: sessions begun and sessions that reached the threshold, once
each. So the breaker does not close because it held blocks back. A model that a partition has not seen before, or one
under other settings, is on probation: a sequential test (Page's cumulative sum, Biometrika 1954) of the share of
sessions that reach the threshold opens the breaker within some ten sessions of one that blocks everybody. A model that
has stood it blocks on in a wave of attacks, however sure it must be of what share: ADR 0036. All of it is part of the
partition's state: every worker, and a replay, sees the breaker open and close at the same event.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import log
from typing import Final, NamedTuple

from detector.contract.headers import utc

SLOTS = 10
"""Steps in which the window slides: counts leave it a tenth of it at a time."""
FAR_ODDS: Final = 10
"""A score is far above the threshold if the odds of an attack are so many times those at the threshold."""
USUAL: Final = 0.4
"""What share of the largest a model on probation is expected to reach at most: attacks, and its false alarms."""
_EVIDENCE: Final = log(10_000)
"""Log-likelihood ratio at which the probation's test opens the breaker: odds of 10,000 to 1."""
_MOST_EVIDENCE: Final = 4 * _EVIDENCE
"""More is not remembered, so that a wave in the probation is forgiven after some hundreds of sessions."""
_NEAR, _ALL = 2, 3
"""By how many times the largest share scores near the threshold are held back in steady state, and all of them."""


class Held(IntEnum):
    """Which blocks are held back."""

    NONE = 0
    NEAR = 1
    """Those of scores that are not far above the threshold."""
    ALL = 2


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """When the breaker opens.

    Attributes:
        max_block_share: sessions that reach the threshold, of those that begin, above 0 and below 1. On probation more
            opens it soon. In steady state it takes more than twice as much to hold back scores near the threshold, and
            three times to hold back all of them; it closes again at half of that, so that it does not flutter.
        min_blocks: in steady state it takes that many in the window, however few began.
        window_ms: of stream time, in steady state.
        probation_sessions: so many have to have begun a window ago before a model is believed: what becomes of a session
            is not known when it begins, and a busy partition has begun thousands before the first reaches its transfer.
    """

    max_block_share: float
    min_blocks: int
    window_ms: int
    probation_sessions: int = 0


class BreakerState(NamedTuple):
    """What a partition knows of its breaker.

    Attributes:
        is_open: blocks are challenges now, or some.
        counts: (begin of the slot in stream time, sessions begun, sessions that reached the threshold), in order.
        epoch: of what decides.
        awaited: sessions that have to leave the window yet before it is off probation.
        evidence: against it, a log-likelihood ratio; while there is any it stays on probation.
        holds_all: all blocks are challenges.
    """

    is_open: bool = False
    counts: tuple[tuple[int, int, int], ...] = ()
    epoch: bytes = b""
    awaited: int = 0
    evidence: float = 0.0
    holds_all: bool = False

    @property
    def on_probation(self) -> bool:
        """Whether what decides is not believed yet."""
        return self.awaited > 0 or self.evidence > 0


def told_of_opening(state: BreakerState, model: object, blocking: Sequence[str] = ()) -> str:
    """Return what the log says of a breaker that opened: what was seen since when, what it holds back, and what to do.

    Args:
        state: after the batch in which it did.
        model: that decides.
        blocking: conditions of rules that block beside it.
    """
    begun, reached = (sum(one[place] for one in state.counts) for place in (1, 2))
    seen = "too many sessions"
    if state.counts:  # they may have left the window again
        seen = f"of {begun:,} sessions begun since {utc(state.counts[0][0])} of event time {reached:,}"
    held = "all blocks" if state.holds_all else "blocks of scores near the threshold"
    by_rules, a_rule, rules = (
        (", or were to be blocked by rules", ", a rule", ", take the rule out") if blocking else ("", "", "")
    )
    do = (
        f"The model{a_rule} or a setting is new here and may be bad: put the former one back, unless this is an attack"
        if state.on_probation
        else "In an attack leave it: few of those who are challenged then pass. Else put the former model back"
        f"{rules} or raise --threshold"
    )
    return (
        f"the circuit breaker opened: {seen} reached the threshold of model {model}{by_rules}. Until it closes by itself "
        f"{held} are challenges. {do}; see 'Circuit breaker' in docs/operations.md"
    )


def far_above(threshold: float) -> float:
    """Return the score from which on one is far above the threshold: its odds are FAR_ODDS times as high."""
    return FAR_ODDS * threshold / (1 + (FAR_ODDS - 1) * threshold)


class Breaker:
    """Carries a state over a batch. Without limits it stays closed and counts nothing.

    Args:
        limits: when it opens.
        state: where it was.
        epoch: of what decides. Another than the state's begins with nothing: its probation.

    Attributes:
        opened: how often it opened since it was made.
    """

    def __init__(self, limits: BreakerLimits | None, state: BreakerState, epoch: bytes = b"") -> None:
        if limits is None:
            state = BreakerState()
        elif state.epoch != epoch:
            state = BreakerState(epoch=epoch, awaited=limits.probation_sessions)
        self._limits = limits
        self._epoch, self._awaited, self._evidence = state.epoch, state.awaited, state.evidence
        self._held = Held.ALL if state.holds_all else Held.NEAR if state.is_open else Held.NONE
        self._counts = deque(state.counts)
        self._sessions = sum(begun for _, begun, _ in self._counts)
        self._blocks = sum(blocks for _, _, blocks in self._counts)
        self.opened = 0

    @property
    def state(self) -> BreakerState:
        """Where it is now."""
        held, counts = self._held, tuple(self._counts)
        return BreakerState(held > 0, counts, self._epoch, self._awaited, self._evidence, held is Held.ALL)

    @property
    def held(self) -> Held:
        """Which blocks are held back at the event last counted."""
        return self._held

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
            self._sessions += begun
            self._blocks += blocks
        on_probation = self._awaited > 0 or self._evidence > 0
        held = self._tested(limits, begun, blocks) if on_probation else self._weighed(limits)
        self.opened += held > self._held
        self._held = held

    def _tested(self, limits: BreakerLimits, begun: int, blocks: int) -> Held:
        """Take an event into the probation's test."""
        largest, usual = limits.max_block_share, USUAL * limits.max_block_share
        reached, not_reached = log(largest / usual), log((1 - largest) / (1 - usual))
        # A session is taken for one that does not reach the threshold until it does.
        evidence = self._evidence + begun * not_reached + blocks * (reached - not_reached)
        self._evidence = min(max(0.0, evidence), _MOST_EVIDENCE)
        is_open = self._evidence > 0 if self._held else self._evidence >= _EVIDENCE
        return Held.ALL if is_open else Held.NONE

    def _weighed(self, limits: BreakerLimits) -> Held:
        """Hold the window's share against that of a believed model."""
        if self._held is Held.NONE and self._blocks < limits.min_blocks:
            return Held.NONE
        for degree, times in ((Held.ALL, _ALL), (Held.NEAR, _NEAR)):
            most = times * limits.max_block_share * self._sessions
            if self._held >= degree:
                most /= 2
            if self._blocks > most and (self._held >= degree or self._blocks >= limits.min_blocks):
                return degree
        return Held.NONE

    def _slide(self, stream_time_ms: int, limits: BreakerLimits) -> None:
        while self._counts and self._counts[0][0] <= stream_time_ms - limits.window_ms:
            _, begun, blocks = self._counts.popleft()
            self._sessions -= begun
            self._blocks -= blocks
            self._awaited = max(0, self._awaited - begun)
