"""Sittings: where the detector begins a session anew, and which of its events it passes over.

What follows is what `detector.core.staging` does event by event, computed for whole columns.
"""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.core.clocks import in_order
from detector.core.limits import SessionLimits
from trainer.data.sessions import Sessions, mixed


@dataclass(frozen=True, slots=True, eq=False)
class Sittings:
    """Sessions as they are served.

    Attributes:
        sessions: themselves, without the events that were passed over.
        kept: shape (actions that there were,), bool; which are left.
        begins: shape (actions,), bool; whether the detector begins anew with it.
        after_idle: sittings that begin because the session was idle.
        after_end: … because the action before ends a session.
    """

    sessions: Sessions
    kept: NDArray[np.bool_]
    begins: NDArray[np.bool_]
    after_idle: int
    after_end: int

    @property
    def repeated(self) -> int:
        """Events that were passed over, since their id was among the last ones of their session."""
        return int((~self.kept).sum())

    def told(self, idle_timeout_ms: int) -> list[str]:
        """Return the lines that say how histories were cut; none if none was."""
        count, actions = len(self.sessions), len(self.begins)
        lines = []
        if self.repeated:
            lines.append(f"{self.repeated:,} repeated events passed over, as when serving")
        if self.after_idle or self.after_end:
            total = count + self.after_idle + self.after_end
            lines.append(
                f"{total / count:.1f} sittings a session: {self.after_idle:,} histories cut where they were idle for "
                f"more than {idle_timeout_ms:,} ms (--idle-timeout-ms), {self.after_end:,} by an action that ends a "
                f"session; {actions / total:.1f} actions a sitting"
            )
        return lines


def sittings(
    sessions: Sessions,
    window: int,
    idle_timeout_ms: int,
    ends_session: Collection[str],
) -> Sittings:
    """Find the sittings of some sessions.

    Times are trusted, as those of a topic that the broker's clock vouches for. What else may end a session is not of
    its data: room for too few sessions, and a restart without state.

    Args:
        sessions: whole ones.
        window: of the model; as many ids of a session's last events are known again.
        idle_timeout_ms: a session without an action for longer, by stream time, has ended.
        ends_session: actions after which a session begins anew.
    """
    kept = ~_repeats(sessions, window, idle_timeout_ms)
    if sessions.event_hashes is not None:
        sessions = sessions.with_actions(kept)
    first = np.zeros(len(sessions.actions), np.bool_)
    first[sessions.starts[:-1]] = True
    idle, ended = np.zeros_like(first), np.zeros_like(first)
    now_ms = stream_time_ms(sessions)
    if now_ms is not None:
        idle[1:] = np.diff(now_ms) > idle_timeout_ms
    ends = np.array([name in ends_session for name in sessions.names], np.bool_)
    ended[1:] = ends[sessions.actions[:-1]]
    after_end = int((ended & ~first).sum())
    return Sittings(
        sessions,
        kept,
        first | idle | ended,
        int((idle & ~ended & ~first).sum()),
        after_end,
    )


def clamped(times_ms: NDArray[np.int64], begins: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Let no time run backwards from one beginning to the next."""
    backwards = np.zeros_like(begins)
    backwards[1:] = (np.diff(times_ms) < 0) & ~begins[1:]
    if not backwards.any():
        return times_ms
    number = np.cumsum(begins)
    some = np.flatnonzero(np.isin(number, number[backwards]))
    # Ranks of times are lifted apart by sitting, one above the other, so that one running maximum serves all.
    different, ranks = np.unique(times_ms[some], return_inverse=True)
    lift = number[some] * len(different)
    made = times_ms.copy()
    made[some] = different[np.maximum.accumulate(ranks + lift) - lift]
    return made


def in_order_ms(sessions: Sessions, begins: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return when actions count as done: never before the one before in their sitting, as `detector.core.clocks` has it."""
    times_ms, now_ms = sessions.times_ms, stream_time_ms(sessions)
    if times_ms is None or now_ms is None:
        return np.zeros(len(begins), np.int64)
    backwards = np.zeros_like(begins)
    backwards[1:] = (np.diff(times_ms) < 0) & ~begins[1:]
    if not backwards.any():
        return times_ms
    number, made = np.cumsum(begins), times_ms.copy()
    some = np.flatnonzero(np.isin(number, number[backwards]))  # few: who is in order is the rule
    latest_ms, last_ms = now_ms[some] + SessionLimits().tolerance_ms, 0
    for at, begun, at_ms, most_ms in zip(
        *(column.tolist() for column in (some, begins[some], times_ms[some], latest_ms)), strict=True
    ):
        made[at] = last_ms = at_ms if begun else in_order(at_ms, last_ms, most_ms)
    return made


def stream_time_ms(sessions: Sessions) -> NDArray[np.int64] | None:
    """Return stream time once each event is read: a log's, or that of a log of which the session is all."""
    if sessions.stream_ms is not None or sessions.times_ms is None:
        return sessions.stream_ms
    first = np.zeros(len(sessions.actions), np.bool_)
    first[sessions.starts[:-1]] = True
    return clamped(sessions.times_ms, first)


def _repeats(sessions: Sessions, window: int, idle_timeout_ms: int) -> NDArray[np.bool_]:
    """Tell which events the detector knows again: their id is among the last `window` of their session."""
    repeated = np.zeros(len(sessions.actions), np.bool_)
    hashes, now_ms = sessions.event_hashes, stream_time_ms(sessions)
    if hashes is None:
        return repeated
    number = np.repeat(np.arange(len(sessions), dtype=np.uint64), sessions.lengths)
    of_session = mixed(hashes + mixed(number))
    order = np.argsort(of_session, kind="stable")
    again = order[1:][of_session[order[1:]] == of_session[order[:-1]]]
    for session in np.unique(number[again]).tolist():  # few: a repeat is the exception
        begin, end = sessions.starts[session : session + 2].tolist()
        known: deque[int] = deque(maxlen=window)
        touched_ms = None
        for at, hashed in enumerate(hashes[begin:end].tolist(), start=begin):
            at_ms = 0 if now_ms is None else int(now_ms[at])
            if touched_ms is not None and at_ms - touched_ms > idle_timeout_ms:
                known.clear()
            elif hashed in known:
                repeated[at] = True
                continue
            known.append(hashed)
            touched_ms = at_ms
    return repeated
