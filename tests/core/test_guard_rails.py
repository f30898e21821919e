"""Two thresholds, the circuit breaker and listed accounts: what is published, what is held back, and why."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.contract.accounts import AccountListing, Listing
from detector.contract.alerts import Alert, Cause, Decision
from detector.contract.events import SessionEvent
from detector.core.breaker import SLOTS, Breaker, BreakerLimits, BreakerState
from detector.core.decision import Policy, Suppression
from detector.core.partition import Partition
from detector.core.pipeline import Outcome, Share
from detector.core.staging import Entry, SessionLimits
from tests.core.strategies import ENCODING, GUARDED, MODEL, SOURCE, pipeline

LIMITS = SessionLimits(idle_timeout_ms=10**12, max_sessions=10_000)
REVIEWING = Policy(0.8, MODEL, review_threshold=0.4)
RISK = {"LOGIN": 0.0, "VIEW_BALANCE": 0.1, "TRANSFER_SMALL": 0.5, "TRANSFER_LARGE": 0.9, "LOGOUT": 0.0}
"""Score of a window by its last action: allowed, reviewed or blocked."""


def score(windows: NDArray[np.void]) -> NDArray[np.float32]:
    """Score by the last action, an empty window with 0."""
    by_code = np.zeros(len(ENCODING.vocabulary) + 1, np.float32)
    for action, risk in RISK.items():
        by_code[1 + ENCODING.vocabulary.index(action)] = risk
    last = np.maximum((windows["action"] > 0).sum(axis=1) - 1, 0)
    return np.asarray(by_code[windows["action"][np.arange(len(windows)), last]], np.float32)


class Log:
    """A log that grows, and the partition behind it."""

    def __init__(self, policy: Policy) -> None:
        self.partition = Partition()
        self.policy = policy
        self.offset = 0

    def read(self, events: Sequence[SessionEvent | AccountListing]) -> Outcome:
        """Decide on the next events."""
        entries = [Entry(self.offset + at, 0, event) for at, event in enumerate(events)]
        self.offset += len(events)
        share = Share(SOURCE, self.partition, entries, self.offset)
        (outcome,) = pipeline(score, policy=self.policy, limits=LIMITS).run([share])
        self.partition.apply(outcome.delta)
        return outcome


def event(session: str, action: str, at_ms: int = 0, number: int = 0) -> SessionEvent:
    """Make an event; each session has an account of its own."""
    return SessionEvent(
        event_id=f"{session}-{action}-{at_ms}-{number}",
        session_id=session,
        account_id=f"account-{session}",
        action=action,
        occurred_at_ms=at_ms,
    )


def events(session: str, *actions: str) -> list[SessionEvent]:
    """Make a session's events."""
    return [event(session, action, number=number) for number, action in enumerate(actions)]


def verdicts(alerts: Sequence[Alert]) -> list[tuple[str, str, str]]:
    """Return session, decision and cause of each alert."""
    return [(alert.session_id, alert.decision.value, alert.cause.value) for alert in alerts]


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


def bad_model(log: Log, begin: int, sessions: int, every_ms: int, share: float = 1.0) -> list[Alert]:
    """Let sessions log in one after the other, of which a share is blocked at the second action."""
    found = []
    for number in range(begin, begin + sessions):
        session, at_ms = f"s{number}", number * every_ms
        blocked = int(number * share) != int((number + 1) * share)
        second = event(session, "TRANSFER_LARGE" if blocked else "VIEW_BALANCE", at_ms)
        found += log.read([event(session, "LOGIN", at_ms), second]).alerts
    return found


def test_a_bad_model_trips_the_breaker_and_it_recovers() -> None:
    """Once too many sessions would be blocked they are reviewed instead; when the model is well again, blocked."""
    limits = BreakerLimits(max_block_share=0.25, min_blocks=20, window_ms=600_000)
    log = Log(Policy(0.8, MODEL, breaker=limits))
    normal = bad_model(log, 0, 200, every_ms=3_000, share=0.1)
    assert [alert.decision for alert in normal] == [Decision.BLOCK] * 20
    bad = bad_model(log, 200, 400, every_ms=3_000)
    blocked = sum(alert.decision is Decision.BLOCK for alert in bad)
    assert 20 < blocked < 40  # a quarter of 200 sessions a window, less the tenth of before
    expected = [(f"s{number}", "REVIEW", "circuit_breaker") for number in range(200 + blocked, 600)]
    assert verdicts(bad)[blocked:] == expected
    assert log.partition.breaker.is_open
    mended = bad_model(log, 600, 400, every_ms=3_000, share=0.1)
    assert not log.partition.breaker.is_open
    decisions = [alert.decision for alert in mended]
    first = decisions.index(Decision.BLOCK)
    assert decisions == [Decision.REVIEW] * first + [Decision.BLOCK] * (40 - first)
    assert (
        int(mended[first].session_id[1:]) <= 600 + 200
    )  # at the latest when the bad ones have left the window


def test_a_session_reviewed_by_the_breaker_is_blocked_once_it_has_closed() -> None:
    """What the breaker held back is not forgotten: a later score that blocks does block."""
    log = Log(Policy(0.8, MODEL, breaker=BreakerLimits(0.25, min_blocks=1, window_ms=10_000)))
    held_back = log.read([event("s", "TRANSFER_LARGE", 0), event("s", "TRANSFER_LARGE", 1)])
    assert verdicts(held_back.alerts) == [("s", "REVIEW", "circuit_breaker")]
    assert (held_back.trips, held_back.suppressed) == (1, {Suppression.ALREADY_REVIEWED: 1})
    later = log.read([event("s", "TRANSFER_LARGE", 60_000)])
    assert verdicts(later.alerts) == [("s", "BLOCK", "score")]


def test_what_the_breaker_held_back_is_told_and_not_explained() -> None:
    """Such reviews come in masses; they say why they are none of the model's, and cost no scoring."""
    log = Log(Policy(0.8, MODEL, breaker=BreakerLimits(0.25, min_blocks=1, window_ms=10_000)))
    (alert,) = log.read([event("s", "TRANSFER_LARGE")]).alerts
    assert alert.cause is Cause.CIRCUIT_BREAKER
    assert alert.scores == []
    assert alert.explanation == ["review instead of block: the circuit breaker is open"]


@pytest.mark.parametrize("listing", list(Listing))
def test_listed_accounts_do_not_move_the_breaker(listing: Listing) -> None:
    """The breaker judges the model; what people listed is not its doing."""
    log = Log(Policy(0.8, MODEL, breaker=BreakerLimits(0.25, min_blocks=1, window_ms=10_000)))
    listed = AccountListing(account_id="account-s", listing=listing)
    log.read([listed, event("s", "TRANSFER_LARGE")])
    assert log.partition.breaker == BreakerState(counts=((0, 1, 0),))


STEPS = st.lists(
    st.tuples(st.sampled_from([0, 1, 700, 999, 1_000, 5_000, 30_000]), st.integers(0, 1), st.integers(0, 1)),
    max_size=60,
)


@given(STEPS, st.sampled_from([0.25, 0.5, 1.0]), st.integers(1, 4), st.sampled_from([7, 10_000]))
def test_the_breaker_is_what_a_count_over_the_whole_past_gives(
    steps: list[tuple[int, int, int]], share: float, least: int, window_ms: int
) -> None:
    """Open when blocks in the window pass share and least, closed at half the share: carried over any cut."""
    limits, slot_ms = BreakerLimits(share, least, window_ms), max(1, window_ms // SLOTS)
    past: list[tuple[int, int, int]] = []
    state, is_open, now_ms = BreakerState(), False, 0
    for gap_ms, begun, blocks in steps:
        now_ms += gap_ms
        past.append((now_ms - now_ms % slot_ms, begun, blocks))
        within = [one for one in past if one[0] > now_ms - window_ms]
        sessions, wanted = sum(one[1] for one in within), sum(one[2] for one in within)
        enough = 0 if is_open else least
        is_open = wanted >= enough and wanted > share * sessions / (2 if is_open else 1)
        breaker = Breaker(limits, state)  # made anew from its state each time, as after a crash
        breaker.count(now_ms, begun=begun, blocks=blocks)
        assert breaker.is_open is is_open
        state = breaker.state
        assert len(state.counts) <= window_ms // slot_ms + 1


def test_without_limits_the_breaker_stays_closed() -> None:
    """Switched off it counts nothing, and closes what was open."""
    breaker = Breaker(None, BreakerState(is_open=True, counts=((0, 1, 1),)))
    breaker.count(5, begun=1, blocks=1)
    assert not breaker.is_open
    assert breaker.state == BreakerState()


def test_random_logs_meet_every_guard_rail() -> None:
    """The policy that the determinism tests run under reviews, blocks and trips."""
    assert GUARDED.breaker is not None
    assert GUARDED.review_threshold is not None
    log = Log(GUARDED)
    alerts = [*log.read(events("r", "TRANSFER_SMALL")).alerts, *bad_model(log, 0, 10, every_ms=1_000)]
    assert {(alert.decision, alert.cause) for alert in alerts} >= {
        (Decision.REVIEW, Cause.SCORE), (Decision.BLOCK, Cause.SCORE), (Decision.REVIEW, Cause.CIRCUIT_BREAKER)
    }  # fmt: skip
