"""Evidence that adds up: the one formula, what it can't come to, and that serving carries it over as it is written."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.contract.alerts import ModelReference, decode_alert, encode_alert
from detector.contract.events import SessionEvent
from detector.contract.listings import AccountListing, Listing
from detector.core.decision import Policy
from detector.core.encoding import Encoding
from detector.core.evidence import MAX_PARAMETER, MIN_SCORE, Evidence
from detector.core.explaining import NotExplainableError, explain
from detector.core.limits import SessionLimits
from detector.core.memo import ScoreMemo
from detector.core.partition import Delta, Partition
from detector.core.pipeline import Outcome
from detector.core.reasons import MIN_REASON
from detector.core.session import (
    CARRIED,
    ENDED,
    EVENT_HASH_BYTES,
    HEAD_BYTES,
    SHADOW_CARRIED,
    carried,
    event_hash,
    flags,
    head,
    holds,
    pack,
    with_carried,
)
from detector.core.shadowing import Challenger
from detector.core.staging import Entry, stage
from tests.core.strategies import (
    ACTIONS,
    ENCODING,
    EVIDENCE,
    LIMITS,
    MODEL,
    POLICY,
    SOURCE,
    alerts_of,
    logs,
    pipeline,
    score,
)

OFF = Policy(1.0, MODEL)
_FLAGS_AT = HEAD_BYTES - 1
SCORES = st.floats(0, 1, width=32) | st.sampled_from([0.0, 1.0, MIN_SCORE])
PARAMETERS = st.floats(-MAX_PARAMETER, MAX_PARAMETER)
ANY_EVIDENCE = st.builds(
    Evidence,
    window_weight=PARAMETERS,
    bias=PARAMETERS,
    logit_weight=PARAMETERS,
    drift=PARAMETERS,
    floor=st.none() | st.floats(-MAX_PARAMETER, 0),
    scale_actions=st.none() | st.floats(1e-3, MAX_PARAMETER),
)


@given(st.lists(SCORES, min_size=1, max_size=60))
def test_the_score_is_what_the_formula_says(window_scores: list[float]) -> None:
    """Logits add up above the floor; their sum, less by the session's length, joins the last window's logit."""
    logits = [math.log(p / (1 - p)) for p in np.clip(window_scores, MIN_SCORE, 1 - MIN_SCORE).tolist()]
    carried_, expected = 0.0, []
    for number, logit in enumerate(logits, start=1):
        carried_ = max(-1.5, carried_ + 0.4 * logit - 0.1)
        expected.append(1 / (1 + math.exp(-(0.1 + 0.5 * logit + carried_ / (1 + number / 6)))))
    assert EVIDENCE.session_scores(window_scores) == pytest.approx(expected, rel=1e-6)


@given(ANY_EVIDENCE, st.lists(SCORES, min_size=1, max_size=20), st.integers(1, 2**32))
def test_no_parameters_and_no_length_make_it_anything_but_a_score(
    evidence: Evidence, window_scores: list[float], number: int
) -> None:
    """From 0 to 1 and single precision, of any windows, after as many actions as a session can count."""
    carried_ = 2.0**32 * MAX_PARAMETER * 16
    for start in (carried_, -carried_, 0.0):
        carried_ = start
        for one in window_scores:
            found, carried_ = evidence.weigh(one, carried_, number)
            assert 0 <= found <= 1
            assert found == float(np.float32(found))
            assert math.isfinite(carried_)


@given(st.lists(SCORES, max_size=60), st.lists(SCORES, min_size=1, max_size=20))
def test_a_prelude_buys_no_more_trust_than_the_floor(prelude: list[float], attack: list[float]) -> None:
    """However lawful what comes before, what is carried on then is never less than from the floor itself."""
    before, lowest = 0.0, EVIDENCE.floor or 0.0
    for one in prelude:
        _, before = EVIDENCE.weigh(one, before, 1)
    assert before >= lowest
    for one in attack:
        _, before = EVIDENCE.weigh(one, before, 1)
        _, lowest = EVIDENCE.weigh(one, lowest, 1)
        assert before >= lowest


@pytest.mark.parametrize(
    "changes",
    [
        {"window_weight": math.nan}, {"bias": math.inf}, {"logit_weight": -1.1e6}, {"drift": math.nan},
        {"floor": 0.1}, {"floor": -math.inf}, {"scale_actions": 0.0}, {"scale_actions": math.nan},
    ],
)  # fmt: skip
def test_what_no_score_can_be_made_of_is_refused(changes: dict[str, float]) -> None:
    """A parameter that is no number, too large or on the wrong side of 0 is named, with what was expected."""
    valid = {"window_weight": 1.0, "bias": 0.0, "logit_weight": 0.1, "drift": 0.0}
    with pytest.raises(ValueError, match=f"{next(iter(changes))} is .*: expected"):
        Evidence(**valid | changes)


def by_hand(log: list[Entry], evidence: Evidence, change_at: int = -1) -> list[tuple[float, float]]:
    """Weigh a log an event at a time, what is carried kept in a dict: each session's score, and what came to it.

    At the entry of number `change_at` another model takes over.
    """
    partition, kept, found = Partition(), dict[str, float](), list[tuple[float, float]]()
    for number, entry in enumerate(log):
        if number == change_at:
            kept.clear()
        staged = stage(partition, [entry], ENCODING, LIMITS)
        for one in staged.candidates:
            session_id = one.event.session_id
            before = 0.0 if one.action_number == 1 else kept.get(session_id, 0.0)
            (window_score,) = score(ENCODING.windows([one.steps])).tolist()
            weighed, kept[session_id] = evidence.weigh(window_score, before, one.action_number)
            found.append((weighed, before))
        removed = sorted(staged.removed)
        partition.apply(
            Delta(entry.offset + 1, staged.stream_time_ms, removed, staged.touched, staged.listed.changed)
        )
    return found


@given(logs(listings=True), st.integers(1, 60), st.integers(-1, 60))
def test_serving_carries_over_as_it_is_written(log: list[Entry], batch_entries: int, change_at: int) -> None:
    """In any batches, through duplicates, ends, expiry and eviction; a model that takes over begins with nothing."""
    partition, outcomes, at = Partition(), list[Outcome](), max(0, change_at)
    for name, part in (("a", log[:at]), ("b", log[at:])):
        policy = replace(
            POLICY, threshold=1e-9, model=ModelReference(name=name, version="1", sha256=name * 64)
        )
        runs = pipeline(policy=policy, evidence=EVIDENCE)
        outcomes += runs.over(partition, part, SOURCE, batch_entries)
    expected = by_hand(log, EVIDENCE, at)
    assert [one for outcome in outcomes for one in outcome.scores] == [weighed for weighed, _ in expected]
    assert {(alert.score, alert.carried) for alert in alerts_of(outcomes)} <= set(expected)


@given(logs())
def test_sessions_without_evidence_are_what_they_were(log: list[Entry]) -> None:
    """No byte more without it; with it 16 for each model, in sessions that have not ended, and nothing else changes."""
    rival = Challenger(POLICY, ScoreMemo(ENCODING, score), EVIDENCE)
    plain, both = Partition(), Partition()
    list(pipeline(policy=OFF).over(plain, log, SOURCE, 7))
    list(pipeline(policy=OFF, evidence=EVIDENCE, challenger=rival).over(both, log, SOURCE, 7))
    assert list(both.sessions) == list(plain.sessions)
    for before, after in zip(plain.sessions.values(), both.sessions.values(), strict=True):
        _, _, _, steps_end, hashes_at, flagged = head(after)
        assert flags(before) < CARRIED
        assert (flagged >= CARRIED) == (not flagged & ENDED)
        assert hashes_at - steps_end == (32 if flagged >= CARRIED else 0)
        assert after[:_FLAGS_AT] + after[HEAD_BYTES:steps_end] + after[hashes_at:] == (
            before[:_FLAGS_AT] + before[HEAD_BYTES:]
        )


@given(st.binary(min_size=8, max_size=8), st.floats(), st.binary(min_size=8, max_size=8), st.floats())
def test_champion_and_challenger_have_a_place_each(
    model: bytes, value: float, rival: bytes, other: float
) -> None:
    """Neither reads the other's, nor another model's; bit for bit what was put there, and all else as it was."""
    plain = pack(5, 6, 7, 9, b"\1\0\2" * 3, bytes(range(16)))
    both = with_carried(with_carried(plain, CARRIED, model, value), SHADOW_CARRIED, rival, other)
    alone = with_carried(plain, SHADOW_CARRIED, rival, other)
    for packed, flag, key, expected in (
        (both, CARRIED, model, value), (both, SHADOW_CARRIED, rival, other), (alone, SHADOW_CARRIED, rival, other),
        (plain, CARRIED, model, 0.0), (alone, CARRIED, rival, 0.0), (both, CARRIED, model[::-1] + b"x", 0.0),
    ):  # fmt: skip
        assert repr(carried(packed, flag, key)) == repr(expected)
        last_ms, touched_ms, actions, steps_end, hashes_at, _ = head(packed)
        assert (last_ms, touched_ms, actions) == (5, 6, 7)
        assert (packed[HEAD_BYTES:steps_end], packed[hashes_at:]) == (b"\1\0\2" * 3, bytes(range(16)))


def test_a_detector_that_knows_of_none_reads_on() -> None:
    """One of before takes what is carried for hashes of two old events: steps and ids are where it looks for them."""
    hashes = event_hash("one") + event_hash("two")
    packed = with_carried(pack(5, 6, 7, 0, b"\1\0\2", hashes), CARRIED, b"12345678", 1.5)
    _, _, _, steps_end, hashes_at, _ = head(packed)
    assert packed[HEAD_BYTES:steps_end] == b"\1\0\2"
    assert (hashes_at - steps_end) % EVENT_HASH_BYTES == 0
    assert holds(packed, steps_end, event_hash("one"))
    assert holds(packed, steps_end, event_hash("two"))
    assert not holds(packed, steps_end, event_hash("three"))


@settings(max_examples=60)
@given(logs(), ANY_EVIDENCE | st.just(EVIDENCE))
def test_explanations_are_of_the_sessions_score(log: list[Entry], evidence: Evidence) -> None:
    """From the alert alone: its score comes again, the values sum to what the window adds, and what was before is told."""
    runs = pipeline(policy=replace(POLICY, threshold=1e-9), evidence=evidence)
    for alert in alerts_of(runs.over(Partition(), log, SOURCE, 7)):
        assert isinstance(alert.carried, float)
        found = explain(decode_alert(encode_alert(alert)), ENCODING, score, evidence)
        steps = [
            ENCODING.step(action, gap and gap[0])
            for action, gap in zip(alert.window, alert.gap_ranges_ms, strict=True)
        ]
        (window_score,) = score(ENCODING.windows([b"".join(steps)])).tolist()
        assert found.score == alert.score == alert.scores[-1]
        assert sum(one.value for one in found.attributions) == pytest.approx(
            found.score - found.baseline, abs=1e-9
        )
        alone, _ = evidence.weigh(window_score, 0.0, alert.action_number)
        assert found.carried_value == found.score - alone
        told = [words for words in found.explanation if words.startswith("the ")]
        earlier = {2: "the action before"}.get(
            alert.action_number, f"the {alert.action_number - 1} actions before"
        )
        assert told in ([], [f"{earlier}: {found.carried_value:+z.2f}"])
        assert bool(told) == (abs(found.score - alone) >= MIN_REASON)
        assert [words for words in alert.explanation if words.startswith("the ")] == told


def test_the_score_after_each_action_of_a_whole_session_is_the_one_it_had() -> None:
    """Where the window holds all of a session, `scores` are those that were decided on, what was carried then and all."""
    entries = [
        Entry(
            number, 0,
            SessionEvent(
                event_id=f"e{number}", session_id="s", account_id="a", action=ACTIONS[number % 5],
                occurred_at_ms=number * 5_000,
            ),
        )
        for number in range(9)
    ]  # fmt: skip
    for count in range(1, len(entries) + 1):
        runs = pipeline(policy=replace(POLICY, threshold=1.0), evidence=EVIDENCE, limits=LIMITS)
        (outcome,) = runs.over(Partition(), entries[:count], SOURCE)
        always = AccountListing(account_id="a", listing=Listing.DENY)
        listed = [
            *entries[: count - 1],
            Entry(count - 1, 0, always),
            entries[count - 1]._replace(offset=count),
        ]
        (blocked,) = alerts_of(runs.over(Partition(), listed, SOURCE))
        assert blocked.scores[-1] == blocked.score == outcome.scores[-1]
        if count <= ENCODING.window:
            assert blocked.scores == outcome.scores


def test_an_alert_that_does_not_say_what_was_carried_is_not_explained() -> None:
    """Of a model whose evidence adds up: the score can't be computed again without it."""
    log = [
        Entry(
            0, 0, SessionEvent(event_id="e", session_id="s", account_id="a", action="LOGIN", occurred_at_ms=0)
        )
    ]
    (alert,) = alerts_of(pipeline(policy=replace(POLICY, threshold=1e-9)).over(Partition(), log, SOURCE))
    assert b"carried" not in encode_alert(alert)
    with pytest.raises(NotExplainableError, match="does not say what was carried over"):
        explain(alert, ENCODING, score, EVIDENCE)


@pytest.mark.parametrize("ends", [(), ("LOGIN",), ("VIEW_BALANCE", "LOGOUT")])
@given(log=logs())
def test_what_ends_a_session_is_the_models_to_say(ends: tuple[str, ...], log: list[Entry]) -> None:
    """The action after one of those is a session's first; no other is, as long as nothing expires or is evicted."""
    encoding = Encoding(ACTIONS, 4, ends_session=ends)
    unlimited = SessionLimits(idle_timeout_ms=10**15)
    staged = stage(Partition(), log, encoding, unlimited)
    last: dict[str, str] = {}
    for one in staged.candidates:
        session_id = one.event.session_id
        assert (one.action_number == 1) == (session_id not in last or last[session_id] in ends)
        last[session_id] = one.event.action


def test_an_encoding_whose_sessions_end_otherwise_has_another_fingerprint() -> None:
    """So that none goes on with the other's sessions; without a difference it is the one of before there was any."""
    before = Encoding(ACTIONS, 4).fingerprint
    assert Encoding(ACTIONS, 4, ends_session=["LOGOUT"]).fingerprint == before
    assert Encoding(ACTIONS, 4, ends_session=["LOGOUT", "never heard of"]).fingerprint == before
    assert Encoding(["A", "B"], 4, ends_session=()).fingerprint == Encoding(["A", "B"], 4).fingerprint
    assert Encoding(ACTIONS, 4, ends_session=()).fingerprint != before
    assert Encoding(ACTIONS, 4, ends_session=["LOGIN"]).fingerprint not in (
        before, Encoding(ACTIONS, 4, ends_session=()).fingerprint
    )  # fmt: skip
