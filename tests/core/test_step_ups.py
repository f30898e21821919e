"""Challenges: a session is asked for a second factor, and what came of it clears or blocks it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.contract.actions import STEP_UP_ACTIONS, StepUp
from detector.contract.alerts import Alert, encode_alert
from detector.contract.events import SessionEvent
from detector.contract.listings import AccountListing, Listing
from detector.core.decision import Policy, Suppression
from detector.core.encoding import Encoding
from detector.core.evidence import Evidence
from detector.core.limits import SessionLimits
from detector.core.partition import Partition
from detector.core.signals import FIRST, Kind, Signal
from detector.core.staging import Entry, stage
from tests.core.guarded import Log, event, events, verdicts
from tests.core.strategies import (
    ACTIONS,
    ENCODING,
    EVIDENCES,
    GUARDED,
    MODEL,
    SOURCE,
    alerts_of,
    event_of,
    logs,
    pipeline,
)

ASKING = Policy(0.8, MODEL, review_threshold=0.05, challenge_threshold=0.4, step_ups=STEP_UP_ACTIONS)
LOOK, SMALL, LARGE = "VIEW_BALANCE", "TRANSFER_SMALL", "TRANSFER_LARGE"
"""Reviewed, challenged and blocked."""
PASSED, FAILED = STEP_UP_ACTIONS
FOREVER = SessionLimits(idle_timeout_ms=10**15, max_sessions=100, max_step_ms=10**15)


def test_a_session_is_challenged_once_and_can_still_be_blocked() -> None:
    """A score between the thresholds asks for a second factor, once; below it a review follows no more, a block does."""
    decided = Log(ASKING).read(events("s", "LOGIN", LOOK, LOOK, SMALL, LOOK, SMALL, LARGE, SMALL))
    assert verdicts(decided.alerts) == [
        ("s", "REVIEW", "score"),
        ("s", "CHALLENGE", "score"),
        ("s", "BLOCK", "score"),
    ]
    assert [alert.threshold for alert in decided.alerts] == [0.05, 0.4, 0.8]
    assert decided.suppressed == {
        Suppression.ALREADY_REVIEWED: 1,
        Suppression.ALREADY_CHALLENGED: 2,
        Suppression.ALREADY_BLOCKED: 1,
    }


def test_a_challenge_that_is_passed_clears_the_session() -> None:
    """Below the blocking score nothing is published of it any more, and that is counted; a score that blocks blocks."""
    decided = Log(ASKING).read(events("s", SMALL, PASSED, LOOK, SMALL, LARGE))
    assert verdicts(decided.alerts) == [("s", "CHALLENGE", "score"), ("s", "BLOCK", "score")]
    assert decided.suppressed == {
        Suppression.CLEARED: 3
    }  # as it stands when it is passed, and after two actions
    assert decided.step_ups == {StepUp.PASSED: 1}


def test_a_challenge_that_is_failed_blocks_at_once() -> None:
    """Whatever the score is then; and nothing that follows makes it good."""
    decided = Log(ASKING).read(events("s", SMALL, "LOGIN", FAILED, PASSED, SMALL))
    assert verdicts(decided.alerts) == [("s", "CHALLENGE", "score"), ("s", "BLOCK", "step_up_failed")]
    blocked = decided.alerts[1]
    assert (blocked.action, blocked.window, blocked.action_number) == (FAILED, [SMALL, "LOGIN"], 2)
    assert blocked.score < blocked.threshold
    assert decided.step_ups == {StepUp.FAILED: 1}
    assert decided.suppressed == {Suppression.ALREADY_BLOCKED: 1}


@pytest.mark.parametrize(
    "actions",
    [
        [PASSED, SMALL],  # before anybody asked
        ["LOGIN", PASSED, SMALL],
        ["LOGIN", FAILED, SMALL],
        [LOOK, PASSED, SMALL],  # a review is no challenge
        [SMALL, PASSED, "LOGOUT", PASSED, SMALL],  # of the session before
        [SMALL, PASSED, "LOGOUT", "LOGIN", PASSED, SMALL],
        [SMALL, PASSED, "LOGOUT", "LOGIN", FAILED, SMALL],
    ],
)
def test_a_second_factor_that_nobody_asked_for_means_nothing(actions: list[str]) -> None:
    """Whoever sends it ahead gains no trust by it and harms no one: the challenge comes, and has to be passed."""
    decided = Log(ASKING).read(events("s", *actions))
    assert verdicts(decided.alerts)[-1] == ("s", "CHALLENGE", "score")
    assert not any(one.decision == "BLOCK" for one in decided.alerts)


def test_only_the_first_answer_counts() -> None:
    """A session that passed is not blocked by a later failure: nobody asked again."""
    decided = Log(ASKING).read(events("s", SMALL, PASSED, FAILED, "LOGIN"))
    assert verdicts(decided.alerts) == [("s", "CHALLENGE", "score")]
    assert decided.step_ups == {StepUp.PASSED: 1}


def test_the_answer_of_another_session_means_nothing() -> None:
    """Not even of the same account."""
    decided = Log(ASKING).read(
        [*events("s", SMALL), *events("t", "LOGIN", PASSED, FAILED), *events("s", LARGE)]
    )
    assert verdicts(decided.alerts) == [("s", "CHALLENGE", "score"), ("s", "BLOCK", "score")]


def test_lists_overrule_second_factors() -> None:
    """An allowed account is not blocked for failing one, and a denied one is blocked though it passed."""
    log = Log(ASKING)
    log.read([event("s", SMALL), event("t", SMALL)])
    listings = [
        AccountListing(account_id="account-s", listing=Listing.ALLOW),
        AccountListing(account_id="account-t", listing=Listing.DENY),
    ]
    decided = log.read([*listings, event("s", FAILED), event("t", PASSED)])
    assert verdicts(decided.alerts) == [("t", "BLOCK", "deny_list")]
    assert decided.suppressed == {Suppression.ALLOW_LIST: 1}


def test_without_their_names_they_are_actions_like_any() -> None:
    """An action that the settings give no meaning is scored if the model knows it, and decides nothing by itself."""
    decided = Log(replace(ASKING, step_ups={})).read(events("s", SMALL, LOOK, LARGE))
    renamed = Log(replace(ASKING, step_ups={LOOK: StepUp.PASSED})).read(events("s", SMALL, LOOK, LARGE))
    assert verdicts(decided.alerts) == verdicts(renamed.alerts)
    assert (len(decided.scores), len(renamed.scores)) == (3, 3)
    assert decided.suppressed == {Suppression.ALREADY_CHALLENGED: 1}
    assert renamed.suppressed == {Suppression.CLEARED: 1}


@given(logs(step_ups=True), st.integers(1, 60), EVIDENCES)
def test_what_the_model_does_not_know_changes_no_score(
    log: list[Entry], batch_entries: int, evidence: Evidence | None
) -> None:
    """Second factors beyond the vocabulary are no steps: all else is scored as without them, bit for bit."""
    log = [
        entry._replace(event=_with_id(entry, number)) for number, entry in enumerate(log)
    ]  # no event is a repeated one
    forever = SessionLimits(idle_timeout_ms=10**15, max_sessions=100, max_step_ms=10**15, tolerance_ms=10**15)
    runs = pipeline(
        policy=replace(GUARDED, breaker=None, step_ups=STEP_UP_ACTIONS), evidence=evidence, limits=forever
    )
    without = [one for one in log if event_of(one).action in ACTIONS]
    outcomes = list(runs.over(Partition(), log, SOURCE, batch_entries))
    plain = [one for outcome in runs.over(Partition(), without, SOURCE) for one in outcome.scores]
    assert [one for outcome in outcomes for one in outcome.scores] == plain
    assert sum(outcome.unscored for outcome in outcomes) == len(log) - len(without)
    last: dict[str, Alert] = {}
    for alert in alerts_of(outcomes):
        if alert.cause == "step_up_failed":
            assert alert.action_number >= last[alert.session_id].action_number
        last[alert.session_id] = alert


def _with_id(entry: Entry, number: int) -> SessionEvent:
    event = event_of(entry)
    return SessionEvent(
        event_id=f"once-{number}",
        session_id=event.session_id,
        account_id=event.account_id,
        action=event.action,
        occurred_at_ms=event.occurred_at_ms,
    )


@settings(max_examples=200)
@given(logs(listings=True, step_ups=True), st.integers(1, 60), EVIDENCES)
def test_nothing_is_published_of_a_session_against_its_marks(
    log: list[Entry], batch_entries: int, evidence: Evidence | None
) -> None:
    """In any log: of one session, no alert follows a block, one challenge at most, and a failed one only a challenge."""
    forever = SessionLimits(idle_timeout_ms=10**15, max_sessions=100)
    runs = pipeline(evidence=evidence, limits=forever)
    ends = {one.offset for one in log if getattr(one.event, "action", "") == "LOGOUT"}
    by_session: dict[str, list[Alert]] = {}
    for alert in alerts_of(runs.over(Partition(), log, SOURCE, batch_entries)):
        by_session.setdefault(alert.session_id, []).append(alert)
    for alerts in by_session.values():
        for at, alert in enumerate(alerts):
            since = [
                one.decision.value
                for one in alerts[:at]
                if not any(one.source.offset <= end < alert.source.offset for end in ends)
            ]  # at least: a LOGOUT of another session cuts it, too
            assert "BLOCK" not in since
            assert alert.decision != "CHALLENGE" or "CHALLENGE" not in since
            assert alert.decision != "REVIEW" or not since
            if alert.cause == "step_up_failed":
                assert any(one.decision == "CHALLENGE" for one in alerts[:at])


def test_an_answer_keeps_its_session_alive_and_comes_once() -> None:
    """Who takes his time at the second factor is not idle; a repeated answer is a duplicate; one of no session nothing."""
    limits = SessionLimits(idle_timeout_ms=1_000, max_sessions=10)
    entries = [
        Entry(at, 0, one)
        for at, one in enumerate(
            [event("s", SMALL, 0), event("s", PASSED, 900), event("s", PASSED, 900), event("s", LOOK, 1_800)]
        )
    ]
    staged = stage(Partition(), entries, ENCODING, limits, step_ups=STEP_UP_ACTIONS)
    assert [one.action_number for one in staged.candidates] == [1, 1, 2]
    assert (staged.duplicates, staged.unscored, staged.expired) == (1, 1, 0)
    nobody = stage(Partition(), [Entry(0, 0, event("s", PASSED))], ENCODING, limits, step_ups=STEP_UP_ACTIONS)
    assert (nobody.candidates, nobody.touched, nobody.unscored) == ([], {}, 1)


def test_a_policy_without_second_factors_is_as_it_was() -> None:
    """With no challenge threshold and no answers in the log, alerts are what they were before there were any."""
    log = events("s", LOOK, SMALL, LARGE, SMALL)
    plain = Log(Policy(0.8, MODEL, review_threshold=0.4)).read(log)
    named = Log(Policy(0.8, MODEL, review_threshold=0.4, step_ups=STEP_UP_ACTIONS)).read(log)
    assert [encode_alert(one) for one in plain.alerts] == [encode_alert(one) for one in named.alerts]
    assert plain.delta == named.delta


@pytest.mark.parametrize("batch_entries", [1, 4, 1_000])
@pytest.mark.parametrize(
    ("answer", "decided"),
    [
        ("VIEW_BALANCE", ["CHALLENGE", "CHALLENGE"]),  # none: the attacker gives up, and comes again
        ("STEP_UP_FAILED", ["CHALLENGE", "BLOCK", "CHALLENGE"]),
        ("STEP_UP_PASSED", ["CHALLENGE"]),
    ],
)
def test_a_device_becomes_known_only_by_who_passes(
    answer: str, decided: list[str], batch_entries: int
) -> None:
    """A challenged session teaches its account nothing unless it passes; then it does, all of it, in any batches."""
    novelty = Signal(name="device", kind=Kind.NOVELTY, of="attributes.device", bounds=(60_000,), most=2)
    encoding = Encoding(ACTIONS, window=4, signals=[novelty])

    def score(windows: NDArray[np.void]) -> NDArray[np.float32]:
        is_new = (
            windows["signals"][:, :, 0] == FIRST
        )  # a device that the account, which has others, never had
        transfers = windows["action"] == 1 + ACTIONS.index(LARGE)
        return np.where((is_new & transfers).any(axis=1), 0.5, 0.0).astype(np.float32)

    log = [
        *((event, ("phone",)) for event in _of("s0", 0, "LOGIN", LOOK, "LOGOUT")),
        *((event, ("new",)) for event in _of("s1", 3_000, "LOGIN", LARGE, answer, "LOGOUT")),
        *((event, ("new",)) for event in _of("s2", 6_000, "LOGIN", LARGE)),
    ]
    entries = [Entry(at, 0, event, fields=fields) for at, (event, fields) in enumerate(log)]
    runs = pipeline(score, policy=replace(ASKING, review_threshold=None), limits=FOREVER, encoding=encoding)
    found = alerts_of(runs.over(Partition(), entries, SOURCE, batch_entries))
    assert [one.decision.value for one in found] == decided


def _of(session: str, at_s: int, *actions: str) -> list[SessionEvent]:
    """Make a session of the one account, its actions a second apart."""
    return [
        SessionEvent(
            event_id=f"{session}-{number}",
            session_id=session,
            account_id="account",
            action=action,
            occurred_at_ms=1_000 * (at_s + number),
        )
        for number, action in enumerate(actions)
    ]
