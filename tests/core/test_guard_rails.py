"""Thresholds and listed accounts: what is published, what is held back, and why."""

import pytest

from detector.contract.alerts import Cause, Decision
from detector.contract.listings import AccountListing, Listing
from detector.core.breaker import BreakerLimits, BreakerState
from detector.core.decision import Policy, Suppression
from tests.core.guarded import Log, event, events, verdicts
from tests.core.strategies import GUARDED, MODEL

REVIEWING = Policy(0.8, MODEL, review_threshold=0.4)


def test_a_session_is_reviewed_once_and_can_still_be_blocked() -> None:
    """A score between the thresholds is published once for review; one that blocks is published all the same, once."""
    log = Log(REVIEWING)
    small, large = "TRANSFER_SMALL", "TRANSFER_LARGE"
    decided = log.read(events("s", "LOGIN", small, small, large, small, large))
    assert verdicts(decided.alerts) == [("s", "REVIEW", "score"), ("s", "BLOCK", "score")]
    assert [alert.threshold for alert in decided.alerts] == [0.4, 0.8]
    assert decided.suppressed == {Suppression.ALREADY_REVIEWED: 1, Suppression.ALREADY_BLOCKED: 2}
    assert len({alert.alert_id for alert in decided.alerts}) == 2


def test_without_a_review_threshold_nothing_is_reviewed() -> None:
    """The second threshold is optional; what is to be allowed is neither published nor counted."""
    decided = Log(Policy(0.8, MODEL)).read(events("s", "LOGIN", "TRANSFER_SMALL"))
    assert (decided.alerts, decided.suppressed) == ([], {})


def test_a_session_that_begins_again_is_judged_anew() -> None:
    """After LOGOUT neither a review nor a block is remembered."""
    actions = ["TRANSFER_SMALL", "TRANSFER_LARGE", "LOGOUT"]
    alerts = Log(REVIEWING).read(events("s", *actions, *actions)).alerts
    assert [alert.decision.value for alert in alerts] == ["REVIEW", "BLOCK", "REVIEW", "BLOCK"]


def test_an_allowed_account_is_left_alone_and_counted() -> None:
    """From its listing on nothing is published of an account, until it is cleared."""
    log = Log(REVIEWING)
    listing = AccountListing(account_id="account-s", listing=Listing.ALLOW)
    decided = log.read(
        [listing, *events("s", "TRANSFER_SMALL", "TRANSFER_LARGE"), event("t", "TRANSFER_LARGE")]
    )
    assert verdicts(decided.alerts) == [("t", "BLOCK", "score")]
    assert decided.suppressed == {Suppression.ALLOW_LIST: 2}
    assert log.partition.listed == {"account-s": Listing.ALLOW}
    cleared = AccountListing(account_id="account-s", listing=None)
    decided = log.read([event("s", "TRANSFER_LARGE", 5), cleared, event("s", "TRANSFER_LARGE", 6)])
    assert verdicts(decided.alerts) == [("s", "BLOCK", "score")]
    assert (decided.suppressed, log.partition.listed) == ({Suppression.ALLOW_LIST: 1}, {})


def test_a_denied_account_is_blocked_at_its_next_action() -> None:
    """Each of its sessions is blocked once, whatever it scores; sessions already blocked are not blocked again."""
    log = Log(REVIEWING)
    log.read([event("s", "LOGIN"), event("t", "TRANSFER_LARGE")])
    deny = [AccountListing(account_id=f"account-{one}", listing=Listing.DENY) for one in "st"]
    decided = log.read([*deny, event("s", "VIEW_BALANCE", 1), event("s", "LOGIN", 2), event("t", "LOGIN", 3)])
    assert verdicts(decided.alerts) == [("s", "BLOCK", "deny_list")]
    assert decided.suppressed == {Suppression.ALREADY_BLOCKED: 2}
    (alert,) = decided.alerts
    assert alert.explanation[0] == "the account is on the deny list"
    assert alert.score < alert.threshold


def test_random_logs_meet_every_guard_rail() -> None:
    """The policy that the determinism tests run under reviews, challenges, blocks, clears and trips."""
    log = Log(GUARDED)
    outcomes = [
        log.read(events("r", "TRANSFER_SMALL", "LOGOUT")),
        *(
            log.read(events(f"s{number}", "LOGIN", "TRANSFER_LARGE", "STEP_UP_FAILED"))
            for number in range(20)
        ),
    ]
    assert {(one.decision, one.cause) for outcome in outcomes for one in outcome.alerts} == {
        (Decision.CHALLENGE, Cause.SCORE), (Decision.BLOCK, Cause.SCORE), (Decision.CHALLENGE, Cause.CIRCUIT_BREAKER),
        (Decision.BLOCK, Cause.STEP_UP_FAILED),
    }  # fmt: skip


@pytest.mark.parametrize("listing", list(Listing))
def test_listed_accounts_do_not_move_the_breaker(listing: Listing) -> None:
    """The breaker judges the model; what people listed is not its doing."""
    log = Log(Policy(0.8, MODEL, breaker=BreakerLimits(0.25, min_blocks=1, window_ms=10_000)))
    listed = AccountListing(account_id="account-s", listing=listing)
    log.read([listed, event("s", "TRANSFER_LARGE")])
    assert log.partition.breaker == BreakerState(counts=((0, 1, 0),))
