"""Verdicts in the core: which one holds, what it changes, and the figures that follow."""

from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.contract.alerts import Decision
from detector.contract.control import Control
from detector.contract.events import SessionEvent
from detector.contract.fields import Value
from detector.contract.listings import AccountListing, Listing
from detector.contract.verdicts import Finding, Verdict
from detector.core.alerted import WINDOWS_MS, Standing, standings
from detector.core.decision import Suppression
from detector.core.judging import Taken
from detector.core.limits import SessionLimits
from detector.core.partition import Partition
from detector.core.pipeline import Outcome, Share
from detector.core.profile import OVER_AFTER_S, Profile, tag_of
from detector.core.signals import ABSENT, FIRST, Kind, Signal, Signals
from detector.core.staging import Entry
from tests.core.guarded import event, events, score
from tests.core.strategies import SIGNALLED, SOURCE, pipeline
from tests.core.test_guard_rails import REVIEWING

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
BEGIN_MS = 1_790_000_000_000
MODEL = "sum:000000000000"
FRAUD, LAWFUL = Finding.FRAUD, Finding.LAWFUL
LIMITS = SessionLimits(idle_timeout_ms=HOUR_MS, fraud_listing_ms=DAY_MS, cleared_listing_ms=DAY_MS)


class Log:
    """A log that grows, and the partition behind it; each record is a batch, or all of them are one."""

    def __init__(self, limits: SessionLimits = LIMITS) -> None:
        self.partition, self.limits, self.offset = Partition(), limits, 0

    def read(self, *records: SessionEvent | Control) -> Outcome:
        """Decide on the next records, in one batch."""
        entries = [Entry(self.offset + at, 0, one) for at, one in enumerate(records)]
        self.offset += len(records)
        runs = pipeline(score, policy=REVIEWING, limits=self.limits)
        (outcome,) = runs.run([Share(SOURCE, self.partition, entries, self.offset)])
        self.partition.apply(outcome.delta)
        return outcome

    def standings(self, window: str = "week") -> Counter[Standing]:
        """Count the alerted sessions."""
        alerted, now_ms = self.partition.alerted.values(), self.partition.stream_time_ms
        return standings(alerted, now_ms, WINDOWS_MS[window])


def verdict(session: str, finding: Finding, decided_at_ms: int = 1, first_ms: int | None = None) -> Verdict:
    """Make a verdict."""
    return Verdict(
        verdict_id=f"v-{decided_at_ms}",
        account_id=f"account-{session}",
        session_id=session,
        verdict=finding,
        by="analyst",
        decided_at_ms=decided_at_ms,
        first_event_at_ms=first_ms,
    )


def told(outcome: Outcome) -> list[tuple[str, str, str]]:
    """Return session, decision and cause of each alert."""
    return [(one.session_id, one.decision.value, one.cause.value) for one in outcome.alerts]


@given(st.lists(st.tuples(st.sampled_from(Finding), st.integers(0, 3)), min_size=1, max_size=6))
def test_the_verdict_decided_last_holds(given: list[tuple[Finding, int]]) -> None:
    """Of two the one decided later, of two of the same time the later record; whatever the order they come in."""
    log = Log()
    log.read(event("s", "TRANSFER_LARGE"), *(verdict("s", *one) for one in given))
    latest = max(at_ms for _, at_ms in given)
    (last,) = [finding for finding, at_ms in given if at_ms == latest][-1:]
    assert log.standings() == {Standing(MODEL, Decision.BLOCK, last): 1}


def test_figures_count_sessions_by_model_decision_and_verdict() -> None:
    """Each alerted session counts once, by its last alert, and only within the window; what a list blocked does not."""
    log = Log()
    log.read(AccountListing(account_id="account-d", listing=Listing.DENY), event("d", "LOGIN"))
    log.read(event("old", "TRANSFER_LARGE", BEGIN_MS))
    now_ms = BEGIN_MS + 2 * DAY_MS
    log.read(
        event("s", "TRANSFER_SMALL", now_ms),
        event("s", "TRANSFER_LARGE", now_ms + 1),
        event("t", "TRANSFER_SMALL", now_ms),
    )
    found = log.read(
        verdict("old", FRAUD, 2), verdict("s", LAWFUL), verdict("unknown", FRAUD), verdict("old", LAWFUL, 1)
    )
    assert found.verdicts == {Taken.APPLIED: 2, Taken.UNKNOWN: 1, Taken.SUPERSEDED: 1}
    judged = Standing(MODEL, Decision.BLOCK, LAWFUL)
    awaited = Standing(MODEL, Decision.REVIEW, None)
    assert log.standings("day") == {judged: 1, awaited: 1}
    assert log.standings() == {judged: 1, awaited: 1, Standing(MODEL, Decision.BLOCK, FRAUD): 1}


def test_a_confirmed_fraud_denies_the_account_for_a_time() -> None:
    """From its place in the log on, in any session, until its time is over; a later verdict takes it back."""
    log = Log()
    log.read(event("s", "TRANSFER_SMALL", BEGIN_MS))
    found = log.read(verdict("s", FRAUD, 1), event("s", "LOGIN", BEGIN_MS + 1, 1))
    assert told(found) == [("s", "BLOCK", "deny_list")]
    assert found.verdicts == {Taken.APPLIED: 1}
    late = log.read(event("s", "LOGIN", BEGIN_MS + DAY_MS + HOUR_MS, 2))
    assert told(late) == []
    undone = log.read(
        verdict("s", FRAUD, 2), verdict("s", LAWFUL, 3), event("s", "TRANSFER_LARGE", BEGIN_MS + DAY_MS)
    )
    assert told(undone) == []
    assert undone.suppressed == {Suppression.ALLOW_LIST: 1}


@pytest.mark.parametrize("begins_with", ["TRANSFER_LARGE", "LOGIN"])
def test_a_verdict_that_comes_again_changes_nothing(begins_with: str) -> None:
    """Published twice, or read again days later: the account's time is not longer, nor does it begin anew.

    Be the session one that an alert is known of, or not.
    """
    log = Log()
    log.read(event("s", begins_with, BEGIN_MS), verdict("s", FRAUD))
    listed = dict(log.partition.listed)
    for later_ms in (DAY_MS // 2, 3 * DAY_MS):
        log.read(event("other", "LOGIN", BEGIN_MS + later_ms), verdict("s", FRAUD))
        assert log.partition.listed == listed
    assert told(log.read(event("s", "LOGIN", BEGIN_MS + 4 * DAY_MS, 1))) == []


@pytest.mark.parametrize("listing", Listing)
def test_the_operators_word_stands_above_a_verdicts(listing: Listing) -> None:
    """An account that was listed by command stays so, whatever is found of its sessions."""
    log = Log()
    log.read(AccountListing(account_id="account-s", listing=listing))
    log.read(verdict("s", FRAUD), verdict("s", LAWFUL, 2))
    assert log.partition.listed == {"account-s": listing}


def test_by_default_no_verdict_lists_an_account() -> None:
    """What a verdict changes of an account's treatment is asked for by a setting."""
    log = Log(SessionLimits())
    log.read(event("s", "TRANSFER_LARGE"), verdict("s", FRAUD), verdict("s", LAWFUL, 2))
    assert not log.partition.listed


def test_a_fraud_stands_above_what_is_lawful_in_another_session() -> None:
    """Only a verdict on the session itself takes back what its fraud has brought upon the account."""
    log, other = Log(), msgspec.structs.replace(verdict("t", LAWFUL, 2), account_id="account-s")
    log.read(event("s", "LOGIN", BEGIN_MS), verdict("s", FRAUD), other)
    assert told(log.read(event("s", "LOGIN", BEGIN_MS, 1))) == [("s", "BLOCK", "deny_list")]
    log = Log(replace(LIMITS, cleared_listing_ms=0))
    log.read(event("s", "LOGIN", BEGIN_MS), verdict("s", FRAUD), other)
    assert log.partition.listed
    log.read(verdict("s", LAWFUL, 3))
    assert not log.partition.listed


def test_an_expired_listing_makes_room_and_a_full_list_refuses() -> None:
    """One more than there is room for is told of as a failure, and what verdicts listed goes once its time is over."""
    log = Log(replace(LIMITS, max_listed_bytes=120))
    assert not log.read(event("s", "LOGIN", BEGIN_MS), verdict("s", FRAUD)).failures
    (failure,) = log.read(verdict("t", FRAUD)).failures
    assert "no room for one more listed account" in failure.detail
    assert not log.read(event("s", "LOGIN", BEGIN_MS + 2 * DAY_MS), verdict("t", FRAUD)).failures
    assert list(log.partition.listed) == ["account-t"]
    assert log.partition.listed_bytes <= 120


def test_an_alert_that_comes_again_is_not_published_again() -> None:
    """A file replayed after its sessions have expired repeats nothing, for as long as its alerts are remembered."""
    log, file = Log(), events("s", "LOGIN", "TRANSFER_SMALL", "TRANSFER_LARGE", "TRANSFER_LARGE")
    assert told(log.read(*file)) == [("s", "REVIEW", "score"), ("s", "BLOCK", "score")]
    log.read(event("other", "LOGIN", 2 * HOUR_MS))
    again = log.read(*file)
    assert told(again) == []
    assert again.suppressed == {Suppression.ALREADY_PUBLISHED: 2, Suppression.ALREADY_BLOCKED: 1}
    log.read(event("other", "LOGIN", 30 * DAY_MS))
    assert len(told(log.read(*file))) == 2


def test_the_one_longest_not_told_of_goes() -> None:
    """There are never more than there is room for, and a verdict tells of a session as an alert does."""
    log = Log(replace(LIMITS, max_alerted=2))
    log.read(
        event("a", "TRANSFER_LARGE"),
        event("b", "TRANSFER_LARGE"),
        verdict("a", FRAUD),
        event("c", "TRANSFER_LARGE"),
    )
    assert log.standings() == {
        Standing(MODEL, Decision.BLOCK, FRAUD): 1,
        Standing(MODEL, Decision.BLOCK, None): 1,
    }


DEVICE = Signal(name="device", kind=Kind.NOVELTY, of="attributes.device", bounds=(60_000,), most=4)
NEW = FIRST
OWN = Signals((DEVICE,))


def visits(
    profile: Profile, *visits: tuple[str, str], begin_s: int = 0, is_blocked: bool = False
) -> list[int]:
    """Let sessions begin an hour after the other, each with a device; return how new that was."""
    found = []
    for number, (session, device) in enumerate(visits):
        at_ms = BEGIN_MS + (begin_s + number * 2 * OVER_AFTER_S) * 1_000
        (code,) = profile.observe(
            tag_of(session), "a", "LOGIN", at_ms, None, (device,), is_blocked=is_blocked
        )
        found.append(code)
    return found


def test_what_a_fraudulent_session_taught_is_forgotten() -> None:
    """Values known since its first fraudulent event or later are new again; those of before are known as ever."""
    profile = Profile(OWN)
    visits(profile, ("1", "own"), ("2", "thief"), ("3", "own"))
    assert visits(profile, ("4", "thief"), begin_s=4 * 2 * OVER_AFTER_S) != [NEW]
    profile.forget(tag_of("2"), BEGIN_MS + 2 * OVER_AFTER_S * 1_000)
    assert visits(profile, ("5", "thief"), begin_s=6 * 2 * OVER_AFTER_S) == [NEW]
    assert visits(profile, ("6", "own"), begin_s=7 * 2 * OVER_AFTER_S) != [NEW]


def test_a_session_that_is_found_fraudulent_teaches_nothing_more() -> None:
    """Its slot is emptied and shut, though it was never blocked."""
    profile = Profile(OWN)
    visits(profile, ("1", "own"), ("2", "thief"))
    profile.forget(tag_of("2"), None)
    assert visits(profile, ("3", "thief"), begin_s=4 * 2 * OVER_AFTER_S) == [NEW]


@pytest.mark.parametrize("is_cleared", [False, True])
def test_a_blocked_session_that_is_found_lawful_teaches_again(*, is_cleared: bool) -> None:
    """From the verdict on, though its session stays marked as blocked; packed and unpacked in between."""
    profile = Profile(OWN)
    visits(profile, ("1", "own"), ("2", "new"))
    profile.block(tag_of("2"))
    if is_cleared:
        profile.clear(tag_of("2"))
    profile.touched_ms = BEGIN_MS
    profile = Profile(OWN, profile.packed())
    at_ms = BEGIN_MS + 2 * OVER_AFTER_S * 1_000
    profile.observe(tag_of("2"), "a", "LOGIN", at_ms + 1_000, 1_000, ("new",), is_blocked=True)
    (found,) = visits(profile, ("3", "new"), begin_s=4 * 2 * OVER_AFTER_S)
    assert (found != NEW) == is_cleared
    assert found != ABSENT


def of_account(
    session: str, hours: float, action: str, device: str
) -> tuple[SessionEvent, tuple[Value, ...]]:
    """Make an event of the one account, and what its signals read."""
    named = event(session, action, BEGIN_MS + int(hours * HOUR_MS))
    return msgspec.structs.replace(named, account_id="account-s"), ("web", None, device)


def devices_of(*log: tuple[SessionEvent | Control, tuple[Value, ...]]) -> list[int]:
    """Return how new the device was of each session's first event, as the model was told."""
    seen: list[int] = []
    place = [one.name for one in SIGNALLED.signals.declared].index("device")

    def watching(windows: NDArray[np.void]) -> NDArray[np.float32]:
        seen.extend(int(one["signals"][0, place]) for one in windows if np.count_nonzero(one["action"]) == 1)
        return score(windows)

    entries = [Entry(at, 0, one, fields=fields) for at, (one, fields) in enumerate(log)]
    runs = pipeline(watching, policy=REVIEWING, limits=SessionLimits(), encoding=SIGNALLED)
    list(runs.over(Partition(), entries, SOURCE, 1))
    return seen


@pytest.mark.parametrize("is_judged", [False, True])
def test_without_a_time_what_was_learned_in_the_day_before_the_alert_is_forgotten(*, is_judged: bool) -> None:
    """The verdict goes to the account's history, where the model reads one; what the account knew before stays known."""
    *_, thief, own = devices_of(
        of_account("1", 0, "LOGIN", "own"),
        of_account("s", 40, "LOGIN", "thief"),
        of_account("s", 40.1, "TRANSFER_SMALL", "thief"),
        of_account("3", 42, "LOGIN", "own"),
        (verdict("s", FRAUD if is_judged else LAWFUL), ()),
        of_account("4", 44, "LOGIN", "thief"),
        of_account("5", 46, "LOGIN", "own"),
    )
    assert (thief == NEW) == is_judged
    assert own > NEW


def test_a_fraud_that_is_told_again_makes_its_account_forget_once() -> None:
    """What the customer has learned since the verdict stays known, however often it comes."""
    seen = devices_of(
        of_account("1", 0, "LOGIN", "own"),
        of_account("s", 40, "LOGIN", "thief"),
        of_account("s", 40.1, "TRANSFER_SMALL", "thief"),
        (verdict("s", FRAUD, 1), ()),
        of_account("3", 42, "LOGIN", "new phone"),
        of_account("4", 44, "LOGIN", "own"),
        (verdict("s", FRAUD, 1), ()),
        of_account("5", 46, "LOGIN", "new phone"),
    )
    assert seen[-1] > NEW
