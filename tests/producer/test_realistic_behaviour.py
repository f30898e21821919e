"""The realistic preset: customers, lawful sensitive sessions, attack families, and no artefact between them."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.contract.actions import Action
from producer.behaviour.attacks import ATTACK_FAMILIES, MID_SESSION_HIJACK, QUICK_DRAIN, SPLIT, AttackFamily
from producer.behaviour.customers import CUSTOMER_TYPES, LEFT_OPEN
from producer.behaviour.realistic import RealisticBehaviour, sessions
from producer.behaviour.session import LARGE_ABOVE, SMALL_BELOW, SimulatedSession, stream
from producer.behaviour.timing import Tempo
from tests.producer.shallow import BOUNDS, shallow_recalls

FAMILIES = [family.name for family in ATTACK_FAMILIES]
seeds = st.integers(min_value=0, max_value=2**64)


@settings(max_examples=30, deadline=None)
@given(seeds, st.sampled_from([0.0, 0.01, 0.5, 1.0]))
def test_sessions_are_well_formed(seed: int, attack_rate: float) -> None:
    """LOGIN first, LOGOUT only last, one gap and one amount an action, amounts within the contract's bounds."""
    for session in sessions(120, seed, RealisticBehaviour(attack_rate=attack_rate)):
        assert session.actions[0] == Action.LOGIN
        assert Action.LOGOUT not in session.actions[:-1]
        assert len(session.actions) == len(session.gaps_ms) == len(session.amounts) >= 2
        assert session.gaps_ms[0] == 0
        assert min(session.gaps_ms[1:]) >= 1
        for action, amount in zip(session.actions, session.amounts, strict=True):
            if action == Action.TRANSFER_SMALL:
                assert amount is not None
                assert 0 < amount < SMALL_BELOW
            elif action == Action.TRANSFER_LARGE:
                assert amount is not None
                assert amount > LARGE_ABOVE
            else:
                assert amount is None


@pytest.mark.parametrize(
    ("count", "rate", "attacks"), [(10_000, 0.0001, 1), (20_000, 0.01, 200), (1_000, 0, 0), (50, 1, 50)]
)
def test_the_attack_rate_is_exact(count: int, rate: float, attacks: int) -> None:
    """The number of attacks is the rate times the sessions, down to 1 in 10,000."""
    assert (
        sum(session.label for session in sessions(count, 9, RealisticBehaviour(attack_rate=rate))) == attacks
    )


def test_the_seed_decides_everything_and_sessions_are_lazy() -> None:
    """The same seed gives the same sessions, another one others; the first of a huge run come at once."""
    first = list(itertools.islice(sessions(10**12, 5), 200))
    assert first == list(itertools.islice(sessions(10**12, 5), 200))
    assert first != list(itertools.islice(sessions(10**12, 6), 200))


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_attacks_do_what_their_family_says(seed: int) -> None:
    """Every attack opens a way for money and takes it; a hijack leaves the customer's part untouched and lawful."""
    for session in sessions(60, seed, RealisticBehaviour(attack_rate=1)):
        assert session.attack_from is not None
        theirs = session.actions[session.attack_from :]
        assert {Action.ADD_RECIPIENT, Action.CHANGE_PASSWORD} & set(theirs)
        if session.kind == SPLIT.name:
            assert Action.TRANSFER_LARGE not in theirs
            assert theirs.count(Action.TRANSFER_SMALL) >= 6
        else:
            assert Action.TRANSFER_LARGE in theirs
        if session.kind == MID_SESSION_HIJACK.name:
            assert session.attack_from >= 2
            assert Action.LOGIN not in theirs
        else:
            assert session.attack_from == 0


@pytest.fixture(scope="module")
def lawful() -> list[SimulatedSession]:
    """Lawful sessions, enough for shares of 1 in 1,000."""
    return list(sessions(30_000, 71, RealisticBehaviour(attack_rate=0)))


def test_customers_do_lawfully_whatever_attackers_do(lawful: list[SimulatedSession]) -> None:
    """Sensitive lawful sessions outnumber the attacks at the default rate, by their actions and not by name."""

    def share(wanted: Callable[[SimulatedSession], bool]) -> float:
        return sum(map(wanted, lawful)) / len(lawful)

    def has(*actions: Action) -> Callable[[SimulatedSession], bool]:
        return lambda session: set(actions) <= set(session.actions)

    assert share(has(Action.ADD_RECIPIENT, Action.TRANSFER_LARGE)) > 0.01
    assert share(has(Action.CHANGE_PASSWORD)) > 0.01
    assert share(has(Action.CHANGE_PASSWORD, Action.TRANSFER_LARGE)) > 0.001
    assert share(has(Action.CHANGE_PASSWORD, Action.ADD_RECIPIENT, Action.TRANSFER_LARGE)) > 0.0003
    assert share(lambda session: session.actions.count(Action.TRANSFER_SMALL) >= 6) > 0.02
    assert share(lambda session: session.duration_ms > 3_600_000) > 0.02
    assert share(lambda session: session.duration_ms < 1_000 * len(session.actions)) > 0.02  # programs
    assert share(lambda session: len(session.actions) > 40) > 0.005


def test_every_customer_type_and_occasion_comes_up(lawful: list[SimulatedSession]) -> None:
    """Each type visits about as often as its share and frequency say; every occasion any type has is seen."""
    seen = Counter(session.customer_type for session in lawful)
    visits = {habits.name: habits.share * habits.sessions_per_month for habits in CUSTOMER_TYPES}
    for name, weight in visits.items():
        expected = len(lawful) * weight / sum(visits.values())
        assert abs(seen[name] - expected) < 5 * expected**0.5
    occasions = {occasion.name for habits in CUSTOMER_TYPES for occasion in habits.occasions}
    assert {session.kind for session in lawful} == occasions | {"routine"}


def test_an_account_keeps_its_owner(lawful: list[SimulatedSession]) -> None:
    """All sessions of an account are of one customer type, on few devices but for the new ones."""
    types: dict[str, set[str]] = defaultdict(set)
    devices: dict[str, set[str]] = defaultdict(set)
    for session in lawful:
        types[session.account_id].add(session.customer_type)
        if session.kind != "new_device":
            devices[session.account_id].add(session.attributes["device"])
    assert all(len(names) == 1 for names in types.values())
    most = max(habits.devices for habits in CUSTOMER_TYPES)
    assert max(map(len, devices.values())) <= most
    assert sum(len(known) > 1 for known in devices.values()) > 100


def test_nothing_in_an_event_names_the_truth() -> None:
    """Lawful and attacked sessions have events with the same fields, and ids and devices of the same form."""
    forms: dict[int, set[tuple[object, ...]]] = defaultdict(set)
    for session in sessions(2_000, 3, RealisticBehaviour(attack_rate=0.5)):
        for event in session.events(0):
            forms[session.label].add(
                (
                    len(event.session_id),
                    len(event.account_id),
                    event.event_id.count("-"),
                    tuple(sorted(event.attributes)),
                    len(event.attributes["device"]),
                )
            )
    assert forms[0] == forms[1]
    assert len(forms[0]) == 1


@pytest.mark.parametrize("wrong", [{"attack_rate": 1.5}, {"attack_rate": -0.1}, {"customers": 2}])
def test_impossible_parameters_are_refused(wrong: dict[str, float]) -> None:
    """A rate beyond 0 to 1, or fewer customers than types, is an error that shows the value."""
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        RealisticBehaviour(**wrong)  # type: ignore[arg-type]


# Shallow models that try to tell a family by what is not behaviour.


def only(family: AttackFamily) -> list[SimulatedSession]:
    """Return attacks of one family."""
    behaviour = RealisticBehaviour(attack_rate=1, attack_families=(family,))
    return list(sessions(2_000, 72, behaviour))


@pytest.mark.parametrize("family", ATTACK_FAMILIES, ids=FAMILIES)
def test_no_family_is_told_by_an_artefact(family: AttackFamily, lawful: list[SimulatedSession]) -> None:
    """Length, duration, mean gap and first gap do not give a family away; nor is any of its values fixed."""
    attacks = only(family)
    recalls = shallow_recalls(lawful, attacks)
    assert {name: recall for name, recall in recalls.items() if recall > BOUNDS[name]} == {}
    lengths = Counter(len(session.actions) for session in attacks)
    assert max(lengths.values()) / len(attacks) < 0.45
    first_gaps = Counter(session.gaps_ms[1] for session in attacks)
    assert max(first_gaps.values()) / len(attacks) < 0.02


@pytest.mark.parametrize("artefact", ["fixed gap", "fixed wait", "fixed length"])
def test_the_shallow_model_does_find_artefacts(artefact: str, lawful: list[SimulatedSession]) -> None:
    """Planted artefacts (a metronome, waits of one length for all, a length nobody else has) exceed a bound."""
    match artefact:
        case "fixed gap":
            attacks = [
                replace_gaps(session, [0, *[3_000] * (len(session.actions) - 1)])
                for session in only(QUICK_DRAIN)
            ]
        case "fixed wait":
            family = replace(QUICK_DRAIN, waits=replace(LEFT_OPEN, probability=1.0, sigma=0.05, spread=0.05))
            attacks = only(family)
        case _:
            attacks = only(replace(QUICK_DRAIN, padding=(60, 60)))
    recalls = shallow_recalls(lawful, attacks)
    assert any(recall > BOUNDS[name] for name, recall in recalls.items()), recalls


def replace_gaps(session: SimulatedSession, gaps_ms: list[int]) -> SimulatedSession:
    """Return `session` with other gaps."""
    return SimulatedSession(
        session_id=session.session_id,
        account_id=session.account_id,
        kind=session.kind,
        customer_type=session.customer_type,
        attack_from=session.attack_from,
        actions=session.actions,
        gaps_ms=tuple(gaps_ms),
        amounts=session.amounts,
        attributes=session.attributes,
    )


def test_attackers_and_customers_overlap_in_every_gap() -> None:
    """No one gap tells: for each sensitive action, attackers' and customers' middle halves overlap or meet.

    Programs of attackers are left out: they have lawful programs, not people, to hide among.
    """
    gaps: dict[tuple[Action, int], list[int]] = defaultdict(list)
    families = tuple(family for family in ATTACK_FAMILIES if "script" not in family.operators)
    for session in sessions(40_000, 8, RealisticBehaviour(attack_rate=0.2, attack_families=families)):
        for action, gap_ms in zip(session.actions, session.gaps_ms, strict=True):
            gaps[action, session.label].append(gap_ms)
    for action in (Action.CHANGE_PASSWORD, Action.ADD_RECIPIENT, Action.TRANSFER_LARGE):
        customers, attackers = np.array(gaps[action, 0]), np.array(gaps[action, 1])
        # An attacker is quicker at forms in the median, and yet slower than many a customer.
        assert np.median(attackers) < np.median(customers)
        assert np.mean(customers < np.median(attackers)) > 0.1
        assert np.mean(attackers > np.median(customers)) > 0.1


@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(min_value=0.1, max_value=100), st.floats(min_value=0, max_value=1.5))
def test_a_tempo_keeps_its_medians(seed: int, median_s: float, sigma: float) -> None:
    """The gaps of an action lie about half above and half below the median its tempo states."""
    rng = stream(seed, "test")
    tempo = Tempo(median_s=dict.fromkeys(Action, median_s), sigma=sigma, interruption=0.0)
    gaps = tempo.draw_gaps_ms(rng, [Action.LOGOUT] * 400, speed=1.0)
    below = sum(gap < 1_000 * median_s for gap in gaps)
    above = sum(gap > 1_000 * median_s for gap in gaps)
    assert max(below, above) <= (200 + 5 * 10 if sigma > 0.05 else 400)
