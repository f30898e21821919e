"""Calibration and the threshold: what data can show, and what is no model."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from trainer.evaluation.curves import Ranking
from trainer.evaluation.thresholds import threshold_of_best_f1, threshold_of_expected_f1
from trainer.training.calibration import (
    TrainingError,
    Wanted,
    calibrate,
    calibrated_loss,
    choose_challenge_threshold,
    choose_threshold,
    logits_of,
)


def _sessions(lawful: int, attacks: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.RandomState(seed)
    logits = np.concatenate([rng.normal(-2, 1, lawful), rng.normal(1, 1, attacks)])
    labels = np.repeat([0, 1], [lawful, attacks])
    return (1 / (1 + np.exp(-logits))).astype(np.float32), labels.astype(np.float32)


def test_a_budget_that_the_data_can_show_is_kept() -> None:
    """Of 20,000 lawful sessions a thousandth alarms, whether asked for or by default, and nothing needs to be said."""
    scores, labels = _sessions(20_000, 500)
    for wanted, base_rate in ((Wanted(), 0.005), (Wanted(target_fpr=0.001), 0.5)):
        chosen = choose_threshold(wanted, scores, labels, base_rate)
        assert (chosen.by, chosen.false_alarm_rate, chosen.told) == ("target_fpr", 0.001, "")


def test_a_default_budget_that_costs_most_of_what_could_be_had_gives_way() -> None:
    """Where attacks are as common as lawful sessions, a thousandth is not what anybody meant who asked for nothing."""
    scores, labels = _sessions(20_000, 500)
    chosen = choose_threshold(Wanted(), scores, labels, 0.5)
    assert (chosen.by, chosen.threshold) == ("f1", threshold_of_best_f1(scores, labels, 0.5))
    assert "--target-fpr asks for another" in chosen.told


def test_a_budget_that_the_data_cannot_show_is_told_and_the_nearest_taken() -> None:
    """0.1 % of 80 lawful sessions is no threshold: one of them is the nearest, and it is said so."""
    scores, labels = _sessions(80, 20)
    chosen = choose_threshold(Wanted(target_fpr=0.001), scores, labels, 0.5)
    assert chosen.false_alarm_rate == 1 / 80
    assert "80 lawful validation sessions cannot show 0.10% false alarms" in chosen.told
    assert "1.25%" in chosen.told


def test_a_budget_that_no_threshold_keeps_is_told() -> None:
    """Where 60 of 9,960 lawful sessions score 1, no threshold alarms fewer: it is 1, and it is said what that comes to."""
    scores, labels = _sessions(9_960, 500)
    scores[:60] = scores[-400:] = 1
    chosen = choose_threshold(Wanted(target_fpr=0.001), scores, labels, 0.05)
    assert chosen.threshold == 1
    assert (
        "0.10% false alarms cannot be kept to: 60 of 9,960 lawful validation sessions score 1" in chosen.told
    )
    assert "(0.60%)" in chosen.told


def test_how_few_there_are_is_said_truly() -> None:
    """A thousandth of 9,960 is not ten."""
    assert "they would have 9.96, not 10" in choose_threshold(Wanted(), *_sessions(9_960, 500), 0.05).told


def test_without_a_budget_small_data_decides_by_f1() -> None:
    """Where nobody asks and the default budget can't be shown, the threshold has the best F1, and it is said so."""
    scores, labels = _sessions(80, 20)
    chosen = choose_threshold(Wanted(), scores, labels, 0.5)
    assert (chosen.by, chosen.threshold) == ("f1", threshold_of_best_f1(scores, labels, 0.5))
    assert "best F1" in chosen.told


@given(
    npst.arrays(
        np.float32,
        st.integers(2, 30),
        elements=st.sampled_from([0.125, 0.25, 0.5, 0.875]),
        fill=st.nothing(),
    ),
    st.data(),
)
def test_no_threshold_has_a_better_f1(scores: np.ndarray, data: st.DataObject) -> None:
    """Whatever the ties: tried against every score as a threshold."""
    labels = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(scores), max_size=len(scores))))
    labels[0] = 1

    def f1(threshold: float) -> float:
        flagged = scores >= threshold
        return float(2 * labels[flagged].sum() / (flagged.sum() + labels.sum()))

    assert f1(threshold_of_best_f1(scores, labels)) == max(f1(float(one)) for one in scores)


def test_the_threshold_of_the_best_f1_holds_on_sessions_to_come() -> None:
    """Chosen by 85 attacks of 340 sessions, it has within 0.05 of the best F1 that 20,000 others allow, in each of 20 draws."""
    scores, labels = _sessions(15_000, 5_000, 99)
    curve = Ranking.of(labels == 1, scores).curve(0.25)
    for seed in range(20):
        assert curve.f1_at(threshold_of_best_f1(*_sessions(255, 85, seed))) > curve.best_f1()[0] - 0.05


def _probable(count: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are probabilities, of which so large a share is of attacks, and labels drawn by them."""
    rng = np.random.RandomState(seed)
    scores = 1 / (1 + np.exp(-rng.normal(np.log(share) - 1.5, 2.5, count)))
    return scores.astype(np.float32), (rng.random_sample(count) < scores).astype(np.float32)


def test_of_few_attacks_the_scores_say_where_the_best_f1_is() -> None:
    """By eight attacks or so, the threshold that the scores expect is nearer the best on 50,000 others than the luckiest."""
    scores, labels = _probable(50_000, 0.03, 99)
    curve = Ranking.of(labels == 1, scores).curve(float(labels.mean()))
    lost: dict[str, list[float]] = {"expected": [], "found": []}
    for seed in range(50):
        scores, labels = _probable(250, 0.03, seed)
        rules = {"expected": threshold_of_expected_f1(scores), "found": threshold_of_best_f1(scores, labels)}
        for rule, threshold in rules.items():
            lost[rule].append(curve.best_f1()[0] - curve.f1_at(threshold))
    assert np.mean(lost["expected"]) < np.mean(lost["found"]) / 2
    assert max(lost["expected"]) < 0.15


def test_a_model_that_blocks_nobody_is_an_error_that_names_the_ties() -> None:
    """Where 27 of 65 lawful sessions tie above all attacks, no budget below catches anything: that is no model."""
    scores = np.array([0.9] * 27 + [0.1] * 38 + [0.5] * 10, np.float32)
    labels = np.repeat([0.0, 1.0], [65, 10]).astype(np.float32)
    with pytest.raises(TrainingError, match=r"none of 10 attacks .* 27 of them share their highest score"):
        choose_threshold(Wanted(target_fpr=0.05), scores, labels, 0.1)


def test_a_model_that_blocks_everybody_is_an_error() -> None:
    """One score for all sessions blocks all or none: that is no model either."""
    scores, labels = np.full(100, 0.5, np.float32), np.repeat([0.0, 1.0], 50).astype(np.float32)
    with pytest.raises(TrainingError, match=r"all of 50 attacks and 100\.0% of 50 lawful sessions"):
        choose_threshold(Wanted(), scores, labels, 0.5)


@pytest.mark.parametrize("count", [100, 10_000])
def test_a_model_that_blocks_nearly_everybody_is_an_error(count: int) -> None:
    """All attacks and 99 % of lawful sessions: of however many, that is hardly better than to block them all."""
    scores = np.concatenate([np.full(count // 100, 0.1), np.full(2 * count - count // 100, 0.5)])
    labels = np.repeat([0.0, 1.0], count).astype(np.float32)
    with pytest.raises(
        TrainingError, match=rf"all of {count:,} attacks and 99\.0% of .* no better than chance"
    ):
        choose_threshold(Wanted(), scores.astype(np.float32), labels, 0.5)


def test_scores_without_meaning_are_no_model() -> None:
    """Noise of 60 attacks among 600 sessions is refused nearly always, whatever is asked for."""
    labels = np.repeat([0.0, 1.0], [540, 60]).astype(np.float32)
    for wanted in (Wanted(), Wanted(target_fpr=0.05)):
        refused = 0
        for seed in range(100):
            scores = np.random.RandomState(seed).uniform(0, 1, 600).astype(np.float32)
            try:
                choose_threshold(wanted, scores, labels, 0.1)
            except TrainingError:
                refused += 1
        assert refused >= 85, wanted


def test_a_small_set_that_tells_something_is_a_model() -> None:
    """Of ten attacks among 90 sessions, where nine pairs of ten are ranked rightly: nearly none of 200 draws is refused.

    By F1, and by a budget of one false alarm, where anything is caught by it.
    """
    refused = 0
    labels = np.repeat([0, 1], [80, 10]).astype(np.float32)
    for seed in range(200):
        rng = np.random.RandomState(seed)
        logits = np.concatenate([rng.normal(0, 1, 80), rng.normal(1.8, 1, 10)])
        scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
        catches = (scores[80:] > np.sort(scores[:80])[-2]).any()
        for wanted in (Wanted(), *([Wanted(target_fpr=0.001)] if catches else [])):
            try:
                choose_threshold(wanted, scores, labels, 0.1)
            except TrainingError:
                refused += 1
    assert refused <= 3


def test_a_threshold_given_that_catches_nobody_is_told() -> None:
    """It is taken, and what it comes to is said."""
    scores, labels = _sessions(80, 20)
    told = choose_threshold(Wanted(threshold=1.0), scores, labels, 0.5).told
    assert "blocks none of 20 attacks and 0.0% of 80 lawful sessions" in told
    assert not choose_threshold(Wanted(threshold=0.5), scores, labels, 0.5).told


def test_costs_may_say_block_nobody_and_a_threshold_given_is_not_questioned() -> None:
    """Costs of false alarms beyond any attack's choose 1; a threshold is taken as it is."""
    scores, labels = _sessions(80, 20)
    scores[0] = 0.9999  # a lawful one above every attack
    dear = choose_threshold(Wanted(cost_fn=1, cost_fp=1e5), scores, labels, 0.5)
    assert (dear.by, dear.recall, dear.false_alarm_rate) == ("cost", 0, 0)
    assert dear.told.startswith("the cheapest is to block nobody")
    assert choose_threshold(Wanted(threshold=1.0), scores, labels, 0.5).threshold == 1


def test_attacks_that_score_below_lawful_sessions_are_no_model() -> None:
    """A slope that is not above 0 is refused."""
    scores, labels = _sessions(200, 100)
    with pytest.raises(TrainingError, match="expected attacks to score above lawful sessions"):
        calibrate(1 - scores, labels, 0.1)


@given(st.floats(0.1, 20), st.floats(-5, 5))
def test_the_calibrated_loss_forgives_being_too_sure(slope: float, shift: float) -> None:
    """Logits that are stretched and shifted have the loss that they had before; without order it is that of chance."""
    scores, labels = _sessions(300, 100)
    logits, weights = logits_of(scores), np.ones(400)
    loss = calibrated_loss(logits, labels, weights)
    assert calibrated_loss(slope * logits + shift, labels, weights) == pytest.approx(loss, rel=0.01)
    chance = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert loss < 0.5 * chance
    assert calibrated_loss(-logits, labels, weights) == pytest.approx(chance)
    assert calibrated_loss(np.where(labels == 1, np.nan, logits), labels, weights) == np.inf


def test_a_challenge_has_a_budget_of_its_own() -> None:
    """Of 20,000 lawful sessions a hundredth is asked for a second factor, those that are blocked among them."""
    scores, labels = _sessions(20_000, 500)
    chosen = choose_threshold(Wanted(), scores, labels, 0.005)
    for asked, share in ((None, 0.01), (0.05, 0.05)):
        found, told = choose_challenge_threshold(asked, chosen, scores, labels)
        assert found is not None
        assert found < chosen.threshold
        assert (scores[labels == 0] >= found).mean() == pytest.approx(share)
        assert not told


def test_a_challenge_that_the_data_cannot_show_is_told_or_left_out() -> None:
    """Of 80 lawful sessions one is the nearest to 0.5 %, and that is said; without being asked for there is none."""
    scores, labels = _sessions(80, 20)
    chosen = choose_threshold(Wanted(threshold=0.99), scores, labels, 0.5)
    assert choose_challenge_threshold(None, chosen, scores, labels) == (None, "")
    found, told = choose_challenge_threshold(0.005, chosen, scores, labels)
    assert found is not None
    assert (scores[labels == 0] >= found).sum() == 1
    assert (
        "80 lawful validation sessions cannot show 0.50% challenged: the nearest that they can, 1.25%" in told
    )


def test_no_challenge_lies_above_the_block() -> None:
    """Where more are blocked than may be challenged there is none, which is told to who asked; a given threshold asks none."""
    scores, labels = _sessions(20_000, 500)
    chosen = choose_threshold(Wanted(target_fpr=0.02), scores, labels, 0.005)
    assert choose_challenge_threshold(None, chosen, scores, labels) == (None, "")
    found, told = choose_challenge_threshold(0.01, chosen, scores, labels)
    assert found is None
    assert told.startswith(
        "--challenge-fpr 0.01 challenges nobody: as many lawful sessions are blocked already"
    )
    given = choose_threshold(Wanted(threshold=0.999), scores, labels, 0.005)
    assert choose_challenge_threshold(None, given, scores, labels) == (None, "")
    assert choose_challenge_threshold(0.01, given, scores, labels)[0] is not None
