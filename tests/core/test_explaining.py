"""What explaining an alert gives: Shapley values by their definition, the gaps, and the same from the alert alone."""

import itertools
import math
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.contract.alerts import Alert, Decision, SourcePosition, decode_alert, encode_alert
from detector.core import explaining
from detector.core.decision import Decided
from detector.core.encoding import STEP_BYTES, STEP_DTYPE, Encoding
from detector.core.explaining import (
    EXACT_ACTIONS,
    MAX_ACTIONS,
    MAX_COALITIONS,
    NotExplainableError,
    explain,
    shapley_values,
)
from detector.core.partition import Partition
from detector.core.staging import Entry
from tests.core.strategies import ACTIONS, GUARDED, MODEL, SOURCE, alerts_of, logs, pipeline
from tests.core.strategies import score as hashed

ROUNDING = 1e-12
"""Sums of at most 2,048 products of numbers up to 1, each rounded to 53 bits."""
SEED = uuid.UUID(int=7)
GAPS_MS = [1_000, 60_000]
WIDE = Encoding(ACTIONS, window=80, gap_bounds_ms=GAPS_MS)


def windows(most: int, least: int = 1) -> st.SearchStrategy[bytes]:
    """Draw packed windows."""
    steps = st.tuples(st.sampled_from(ACTIONS), st.sampled_from([None, 0, 5_000, 100_000]))
    return st.lists(steps, min_size=least, max_size=most).map(
        lambda drawn: b"".join(WIDE.step(*one) for one in drawn)
    )


def split(window: bytes) -> list[bytes]:
    """Return the steps of a window."""
    return [window[at : at + STEP_BYTES] for at in range(0, len(window), STEP_BYTES)]


def additive(windows_: NDArray[np.void]) -> NDArray[np.float32]:
    """Score by a sum of a weight an action, a power of two so that single precision adds without rounding."""
    terms = 2.0 ** (windows_["action"] - 15.0) * (windows_["action"] > 0)
    return np.asarray(terms.sum(axis=1), np.float32)


def by_definition(steps: Sequence[bytes]) -> list[float]:
    """Compute Shapley values as they are defined: the mean gain of each step over all orders of arrival."""

    def value(present: Sequence[int]) -> float:
        return float(hashed(WIDE.windows([b"".join(steps[at] for at in sorted(present))]))[0])

    gains: list[list[float]] = [[] for _ in steps]
    for order in itertools.permutations(range(len(steps))):
        for at, step in enumerate(order):
            gains[step].append(value(order[: at + 1]) - value(order[:at]))
    return [math.fsum(one) / len(one) for one in gains]


@given(windows(5))
def test_values_are_those_of_the_definition(window: bytes) -> None:
    """The formula over coalitions gives the mean gain over all orders in which the actions could arrive."""
    explanation = shapley_values(window, WIDE, hashed, SEED)
    assert explanation.values == pytest.approx(by_definition(split(window)), abs=ROUNDING)


@pytest.mark.parametrize("counts", [(1, EXACT_ACTIONS), (EXACT_ACTIONS + 1, 80)], ids=["exact", "estimated"])
def test_values_sum_to_score_minus_baseline(counts: tuple[int, int]) -> None:
    """Exact or not, values sum to what the explained actions raised the score by."""

    @given(windows(counts[1], counts[0]))
    def holds(window: bytes) -> None:
        explanation = shapley_values(window, WIDE, hashed, SEED)
        given_steps = b"".join(split(window)[:-MAX_ACTIONS])
        baseline, whole = hashed(WIDE.windows([given_steps, window])).tolist()
        assert (explanation.baseline, explanation.score) == (baseline, whole)
        assert explanation.exact is (len(split(window)) <= EXACT_ACTIONS)
        assert math.fsum(explanation.values) == pytest.approx(whole - baseline, abs=ROUNDING)
        assert len(explanation.values) == len(explanation.gap_values) == min(MAX_ACTIONS, len(split(window)))

    holds()


@given(windows(10, 2), st.data())
def test_equal_neighbours_have_equal_values(window: bytes, data: st.DataObject) -> None:
    """Of two neighbours with the same action and gap, neither can be told from the other (symmetry)."""
    steps = split(window)
    at = data.draw(st.integers(0, len(steps) - 2))
    steps[at + 1] = steps[at]
    values = shapley_values(b"".join(steps), WIDE, hashed, SEED).values
    assert values[at] == pytest.approx(values[at + 1], abs=ROUNDING)


@given(windows(EXACT_ACTIONS), st.integers(1, len(ACTIONS)))
def test_an_action_that_the_model_does_not_see_has_no_value(window: bytes, unseen: int) -> None:
    """An action whose presence never changes the score is worth nothing (dummy)."""

    def blind(windows_: NDArray[np.void]) -> NDArray[np.float32]:
        kept = [one[one["action"] != unseen].tobytes() for one in windows_]
        return hashed(WIDE.windows(kept))

    explanation = shapley_values(window, WIDE, blind, SEED)
    codes = np.frombuffer(window, STEP_DTYPE)["action"]
    assert [value for value, code in zip(explanation.values, codes, strict=True) if code == unseen] == [
        0.0
    ] * int((codes == unseen).sum())


@given(windows(MAX_ACTIONS))
def test_in_a_sum_each_action_is_worth_its_term(window: bytes) -> None:
    """Where actions do not interact, estimated values are exact too."""
    explanation = shapley_values(window, WIDE, additive, SEED)
    codes = np.frombuffer(window, STEP_DTYPE)["action"].tolist()
    assert explanation.values == pytest.approx([2.0 ** (code - 15) for code in codes], abs=1e-9)
    assert explanation.baseline == 0


@given(windows(EXACT_ACTIONS, 2), st.uuids())
def test_the_estimate_from_all_coalitions_is_exact(window: bytes, seed: uuid.UUID) -> None:
    """Kernel SHAP is another way to the same values: given every coalition, it finds what the formula does."""
    exact = shapley_values(window, WIDE, hashed, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explaining, "EXACT_ACTIONS", 0)
        estimated = shapley_values(window, WIDE, hashed, seed)
    assert (exact.exact, estimated.exact) == (True, False)
    assert estimated.values == pytest.approx(exact.values, abs=1e-9)


@settings(max_examples=30)
@given(windows(14, 14), st.uuids())
def test_estimates_lie_close_to_exact_values(window: bytes, seed: uuid.UUID) -> None:
    """From an eighth of the coalitions, for scores of pure chance: every value off by less than 0.1."""
    estimated = shapley_values(window, WIDE, hashed, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explaining, "EXACT_ACTIONS", 14)
        exact = shapley_values(window, WIDE, hashed, seed)
    assert estimated.values == pytest.approx(exact.values, abs=0.1)


def test_the_seed_decides_the_sample() -> None:
    """The same seed gives the same bits, another seed others."""
    window = b"".join(WIDE.step(ACTIONS[at % 7], at * 700) for at in range(30))
    one, again, other = (shapley_values(window, WIDE, hashed, uuid.UUID(int=seed)) for seed in (1, 1, 2))
    assert one == again
    assert one.values != other.values


@pytest.mark.parametrize("count", [1, EXACT_ACTIONS, EXACT_ACTIONS + 1, MAX_ACTIONS, 80])
def test_what_an_explanation_asks_for_is_bounded(count: int) -> None:
    """One call of the scorer an alert, with coalitions and gaps in it, however long the window."""
    asked: list[int] = []

    def counting(windows_: NDArray[np.void]) -> NDArray[np.float32]:
        asked.append(len(windows_))
        return hashed(windows_)

    shapley_values(WIDE.step("LOGIN", 1) * count, WIDE, counting, SEED)
    assert len(asked) == 1
    assert asked[0] <= MAX_COALITIONS + 16 * MAX_ACTIONS + 2
    assert asked[0] >= min(2**count, 0.95 * MAX_COALITIONS)


def test_a_gap_is_worth_the_score_less_its_mean_over_other_gaps() -> None:
    """A gap's value compares it with every other in its place; what has no gap has no value."""
    risk = np.array([0, 0, 0.5, 0.125, 0.125], np.float32)

    def of_gaps(windows_: NDArray[np.void]) -> NDArray[np.float32]:
        return np.asarray(risk[windows_["gap"]].sum(axis=1), np.float32)

    window = WIDE.steps(["LOGIN", "VIEW_BALANCE", "LOGOUT"], [0, 10, 70_000])
    explanation = shapley_values(window, WIDE, of_gaps, SEED)
    assert explanation.score == 0.625
    assert explanation.gap_values == [None, 0.25, -0.125]


@given(log=logs(listings=True), unknown=st.booleans())
def test_an_alert_holds_what_its_explanation_needs(log: list[Entry], *, unknown: bool) -> None:
    """From the alert as it lies on the topic, and its model, come the values of the very window it was decided on."""
    encoding = Encoding(ACTIONS[:-2], 80, GAPS_MS, unknown_token=True) if unknown else WIDE
    windows_: list[bytes] = []

    def keeping(decided: Decided) -> Decided:
        windows_.extend(decided.windows)
        return decided

    run = replace(pipeline(hashed, policy=GUARDED, encoding=encoding), explain=keeping)
    found = alerts_of(run.over(Partition(), log, SOURCE))
    for alert, window in zip(found, windows_, strict=True):
        explanation = explain(decode_alert(encode_alert(alert)), encoding, hashed)
        values = shapley_values(window, encoding, hashed, uuid.UUID(alert.alert_id))
        assert [one.value for one in explanation.attributions] == values.values
        assert [one.gap_value for one in explanation.attributions] == values.gap_values
        assert [one.action for one in explanation.attributions] == alert.window
        assert (explanation.score, explanation.baseline) == (alert.score, values.baseline)
        assert (explanation.alert_id, explanation.model) == (alert.alert_id, alert.model)


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"gap_ranges_ms": []}, "0 gaps for the 2 actions"),
        ({"window": [], "gap_ranges_ms": []}, "0 gaps for the 0 actions"),
        ({"window": ["LOGIN", "FLY"]}, "'FLY' is not in the model's vocabulary"),
        ({"alert_id": "x"}, "badly formed"),
        ({"window": ["LOGIN", "LOGIN"]}, "its model gives its window"),
    ],
)
def test_an_alert_that_does_not_fit_its_model_is_refused(change: dict[str, Any], seen: str) -> None:
    """What an older version published, or somebody altered, is refused with what is wrong with it."""
    window = WIDE.steps(["LOGIN", "LOGOUT"], [0, 5_000])
    alert = alert_of(window)
    assert explain(alert, WIDE, hashed).score == alert.score
    with pytest.raises(NotExplainableError, match=seen):
        explain(msgspec.structs.replace(alert, **change), WIDE, hashed)


def alert_of(window: bytes) -> Alert:
    """Make an alert of a window, without reasons."""
    (score,) = hashed(WIDE.windows([window])).tolist()
    return Alert(
        alert_id=str(SEED), decision=Decision.BLOCK, session_id="s", account_id="a", score=score, threshold=0.5,
        action="LOGOUT", event_id="e", action_number=2, window=WIDE.actions(window),
        gap_ranges_ms=WIDE.gap_ranges_ms(window), model=MODEL, source=SourcePosition(topic="t", partition=0, offset=0),
        occurred_at_ms=0, received_at_ms=0, detected_at_ms=0,
    )  # fmt: skip
