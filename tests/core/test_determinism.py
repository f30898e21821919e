"""The same log gives the same alerts, bit for bit, however it is cut; and state comes back as it was."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from detector.contract.alerts import Alert, encode_alert
from detector.core.decision import Policy
from detector.core.evidence import Evidence
from detector.core.limits import SessionLimits
from detector.core.partition import Partition
from detector.core.pipeline import Share
from detector.core.staging import Entry
from tests.core.strategies import (
    ENCODING,
    EVIDENCES,
    GUARDED,
    LIMITS,
    POLICY,
    SOURCE,
    alerts_of,
    event_of,
    logs,
    pipeline,
)
from tests.runtime.state_logs import LiveLog, contents

Log = list[Entry]


def alerts(
    log: Log,
    batch_events: int,
    limits: SessionLimits = LIMITS,
    policy: Policy = GUARDED,
    evidence: Evidence | None = None,
) -> list[Alert]:
    """Run the core over a log, with all guard rails."""
    runs = pipeline(policy=policy, limits=limits, evidence=evidence)
    return alerts_of(runs.over(Partition(), log, SOURCE, batch_events))


def encoded(found: list[Alert]) -> list[bytes]:
    """Encode alerts, to compare them bit for bit."""
    return [encode_alert(alert) for alert in found]


@settings(max_examples=400)
@given(logs(listings=True, step_ups=True), st.integers(1, 60), st.integers(1, 60), EVIDENCES)
def test_any_cut_into_batches_gives_the_same_alerts(
    log: Log, one: int, other: int, evidence: Evidence | None
) -> None:
    """Alerts depend on the log, not on how many events are taken at a time."""
    assert encoded(alerts(log, one, evidence=evidence)) == encoded(alerts(log, other, evidence=evidence))


@settings(max_examples=400)
@given(logs(listings=True, step_ups=True), st.data(), EVIDENCES)
def test_a_partition_handed_over_anywhere_goes_on_the_same(
    log: Log, data: st.DataObject, evidence: Evidence | None
) -> None:
    """A worker that restores the state log and goes on gives what one worker would have given."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=6)))
    state_log = LiveLog(data.draw(st.integers(1, 3)), data.draw(st.integers(0, 1_000)), ENCODING.fingerprint)
    found: list[bytes] = []
    for begin, end in itertools.pairwise([0, *cuts, len(log)]):
        batch = log[begin:end]
        if not batch:
            continue
        (outcome,) = pipeline(evidence=evidence).run(
            [Share(SOURCE, state_log.live, batch, batch[-1].offset + 1)]
        )
        found += encoded(outcome.alerts)
        state_log.batch(outcome.delta)
        live = contents(state_log.live)
        state_log.hand_over()
        assert contents(state_log.live) == live
    assert found == encoded(alerts(log, 1_000, evidence=evidence))


@given(logs(), st.integers(1, 60))
def test_a_session_is_blocked_once_while_it_lasts(log: Log, batch_events: int) -> None:
    """Between two alerts of a session id lies an end of the session: the second counts from a new beginning."""
    unlimited = SessionLimits(idle_timeout_ms=10**15, max_sessions=100)
    found = alerts(log, batch_events, unlimited, POLICY)
    by_offset = {entry.offset: event_of(entry) for entry in log}
    for first, second in itertools.combinations(found, 2):
        if first.session_id == second.session_id:
            between = range(first.source.offset, second.source.offset)
            assert any(
                by_offset[offset].action == "LOGOUT" and by_offset[offset].session_id == first.session_id
                for offset in between
                if offset in by_offset
            )
