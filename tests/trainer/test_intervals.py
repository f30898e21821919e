"""Intervals that hold what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from trainer.evaluation.intervals import Draws, area_interval, newcombe, wilson


@given(of=st.integers(1, 5_000), share=st.floats(0, 1))
def test_the_interval_of_a_rate_is_wilsons(of: int, share: float) -> None:
    """It is SciPy's, holds the rate, and is never empty."""
    hits = round(share * of)
    expected = binomtest(hits, of).proportion_ci(method="wilson")
    low, high = wilson(hits, of)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert low <= hits / of <= high
    assert high - low > 0


@given(area=st.floats(0, 1), attacks=st.integers(1, 5_000), lawful=st.integers(1, 5_000))
def test_the_interval_of_an_area_holds_it(area: float, attacks: int, lawful: int) -> None:
    """It is never empty, narrows with more of either kind, and turns round with the labels."""
    low, high = area_interval(area, attacks, lawful)
    assert 0 <= low <= area <= high <= 1
    assert high > low
    more_low, more_high = area_interval(area, 10 * attacks, 10 * lawful)
    assert low <= more_low + 1e-9
    assert more_high <= high + 1e-9
    assert area_interval(1 - area, lawful, attacks) == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_an_area_of_few_attacks_is_hardly_known() -> None:
    """Over 300 draws of three attacks and 300 lawful sessions, about 95 % of the intervals hold the true area."""
    rng, held = np.random.RandomState(0), 0
    for _ in range(300):
        attacks, lawful = rng.normal(1.8, 1, 3), rng.normal(0, 1, 300)
        low, high = area_interval(float((attacks[:, None] > lawful).mean()), 3, 300)
        held += low <= 0.8985 <= high
    assert held >= 0.92 * 300


@given(pairs=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_a_difference_turns_round_with_its_models(pairs: list[tuple[bool, bool]]) -> None:
    """Its interval holds it, is not empty, stays within -1 to 1, and is the other one's, turned round."""
    first, second = np.array(pairs).T
    low, high = newcombe(first, second)
    assert -1 <= low <= second.mean() - first.mean() <= high <= 1
    assert high > low
    assert newcombe(second, first) == pytest.approx((-high, -low))


def test_pairs_that_agree_say_more_than_pairs_that_do_not() -> None:
    """Of equal rates, the difference is known the better the more often both models say the same."""
    first = np.arange(200) < 100
    widths = [
        high - low for low, high in (newcombe(first, other) for other in (first, np.roll(first, 20), ~first))
    ]
    assert widths == sorted(widths)
    assert widths[0] < widths[2] / 5


@given(count=st.integers(1, 500), hits=st.booleans())
def test_two_models_that_agree_may_still_differ(count: int, hits: bool) -> None:  # noqa: FBT001
    """On which neither errs, or both: the interval of the difference holds 0 and is not empty."""
    same = np.full(count, hits)
    low, high = newcombe(same, same)
    assert low < 0 < high


def test_an_account_is_drawn_as_one() -> None:
    """All examples of an account are drawn equally often, and each sample has attacks and lawful examples."""
    groups = np.repeat(np.arange(50), 4)
    labels = (groups < 5) & (np.arange(200) % 4 == 0)
    seen = 0
    for weights in Draws(labels, groups):
        by_account = weights.reshape(50, 4)
        assert (by_account == by_account[:, :1]).all()
        assert by_account[:5].sum() == 5 * 4
        assert by_account[5:].sum() == 45 * 4
        seen += 1
    assert seen == 400
    first, second, *_ = Draws(labels, groups)
    assert not np.array_equal(first, second)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Of a mean over accounts that each do the same ten times, 95 % of the intervals hold the truth; not of sessions."""
    rng = np.random.RandomState(0)
    by_account, by_session = 0, 0
    for _ in range(60):
        rates = rng.uniform(0, 1, 40) < 0.5
        hits = np.repeat(rates, 10).astype(float)
        labels = np.repeat(np.arange(40) < 20, 10)
        for groups, which in ((np.repeat(np.arange(40), 10), 0), (np.arange(400), 1)):
            draws = Draws(labels, groups)
            low, high = draws.interval(
                hits.mean(), np.array([weights @ hits / weights.sum() for weights in draws])
            )
            by_account += which == 0 and low <= 0.5 <= high
            by_session += which == 1 and low <= 0.5 <= high
    assert by_account >= 52
    assert by_session <= 40


def test_each_sample_has_both_kinds() -> None:
    """Where the one lawful session is of an account that was attacked too, no sample is without it."""
    labels, groups = np.arange(8) > 0, np.arange(8) // 2
    drawn = list(Draws(labels, groups))
    assert len(drawn) == 400
    assert all(weights[0] > 0 for weights in drawn)
