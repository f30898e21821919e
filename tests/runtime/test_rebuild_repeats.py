"""A rebuild knows of what blocked without an alert: an event that was published on before, in an earlier session."""

import pytest

from detector.contract.events import SessionEvent
from detector.contract.listings import AccountListing, Listing
from detector.core.decision import Policy
from detector.core.limits import SessionLimits
from detector.core.partition import Partition
from detector.core.pipeline import Pipeline
from detector.core.session import BLOCKED, REACHED, flags
from detector.core.staging import Entry
from detector.runtime.config import DetectorConfig
from detector.runtime.processing import Processor
from detector.runtime.rebuilding import _Published, _silent
from tests.core.strategies import MODEL, SIGNALLED, SOURCE, alerts_of, pipeline


def rebuilt_and_live(
    runs: Pipeline, entries: list[Entry], alerted: list[int], now: Pipeline | None = None
) -> tuple[Partition, Partition]:
    """Return what a rebuild makes of a log, by what runs now, and what is live; the offsets with alerts are checked."""
    live, rebuilt = Partition(), Partition()
    alerts = alerts_of(runs.over(live, entries, SOURCE))
    assert [alert.source.offset for alert in alerts] == alerted
    published = _Published()
    for alert in alerts:
        published.offsets[alert.source.offset] = alert.decision
        published.add(alert)
    silent = _silent(Processor(now or runs, DetectorConfig().event_limits), published)
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
