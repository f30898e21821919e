"""The circuit breaker: a bad model locks few customers out, and a bad day does not disarm a good one (ADR 0036)."""

import random
from dataclasses import replace
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.contract.actions import STEP_UP_ACTIONS
from detector.contract.alerts import Alert, Cause, Decision
from detector.core.breaker import (
    SLOTS,
    USUAL,
    Breaker,
    BreakerLimits,
    BreakerState,
    Held,
    far_above,
    told_of_opening,
)
from detector.core.decision import Policy, Suppression
from tests.core.guarded import Log, event, events, verdicts
from tests.core.strategies import MODEL

DEFAULTS = BreakerLimits(max_block_share=0.25, min_blocks=100, window_ms=600_000, probation_sessions=500)
GUARDING = Policy(0.8, MODEL, breaker=DEFAULTS, epoch=b"of now")
PROVEN = BreakerState(epoch=b"of now")
CUSTOMERS = 10_000
EVERY_MS = 500


def locked_out(share: float, partitions: int, seed: int, meanwhile: int = 0) -> int:
    """Count the customers whom a model blocks that wants to block a share of all, by chance, and is sure of each.

    So many others begin a session before one reaches the threshold.
    """
    rng = random.Random(seed)
    breakers = [Breaker(DEFAULTS, BreakerState(), b"of now") for _ in range(partitions)]
    blocked, chosen = 0, [rng.choice(breakers) for _ in range(CUSTOMERS)]
    for customer in range(CUSTOMERS + meanwhile):
        if customer < CUSTOMERS:
            chosen[customer].count(customer * EVERY_MS, begun=1)
        if customer >= meanwhile and rng.random() < share:
            breaker = chosen[customer - meanwhile]
            breaker.count(customer * EVERY_MS, blocks=1)
            blocked += breaker.held is not Held.ALL
    return blocked


@pytest.mark.parametrize(
    ("share", "partitions", "most"),
    [(1.0, 1, 10), (0.5, 1, 20), (0.3, 1, 40), (1.0, 8, 80), (0.5, 8, 110), (0.3, 8, 200)],
)
def test_a_bad_model_locks_few_of_10_000_customers_out(share: float, partitions: int, most: int) -> None:
    """A model that is put in service and blocks everybody, or many by chance, its scores all at 1."""
    worst = max(locked_out(share, partitions, seed) for seed in range(10))
    assert 0 < worst <= most


@pytest.mark.parametrize("meanwhile", [100, 600, 1_000])
@pytest.mark.parametrize(("share", "most"), [(1.0, 20), (0.5, 30), (0.3, 60)])
def test_nor_where_it_takes_its_time(share: float, most: int, meanwhile: int) -> None:
    """Sessions reach the threshold minutes after they began, when the whole probation's number has begun."""
    assert 0 < max(locked_out(share, 1, seed, meanwhile) for seed in range(10)) <= most


@pytest.mark.parametrize("share", [0.01, 0.05, 0.09])
def test_a_good_model_stands_its_probation(share: float) -> None:
    """As many attacks as any traffic has do not open the breaker: everybody whom it wants to block is blocked."""
    for seed in range(10):
        rng, breaker = random.Random(seed), Breaker(DEFAULTS, BreakerState(), b"of now")
        for number in range(2_000):
            breaker.count(number * EVERY_MS, begun=1)
            breaker.count(number * EVERY_MS, blocks=rng.random() < share)
        assert (breaker.opened, breaker.state.on_probation) == (0, False)


@pytest.mark.parametrize("share", [0.3, 0.4])
def test_a_wave_in_steady_state_loses_no_block(share: float) -> None:
    """However near the threshold its scores are, as long as it stays below twice the largest share."""
    for seed in range(10):
        rng, breaker = random.Random(seed), Breaker(DEFAULTS, PROVEN, b"of now")
        breaker.count(0, begun=500)
        for number in range(5_000):
            breaker.count(number * EVERY_MS, begun=1)
            breaker.count(number * EVERY_MS, blocks=rng.random() < share)
            assert breaker.held is Held.NONE


def test_twenty_sessions_from_outside_open_nothing() -> None:
    """Nor do four times as many, though a quiet partition has no others in its window."""
    breaker = Breaker(DEFAULTS, PROVEN, b"of now")
    for number in range(80):
        breaker.count(number, begun=1, blocks=1)
        assert breaker.held is Held.NONE


def test_a_proven_model_that_goes_bad_is_held_back_by_degrees() -> None:
    """Beyond half of the sessions what is near the threshold is challenged; beyond three quarters everything is."""
    log, at = Log(GUARDING), 0
    log.partition.breaker = PROVEN

    def read(action: str, sessions: int) -> list[Alert]:
        nonlocal at
        found = []
        for _ in range(sessions):
            at += 1
            begun = event(f"s{at}", "LOGIN", at * EVERY_MS)
            found += log.read([begun, event(f"s{at}", action, at * EVERY_MS)]).alerts
        return found

    assert not read("VIEW_BALANCE", 400)
    wave = read("TRANSFER_LARGE", 1_201)  # a score of 0.9, whose odds are not ten times those at 0.8
    blocks = [alert.decision for alert in wave].index(Decision.CHALLENGE)
    assert blocks == 400  # as many as all others of the window
    assert {alert.cause for alert in wave[blocks:]} == {Cause.CIRCUIT_BREAKER}
    assert log.partition.breaker.holds_all
    assert not read("VIEW_BALANCE", 1_200)
    assert log.partition.breaker == BreakerState(
        log.partition.breaker.is_open, log.partition.breaker.counts, b"of now"
    )
    assert not log.partition.breaker.is_open


def test_scores_far_above_the_threshold_block_through_a_wave() -> None:
    """They do until three of four sessions are such: then it is no wave, or one that a second factor must stop."""
    breaker = Breaker(DEFAULTS, PROVEN, b"of now")
    degrees = []
    for blocks in (700, 900):
        breaker.count(0, begun=1_000, blocks=blocks)
        degrees.append(breaker.held)
    assert degrees == [Held.NEAR, Held.ALL]
    assert far_above(0.8) == pytest.approx(40 / 41)
    assert far_above(0.5) == pytest.approx(10 / 11)
    assert far_above(1.0) == 1.0


@pytest.mark.parametrize(
    "change",
    [{"epoch": b"of later"}, {"breaker": replace(DEFAULTS, max_block_share=0.2), "epoch": b"of later"}],
)
def test_what_is_new_is_on_probation(change: dict[str, object]) -> None:
    """Another model, or the same under other settings, proves itself anew; the same under the same does not."""
    assert Breaker(DEFAULTS, PROVEN, b"of now").state == PROVEN
    log = Log(replace(GUARDING, **change))  # type: ignore[arg-type]
    log.partition.breaker = PROVEN
    log.read([event("s", "LOGIN")])
    assert (log.partition.breaker.epoch, log.partition.breaker.awaited) == (b"of later", 500)


def test_a_session_that_the_breaker_held_back_is_blocked_once_it_has_closed() -> None:
    """What it held back is not forgotten: a later score that blocks does block."""
    log = Log(replace(GUARDING, breaker=replace(DEFAULTS, min_blocks=1, window_ms=10_000), epoch=b"of now"))
    log.partition.breaker = PROVEN
    held_back = log.read([event("s", "TRANSFER_LARGE", 0), event("s", "TRANSFER_LARGE", 1)])
    assert verdicts(held_back.alerts) == [("s", "CHALLENGE", "circuit_breaker")]
    assert (held_back.trips, held_back.suppressed) == (1, {Suppression.ALREADY_CHALLENGED: 1})
    later = log.read([event("s", "TRANSFER_LARGE", 60_000)])
    assert verdicts(later.alerts) == [("s", "BLOCK", "score")]


def test_who_passes_what_the_breaker_asked_for_is_left_alone() -> None:
    """And who fails it is blocked through the open breaker: that is no doing of the model's."""
    policy = replace(GUARDING, breaker=replace(DEFAULTS, min_blocks=1), epoch=b"of now")
    log = Log(replace(policy, step_ups=STEP_UP_ACTIONS))
    log.partition.breaker = PROVEN
    decided = log.read(
        [
            *events("s", "TRANSFER_LARGE", "STEP_UP_PASSED", "TRANSFER_LARGE"),
            *events("t", "TRANSFER_LARGE", "STEP_UP_FAILED"),
        ]
    )
    assert verdicts(decided.alerts) == [
        ("s", "CHALLENGE", "circuit_breaker"),
        ("t", "CHALLENGE", "circuit_breaker"),
        ("t", "BLOCK", "step_up_failed"),
    ]


STEPS = st.lists(
    st.tuples(st.sampled_from([0, 1, 700, 999, 1_000, 5_000, 30_000]), st.integers(0, 1), st.integers(0, 1)),
    max_size=60,
)


@given(STEPS, st.sampled_from([0.25, 0.3]), st.integers(1, 4), st.sampled_from([7, 10_000]))
def test_in_steady_state_it_is_what_a_count_over_the_whole_past_gives(
    steps: list[tuple[int, int, int]], share: float, least: int, window_ms: int
) -> None:
    """Each degree opens when blocks in the window pass its share and the least, and closes at half: over any cut."""
    limits, slot_ms = BreakerLimits(share, least, window_ms), max(1, window_ms // SLOTS)
    past: list[tuple[int, int, int]] = []
    state, held, now_ms = BreakerState(), Held.NONE, 0
    for gap_ms, begun, blocks in steps:
        now_ms += gap_ms
        past.append((now_ms - now_ms % slot_ms, begun, blocks))
        within = [one for one in past if one[0] > now_ms - window_ms]
        sessions, wanted = sum(one[1] for one in within), sum(one[2] for one in within)
        beyond = [
            wanted > times * share * sessions / 2
            if held >= degree
            else wanted >= least and wanted > times * share * sessions
            for degree, times in ((Held.NEAR, 2), (Held.ALL, 3))
        ]
        held = Held.ALL if beyond[1] else Held.NEAR if beyond[0] else Held.NONE
        breaker = Breaker(limits, state)  # made anew from its state each time, as after a crash
        breaker.count(now_ms, begun=begun, blocks=blocks)
        assert breaker.held is held
        state = breaker.state
        assert (state.is_open, state.holds_all) == (held > 0, held is Held.ALL)
        assert len(state.counts) <= window_ms // slot_ms + 1


@given(STEPS, st.sampled_from([0.1, 0.25, 0.6]), st.integers(1, 60))
def test_on_probation_it_is_page_s_test(
    steps: list[tuple[int, int, int]], share: float, sessions: int
) -> None:
    """A cumulative sum of log-likelihood ratios, from 0 up, opens it and, back at 0, closes it: over any cut.

    Sessions count as proof once the window in which they began is over.
    """
    limits, slot_ms = BreakerLimits(share, 1, 10_000, probation_sessions=sessions), 1_000
    begins: list[int] = []
    usual = USUAL * share
    reached, others = log(share / usual), log((1 - share) / (1 - usual))
    state, evidence, is_open, now_ms = BreakerState(), 0.0, False, 0
    for gap_ms, begun, blocks in steps:
        now_ms += gap_ms
        breaker = Breaker(limits, state, b"new")
        breaker.count(now_ms, begun=begun, blocks=blocks)
        state = breaker.state
        awaited = max(0, sessions - sum(one <= now_ms - limits.window_ms for one in begins))
        begins += [now_ms - now_ms % slot_ms] * begun
        if not (awaited or evidence):
            assert not state.on_probation
            return
        evidence = min(max(0.0, evidence + begun * others + blocks * (reached - others)), 4 * log(10_000))
        is_open = evidence > 0 if is_open else evidence >= log(10_000)
        assert (breaker.held, state.awaited) == (Held.ALL if is_open else Held.NONE, awaited)
        assert state.evidence == pytest.approx(evidence)


def test_without_limits_the_breaker_stays_closed() -> None:
    """Switched off it counts nothing, and closes what was open."""
    breaker = Breaker(None, BreakerState(is_open=True, counts=((0, 1, 1),), epoch=b"x", awaited=3), b"y")
    breaker.count(5, begun=1, blocks=1)
    assert breaker.held is Held.NONE
    assert breaker.state == BreakerState()


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (
            BreakerState(
                is_open=True, counts=((60_000, 8, 5), (120_000, 4, 4)), evidence=9.5, holds_all=True
            ),
            (
                "of 12 sessions begun since 1970-01-01T00:01:00.000Z of event time 9 reached",
                "all blocks",
                "put the former",
            ),
        ),
        (
            BreakerState(is_open=True, counts=((0, 300, 160),)),
            ("of 300", "near the threshold", "In an attack leave it"),
        ),
        (BreakerState(is_open=True), ("too many sessions reached the threshold of model m 1",)),
    ],
)
def test_the_log_says_what_was_seen_since_when_and_what_to_do(
    state: BreakerState, said: tuple[str, ...]
) -> None:
    """On probation and after it, and where the batch that opened it went on until nothing of that is counted any more."""
    told = told_of_opening(state, "m 1")
    assert all(one in told for one in said)
    assert "rule" not in told


@pytest.mark.parametrize(
    ("evidence", "said"), [(9.5, "The model, a rule or a setting"), (0.0, "take the rule out")]
)
def test_the_log_names_rules_that_block(evidence: float, said: str) -> None:
    """Who let a rule loose must not look for a bad model."""
    told = told_of_opening(BreakerState(is_open=True, evidence=evidence), "m 1", ["true"])
    assert "reached the threshold of model m 1, or were to be blocked by rules" in told
    assert said in told
