"""Logs of session events, drawn by Hypothesis: few sessions, so that everything meets everything."""

import itertools

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.contract.actions import Action
from detector.contract.alerts import ModelReference
from detector.contract.events import SessionEvent
from detector.core.decision import Policy
from detector.core.encoding import Encoding
from detector.core.staging import Entry

ACTIONS = [action.value for action in Action]
ENCODING = Encoding(ACTIONS, window=4, gap_bounds_ms=[1_000, 60_000])
POLICY = Policy(threshold=0.5, model=ModelReference(name="sum", version="1", sha256="0" * 64))
SOURCE = ("session-actions", 3)


def score(windows: NDArray[np.void]) -> NDArray[np.float32]:
    """Score by a hash of the window: any change of an action, a gap or their order changes the score."""
    weights = np.arange(1, windows.shape[1] + 1, dtype=np.int64)
    mixed = (windows["action"].astype(np.int64) * 7 + windows["gap"].astype(np.int64) * 3) @ (
        weights * weights
    )
    return np.asarray((mixed * 2_654_435_761 % 1_000) / 1_000, np.float32)


@st.composite
def logs(draw: st.DrawFn) -> list[Entry]:
    """Draw entries with repeated ids, times that jump both ways and gaps between offsets."""
    count = draw(st.integers(1, 60))
    offsets = itertools.accumulate(draw(st.lists(st.integers(1, 3), min_size=count, max_size=count)))
    events = []
    now_ms = draw(st.integers(0, 10_000_000))
    for offset in offsets:
        now_ms = max(
            0, now_ms + draw(st.sampled_from([0, 1, 999, 1_000, 30_000, 90_000, 700_000, -5_000, -800_000]))
        )
        session = draw(st.sampled_from(["a", "b", "c", "d"]))
        event = SessionEvent(
            event_id=f"e{draw(st.integers(0, 40))}",
            session_id=session,
            account_id=f"account-{session}",
            action=draw(st.sampled_from(ACTIONS)),
            occurred_at_ms=now_ms,
        )
        events.append(Entry(offset, now_ms, event))
    return events
