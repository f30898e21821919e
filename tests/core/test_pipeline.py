"""One object turns entries into outcomes: nothing given to it changes, and what can't be processed fails alone."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.contract.alerts import decode_alert, encode_alert
from detector.contract.events import SessionEvent
from detector.core.decision import Decided, Policy
from detector.core.encoding import Encoding
from detector.core.evidence import Evidence
from detector.core.limits import SessionLimits
from detector.core.memo import ScoreMemo
from detector.core.partition import Partition
from detector.core.pipeline import Outcome, Pipeline, ProcessingError, Share
from detector.core.reasons import Score
from detector.core.session import profile_key, session_key, touched_ms
from detector.core.shadowing import Challenger
from detector.core.staging import Candidate, Entry
from tests.core.strategies import (
    ENCODING,
    EVIDENCE,
    EVIDENCES,
    LIMITS,
    MODEL,
    POLICY,
    SIGNALLED,
    SOURCE,
    event_of,
    logs,
    pipeline,
    score,
)

POISON = "CHANGE_PASSWORD"
"""The models below fail on windows that end with it."""
CODE = 1 + ENCODING.vocabulary.index(POISON)


def ends_with_poison(windows: NDArray[np.void]) -> NDArray[np.bool_]:
    """Tell of each window whether its last action is the poison; an empty one has none."""
    last = np.maximum((windows["action"] > 0).sum(axis=1) - 1, 0)
    return np.asarray(windows["action"][np.arange(len(windows)), last] == CODE)


def raising(windows: NDArray[np.void]) -> NDArray[np.float32]:
    """Fail as a graph that can't run."""
    if ends_with_poison(windows).any():
        raise RuntimeError("the graph can't run")
    return score(windows)


def answering(answer: float) -> Score:
    """Return a model that answers with what is no score."""

    def answer_with(windows: NDArray[np.void]) -> NDArray[np.float32]:
        return np.where(ends_with_poison(windows), np.float32(answer), score(windows)).astype(np.float32)

    return answer_with


BROKEN: dict[str, Score] = {
    "raises": raising,
    "nan": answering(float("nan")),
    "above 1": answering(1.5),
    "below 0": answering(-0.1),
}


def run(runs: Pipeline, log: Sequence[Entry], batch_entries: int) -> tuple[Partition, list[Outcome]]:
    """Run over a log; return the partition as it is left, and what came of each batch."""
    partition = Partition()
    return partition, list(runs.over(partition, log, SOURCE, batch_entries))


def told(outcomes: Sequence[Outcome]) -> list[bytes]:
    """Return the alerts, encoded."""
    return [encode_alert(alert) for outcome in outcomes for alert in outcome.alerts]


def contents(partition: Partition) -> tuple[object, ...]:
    """Return what a partition is, but for how far it was read, and for expired sessions that still lie about."""
    live = [
        (session_id, packed)
        for session_id, packed in partition.sessions.items()
        if partition.stream_time_ms - touched_ms(packed) <= LIMITS.idle_timeout_ms
    ]
    return partition.stream_time_ms, live, partition.listed, partition.breaker


@pytest.mark.parametrize("model", BROKEN)
@settings(max_examples=100)
@given(logs(listings=True), st.integers(1, 60), st.integers(1, 60), EVIDENCES)
def test_what_a_model_fails_on_fails_alone(
    model: str, log: list[Entry], one: int, other: int, evidence: Evidence | None
) -> None:
    """The rest goes on as if the event had never been, in any batches; each event fails, or leaves its trace."""
    broken = pipeline(BROKEN[model], evidence=evidence)
    partition, outcomes = run(broken, log, one)
    other_partition, other_outcomes = run(broken, log, other)
    failed = {failure.offset for outcome in outcomes for failure in outcome.failures}
    assert failed == {failure.offset for outcome in other_outcomes for failure in outcome.failures}
    assert {event_of(entry).action for entry in log if entry.offset in failed} <= {POISON}
    rest, clean = run(pipeline(evidence=evidence), [entry for entry in log if entry.offset not in failed], 7)
    assert told(outcomes) == told(other_outcomes) == told(clean)
    assert contents(partition) == contents(other_partition) == contents(rest)
    assert sum(len(outcome.scores) for outcome in outcomes) == sum(len(outcome.scores) for outcome in clean)


@given(logs(listings=True))
def test_a_failure_that_is_not_to_be_isolated_names_its_place(log: list[Entry]) -> None:
    """With isolation off nothing comes of the batch, and the message says where and why."""
    poisoned = [entry for entry in log if getattr(entry.event, "action", "") == POISON]
    strict = pipeline(raising, isolates=False)
    if any(failure for outcome in run(pipeline(raising), log, 7)[1] for failure in outcome.failures):
        with pytest.raises(ProcessingError, match=r"session-actions\[3\].*the graph can't run"):
            run(strict, log, 1_000)
    else:
        assert not poisoned or run(strict, log, 1_000)[1]


@given(logs(listings=True), st.integers(0, 60))
def test_nothing_given_to_it_is_changed(log: list[Entry], at: int) -> None:
    """Partition and entries are after a run, of the sound and of the broken, what they were before."""
    partition, _ = run(pipeline(), log[:at], 7)
    before = copy.deepcopy(contents(partition)), partition.next_offset, list(log)
    for model in (score, raising):
        pipeline(model).run([Share(SOURCE, partition, log[at:], 10_000)])
    assert (contents(partition), partition.next_offset, log) == before


@given(logs(), logs(), st.integers(1, 60))
def test_partitions_do_not_see_each_other(log: list[Entry], other: list[Entry], at: int) -> None:
    """What a share comes to does not depend on those it is run with, also where one of them fails."""
    shares = [
        Share(SOURCE, Partition(), log, 100), Share((SOURCE[0], 4), Partition(), other[:at], 100)
    ]  # fmt: skip
    for model in (score, raising):
        together = pipeline(model).run(shares)
        assert together == [outcome for share in shares for outcome in pipeline(model).run([share])]


@pytest.mark.parametrize("model", BROKEN)
@given(log=logs(), evidence=EVIDENCES)
def test_a_broken_challenger_changes_nothing(model: str, log: list[Entry], evidence: Evidence | None) -> None:
    """What a challenger can't score is held against it alone: no event fails, and it blocks nothing there."""
    memo = ScoreMemo(ENCODING, BROKEN[model])
    beside = pipeline(
        policy=POLICY, evidence=evidence, challenger=Challenger(Policy(0.5, MODEL), memo, EVIDENCE)
    )
    _, outcomes = run(beside, log, 7)
    assert told(outcomes) == told(run(pipeline(policy=POLICY, evidence=evidence), log, 7)[1])
    shadows = [alert for outcome in outcomes for alert in outcome.shadow_alerts]
    assert not any(alert.action == POISON for alert in shadows)
    assert not any(outcome.failures for outcome in outcomes)


@given(log=logs())
def test_an_alert_is_never_held_back_for_want_of_words(log: list[Entry]) -> None:
    """A block that can't be explained is published without an explanation, and the others keep theirs."""
    whole = pipeline(policy=POLICY)

    def failing(decided: Decided) -> Decided:
        assert whole.explain is not None
        if any(alert.action == POISON for alert in decided.alerts):
            raise ValueError("no words")
        return whole.explain(decided)

    bare = replace(whole, explain=failing)
    found = [alert for outcome in run(bare, log, 60)[1] for alert in outcome.alerts]
    for alert, wanted in zip(
        found, [alert for outcome in run(whole, log, 60)[1] for alert in outcome.alerts], strict=True
    ):
        assert alert.alert_id == wanted.alert_id
        assert alert.scores == ([] if alert.action == POISON else wanted.scores)


def test_a_batch_that_a_block_cuts_drops_what_has_expired() -> None:
    """Where an account goes on after its block, the batch is run in parts: sessions and profiles go as in a whole one."""
    fields = ("web", 1.0, "phone")

    def entry(number: int, name: str, at_ms: int) -> Entry:
        event = SessionEvent(
            event_id=str(number), session_id=name, account_id=name[0], action="LOGIN", occurred_at_ms=at_ms
        )
        return Entry(number, at_ms, event, fields=fields)

    limits = replace(LIMITS, max_sessions=100, account_timeout_ms=90_000)
    runs = pipeline(policy=Policy(1e-9, MODEL), encoding=SIGNALLED, limits=limits)
    partition = Partition()
    first = [entry(number, f"{number}", 0) for number in range(5)]
    list(runs.over(partition, first, SOURCE))
    list(runs.over(partition, [entry(9, "a1", 100_000)], SOURCE))
    (outcome,) = runs.over(partition, [entry(10, "b1", 100_001), entry(11, "b2", 100_002)], SOURCE)
    assert [alert.session_id for alert in outcome.alerts] == ["b1", "b2"]
    assert (outcome.expired, outcome.expired_accounts) == (5, 5)
    assert len(partition.sessions) == 3
    assert len(partition.profiles) == 2


def test_what_blocks_cost_does_not_grow_with_the_batch() -> None:
    """Where an account is blocked at every event, as a listed one is, each is scored four times at most, and explained once."""
    scored, explained = list[int](), list[int]()
    whole = pipeline(policy=Policy(1e-9, MODEL), encoding=SIGNALLED, limits=SessionLimits())

    def counting(candidates: Sequence[Candidate]) -> list[float]:
        scored.append(len(candidates))
        return [0.9] * len(candidates)

    def explaining(decided: Decided) -> Decided:
        explained.append(len(decided.alerts))
        return decided

    log = []
    for number in range(1_000):
        event = SessionEvent(
            event_id="e", session_id=f"s{number}", account_id="a", action="LOGIN", occurred_at_ms=number
        )
        log.append(Entry(number, number, event, fields=(None, None, None)))
    _, outcomes = run(replace(whole, score=counting, explain=explaining), log, len(log))
    assert len(told(outcomes)) == sum(explained) == len(log)
    assert sum(scored) <= 4 * len(log)


def test_a_smaller_bound_holds_after_some_batches() -> None:
    """Where there was more room before, the longest untouched go, so many a batch; who is left is known as before."""
    fields = ("web", 1.0, "phone")

    def entry(number: int) -> Entry:
        event = SessionEvent(
            event_id=str(number),
            session_id="s",
            account_id=f"{number % 20}",
            action="LOGIN",
            occurred_at_ms=number,
        )
        return Entry(number, number, event, fields=fields)

    partition, wide = Partition(), pipeline(encoding=SIGNALLED, limits=SessionLimits())
    list(wide.over(partition, [entry(number) for number in range(20)], SOURCE))
    narrow = replace(wide, limits=SessionLimits(max_sessions=5, max_accounts=5, max_expired=6))
    found = [outcome for at in (39, 59, 79) for outcome in narrow.over(partition, [entry(at)], SOURCE)]
    assert [(one.evicted, one.evicted_accounts) for one in found] == [(6, 6), (6, 6), (3, 3)]
    assert [(one.expired, one.expired_accounts) for one in found] == [(0, 0)] * 3
    assert list(partition.profiles) == [profile_key(one) for one in ("15", "16", "17", "18", "19")]
    assert list(partition.sessions) == [session_key(one, "s") for one in ("15", "16", "17", "18", "19")]


@pytest.mark.parametrize(
    ("encoding", "alerts"), [(SIGNALLED, 2), (ENCODING, 1)], ids=["accounts", "sessions"]
)
def test_what_two_accounts_call_alike_is_two_alerts_where_accounts_count(
    encoding: Encoding, alerts: int
) -> None:
    """The same ids of session and event: of two accounts they are two alerts, under ids of their own; else a repeat."""
    whole = replace(
        pipeline(policy=Policy(1e-9, MODEL), encoding=encoding, limits=SessionLimits()),
        score=lambda candidates: [0.9] * len(candidates),
    )
    log = [
        Entry(
            offset,
            offset,
            SessionEvent(
                event_id="e", session_id="s", account_id=account, action="LOGIN", occurred_at_ms=offset
            ),
            fields=(None, None, None) if encoding.signals else (),
        )
        for offset, account in enumerate(("one", "other"))
    ]
    _, outcomes = run(whole, log, 1)
    assert len({decode_alert(one).alert_id for one in told(outcomes)}) == len(told(outcomes)) == alerts
