"""Figures over sessions scored after every action: what counts as caught, as a false alarm, and as in time."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from detector.core.encoding import Encoding
from trainer.data.sessions import Session, Sessions
from trainer.data.windows import pack
from trainer.evaluation.course import Money
from trainer.evaluation.figures import differences, evaluate
from trainer.evaluation.intervals import Estimate, newcombe, wilson
from trainer.evaluation.report import figure_rows, sections
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
    numbers = figures.numbers()
    assert numbers["recall"] == pytest.approx(4 / 6)
    assert numbers["blocked_before_any_money"] == pytest.approx(1 / 6)
    assert numbers["blocked_before_last_large"] == pytest.approx(2 / 6)
    assert numbers["blocked_by_last_large"] == pytest.approx(3 / 6)
    assert numbers["blocked_after_1"] == 0
    assert numbers["blocked_after_3"] == pytest.approx(2 / 6)
    assert numbers["false_alarm_rate"] == pytest.approx(0.5)
    assert numbers["precision"] == pytest.approx(4 / 5)
    assert figures.by_family["f"].alerts == 4
    assert figures.by_customer_type["c"].share.value == pytest.approx(0.5)
    assert {name: group.alerts for name, group in figures.by_length.items()} == {
        "2 actions": 0,
        "3 actions": 1,
    }
    assert figures.actions_until_block_median == pytest.approx(np.median([2, 3, 5, 6]))
    assert figures.seconds_until_block_median == pytest.approx(np.median([1, 2, 4, 5]))


def test_what_a_second_factor_adds_is_what_it_stops_before_the_money() -> None:
    """Challenged or blocked before the last large transfer, over all and by family, and how many lawful ones are asked."""
    rows = [
        _attack("blocked before", DRAIN, [0, 0.9, 0, 0, 0]),
        _attack("challenged before, blocked after", [*DRAIN, "VIEW"], [0, 0.3, 0, 0, 0, 0.9]),
        _attack("challenged on it", DRAIN, [0, 0, 0, 0, 0.3]),
        _attack("never", DRAIN, [0, 0, 0, 0, 0.1]),
        _lawful("quiet", [0.1, 0.2]),
        _lawful("asked", [0.1, 0.3]),
        _lawful("blocked", [0.9]),
        _lawful("quiet, too", [0.1]),
    ]
    figures = evaluate(_scored(rows), 0.5, challenge_threshold=0.25)
    numbers = figures.numbers()
    assert (numbers["challenge_threshold"], numbers["lawful_challenged"]) == (0.25, 0.5)
    assert (numbers["recall"], numbers["stopped"]) == (0.5, 0.75)
    assert numbers["blocked_before_last_large"] == pytest.approx(0.25)
    assert (numbers["stopped_before_last_large"], numbers["stopped_by_last_large"]) == (0.5, 0.75)
    family = figures.by_family["f"]
    assert (family.before_money, family.stopped_before_money) == (0.25, 0.5)
    (table,) = [one for one in sections(figures) if one.header[0] == "attack family"]
    assert table.header[-2:] == ("before the last large transfer", "challenged or blocked before it")
    assert [row[-2:] for row in table.rows] == [("25.0%", "50.0%")]
    plain = evaluate(_scored(rows), 0.5)
    assert not {"lawful_challenged", "stopped"} & plain.numbers().keys()
    assert all(
        len(row) == len(one.header)
        for found in (plain, figures)
        for one in sections(found)
        for row in one.rows
    )


def test_attacks_of_several_sessions_are_blocked_before_the_money_or_not() -> None:
    """By a block in any of their sessions, if it is before their first large transfer; those of one do not count."""
    rows = []
    for number, (look, take) in enumerate([(0.9, 0.9), (0.1, 0.9), (0.9, 0.1)]):
        stages = ((["LOGIN", "VIEW"], [0, look]), (["LOGIN", "TRANSFER_LARGE"], [0, take]))
        for stage, (actions, scores) in enumerate(stages):
            session, _ = _attack(f"{number}{stage}", actions, scores)
            begins_ms = 1_000_000 * stage
            times_ms = tuple(begins_ms + at for at in range(len(actions)))
            rows.append((structs.replace(session, attack_id=f"a{number}", timestamps_ms=times_ms), scores))
    alone, scores = _attack("alone", DRAIN, [0, 0.9, 0, 0, 0])
    rows += [(structs.replace(alone, attack_id="one"), scores), _lawful("l", [0.1])]
    assert evaluate(_scored(rows), 0.5).numbers()["several_blocked_before_large"] == pytest.approx(2 / 3)


def test_without_money_nothing_is_said_of_it() -> None:
    """Figures "before the money" are there only where an attack moves some, by the words that the model knows."""
    rows = [_attack("a", DRAIN, [0, 0.9, 0, 0, 0]), _lawful("l", [0.1])]
    assert any("large" in name for name in evaluate(_scored(rows), 0.5).estimates)
    other = evaluate(_scored(rows), 0.5, money=Money(frozenset({"PAY"}), frozenset()))
    assert not any("large" in name or "money" in name for name in other.estimates)
    assert other.by_family["f"].before_money is None
    assert not any("transfer" in cell for section in sections(other) for row in section.rows for cell in row)


@pytest.mark.parametrize("count", [10, 80, 270])
def test_no_rate_is_known_exactly(count: int) -> None:
    """No false alarm in some sessions, all attacks caught, areas of 1: intervals say how little that is."""
    rows = [_attack(f"a{number}", DRAIN, [0, 0.9, 0, 0, 0]) for number in range(count)]
    rows += [_lawful(f"l{number}", [0.1, 0.2]) for number in range(count)]
    found = evaluate(_scored(rows), 0.5).estimates
    assert found["false_alarm_rate"] == Estimate(0, *wilson(0, count))
    assert found["false_alarm_rate"].high > 1 / count
    for name in ("recall", "roc_auc", "pr_auc", "best_f1"):
        assert found[name].value == 1
        assert found[name].low <= 1 - 1 / count + 1e-9, name
    for name, one in found.items():
        assert 0 <= one.low <= one.value <= one.high, name


@pytest.mark.parametrize(("lawful", "caught"), [(40, 1.0), (300, 1.0), (300, 0.7)])
def test_what_follows_from_few_false_alarms_is_no_better_known_than_they_are(
    lawful: int, caught: float
) -> None:
    """None of some lawful sessions alarms: precision, F1 and alerts at a base rate go as far as Wilson's bounds of both rates."""
    rows = [
        _attack(f"a{number}", DRAIN, [0, 0.9 if number < 100 * caught else 0.2, 0, 0, 0])
        for number in range(100)
    ]
    rows += [_lawful(f"l{number}", [0.1, 0.2]) for number in range(lawful)]
    found = evaluate(_scored(rows), 0.5, 0.01).estimates
    low, high = wilson(100 * caught, 100)
    alarms = wilson(0, lawful)[1]
    precision = 0.01 * low / (0.01 * low + 0.99 * alarms)
    assert found["precision"].value == 1
    assert found["precision"].low == pytest.approx(precision)
    assert found["f1"].low <= 2 * precision * low / (precision + low) + 1e-9
    assert found["best_f1"].low <= 0.72
    assert found["alerts_per_1000"].high >= 1000 * (0.01 * high + 0.99 * alarms) - 1e-9


@pytest.mark.parametrize("attacks", [1, 3, 10])
def test_an_area_is_no_better_known_than_few_attacks_allow(attacks: int) -> None:
    """Among 300 lawful sessions, nearly all ranked rightly."""
    rng = np.random.RandomState(1)
    rows = [_attack(f"a{number}", ["VIEW"], [0.9]) for number in range(attacks)]
    rows += [_lawful(f"l{number}", [one]) for number, one in enumerate(rng.uniform(0, 0.92, 300).tolist())]
    found = evaluate(_scored(rows), 0.5).estimates
    for name in ("roc_auc", "last_roc_auc"):
        assert found[name].high - found[name].low > 0.3 / attacks**0.5
    assert found["pr_auc"].high - found["pr_auc"].low > 0.5 / attacks**0.5


def test_a_difference_is_no_larger_than_its_figures() -> None:
    """One model catches all and the other none: intervals stay within what there can be, each in its own unit."""
    rows = [_attack(f"a{number}", DRAIN, [0, 0.9, 0, 0, 0]) for number in range(6)]
    rows += [_lawful(f"l{number}", [0.1, 0.2]) for number in range(62)]
    scored = _scored(rows)
    blind = replace(scored, scores=(0.4 - scored.scores / 4).astype(np.float32))
    found = differences((scored, 0.5), (blind, 0.5), 0.1)
    for name, one in found.items():
        largest = 1000 if name == "alerts_per_1000" else 1
        less = one.second_less_first
        assert -largest <= less.low <= less.value <= less.high <= largest, name
    alarms = found["false_alarm_rate"].second_less_first
    assert (alarms.low, alarms.high) == newcombe(np.zeros(62, np.bool_), np.zeros(62, np.bool_))
    assert found["alerts_per_1000"].second_less_first.high > -61, (
        "of six attacks no rate is known to a tenth of 1 %"
    )
    alerts = evaluate(scored, 0.5, 0.1, at_k=[3, 1_000]).estimates["alerts_per_1000"]
    assert alerts.value == 100
    assert alerts.low == pytest.approx(100 * wilson(6, 6)[0])


def test_more_may_be_asked_for_than_there_are() -> None:
    """Precision and recall of the 1,000 highest of 8 are those of all; as plain numbers, for the JSON document."""
    rows = [_attack("a", DRAIN, [0, 0.9, 0, 0, 0]), *(_lawful(f"l{number}", [0.1]) for number in range(7))]
    figures = evaluate(_scored(rows), 0.5, at_k=[1_000])
    assert msgspec.to_builtins(figures, str_keys=True)["at_k"] == {
        "1000": {"precision": 0.125, "recall": 1.0}
    }


def test_what_the_data_cannot_tell_is_left_out() -> None:
    """Of 80 lawful sessions 1 in 80 is the smallest share of false alarms, and no smaller budget has a recall."""
    rows = [_attack("a", DRAIN, [0, 0.9, 0, 0, 0]), *(_lawful(f"l{number}", [0.1]) for number in range(80))]
    figures = evaluate(_scored(rows), 0.5)
    assert [name for name in figures.estimates if name.startswith("recall_at")] == ["recall_at_0.1"]
    assert figures.smallest_rate == 1 / 80
    assert ("smallest share of false alarms that can be told", "1.25%", "") in list(figure_rows(figures))


def test_a_session_attacked_from_its_last_action_on_is_ranked_fairly() -> None:
    """It is compared with as large a part of lawful sessions; over all of theirs, the more actions the higher."""
    rng = np.random.RandomState(0)
    rows = []
    for number in range(100):
        noise = rng.uniform(0, 0.5, 60)
        rows.append(_attack(f"a{number}", ["VIEW"] * 60, [*noise[1:], 0.2 + noise[0]], start=59))
        rows.append(_lawful(f"l{number}", rng.uniform(0, 0.5, 60).tolist()))
    scored = _scored(rows)
    attack = scored.labels == 1
    assert roc_auc_score(attack, scored.highest()) < 0.5
    assert evaluate(scored, 0.5).numbers()["roc_auc"] > 0.75
    assert (scored.compared()[attack] == scored.highest()[attack]).all()


@given(data=st.data())
def test_sessions_attacked_from_the_first_action_are_ranked_by_their_highest(data: st.DataObject) -> None:
    """Where every attack begins with its session, what is compared is the highest score of all."""
    scores = st.lists(st.floats(0, 1, width=32), min_size=5, max_size=5)
    rows = [_attack("a", DRAIN, data.draw(scores)), _lawful("l", data.draw(scores))]
    scored = _scored(rows)
    assert scored.compared().tolist() == scored.highest().tolist()


def test_a_model_of_whole_sessions_is_told_as_served_too() -> None:
    """It is judged by the score after the last action; the detector scores after each, and blocks whom that blocks."""
    rows = [_attack(f"a{number}", DRAIN, [0, 0.9, 0, 0, 0.6 if number else 0.1]) for number in range(4)]
    rows += [_lawful("early", [0.9, 0.1]), _lawful("never", [0.1, 0.1])]
    scored = _scored(rows)
    found = evaluate(scored.at_the_end(), 0.5)
    numbers = found.numbers()
    assert (numbers["recall"], numbers["false_alarm_rate"]) == (0.75, 0)
    assert (numbers["served_recall"], numbers["served_false_alarm_rate"]) == (1, 0.5)
    said = [name for name, _, _ in figure_rows(found)]
    assert "false alarms per lawful session as served, by scores after each action" in said
    assert not any("served" in name for name in evaluate(scored, 0.5).estimates)


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
