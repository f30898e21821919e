"""The seed preset: the notebook's sessions."""

import itertools
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.contract.actions import Action
from producer.behaviour import seed
from producer.behaviour.session import LARGE_ABOVE, SMALL_BELOW, apportion, shuffled, stream

DRAWN = {Action.VIEW_BALANCE, Action.VIEW_TRANSACTIONS, Action.TRANSFER_SMALL, Action.LOGOUT}
ATTACKS = {
    "quick_drain": ("LOGIN", "ADD_RECIPIENT", "TRANSFER_LARGE", "LOGOUT"),
    "password_reset": ("LOGIN", "CHANGE_PASSWORD", "TRANSFER_LARGE", "LOGOUT"),
}
seeds = st.integers(min_value=0, max_value=2**64)


@settings(max_examples=50, deadline=None)
@given(seeds)
def test_every_session_follows_the_notebooks_grammar(chosen: int) -> None:
    """A session is one of the two attacks, or LOGIN and 3 to 8 draws cut after the first LOGOUT."""
    for session in seed.sessions(220, chosen):
        if session.kind in ATTACKS:
            assert session.actions == ATTACKS[session.kind]
            assert session.label == 1
            assert session.attack_from == 0
            continue
        first, *rest = session.actions
        assert (session.kind, session.label, session.attack_from) == ("normal", 0, None)
        assert first == "LOGIN"
        assert set(rest) <= DRAWN
        assert Action.LOGOUT not in rest[:-1]
        assert len(rest) <= 8
        assert len(rest) >= 3 or rest[-1] == "LOGOUT"


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_gaps_and_amounts_fit_the_actions(chosen: int) -> None:
    """Gaps start at 0 and are positive after; transfers, and only they, carry an amount within their bounds."""
    for session in seed.sessions(100, chosen):
        assert len(session.actions) == len(session.gaps_ms) == len(session.amounts)
        assert session.gaps_ms[0] == 0
        assert min(session.gaps_ms[1:], default=1) >= 1
        for action, amount in zip(session.actions, session.amounts, strict=True):
            match action:
                case Action.TRANSFER_SMALL:
                    assert amount is not None
                    assert 0 < amount < SMALL_BELOW
                case Action.TRANSFER_LARGE:
                    assert amount is not None
                    assert amount > LARGE_ABOVE
                case _:
                    assert amount is None


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (11_000, {"normal": 10_000, "quick_drain": 500, "password_reset": 500}),
        (1_100, {"normal": 1_000, "quick_drain": 50, "password_reset": 50}),
        (22, {"normal": 20, "quick_drain": 1, "password_reset": 1}),
    ],
)
def test_the_mix_is_exact(count: int, expected: dict[str, int]) -> None:
    """The notebook's proportions hold to the session, whatever the seed."""
    for chosen in range(3):
        assert Counter(session.kind for session in seed.sessions(count, chosen)) == expected


def test_actions_are_drawn_with_the_notebooks_probabilities() -> None:
    """Draws follow .4/.4/.1/.1 and numbers of draws are uniform over 3 to 8, by chi-square at 1 in 10,000."""
    normal = [session for session in seed.sessions(44_000, 20_261) if session.kind == "normal"]
    draws = Counter(action for session in normal for action in session.actions[1:])
    total = sum(draws.values())
    shares = {"VIEW_BALANCE": 0.4, "VIEW_TRANSACTIONS": 0.4, "TRANSFER_SMALL": 0.1, "LOGOUT": 0.1}
    assert (
        sum((draws[Action(name)] - total * p) ** 2 / (total * p) for name, p in shares.items()) < 21.1
    )  # 3 degrees

    # A session without LOGOUT has exactly its number of draws: n uniform over 3 to 8, survived with .9 ** n.
    whole = Counter(len(session.actions) - 1 for session in normal if session.actions[-1] != "LOGOUT")
    expected = {n: len(normal) / 6 * 0.9**n for n in range(3, 9)}
    assert set(whole) == set(expected)
    assert sum((whole[n] - mean) ** 2 / mean for n, mean in expected.items()) < 27.9  # 6 degrees


def test_times_carry_no_label() -> None:
    """The gaps of attacks and of normal sessions are of one distribution (two-sample Kolmogorov-Smirnov)."""
    gaps: dict[int, list[int]] = {0: [], 1: []}
    for session in seed.sessions(11_000, 7):
        gaps[session.label].extend(session.gaps_ms[1:])
    lawful, attack = sorted(gaps[0]), sorted(gaps[1])
    steps = sorted([(gap, 1 / len(lawful)) for gap in lawful] + [(gap, -1 / len(attack)) for gap in attack])
    statistic = max(abs(total) for total in itertools.accumulate(step for _, step in steps))
    assert statistic < 2.3 * math.sqrt(1 / len(lawful) + 1 / len(attack))  # 1 in 20,000


@settings(max_examples=20, deadline=None)
@given(seeds, seeds)
def test_the_seed_decides_everything(one: int, other: int) -> None:
    """The same seed gives the same sessions, another seed others, and no session id comes twice."""
    first = list(seed.sessions(60, one))
    assert first == list(seed.sessions(60, one))
    assert (first == list(seed.sessions(60, other))) == (one == other)
    assert len({session.session_id for session in first}) == 60


def test_sessions_are_made_lazily() -> None:
    """The first sessions of a run far too long to make whole come at once."""
    assert len(list(itertools.islice(seed.sessions(10**15, 1), 10))) == 10


def test_ids_do_not_depend_on_what_a_session_is() -> None:
    """Session and account ids are those of the seed alone: the same where every kind is another."""
    few = [session.session_id for session in seed.sessions(22, 5)]
    many = [session.session_id for session in itertools.islice(seed.sessions(22_000, 5), 22)]
    assert few == many


@given(
    st.integers(min_value=0, max_value=10_000),
    st.dictionaries(st.text(max_size=3), st.floats(min_value=0.01, max_value=1e6), min_size=1, max_size=8),
)
def test_apportionment_keeps_the_total_and_the_quotas(total: int, weights: dict[str, float]) -> None:
    """Parts add up to the total, and each is its quota rounded down or up."""
    counts = apportion(total, weights)
    assert sum(counts.values()) == total
    for key, count in counts.items():
        quota = total * weights[key] / sum(weights.values())
        assert math.floor(quota) <= count <= math.ceil(quota)


@pytest.mark.parametrize("weights", [{}, {"a": 0.0}, {"a": 1.0, "b": -1.0}])
def test_apportionment_refuses_weights_that_divide_nothing(weights: dict[str, float]) -> None:
    """Empty, all-zero and negative weights are an error that shows them."""
    with pytest.raises(ValueError, match="cannot split 5 by"):
        apportion(5, weights)


@given(st.dictionaries(st.text(max_size=3), st.integers(min_value=0, max_value=40), max_size=5), seeds)
def test_shuffling_keeps_the_counts(counts: dict[str, int], chosen: int) -> None:
    """A shuffled sequence holds every key exactly its count of times."""
    assert Counter(shuffled(stream(chosen, "test"), counts)) == Counter(counts)


def test_shuffling_is_uniform() -> None:
    """Each of the six orders of two pairs comes up as often, by chi-square at 1 in 10,000."""
    rng = stream(11, "test")
    orders = Counter("".join(shuffled(rng, {"a": 2, "b": 2})) for _ in range(6_000))
    assert len(orders) == 6
    assert sum((count - 1_000) ** 2 / 1_000 for count in orders.values()) < 25.8  # 5 degrees
