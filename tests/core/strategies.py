"""Logs of session events, drawn by Hypothesis: few sessions, so that everything meets everything."""

import itertools
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.contract.actions import STEP_UP_ACTIONS, Action
from detector.contract.alerts import Alert, ModelReference
from detector.contract.control import Control
from detector.contract.events import SessionEvent
from detector.contract.listings import AccountListing, Listing
from detector.contract.verdicts import Finding, Verdict
from detector.core.breaker import BreakerLimits
from detector.core.decision import Policy
from detector.core.encoding import Encoding
from detector.core.evidence import Evidence
from detector.core.limits import SessionLimits
from detector.core.memo import ScoreMemo
from detector.core.pipeline import Outcome, Pipeline
from detector.core.reasons import Score, with_reasons
from detector.core.signals import Kind, Signal
from detector.core.staging import Entry

ACTIONS = [action.value for action in Action]
ENCODING = Encoding(ACTIONS, window=4, gap_bounds_ms=[1_000, 60_000])
SIGNALS = (
    Signal(name="channel", kind=Kind.LEVEL, of="attributes.channel", values=("web", "app")),
    Signal(name="amount", kind=Kind.MAGNITUDE, of="amount", bounds=(10, 1_000)),
    Signal(name="unusual amount", kind=Kind.DEVIATION, of="amount", bounds=(-1, 1, 3)),
    Signal(name="pace", kind=Kind.DEVIATION, of="gap_ms", bounds=(-2, 0, 2)),
    Signal(name="device", kind=Kind.NOVELTY, of="attributes.device", bounds=(60_000, 600_000), most=2),
    Signal(name="account", kind=Kind.NOVELTY, of="account_id", bounds=(60_000, 600_000), most=1),
    Signal(name="other device", kind=Kind.CHANGE, of="attributes.device"),
    Signal(
        name="since a password or money",
        kind=Kind.SINCE,
        of="action",
        values=("CHANGE_PASSWORD", "TRANSFER_LARGE"),
        bounds=(5_000, 60_000),
    ),
    Signal(name="since session", kind=Kind.SINCE, of="session_begin", bounds=(5_000, 60_000)),
    Signal(name="events", kind=Kind.COUNT, of="action", bounds=(1, 2.5, 7), half_life_ms=60_000),
    Signal(name="hour", kind=Kind.HABIT, of="occurred_at_ms", bounds=(0.1, 0.5)),
)
"""One of each kind at least."""
SIGNALLED = Encoding(ACTIONS, window=4, gap_bounds_ms=[1_000, 60_000], signals=SIGNALS)
FIELDS = st.tuples(
    st.sampled_from([None, "web", "app", "atm", 7.0]),
    st.sampled_from([None, 0.0, 12.5, 5_000.0, -3.0, "900.00", "much"]),
    st.sampled_from([None, "phone", "laptop", "other", True]),
)
"""Values of what SIGNALS read: channel, amount, device."""
MODEL = ModelReference(name="sum", version="1", sha256="0" * 64)
POLICY = Policy(threshold=0.5, model=MODEL)
GUARDED = Policy(
    0.6,
    MODEL,
    review_threshold=0.3,
    breaker=BreakerLimits(0.3, 2, window_ms=100_000, probation_sessions=12),
    challenge_threshold=0.45,
    epoch=b"guarded",
    step_ups=STEP_UP_ACTIONS,
)
"""All guard rails at once, set so that random logs meet all of them."""
EVIDENCE = Evidence(window_weight=0.5, bias=0.1, logit_weight=0.4, drift=-0.1, floor=-1.5, scale_actions=6)
EVIDENCES = st.sampled_from([None, EVIDENCE, Evidence(window_weight=0, bias=0, logit_weight=1, drift=0.2)])
"""None at all, with a barrier, and without one."""
SOURCE = ("session-actions", 3)
LIMITS = SessionLimits(
    idle_timeout_ms=60_000,
    max_sessions=3,
    max_alerted=3,
    alert_memory_ms=200_000,
    fraud_listing_ms=90_000,
    cleared_listing_ms=30_000,
)


def score(windows: NDArray[np.void]) -> NDArray[np.float32]:
    """Score by a hash of the window: any change of an action, a gap or their order changes the score."""
    weights = np.arange(1, windows.shape[1] + 1, dtype=np.int64)
    mixed = (windows["action"].astype(np.int64) * 7 + windows["gap"].astype(np.int64) * 3) @ (
        weights * weights
    )
    if "signals" in (windows.dtype.names or ()):
        of_each = np.arange(3, 3 + windows["signals"].shape[-1], dtype=np.int64)
        mixed += (windows["signals"].astype(np.int64) @ of_each) @ weights
    return np.asarray((mixed * 2_654_435_761 % 1_000) / 1_000, np.float32)


def pipeline(
    score: Score = score,
    *,
    policy: Policy = GUARDED,
    limits: SessionLimits = LIMITS,
    encoding: Encoding = ENCODING,
    evidence: Evidence | None = None,
    **more: Any,
) -> Pipeline:
    """Return the pipeline of a model that scores so, as the detector makes it."""
    memo = ScoreMemo(encoding, score)
    return Pipeline(
        encoding=encoding, score=memo.of, policy=policy, limits=limits, evidence=evidence,
        explain=partial(with_reasons, encoding=encoding, score=memo, evidence=evidence), **more,
    )  # fmt: skip


def alerts_of(outcomes: Iterable[Outcome]) -> list[Alert]:
    """Return the alerts of a run, in order."""
    return [alert for outcome in outcomes for alert in outcome.alerts]


def event_of(entry: Entry) -> SessionEvent:
    """Return the entry's event; it must not be a listing."""
    assert isinstance(entry.event, SessionEvent)
    return entry.event


@st.composite
def controls(draw: st.DrawFn, account_id: str, session_id: str, now_ms: int) -> Control:
    """Draw a listing of an account, or a verdict on a session of its."""
    if draw(st.booleans()):
        listing = draw(st.sampled_from([Listing.ALLOW, Listing.DENY, None]))
        return AccountListing(account_id=account_id, listing=listing)
    ago_ms = st.sampled_from([None, 0, 1_000, 90_000])
    return Verdict(
        verdict_id="v",
        account_id=account_id,
        session_id=session_id,
        verdict=draw(st.sampled_from(list(Finding))),
        by="analyst",
        decided_at_ms=draw(st.integers(0, 3)),
        first_event_at_ms=None if (ago := draw(ago_ms)) is None else max(0, now_ms - ago),
    )


@st.composite
def logs(draw: st.DrawFn, *, listings: bool = False, step_ups: bool = False) -> list[Entry]:
    """Draw entries with repeated ids, times that jump both ways, gaps between offsets and, on demand, control records.

    And on demand what says of second factors what came of them.
    """
    actions = [*ACTIONS, *STEP_UP_ACTIONS] if step_ups else ACTIONS
    count = draw(st.integers(1, 60))
    offsets = itertools.accumulate(draw(st.lists(st.integers(1, 3), min_size=count, max_size=count)))
    events = []
    now_ms = draw(st.integers(0, 10_000_000))
    for offset in offsets:
        now_ms = max(
            0, now_ms + draw(st.sampled_from([0, 1, 999, 1_000, 30_000, 90_000, 700_000, -5_000, -800_000]))
        )
        session = draw(st.sampled_from(["a", "b", "c", "d"]))
        if listings and draw(st.integers(0, 9)) == 0:
            events.append(Entry(offset, now_ms, draw(controls(f"account-{session}", session, now_ms))))
            continue
        event = SessionEvent(
            event_id=f"e{draw(st.integers(0, 40))}",
            session_id=session,
            account_id=f"account-{session}",
            action=draw(st.sampled_from(actions)),
            occurred_at_ms=now_ms,
        )
        events.append(Entry(offset, now_ms, event))
    return events
