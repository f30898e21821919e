"""Training sees what serving sees: whole logs, through the real pipeline and through the trainer's columns."""

import itertools
from collections.abc import Sequence

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from detector.contract.events import SessionAction, SessionEvent, encode_event
from detector.contract.listings import AccountListing, Listing
from detector.core.decision import Policy
from detector.core.encoding import Encoding
from detector.core.limits import SessionLimits
from detector.core.partition import Partition
from detector.core.pipeline import Pipeline
from detector.core.staging import Candidate, Entry
from tests.core.strategies import MODEL, SIGNALS, SOURCE
from trainer.data.description import Description
from trainer.data.loading import assembled
from trainer.data.observing import with_signals
from trainer.data.reading import read_lines
from trainer.data.sessions import Session, Sessions
from trainer.data.windows import every_window, pack

IDLE_MS = 60_000
BEGIN_MS = 1_700_000_000_000
ACTIONS = ["LOGIN", "VIEW_BALANCE", "TRANSFER_LARGE", "LOGOUT", "NEVER_SEEN"]
GAPS_MS = [0, 1, 999, 30_000, 60_000, 60_001, 90_000, -5_000, -61_000, -800_000]
LAWFUL = Description(unlabelled="lawful")

ATTRIBUTES = [{}, {"channel": "web", "device": "phone"}, {"device": 7}, {"device": True, "channel": ["web"]}]
SIGNALLED = Description(unlabelled="lawful", signals=SIGNALS)
LIMITS = SessionLimits(idle_timeout_ms=IDLE_MS)


@st.composite
def logs(draw: st.DrawFn, *, shared: bool = False) -> list[SessionEvent | AccountListing]:
    """Draw a partition's log: sessions by turns, clocks that jump both ways, ids that come again, and listings.

    An id comes again in its session as the same event, as the contract has it, or in another as one of its own. Where an
    account is shared, all sessions are of it, and nobody denies it: training knows of no block.
    """
    listings = [Listing.ALLOW] if shared else list(Listing)
    log: list[SessionEvent | AccountListing] = []
    events: list[SessionAction] = []
    now_ms = BEGIN_MS
    for number in range(draw(st.integers(1, 50))):
        now_ms += draw(st.sampled_from(GAPS_MS))
        session = draw(st.sampled_from("abc"))
        event = SessionAction(
            event_id=f"{session}{number}",
            session_id=session,
            account_id="shared" if shared else f"account-{session}",
            action=draw(st.sampled_from(ACTIONS)),
            occurred_at_ms=now_ms,
            amount=draw(st.sampled_from([None, 0.0, 12.5, 5_000.0])),
            attributes=draw(st.sampled_from(ATTRIBUTES)),
        )
        kind = draw(st.sampled_from(["new", "new", "new", "new", "again", "elsewhere", "listing"]))
        if kind == "listing":
            log.append(AccountListing(account_id=event.account_id, listing=draw(st.sampled_from(listings))))
            continue
        if kind == "again" and events:
            event = draw(st.sampled_from(events))
        own = {one.event_id for one in events if one.session_id == session}
        others = sorted({one.event_id for one in events} - own)
        if kind == "elsewhere" and others:
            event = structs.replace(event, event_id=draw(st.sampled_from(others)))
        events.append(event)
        log.append(event)
    return log


def served(
    logs_of: Sequence[Sequence[SessionEvent | AccountListing]], encoding: Encoding
) -> dict[str, list[bytes]]:
    """Return the windows that the detector's pipeline scores, by session, over a log of each partition."""
    windows: dict[str, list[bytes]] = {}

    def score(candidates: Sequence[Candidate]) -> list[float]:
        for one in candidates:
            windows.setdefault(one.event.session_id, []).append(one.steps.ljust(encoding.window_bytes, b"\0"))
        return [0.5] * len(candidates)

    pipeline = Pipeline(
        encoding=encoding,
        score=score,
        policy=Policy(0.9, MODEL),
        limits=LIMITS,
    )
    for log in logs_of:
        entries = [
            Entry(offset, 0, event, fields=encoding.signals.read(msgspec.json.encode(event)))
            for offset, event in enumerate(log)
        ]
        list(pipeline.over(Partition(), entries, SOURCE, batch_entries=7))
    return windows


def trained_on(sessions: Sessions, encoding: Encoding) -> dict[str, list[bytes]]:
    """Return the windows that training and evaluation show a model, by session."""
    packed = pack(sessions, encoding, IDLE_MS)
    rows = np.concatenate(list(every_window(packed, encoding.window)))
    return {
        session: [row.tobytes() for row in rows[begin:end]]
        for session, (begin, end) in zip(
            packed.sessions.ids.tolist(), itertools.pairwise(packed.starts.tolist()), strict=True
        )
    }


def read(*logs_of: Sequence[SessionEvent | AccountListing], description: Description = LAWFUL) -> Sessions:
    """Read the events of some partitions as those of a topic come: each partition's in order, the partitions by turns."""
    turns = [
        (place, partition, encode_event(event))
        for partition, log in enumerate(logs_of)
        for place, event in enumerate(log, start=1)
        if isinstance(event, SessionEvent)
    ]
    table = read_lines(sorted(turns), "a log", description)
    return assembled("a log", table, None, description)[0]


@settings(max_examples=200, deadline=None)
@given(
    log=logs(),
    window=st.integers(1, 6),
    bounds=st.sampled_from([[], [1_000], [1, 1_000, 60_000]]),
    ends=st.sampled_from([[], ["LOGOUT"], ["LOGIN", "LOGOUT"]]),
)
def test_windows_are_those_of_the_pipeline(
    log: list[SessionEvent | AccountListing],
    window: int,
    bounds: list[int],
    ends: list[str],
) -> None:
    """Byte for byte, after every event: sittings by stream time and LOGOUT, clamped times, repeats passed over.

    Of two partitions each has a time of its own.
    """
    encoding = Encoding(ACTIONS[:4], window, bounds, unknown_token=True, ends_session=ends)
    other = [
        structs.replace(
            one, session_id=f"other-{one.session_id}", occurred_at_ms=one.occurred_at_ms + 100_000
        )
        for one in log[::2]
        if isinstance(one, SessionEvent)
    ]
    expected = served([log, other], encoding)
    if not expected:
        return
    sessions = read(log, other)
    assert trained_on(sessions, encoding) == expected
    backwards = sessions.take(np.arange(len(sessions))[::-1])  # what is in another part changes nothing
    assert trained_on(backwards, encoding) == expected


@settings(max_examples=200, deadline=None)
@given(log=logs(shared=True), other=logs(), window=st.integers(1, 4))
def test_signals_are_those_of_the_pipeline(
    log: list[SessionEvent | AccountListing], other: list[SessionEvent | AccountListing], window: int
) -> None:
    """Byte for byte, of each kind: sessions of one account by turns, and fields that are absent or of any type.

    They are the same if they were computed before the sessions were split.
    """
    encoding = Encoding(ACTIONS[:4], window, [1_000], unknown_token=True, signals=SIGNALS)
    other = [
        structs.replace(one, session_id=f"other-{one.session_id}")
        for one in other
        if isinstance(one, SessionEvent)
    ]
    expected = served([log, other], encoding)
    if not expected:
        return
    sessions = read(log, other, description=SIGNALLED)
    assert trained_on(sessions, encoding) == expected
    whole = with_signals(sessions, encoding, IDLE_MS)
    parts = [trained_on(whole.take(np.array([one])), encoding) for one in range(len(whole))]
    assert {name: windows for part in parts for name, windows in part.items()} == expected


@settings(max_examples=100, deadline=None)
@given(data=st.data(), window=st.integers(1, 6))
def test_sessions_without_a_log_are_logs_of_their_own(data: st.DataObject, window: int) -> None:
    """A session of a data file gets the windows that the pipeline gives it alone."""
    encoding = Encoding(ACTIONS[:4], window, [1_000, 60_000], unknown_token=True)
    drawn = []
    for number in range(data.draw(st.integers(1, 4))):
        gaps = data.draw(st.lists(st.sampled_from(GAPS_MS), min_size=1, max_size=12))
        drawn.append(
            Session(
                session_id=str(number),
                actions=tuple(data.draw(st.sampled_from(ACTIONS)) for _ in gaps),
                label=0,
                timestamps_ms=tuple((BEGIN_MS + np.cumsum(gaps)).tolist()),
            )
        )
    as_logs = [
        [
            SessionEvent(
                event_id=f"{one.session_id}-{number}", session_id=one.session_id, account_id="a", action=action,
                occurred_at_ms=at_ms,
            )
            for number, (action, at_ms) in enumerate(zip(one.actions, one.timestamps_ms or (), strict=True))
        ]
        for one in drawn
    ]  # fmt: skip
    assert trained_on(Sessions.of(drawn), encoding) == served(as_logs, encoding)


def test_a_repeat_counts_once_in_its_session_and_again_in_another() -> None:
    """An id of the same session is a repeat; in another session the same id is an event of its own."""
    log = [
        SessionEvent(
            event_id="e1", session_id=session, account_id="a", action="LOGIN", occurred_at_ms=BEGIN_MS
        )
        for session in ("a", "a", "b")
    ]
    packed = pack(read(log), Encoding(ACTIONS, 4), IDLE_MS)
    assert packed.lengths.tolist() == [1, 1]
    assert packed.told == ["1 repeated events passed over, as when serving"]


def test_cut_histories_are_told() -> None:
    """How many sittings the sessions fall into is said, and what cut them."""
    sessions = Sessions.of(
        [
            Session(
                session_id="a",
                actions=("LOGIN", "LOGOUT", "LOGIN", "VIEW_BALANCE"),
                label=0,
                timestamps_ms=(BEGIN_MS, BEGIN_MS + 1, BEGIN_MS + 2, BEGIN_MS + 3 + IDLE_MS),
            )
        ]
    )
    (line,) = pack(sessions, Encoding(ACTIONS, 4), IDLE_MS).told
    assert line.startswith(
        "3.0 sittings a session: 1 histories cut where they were idle for more than 60,000 ms"
    )
    assert "1 by an action that ends a session" in line
    assert pack(sessions, Encoding(ACTIONS, 4, ends_session=()), 10 * IDLE_MS).told == []
