"""A rebuild of what retention left: alerts tell what sessions had led to, where the input no longer does."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import pytest

from detector.contract.actions import StepUp
from detector.contract.events import SessionEvent
from detector.contract.listings import AccountListing, Listing
from detector.core.decision import Policy
from detector.core.limits import SessionLimits
from detector.core.partition import Partition
from detector.core.pipeline import Pipeline
from detector.core.staging import Candidate, Entry
from detector.runtime.config import DetectorConfig
from detector.runtime.processing import Processor
from detector.runtime.rebuilding import _silent
from tests.core.strategies import ENCODING, MODEL, SIGNALLED, SOURCE, alerts_of, pipeline
from tests.runtime.test_rebuild_repeats import published_of

STEP_UPS = {"STEP_UP_FAILED": StepUp.FAILED, "STEP_UP_PASSED": StepUp.PASSED}
POLICY = Policy(1.0, MODEL, challenge_threshold=0.7, review_threshold=0.5, step_ups=STEP_UPS)
LIMITS = SessionLimits(idle_timeout_ms=100_000, alert_memory_ms=450_000)
RISKS = {"TRANSFER_LARGE": 1.0, "CHANGE_PASSWORD": 0.75, "ADD_RECIPIENT": 0.6}
"""By the last action: what blocks, challenges, and is reviewed."""


def risks(candidates: Sequence[Candidate]) -> list[float]:
    """Score by the last action alone."""
    return [RISKS.get(one.event.action, 0.0) for one in candidates]


RUNS = replace(pipeline(policy=POLICY, limits=LIMITS, encoding=SIGNALLED), score=risks, explain=None)


def event(offset: int, at_ms: int, event_id: str, action: str) -> Entry:
    """Return an event of the one session."""
    made = SessionEvent(
        event_id=event_id, session_id="s", account_id="a", action=action, occurred_at_ms=at_ms
    )
    return Entry(offset, at_ms, made, fields=("web", 1.0, "phone"))


def listed(offset: int, at_ms: int, listing: Listing | None) -> Entry:
    """Return a listing of its account."""
    return Entry(offset, at_ms, AccountListing(account_id="a", listing=listing))


class Case(NamedTuple):
    """A log, where what is left of it begins, and what comes after the rebuild."""

    log: list[Entry]
    begin: int
    later: list[Entry]
    alerts: list[tuple[int, str]]
    """Of all of it."""


BLOCK, CHALLENGE, REVIEW = "BLOCK", "CHALLENGE", "REVIEW"
CASES = {
    "a challenge was published where the session had begun anew": Case(
        [event(0, 10_000, "e0", "TRANSFER_LARGE"), event(1, 11_000, "e1", "LOGOUT"), event(2, 12_000, "e2", "CHANGE_PASSWORD")],
        2,
        [event(3, 13_000, "e3", "TRANSFER_LARGE")],
        [(0, BLOCK), (2, CHALLENGE), (3, BLOCK)],
    ),
    "a review was": Case(
        [event(0, 10_000, "e0", "CHANGE_PASSWORD"), event(1, 11_000, "e1", "LOGOUT"), event(2, 12_000, "e2", "ADD_RECIPIENT")],
        2,
        [event(3, 13_000, "e3", "STEP_UP_FAILED")],
        [(0, CHALLENGE), (2, REVIEW)],
    ),
    "it begins anew within what is left": Case(
        [
            event(0, 10_000, "e0", "TRANSFER_LARGE"), event(1, 11_000, "e1", "VIEW_BALANCE"),
            event(2, 12_000, "e2", "LOGOUT"), event(3, 13_000, "e3", "LOGIN"),
        ],
        1,
        [event(4, 14_000, "e4", "TRANSFER_LARGE")],
        [(0, BLOCK), (4, BLOCK)],
    ),
    "it had ended by what was blocked": Case(
        [event(0, 10_000, "e0", "STEP_UP_PASSED"), event(1, 11_000, "e1", "TRANSFER_LARGE"), event(2, 12_000, "e2", "LOGOUT")],
        2,
        [event(3, 13_000, "e3", "TRANSFER_LARGE")],
        [(1, BLOCK), (3, BLOCK)],
    ),
    "an event of a blocked session comes again": Case(
        [event(0, 10_000, "e0", "TRANSFER_LARGE"), event(1, 11_000, "e1", "VIEW_BALANCE")],
        1,
        [event(4, 414_000, "e1", "TRANSFER_LARGE")],
        [(0, BLOCK), (4, BLOCK)],
    ),
    "what was blocked before all that is left comes again": Case(
        [event(0, 10_000, "e0", "TRANSFER_LARGE"), event(1, 200_000, "e1", "VIEW_BALANCE")],
        1,
        [event(4, 414_000, "e0", "TRANSFER_LARGE")],
        [(0, BLOCK)],
    ),
    "an old block is not of the session that was challenged": Case(
        [
            event(0, 10_000, "e0", "TRANSFER_LARGE"), event(1, 300_000, "e1", "CHANGE_PASSWORD"),
            event(2, 301_000, "e2", "VIEW_BALANCE"),
        ],
        2,
        [event(3, 302_000, "e3", "STEP_UP_FAILED")],
        [(0, BLOCK), (1, CHALLENGE), (3, BLOCK)],
    ),
    "what is left begins with a second factor that failed": Case(
        [
            event(0, 10_000, "e0", "CHANGE_PASSWORD"), event(1, 11_000, "e1", "STEP_UP_FAILED"),
            event(2, 12_000, "e2", "VIEW_BALANCE"),
        ],
        1,
        [event(3, 13_000, "e3", "TRANSFER_LARGE")],
        [(0, CHALLENGE), (1, BLOCK)],
    ),
    "an event of a denied account comes again behind an earlier challenge": Case(
        [
            event(0, 10_000, "e0", "CHANGE_PASSWORD"), listed(1, 11_000, Listing.DENY),
            event(2, 12_000, "e1", "VIEW_BALANCE"), event(3, 13_000, "e2", "LOGOUT"),
            *(event(4 + at, 14_000 + at, f"x{at}", "LOGOUT") for at in range(4)),
            event(9, 50_000, "e1", "VIEW_BALANCE"),
        ],
        1,
        [listed(10, 50_001, None), event(11, 50_002, "e9", "TRANSFER_LARGE")],
        [(0, CHALLENGE), (2, BLOCK), (4, BLOCK), (5, BLOCK), (6, BLOCK), (7, BLOCK)],
    ),
}  # fmt: skip


def rebuilt(case: Case, runs: Pipeline, complete_from_ms: int = 0) -> tuple[Partition, Partition]:
    """Return what is live after a case's log, and what a rebuild makes of what is left of it."""
    live, silent = Partition(), Partition(case.begin)
    alerts = [
        one for one in alerts_of(runs.over(live, case.log, SOURCE)) if one.occurred_at_ms >= complete_from_ms
    ]
    published = published_of(alerts, runs.encoding, case.begin)
    published.complete_from_ms = complete_from_ms
    silent.alerted = published.alerted_before(runs.limits)
    processor = _silent(Processor(runs, DetectorConfig().event_limits), published)
    list(processor.pipeline.over(silent, [one for one in case.log if one.offset >= case.begin], SOURCE))
    return live, silent


def alerted(runs: Pipeline, partition: Partition, entries: list[Entry]) -> list[tuple[int, str]]:
    """Return offsets and decisions of what alerts entries lead to."""
    return [
        (one.source.offset, one.decision.value) for one in alerts_of(runs.over(partition, entries, SOURCE))
    ]


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_alerts_go_on_as_if_nothing_had_been_lost(case: Case) -> None:
    """What comes after the rebuild leads to the alerts that it leads to without one."""
    assert alerted(RUNS, Partition(), [*case.log, *case.later]) == case.alerts
    live, silent = rebuilt(case, RUNS)
    expected = alerted(RUNS, live, case.later)
    assert [one for one in case.alerts if one[0] > case.log[-1].offset] == expected
    assert alerted(RUNS, silent, case.later) == expected


def test_a_deleted_alert_is_decided_anew_and_so_is_its_event_when_it_comes_again() -> None:
    """By the policy of now, and the second time it is known, and blocks without an alert."""
    again = [event(0, 10_000, "e0", "TRANSFER_LARGE"), event(1, 400_000, "e0", "TRANSFER_LARGE")]
    case = Case(again, 0, [event(4, 401_000, "e4", "TRANSFER_LARGE")], [])
    live, silent = rebuilt(case, RUNS, complete_from_ms=20_000)
    assert alerted(RUNS, live, case.later) == alerted(RUNS, silent, case.later) == []


def test_what_would_be_published_now_and_was_not_led_to_nothing() -> None:
    """An event that came again when its alert was forgotten, and was harmless then, whatever a stricter policy says now."""
    then = replace(RUNS, policy=replace(POLICY, challenge_threshold=None, review_threshold=None))
    now = replace(then, policy=replace(then.policy, threshold=0.75))
    log = [event(0, 10_000, "e0", "TRANSFER_LARGE"), event(1, 500_000, "e0", "CHANGE_PASSWORD")]
    live, silent = Partition(), Partition()
    published = published_of(alerts_of(then.over(live, log, SOURCE)))
    list(_silent(Processor(now, DetectorConfig().event_limits), published).pipeline.over(silent, log, SOURCE))
    later = [event(2, 501_000, "e2", "TRANSFER_LARGE")]
    assert alerted(now, silent, later) == alerted(now, live, later) == [(2, BLOCK)]


@pytest.mark.parametrize(
    ("begin", "log"),
    [
        pytest.param(0, ["a LOGIN", "b TRANSFER_LARGE", "a LOGOUT", "b LOGIN"], id="whole"),
        pytest.param(1, ["a TRANSFER_LARGE", "b LOGIN"], id="cut"),
    ],
)
def test_a_session_of_two_accounts_is_one_where_nothing_is_read_of_accounts(
    begin: int, log: list[str]
) -> None:
    """What one of them had led to is its session's, as it is live."""
    runs = replace(pipeline(policy=POLICY, limits=LIMITS, encoding=ENCODING), score=risks, explain=None)
    entries = [
        Entry(
            at,
            10_000 + at,
            SessionEvent(
                event_id=f"e{at}",
                session_id="s",
                account_id=account,
                action=action,
                occurred_at_ms=10_000 + at,
            ),
        )
        for at, (account, action) in enumerate(one.split() for one in [*log, "b TRANSFER_LARGE"])
    ]
    live, silent = rebuilt(Case(entries[:-1], begin, [], []), runs)
    assert alerted(runs, silent, entries[-1:]) == alerted(runs, live, entries[-1:])
