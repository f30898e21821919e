"""All rules at once: clocks nobody vouches for, full tables of sessions and accounts, a breaker, a model that fails."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.contract.actions import STEP_UP_ACTIONS
from detector.contract.alerts import encode_alert
from detector.contract.events import SessionEvent
from detector.contract.listings import Listing
from detector.core.clocks import Clock
from detector.core.decision import Policy
from detector.core.encoding import Encoding
from detector.core.evidence import Evidence
from detector.core.limits import SessionLimits
from detector.core.listed import OVERHEAD_BYTES
from detector.core.memo import ScoreMemo
from detector.core.partition import Partition
from detector.core.pipeline import Outcome, Pipeline
from detector.core.session import touched_ms
from detector.core.shadowing import Challenger
from detector.core.staging import Entry, Failure
from tests.core.strategies import (
    ACTIONS,
    ENCODING,
    EVIDENCES,
    FIELDS,
    MODEL,
    SIGNALLED,
    SOURCE,
    controls,
    pipeline,
    score,
)

_BEGIN_MS = 1_790_000_000_000
_ROOM_FOR_TWO = 2 * (OVERHEAD_BYTES + len("account-0"))


@st.composite
def crowded(draw: st.DrawFn) -> list[Entry]:
    """Draw entries of enough sessions for a quorum of clocks, with wild ones, repeats and listings among them."""
    sessions = draw(st.integers(2, 24))
    steps_ms = st.sampled_from([0, 1, 999, 1_000, 4_000, 30_000, 61_000, 90_000, -5_000, 10**9])
    now_ms, entries = _BEGIN_MS, list[Entry]()
    for number in range(draw(st.integers(1, 120))):
        step_ms = draw(steps_ms)
        now_ms += max(0, step_ms) if draw(st.integers(0, 5)) == 0 else 700
        session = draw(st.integers(0, sessions))
        account = f"account-{(session + draw(st.sampled_from([0, 0, 0, 1]))) % 5}"
        vouched = draw(st.booleans())
        if draw(st.integers(0, 11)) == 0:
            entries.append(Entry(number * 2, now_ms, draw(controls(account, f"s{session}", now_ms)), vouched))
            continue
        at_ms = now_ms if draw(st.integers(0, 4)) else max(0, now_ms + step_ms)
        event = SessionEvent(
            event_id=f"e{draw(st.integers(0, 60))}",
            session_id=f"s{session}",
            account_id=account,
            action=draw(st.sampled_from([*ACTIONS, *STEP_UP_ACTIONS])),
            occurred_at_ms=at_ms,
        )
        entries.append(Entry(number * 2, now_ms, event, vouched, draw(FIELDS)))
    return entries


def failing(one_in: int, evidence: Evidence | None, rivals: Evidence | None, encoding: Encoding) -> Pipeline:
    """Return a pipeline whose model, and its rival, fail on one window in so many, by exception or by answer."""

    def answer(windows: NDArray[np.void]) -> NDArray[np.float32]:
        scores = score(windows)
        drawn = (scores * 1_000).astype(np.int64) % (2 * one_in)
        if (drawn == 0).any():
            raise RuntimeError("the graph can't run")
        return np.where(drawn == one_in, np.float32("nan"), scores)

    rival = Challenger(Policy(0.5, MODEL), ScoreMemo(encoding, answer), rivals)
    return pipeline(answer, challenger=rival, evidence=evidence, encoding=encoding)


def told(outcomes: Sequence[Outcome]) -> tuple[object, ...]:
    """Return what comes of a log, but for when a session that is over has left the memory."""
    return (
        [encode_alert(one) for outcome in outcomes for one in outcome.alerts],
        [encode_alert(one) for outcome in outcomes for one in outcome.shadow_alerts],
        [one for outcome in outcomes for one in outcome.failures],
        [one for outcome in outcomes for one in outcome.scores],
        sum((outcome.suppressed for outcome in outcomes), Counter()),
        sum((outcome.agreement for outcome in outcomes), Counter()),
        sum((outcome.step_ups for outcome in outcomes), Counter()),
        sum((outcome.verdicts for outcome in outcomes), Counter()),
        *(
            sum(getattr(one, name) for one in outcomes)
            for name in ("trips", "listings", "duplicates", "clamped", "ahead", "late", "unscored")
        ),
    )


@settings(max_examples=300)
@given(st.data(), crowded(), st.integers(1, 40), EVIDENCES, EVIDENCES, st.sampled_from([ENCODING, SIGNALLED]))
def test_no_cut_and_no_bound_on_what_a_batch_drops_changes_anything(
    data: st.DataObject,
    log: list[Entry],
    one_in: int,
    evidence: Evidence | None,
    rivals: Evidence | None,
    encoding: Encoding,
) -> None:
    """Alerts, failures in their order, scores, counts, live sessions and profiles are those of the log in a single batch."""
    limits = SessionLimits(
        idle_timeout_ms=60_000,
        clock=data.draw(st.sampled_from(Clock)),
        tolerance_ms=data.draw(st.sampled_from([0, 2_000, 30_000])),
        max_sessions=data.draw(st.sampled_from([1, 3, 14, 1_000])),
        max_step_ms=5_000,
        max_listed_bytes=_ROOM_FOR_TWO,
        max_accounts=data.draw(st.sampled_from([1, 3, 1_000])),
        account_timeout_ms=200_000,
        max_alerted=data.draw(st.sampled_from([1, 3, 1_000])),
        alert_memory_ms=data.draw(st.sampled_from([5_000, 200_000])),
        fraud_listing_ms=data.draw(st.sampled_from([0, 20_000])),
        cleared_listing_ms=data.draw(st.sampled_from([0, 5_000])),
    )
    cuts = [0, *sorted(data.draw(st.sets(st.integers(1, len(log)), max_size=8))), len(log)]
    found = []
    for at, most in ((cuts, data.draw(st.integers(0, 3))), ([0, len(log)], 10_000)):
        runs = replace(failing(one_in, evidence, rivals, encoding), limits=replace(limits, max_expired=most))
        partition, outcomes = Partition(), list[Outcome]()
        for begin, end in itertools.pairwise(at):
            outcomes += runs.over(partition, log[begin:end], SOURCE, 1_000)
        live = [
            one
            for table, timeout_ms in (
                (partition.sessions, limits.idle_timeout_ms),
                (partition.profiles, limits.account_timeout_ms),
            )
            for one in table.items()
            if partition.stream_time_ms - touched_ms(one[1]) <= timeout_ms
        ]
        now_ms = partition.stream_time_ms
        listed = {
            account: one
            for account, one in partition.listed.items()
            if isinstance(one, Listing) or now_ms < one.until_ms
        }
        alerted = [
            one for one in partition.alerted.items() if now_ms - one[1].touched_ms <= limits.alert_memory_ms
        ]
        assert len(partition.alerted) <= limits.max_alerted
        assert len(partition.profiles) <= limits.max_accounts
        assert len(partition.sessions) <= limits.max_sessions
        assert [one.offset for one in failures_of(outcomes)] == sorted(
            one.offset for one in failures_of(outcomes)
        )
        found.append((told(outcomes), live, listed, alerted, now_ms, partition.breaker))
    assert found[0] == found[1]


def failures_of(outcomes: Sequence[Outcome]) -> list[Failure]:
    """Return the failures of all batches."""
    return [one for outcome in outcomes for one in outcome.failures]


def test_a_batch_drops_so_many_expired_sessions_at_most() -> None:
    """After a quiet night all have expired; their ids go with several transactions, each entry of which is scored."""
    partition, runs = Partition(), pipeline(limits=SessionLimits(max_sessions=100, max_expired=10))

    def events(night: int, count: int) -> list[Entry]:
        return [
            Entry(
                1_000 * night + number, 0,
                SessionEvent(
                    event_id=f"e{night}-{number}", session_id=f"s{night}-{number}", account_id="a", action="LOGIN",
                    occurred_at_ms=10_000_000 * night,
                ),
            )
            for number in range(count)
        ]  # fmt: skip

    list(runs.over(partition, events(1, 35), SOURCE))
    later = list(runs.over(partition, events(2, 5), SOURCE, 1))
    assert [len(outcome.delta.removed) for outcome in later] == [0, 10, 10, 10, 5]
    assert [len(outcome.scores) for outcome in later] == [1] * 5
    assert list(partition.sessions) == [f"s2-{number}" for number in range(5)]
