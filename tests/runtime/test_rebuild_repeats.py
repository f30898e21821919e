"""A rebuild knows of what blocked without an alert: an event that was published on before, in an earlier session."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given

from detector.contract.actions import StepUp
from detector.contract.alerts import Alert
from detector.contract.events import SessionEvent
from detector.contract.listings import AccountListing, Listing
from detector.core.decision import Policy
from detector.core.encoding import Encoding
from detector.core.limits import SessionLimits
from detector.core.partition import Partition
from detector.core.pipeline import Pipeline
from detector.core.session import BLOCKED, CHALLENGED, CLEARED, REACHED, REVIEWED, flags, head
from detector.core.staging import Entry
from detector.runtime.config import DetectorConfig
from detector.runtime.processing import Processor
from detector.runtime.published import Published
from detector.runtime.rebuilding import _silent
from tests.core.strategies import GUARDED, MODEL, SIGNALLED, SOURCE, alerts_of, logs, pipeline


def published_of(alerts: Sequence[Alert], encoding: Encoding = SIGNALLED, begin: int = 0) -> Published:
    """Return what a rebuild reads of these alerts, none of which was deleted; the input was up to `begin`."""
    published = Published(encoding, begin)
    for alert in alerts:
        published.add(alert)
    return published


def rebuilt_and_live(
    runs: Pipeline, entries: list[Entry], alerted: list[int], now: Pipeline | None = None
) -> tuple[Partition, Partition]:
    """Return what a rebuild makes of a log, by what runs now, and what is live; the offsets with alerts are checked."""
    live, rebuilt = Partition(), Partition()
    alerts = alerts_of(runs.over(live, entries, SOURCE))
    assert [alert.source.offset for alert in alerts] == alerted
    silent = _silent(Processor(now or runs, DetectorConfig().event_limits), published_of(alerts))
    list(silent.pipeline.over(rebuilt, entries, SOURCE))
    return rebuilt, live


def test_an_event_that_comes_again_in_a_later_session_blocks_it_again() -> None:
    """Without a second alert, of which the topic could tell: state and profile are those of the live pass."""
    limits = SessionLimits(idle_timeout_ms=1_000)
    runs = pipeline(policy=Policy(0.001, MODEL), limits=limits, encoding=SIGNALLED)
    entries = []
    for offset, at_ms in enumerate((10_000, 20_000, 20_001)):
        event = SessionEvent(
            event_id=f"e{max(0, offset - 1)}",
            session_id="s",
            account_id="a",
            action="VIEW_BALANCE",
            occurred_at_ms=at_ms,
        )
        entries.append(Entry(offset, at_ms, event, fields=("web", 12.5, "phone")))
    rebuilt, live = rebuilt_and_live(runs, entries, [0])
    assert rebuilt.sessions == live.sessions
    assert rebuilt.profiles == live.profiles


def test_another_accounts_event_of_the_same_ids_is_another_event() -> None:
    """It was let through, as its account is allowed: the alert on the first says nothing of it."""
    runs = pipeline(policy=Policy(0.001, MODEL), encoding=SIGNALLED)
    entries = [Entry(0, 0, AccountListing(account_id="b", listing=Listing.ALLOW))]
    for offset, account_id in enumerate("ab", start=1):
        event = SessionEvent(
            event_id="e", session_id="s", account_id=account_id, action="VIEW_BALANCE", occurred_at_ms=10_000
        )
        entries.append(Entry(offset, 10_000, event, fields=("web", 12.5, "phone")))
    rebuilt, live = rebuilt_and_live(runs, entries, [1])
    assert list(map(flags, rebuilt.sessions.values())) == [BLOCKED | REACHED, 0]
    assert rebuilt.profiles == live.profiles


@pytest.mark.parametrize(
    ("events", "alerted"),
    [
        pytest.param([("e0", 10_000), ("e1", 10_001), ("e1", 20_000)], [0, 2], id="first-time"),
        pytest.param([("e0", 10_000), ("e0", 20_000)], [0], id="again"),
    ],
)
def test_a_stricter_policy_of_now_blocks_nothing_that_was_challenged(
    events: list[tuple[str, int]], alerted: list[int]
) -> None:
    """An event may be alerted on only when it comes again, or come again to no other alert, which a graver one would be."""
    limits = SessionLimits(idle_timeout_ms=1_000)
    policies = Policy(1.0, MODEL, challenge_threshold=0.001), Policy(0.001, MODEL)
    then, now = (pipeline(policy=one, limits=limits, encoding=SIGNALLED) for one in policies)
    entries = []
    for offset, (event_id, at_ms) in enumerate(events):
        event = SessionEvent(
            event_id=event_id, session_id="s", account_id="a", action="VIEW_BALANCE", occurred_at_ms=at_ms
        )
        entries.append(Entry(offset, at_ms, event, fields=("web", 12.5, "phone")))
    rebuilt, live = rebuilt_and_live(then, entries, alerted, now)
    assert rebuilt.sessions == live.sessions
    assert rebuilt.profiles == live.profiles
    assert rebuilt.alerted == live.alerted


@pytest.mark.parametrize(
    ("listed", "actions", "alerted"),
    [
        pytest.param([Listing.DENY], ["VIEW_BALANCE"], [1], id="denied"),
        pytest.param([], ["VIEW_BALANCE", "STEP_UP_FAILED"], [0, 1], id="failed-step-up"),
    ],
)
def test_what_overruled_the_score_does_so_again(
    listed: list[Listing], actions: list[str], alerted: list[int]
) -> None:
    """An event of a denied account, or a failed second factor, that comes again blocks again: the log says what it was."""
    limits = SessionLimits(idle_timeout_ms=1_000)
    policy = Policy(1.0, MODEL, challenge_threshold=0.001, step_ups={"STEP_UP_FAILED": StepUp.FAILED})
    runs = pipeline(policy=policy, limits=limits, encoding=SIGNALLED)
    entries = [Entry(0, 0, AccountListing(account_id="a", listing=one)) for one in listed]
    for at_ms in (10_000, 20_000):
        for number, action in enumerate(actions):
            event = SessionEvent(
                event_id=f"e{number}",
                session_id="s",
                account_id="a",
                action=action,
                occurred_at_ms=at_ms + number,
            )
            entries.append(Entry(len(entries), event.occurred_at_ms, event, fields=("web", 12.5, "phone")))
    rebuilt, live = rebuilt_and_live(runs, entries, alerted)
    assert [flags(one) & BLOCKED for one in live.sessions.values()] == [BLOCKED]
    assert [flags(one) & BLOCKED for one in rebuilt.sessions.values()] == [BLOCKED]
    assert rebuilt.profiles == live.profiles


@given(log=logs(listings=True, step_ups=True))
def test_a_rebuild_by_all_alerts_knows_what_the_live_pass_knew(log: list[Entry]) -> None:
    """Whatever came again, was listed, judged, challenged or forgotten: who is blocked, what is known, what was told."""
    runs = pipeline(policy=replace(GUARDED, breaker=None), encoding=SIGNALLED)
    live, rebuilt = Partition(), Partition()
    entries = [one._replace(fields=("web", 12.5, "phone")) for one in log]
    published = published_of(alerts_of(runs.over(live, entries, SOURCE)))
    silent = _silent(Processor(runs, DetectorConfig().event_limits), published)
    list(silent.pipeline.over(rebuilt, entries, SOURCE))
    told = BLOCKED | CHALLENGED | CLEARED | REVIEWED
    assert {one: head(packed)[5] & told for one, packed in rebuilt.sessions.items()} == {
        one: head(packed)[5] & told for one, packed in live.sessions.items()
    }
    assert rebuilt.profiles == live.profiles
    named = {
        key: one._replace(model="") for key, one in live.alerted.items()
    }  # the alerts tell of which model
    assert {key: one._replace(model="") for key, one in rebuilt.alerted.items()} == named
    assert rebuilt.listed == live.listed
