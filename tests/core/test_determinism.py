"""The same log gives the same alerts, bit for bit, however it is cut; and state comes back as it was."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from detector.contract.alerts import Alert, encode_alert
from detector.core.decision import Policy
from detector.core.partition import Partition
from detector.core.pipeline import Share
from detector.core.staging import Entry, SessionLimits
from detector.runtime.state_log import decode_state, encode_delta, encode_snapshot, replay
from tests.core.strategies import (
    ENCODING,
    GUARDED,
    LIMITS,
    POLICY,
    SOURCE,
    alerts_of,
    event_of,
    logs,
    pipeline,
)

Log = list[Entry]


def alerts(
    log: Log, batch_events: int, limits: SessionLimits = LIMITS, policy: Policy = GUARDED
) -> list[Alert]:
    """Run the core over a log, with all guard rails."""
    return alerts_of(pipeline(policy=policy, limits=limits).over(Partition(), log, SOURCE, batch_events))


def encoded(found: list[Alert]) -> list[bytes]:
    """Encode alerts, to compare them bit for bit."""
    return [encode_alert(alert) for alert in found]


def contents(partition: Partition) -> tuple[object, ...]:
    """Return all that a partition is, the order of its sessions included."""
    return (
        partition.next_offset, partition.stream_time_ms, list(partition.sessions.items()), partition.listed,
        partition.breaker,
    )  # fmt: skip


@settings(max_examples=400)
@given(logs(listings=True), st.integers(1, 60), st.integers(1, 60))
def test_any_cut_into_batches_gives_the_same_alerts(log: Log, one: int, other: int) -> None:
    """Alerts depend on the log, not on how many events are taken at a time."""
    assert encoded(alerts(log, one)) == encoded(alerts(log, other))


@settings(max_examples=400)
@given(logs(listings=True), st.data())
def test_a_partition_handed_over_anywhere_goes_on_the_same(log: Log, data: st.DataObject) -> None:
    """A worker that restores snapshot and deltas and goes on gives what one worker would have given."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=6)))
    snapshots = data.draw(st.sets(st.integers(0, 6)))
    fingerprint = ENCODING.fingerprint
    state_log: list[bytes] = []
    found: list[bytes] = []
    for number, (begin, end) in enumerate(itertools.pairwise([0, *cuts, len(log)])):
        partition = Partition()
        replay(partition, (decode_state(value, fingerprint) for value in state_log))
        batch = log[begin:end]
        if not batch:
            continue
        (outcome,) = pipeline().run([Share(SOURCE, partition, batch, batch[-1].offset + 1)])
        if number in snapshots:
            state_log = list(encode_snapshot(partition, fingerprint))
        state_log.append(encode_delta(outcome.delta, fingerprint))
        found += encoded(outcome.alerts)
        live = Partition()
        live.sessions = dict(partition.sessions)
        live.listed = dict(partition.listed)
        live.apply(outcome.delta)
        restored = Partition()
        replay(restored, (decode_state(value, fingerprint) for value in state_log))
        assert contents(restored) == contents(live)
    assert found == encoded(alerts(log, 1_000))


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
