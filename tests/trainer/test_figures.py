"""Figures over sessions scored after every action: what counts as caught, as a false alarm, and as in time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.core.encoding import Encoding
from trainer.data.sessions import Session, Sessions
from trainer.data.windows import pack
from trainer.evaluation.figures import evaluate, recall_at, weighted_pr_auc
from trainer.evaluation.ranking import pr_auc
from trainer.evaluation.scoring import NEVER, Scored
from trainer.evaluation.thresholds import threshold_for, threshold_of_least_cost
from trainer.training.calibration import calibrate

ENCODING = Encoding(["LOGIN", "VIEW", "ADD", "TRANSFER_SMALL", "TRANSFER_LARGE"], 4)
scores_of_sessions = st.lists(st.floats(0, 1, width=32, allow_subnormal=False), min_size=2, max_size=60).map(
    lambda values: np.array(values, np.float32)
)


def _scored(rows: list[tuple[Session, list[float]]]) -> Scored:
    sessions = Sessions.of([session for session, _ in rows])
    return Scored(
        sessions,
        pack(sessions, ENCODING, 10**9),
        np.array([score for _, scores in rows for score in scores], np.float32),
    )


def _attack(
    name: str, actions: list[str], scores: list[float], start: int = 0
) -> tuple[Session, list[float]]:
    times = tuple(1_000 * number for number in range(len(actions)))
    session = Session(
        session_id=name, actions=tuple(actions), label=1, timestamps_ms=times, type="f", attack_from=start
    )
    return session, scores


def _lawful(name: str, scores: list[float]) -> tuple[Session, list[float]]:
    session = Session(
        session_id=name,
        actions=("VIEW",) * len(scores),
        label=0,
        type="usual",
        customer_type="c",
        timestamps_ms=tuple(range(len(scores))),
    )
    return session, scores


DRAIN = ["LOGIN", "ADD", "TRANSFER_LARGE", "VIEW", "TRANSFER_LARGE"]


def test_blocks_count_by_when_they_come() -> None:
    """Before any money, before the last large transfer, on it, after it, before the attacker came, and never."""
    rows = [
        _attack("before any", DRAIN, [0, 0.9, 0, 0, 0]),
        _attack("before last", DRAIN, [0, 0, 0.9, 0, 0]),
        _attack("on last", DRAIN, [0, 0, 0, 0, 0.9]),
        _attack("after", [*DRAIN, "VIEW"], [0, 0, 0, 0, 0, 0.9]),
        _attack("never", DRAIN, [0, 0, 0, 0, 0.1]),
        _attack("too early", ["LOGIN", *DRAIN], [0.9, 0, 0, 0, 0, 0.95], start=1),
        _lawful("quiet", [0.1, 0.2]),
        _lawful("alarmed", [0.1, 0.9, 0.1]),
    ]
    figures = evaluate(_scored(rows), 0.5)
    assert figures.recall == pytest.approx(4 / 6)
    assert figures.blocked_before_any_money == pytest.approx(1 / 6)
    assert figures.blocked_before_last_large == pytest.approx(2 / 6)
    assert figures.blocked_by_last_large == pytest.approx(3 / 6)
    assert figures.false_alarm_rate == pytest.approx(0.5)
    assert figures.by_family["f"].alerts == 4
    assert figures.by_customer_type["c"].share == pytest.approx(0.5)
    assert figures.actions_until_block_median == pytest.approx(np.median([2, 3, 5, 6]))
    assert figures.seconds_until_block_median == pytest.approx(np.median([1, 2, 4, 5]))
    low, high = figures.recall_interval
    assert 0 <= low <= figures.recall <= high <= 1


def test_a_session_counts_by_its_highest_score() -> None:
    """The highest score over a session's life decides, of an attack that from the attacker's first action on."""
    scored = _scored([_attack("a", DRAIN, [0.9, 0.2, 0.3, 0.1, 0.2], start=1), _lawful("l", [0.4, 0.7, 0.1])])
    assert scored.highest().tolist() == pytest.approx([0.3, 0.7])
    assert scored.first_blocks(0.65).tolist() == [0, 1]
    assert scored.first_blocks(0.95).tolist() == [NEVER, NEVER]


@given(lawful=scores_of_sessions, rate=st.sampled_from([1e-4, 1e-3, 0.01, 0.1, 0.5]))
def test_a_threshold_keeps_its_budget(lawful: NDArray[np.float32], rate: float) -> None:
    """At most the share asked for reaches it, and the threshold is one that a detector accepts."""
    threshold = threshold_for(lawful, rate)
    assert 0 < threshold <= 1
    if lawful.max() < 1:  # above a score of 1 there is no threshold
        assert (lawful >= threshold).mean() <= rate


@given(lawful=scores_of_sessions, attacks=scores_of_sessions)
def test_more_false_alarms_never_catch_less(
    lawful: NDArray[np.float32], attacks: NDArray[np.float32]
) -> None:
    """Recall rises with the budget."""
    recalls = [recall_at(lawful, attacks, rate) for rate in (1e-4, 1e-2, 0.3, 1.0)]
    assert recalls == sorted(recalls)


@settings(max_examples=50)
@given(highest=scores_of_sessions, seed=st.integers(0, 100))
def test_weighed_average_precision_is_the_plain_one_of_repeated_sessions(
    highest: NDArray[np.float32], seed: int
) -> None:
    """Weighing each lawful session three times equals having each three times."""
    labels = np.random.RandomState(seed).randint(0, 2, len(highest)).astype(np.float32)
    labels[:2] = [0, 1]
    repeats = np.where(labels == 1, 1, 3)
    plain = pr_auc(np.repeat(labels, repeats), np.repeat(highest, repeats))
    assert weighted_pr_auc(labels, highest, repeats.astype(np.float64)) == pytest.approx(plain)


def test_costs_choose_the_threshold() -> None:
    """Dear false alarms raise it, dear misses lower it."""
    highest = np.array([0.1, 0.3, 0.6, 0.4, 0.8], np.float32)
    labels = np.array([0, 0, 0, 1, 1], np.float32)
    assert threshold_of_least_cost(highest, labels, 0.5, 1, 100) == pytest.approx(0.8)
    assert threshold_of_least_cost(highest, labels, 0.5, 100, 1) == pytest.approx(0.4)


def test_blocking_nobody_may_be_the_cheapest() -> None:
    """Where even the highest scores are mostly lawful and a false alarm is dear, the threshold is 1: nothing reaches it."""
    highest, labels = np.array([0.9, 0.9, 0.9, 0.2], np.float32), np.array([0, 0, 1, 1], np.float32)
    assert threshold_of_least_cost(highest, labels, 0.01, 1, 100) == 1


def test_calibration_finds_the_probabilities() -> None:
    """Scores drawn from known logits come back to the probabilities that they have at the base rate."""
    rng = np.random.RandomState(0)
    attack, lawful = rng.normal(2, 1, 20_000), rng.normal(-2, 1, 20_000)
    logits = np.concatenate([attack, lawful])
    labels = np.repeat(np.array([1, 0], np.float32), 20_000)
    # The log-likelihood ratio of the two normals is 4 x; distorted by a half and 1, it has to be undone.
    distorted = (1 / (1 + np.exp(-(2 * logits + 1)))).astype(np.float32)
    slope, shift = calibrate(distorted, labels, 0.1)
    assert slope == pytest.approx(2, rel=0.1)
    assert shift == pytest.approx(np.log(0.1 / 0.9) - 2, abs=0.4)
