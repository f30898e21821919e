"""What an alert's explanation says: Shapley values by their definition, the gaps, and the words."""

import itertools
import math
import uuid
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.contract.alerts import Alert, Attribution
from detector.core import explaining
from detector.core.encoding import STEP_BYTES, STEP_DTYPE, Encoding
from detector.core.explaining import EXACT_ACTIONS, MAX_ACTIONS, MAX_COALITIONS, MAX_REASONS, explain, reasons
from detector.core.partition import Partition
from detector.core.staging import Entry, SessionLimits
from tests.core.strategies import ACTIONS, POLICY, SOURCE, alerts_of, logs, pipeline
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
    terms = 2.0 ** (windows_["action"] - 9.0) * (windows_["action"] > 0)
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
    explanation = explain(window, WIDE, hashed, SEED)
    assert explanation.values == pytest.approx(by_definition(split(window)), abs=ROUNDING)


@pytest.mark.parametrize("counts", [(1, EXACT_ACTIONS), (EXACT_ACTIONS + 1, 80)], ids=["exact", "estimated"])
def test_values_sum_to_score_minus_baseline(counts: tuple[int, int]) -> None:
    """Exact or not, values sum to what the explained actions raised the score by; scores end at the score."""

    @given(windows(counts[1], counts[0]))
    def holds(window: bytes) -> None:
        explanation = explain(window, WIDE, hashed, SEED)
        given_steps = b"".join(split(window)[:-MAX_ACTIONS])
        baseline, whole = hashed(WIDE.windows([given_steps, window])).tolist()
        assert (explanation.baseline, explanation.scores[-1]) == (baseline, whole)
        assert explanation.exact is (len(split(window)) <= EXACT_ACTIONS)
        assert math.fsum(explanation.values) == pytest.approx(whole - baseline, abs=ROUNDING)
        assert len(explanation.values) == len(explanation.scores) == min(MAX_ACTIONS, len(split(window)))

    holds()


@given(windows(10, 2), st.data())
def test_equal_neighbours_have_equal_values(window: bytes, data: st.DataObject) -> None:
    """Of two neighbours with the same action and gap, neither can be told from the other (symmetry)."""
    steps = split(window)
    at = data.draw(st.integers(0, len(steps) - 2))
    steps[at + 1] = steps[at]
    values = explain(b"".join(steps), WIDE, hashed, SEED).values
    assert values[at] == pytest.approx(values[at + 1], abs=ROUNDING)


@given(windows(EXACT_ACTIONS), st.integers(1, len(ACTIONS)))
def test_an_action_that_the_model_does_not_see_has_no_value(window: bytes, unseen: int) -> None:
    """An action whose presence never changes the score is worth nothing (dummy)."""

    def blind(windows_: NDArray[np.void]) -> NDArray[np.float32]:
        kept = [one[one["action"] != unseen].tobytes() for one in windows_]
        return hashed(WIDE.windows(kept))

    explanation = explain(window, WIDE, blind, SEED)
    codes = np.frombuffer(window, STEP_DTYPE)["action"]
    assert [value for value, code in zip(explanation.values, codes, strict=True) if code == unseen] == [
        0.0
    ] * int((codes == unseen).sum())


@given(windows(MAX_ACTIONS))
def test_in_a_sum_each_action_is_worth_its_term(window: bytes) -> None:
    """Where actions do not interact, estimated values are exact too."""
    explanation = explain(window, WIDE, additive, SEED)
    codes = np.frombuffer(window, STEP_DTYPE)["action"].tolist()
    assert explanation.values == pytest.approx([2.0 ** (code - 9) for code in codes], abs=1e-9)
    assert explanation.baseline == 0


@given(windows(EXACT_ACTIONS, 2), st.uuids())
def test_the_estimate_from_all_coalitions_is_exact(window: bytes, seed: uuid.UUID) -> None:
    """Kernel SHAP is another way to the same values: given every coalition, it finds what the formula does."""
    exact = explain(window, WIDE, hashed, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explaining, "EXACT_ACTIONS", 0)
        estimated = explain(window, WIDE, hashed, seed)
    assert (exact.exact, estimated.exact) == (True, False)
    assert estimated.values == pytest.approx(exact.values, abs=1e-9)


@settings(max_examples=30)
@given(windows(14, 14), st.uuids())
def test_estimates_lie_close_to_exact_values(window: bytes, seed: uuid.UUID) -> None:
    """From an eighth of the coalitions, for scores of pure chance: every value off by less than 0.1."""
    estimated = explain(window, WIDE, hashed, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explaining, "EXACT_ACTIONS", 14)
        exact = explain(window, WIDE, hashed, seed)
    assert estimated.values == pytest.approx(exact.values, abs=0.1)


def test_the_seed_decides_the_sample() -> None:
    """The same seed gives the same bits, another seed others."""
    window = b"".join(WIDE.step(ACTIONS[at % 7], at * 700) for at in range(30))
    one, again, other = (explain(window, WIDE, hashed, uuid.UUID(int=seed)) for seed in (1, 1, 2))
    assert one == again
    assert one.values != other.values


@pytest.mark.parametrize("count", [1, EXACT_ACTIONS, EXACT_ACTIONS + 1, MAX_ACTIONS, 80])
def test_what_an_explanation_asks_for_is_bounded(count: int) -> None:
    """One call of the scorer an alert, with coalitions, prefixes and gaps in it, however long the window."""
    asked: list[int] = []

    def counting(windows_: NDArray[np.void]) -> NDArray[np.float32]:
        asked.append(len(windows_))
        return hashed(windows_)

    explain(WIDE.step("LOGIN", 1) * count, WIDE, counting, SEED)
    assert len(asked) == 1
    assert asked[0] <= MAX_COALITIONS + 17 * MAX_ACTIONS + 1
    assert asked[0] >= min(2**count, 0.95 * MAX_COALITIONS)


def test_a_gap_is_worth_the_score_less_its_mean_over_other_gaps() -> None:
    """A gap's value compares it with every other in its place; what has no gap has no value."""
    risk = np.array([0, 0, 0.5, 0.125, 0.125], np.float32)

    def of_gaps(windows_: NDArray[np.void]) -> NDArray[np.float32]:
        return np.asarray(risk[windows_["gap"]].sum(axis=1), np.float32)

    window = WIDE.steps(["LOGIN", "VIEW_BALANCE", "LOGOUT"], [0, 10, 70_000])
    explanation = explain(window, WIDE, of_gaps, SEED)
    assert explanation.scores == [0, 0.5, 0.625]
    assert explanation.gap_values == [None, 0.25, -0.125]


@given(logs(), st.integers(1, 60))
def test_estimated_explanations_do_not_depend_on_batches(log: list[Entry], batch_events: int) -> None:
    """With windows beyond what is exact, any cut of the log gives the same explanations, bit for bit."""

    def alerts(events: int) -> list[Alert]:
        limits = SessionLimits(idle_timeout_ms=10**12, max_sessions=9)
        run = pipeline(hashed, policy=POLICY, limits=limits, encoding=WIDE)
        return alerts_of(run.over(Partition(), log, SOURCE, batch_events if events else len(log)))

    assert alerts(0) == alerts(1)


def attribution(
    action: str,
    value: float,
    gap_ms: tuple[int, int | None] | None = None,
    gap_value: float | None = None,
) -> Attribution:
    """Make an attribution."""
    return Attribution(action=action, gap_range_ms=gap_ms, value=value, gap_value=gap_value)


@pytest.mark.parametrize(
    ("gap_ms", "words"),
    [
        ((0, 500), "B under 500 ms after A: +0.41"),
        ((500, 2_000), "B 500 ms–2 s after A: +0.41"),  # noqa: RUF001
        ((2_000, 4_000), "B 2–4 s after A: +0.41"),  # noqa: RUF001
        ((1_500, 30_000), "B 1.5–30 s after A: +0.41"),  # noqa: RUF001
        ((3_600_000, 86_400_000), "B 1 h–1 d after A: +0.41"),  # noqa: RUF001
        ((1_800_000, None), "B 30 min or more after A: +0.41"),
        (None, "B after A: +0.41"),
    ],
)
def test_words_give_the_action_the_gap_and_the_value(
    gap_ms: tuple[int, int | None] | None, words: str
) -> None:
    """The state keeps a gap's bucket, so the words give its range."""
    assert list(reasons(["A", "B"], [attribution("A", 0.0), attribution("B", 0.412, gap_ms)])) == [words]


def test_words_name_what_mattered_most_first() -> None:
    """By the larger of an action's and its gap's value, whichever their sign; what rounds to nothing has none, or is left out."""
    given_ = [
        attribution("B", -0.5, (0, 10)),
        attribution("C", -0.002, (0, 10), 0.6),
        attribution("D", 0.004, (0, 10), -0.004),
        attribution("E", 0.1, (10, None), 0.001),
    ]
    assert list(reasons(["A", "B", "C", "D", "E"], given_)) == [
        "C under 10 ms after B: +0.00 (the gap: +0.60)",
        "B under 10 ms after A: -0.50",
        "E 10 ms or more after D: +0.10",
    ]
    assert list(reasons(["B", "C", "D", "E"], given_))[1] == "B under 10 ms after the action before: -0.50"
    assert len(list(reasons(["A"] * 20, [attribution("A", 0.3)] * 20))) == MAX_REASONS


def test_gap_ranges_are_those_of_the_buckets() -> None:
    """A gap lies in the range that its step's bucket names; padding and a first action have none."""
    ranges: Callable[[int | None], object] = lambda gap: WIDE.gap_range_ms(WIDE.step("LOGIN", gap)[-1])  # noqa: E731
    assert [ranges(gap) for gap in (None, 0, 999, 1_000, 59_999, 60_000)] == [
        None, (0, 1_000), (0, 1_000), (1_000, 60_000), (1_000, 60_000), (60_000, None)
    ]  # fmt: skip
    assert WIDE.gap_range_ms(0) is None
    assert Encoding(ACTIONS, 10).gap_range_ms(Encoding(ACTIONS, 10).step("LOGIN", 5)[-1]) is None
