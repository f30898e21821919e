"""Shadow mode: what a challenger comes to depends on the log alone, and changes nothing of what is decided."""

from hypothesis import given
from hypothesis import strategies as st

from detector.contract.alerts import Alert, Decision, ModelReference
from detector.contract.listings import AccountListing, Listing
from detector.core.decision import Policy
from detector.core.evidence import Evidence
from detector.core.limits import SessionLimits
from detector.core.memo import ScoreMemo
from detector.core.partition import Partition
from detector.core.shadowing import Challenger
from detector.core.staging import Entry
from tests.core.strategies import ENCODING, EVIDENCE, EVIDENCES, alerts_of, logs, pipeline, score

CHALLENGER = ModelReference(name="challenger", version="2", sha256="1" * 64)
CHAMPION = ModelReference(name="champion", version="1", sha256="0" * 64)


def run(
    log: list[Entry],
    threshold: float | None,
    batch_events: int = 7,
    champion_threshold: float = 0.6,
    evidence: Evidence | None = None,
    champion_evidence: Evidence | None = None,
) -> tuple[list[Alert], list[Alert]]:
    """Return what is decided, and what the challenger comes to at a threshold; None is no challenger."""
    challenger = (
        None
        if threshold is None
        else Challenger(Policy(threshold, CHALLENGER), ScoreMemo(ENCODING, score), evidence)
    )
    # A challenger is not told what was published before.
    limits = SessionLimits(idle_timeout_ms=60_000, max_sessions=5, alert_memory_ms=-1)
    champion = Policy(champion_threshold, CHAMPION)
    both = pipeline(policy=champion, limits=limits, challenger=challenger, evidence=champion_evidence)
    outcomes = list(both.over(Partition(), log, ("actions", 0), batch_events))
    return alerts_of(outcomes), [alert for outcome in outcomes for alert in outcome.shadow_alerts]


@given(logs(listings=True), st.floats(0.05, 0.95), st.integers(1, 40), st.integers(1, 40), EVIDENCES)
def test_the_challengers_blocks_depend_on_the_log_alone(
    log: list[Entry], threshold: float, one: int, other: int, champion_evidence: Evidence | None
) -> None:
    """However the log is cut, and whatever the champion carries over, it blocks the same sessions at the same events."""
    found = run(log, threshold, one, evidence=EVIDENCE, champion_evidence=champion_evidence)[1]
    assert found == run(log, threshold, other, evidence=EVIDENCE)[1]


@given(logs(listings=True), st.floats(0.05, 0.95), EVIDENCES, EVIDENCES)
def test_a_challenger_changes_no_decision(
    log: list[Entry], threshold: float, evidence: Evidence | None, champion_evidence: Evidence | None
) -> None:
    """What is decided is, bit for bit, what it is without a challenger, whatever either carries over."""
    found = run(log, threshold, evidence=evidence, champion_evidence=champion_evidence)[0]
    assert found == run(log, None, champion_evidence=champion_evidence)[0]


@given(logs(), st.floats(0.05, 0.95), EVIDENCES)
def test_a_challenger_that_is_the_champion_blocks_the_same(
    log: list[Entry], threshold: float, evidence: Evidence | None
) -> None:
    """With the same scores and threshold, and no lists, both block the same sessions at the same events."""
    events = [one for one in log if not isinstance(one.event, AccountListing)]
    decided, shadows = run(
        events, threshold, champion_threshold=threshold, evidence=evidence, champion_evidence=evidence
    )
    assert [one.alert_id for one in shadows] == [one.alert_id for one in decided]
    assert {one.model.name for one in shadows} <= {"challenger"}
    assert {one.decision for one in shadows} <= {Decision.BLOCK}


@given(logs())
def test_lists_do_not_hide_the_model(log: list[Entry]) -> None:
    """The allow list keeps an account's sessions from being blocked, and not from being judged in shadow."""
    accounts = {one.event.account_id for one in log}
    allowed = [
        Entry(0, 0, AccountListing(account_id=account, listing=Listing.ALLOW)) for account in sorted(accounts)
    ]
    decided, shadows = run([*allowed, *log], 0.5, champion_threshold=0.5)
    blocked, _ = run(log, 0.5, champion_threshold=0.5)
    assert decided == []
    assert [one.alert_id for one in shadows] == [one.alert_id for one in blocked]
