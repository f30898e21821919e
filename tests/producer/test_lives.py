"""Lives: what customers and attackers do from session to session, in one stream by time."""

import gc
import itertools
import tracemalloc
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.contract.actions import Action
from producer.behaviour.interleave import interleave
from producer.behaviour.lives.hours import DAY_MS, HOUR_MS, Style, draw_rhythm
from producer.behaviour.lives.networks import Networks
from producer.behaviour.lives.owners import draw_owners
from producer.behaviour.lives.payees import MOST_PAYEES
from producer.behaviour.lives.stream import LivesBehaviour
from producer.behaviour.lives.visits import FORGOTTEN, GIVES_UP
from producer.behaviour.session import LARGE_ABOVE, SMALL_BELOW, stream
from tests.producer.conftest import START_MS, Begun, lived
from tests.producer.signals import signals

TRANSFERS = {Action.TRANSFER_SMALL, Action.TRANSFER_LARGE}


seeds = st.integers(min_value=0, max_value=2**64)


@settings(max_examples=25, deadline=None)
@given(
    seeds,
    st.integers(1, 4),
    st.integers(1, 40),
    st.sampled_from([0.0, 0.05, 1.0]),
    st.integers(0, 2_000_000_000_000),
)
def test_sessions_come_by_time_within_their_days(
    seed: int, days: int, customers: int, attack_rate: float, start_ms: int
) -> None:
    """Beginnings are in order and within the days, events in order; no session lasts for more than a day."""
    begun = list(lived(days, customers, seed, attack_rate, start_ms))
    begins = [begins_ms for begins_ms, _ in begun]
    assert begins == sorted(begins)
    assert all(0 <= begins_ms < days * DAY_MS for begins_ms in begins)
    for _, session in begun:
        assert session.gaps_ms[0] == 0
        assert all(gap_ms >= 1 for gap_ms in session.gaps_ms[1:])
        assert session.duration_ms <= DAY_MS
    assert len({session.session_id for _, session in begun}) == len(begun)
    times = [event.occurred_at_ms for event in interleave(iter(begun), start_ms=start_ms)]
    assert times == sorted(times)


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from([0.05, 1.0]))
def test_events_carry_what_the_contract_says(seed: int, attack_rate: float) -> None:
    """Device, channel, country and network always; a recipient with recipients and transfers, an outcome with logins."""
    for begins_ms, session in lived(3, 30, seed, attack_rate):
        assert session.actions[0] is Action.LOGIN
        assert Action.LOGOUT not in session.actions[:-1]
        for event in session.events(begins_ms):
            carried = set(event.attributes) - {"device", "channel", "country", "network"}
            assert len(event.attributes) - len(carried) == 4
            if event.action == Action.LOGIN:
                assert carried == {"outcome"}
                assert event.attributes["outcome"] in {"success", "failure"}
            else:
                assert carried == (
                    {"recipient"} if event.action in TRANSFERS | {Action.ADD_RECIPIENT} else set()
                )
            assert (event.amount is not None) == (event.action in TRANSFERS)
            if event.action == Action.TRANSFER_SMALL:
                assert 0 < (event.amount or 0) < SMALL_BELOW
            elif event.action == Action.TRANSFER_LARGE:
                assert (event.amount or 0) > LARGE_ABOVE


def test_nothing_in_an_event_names_the_truth(attacked: Begun) -> None:
    """Events of attackers have the same fields as customers', and ids of the same form."""
    forms: dict[int, set[object]] = defaultdict(set)
    for _, session in attacked:
        for event in session.events(0):
            ids = event.session_id, event.account_id, *event.attributes.values()
            forms[session.label].add((event.action, *map(len, ids), *event.attributes))
    assert forms[1] <= forms[0]


def test_the_seed_decides_everything_and_days_are_lazy() -> None:
    """The same seed and start give the same sessions, others do not; more days begin with the same; endless runs do begin."""
    first = list(lived(4, 50, 5))
    assert first == list(lived(4, 50, 5))
    assert first != list(lived(4, 50, 6))
    assert list(itertools.islice(lived(10**6, 50, 5), len(first))) == first


def test_memory_does_not_grow_with_the_days() -> None:
    """Six times the days take no more memory: what is held is the customers, and the sessions that are open."""

    def held_bytes(days: int) -> int:
        gc.collect()
        tracemalloc.start()
        running = interleave(lived(10**6, 30, 3, attack_rate=0.05))
        for _ in itertools.takewhile(lambda event: event.occurred_at_ms < days * DAY_MS, running):
            pass
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return held

    assert held_bytes(90) < 1.3 * held_bytes(15)


@pytest.mark.parametrize(("days", "customers"), [(0, 5), (5, 0)])
def test_no_days_or_customers_are_refused(days: int, customers: int) -> None:
    """Nothing to simulate is an error that shows the values, at once."""
    with pytest.raises(ValueError, match=f"{days} days of {customers} customers"):
        lived(days, customers, 1)


@pytest.mark.parametrize("rate", [-0.1, 1.5])
def test_an_impossible_rate_is_refused(rate: float) -> None:
    """An attack rate beyond 0 to 1 is an error that shows it."""
    with pytest.raises(ValueError, match=str(rate)):
        LivesBehaviour(attack_rate=rate)


def by_account(begun: Begun) -> dict[str, Begun]:
    """Group sessions by account, in order."""
    grouped: dict[str, Begun] = defaultdict(list)
    for begins_ms, session in begun:
        grouped[session.account_id].append((begins_ms, session))
    return grouped


def test_customers_come_at_hours_and_on_days_of_their_own(lawful: Begun) -> None:
    """A customer's sessions are nearer to each other in the day than to those of others; offices rest on weekends."""
    near, far = [], []
    accounts = [
        [begins_ms % DAY_MS / HOUR_MS for begins_ms, session in own if session.kind != "reader"]
        for own in by_account(lawful).values()
        if len(own) > 20
    ]
    rng = stream(1, "test")
    for hours in accounts:
        own, other = rng.sample(hours, 2) if len(hours) > 1 else (0, 0), rng.choice(rng.choice(accounts))
        near.append(min(abs(own[0] - own[1]), 24 - abs(own[0] - own[1])) < 1)
        far.append(min(abs(own[0] - other), 24 - abs(own[0] - other)) < 1)
    assert np.mean(near) > 1.5 * np.mean(far)
    offices = [begins_ms // DAY_MS % 7 for begins_ms, one in lawful if one.customer_type == "business"]
    assert sum(day >= 5 for day in offices) < 0.1 * len(offices)
    people = [begins_ms // DAY_MS % 7 for begins_ms, one in lawful if one.customer_type == "everyday"]
    assert sum(day >= 5 for day in people) > 0.2 * len(people)


def test_an_owner_is_in_one_session_at_a_time(lawful: Begun) -> None:
    """A customer's own sessions do not overlap; only a program they let read comes in between."""
    for own in by_account(lawful).values():
        ends_ms = -1
        for begins_ms, session in own:
            if not session.kind.startswith("reader"):
                assert begins_ms > ends_ms
                ends_ms = begins_ms + session.duration_ms


def test_devices_are_bought_and_lost(lawful: Begun) -> None:
    """Some customers come from a device never seen, and go on with it; of others a device is not seen again."""
    taken_up = lost = 0
    for own in by_account(lawful).values():
        devices = [session.attributes["device"] for _, session in own if session.kind != "reader"]
        middle = len(devices) // 2
        before, after = set(devices[:middle]), Counter(devices[middle:])
        taken_up += any(count > 2 for device, count in after.items() if device not in before)
        lost += any(devices[:middle].count(device) > 2 and device not in after for device in before)
    assert taken_up > 10
    assert lost > 10


def test_holidays_are_abroad_and_end(lawful: Begun) -> None:
    """Customers are seen in another country for some days, and at home again after."""
    returns = 0
    for own in by_account(lawful).values():
        countries = [session.attributes["country"] for _, session in own if session.kind != "reader"]
        home, _ = Counter(countries).most_common(1)[0]
        runs = [(country, len(list(same))) for country, same in itertools.groupby(countries)]
        returns += any(
            country != home and length > 2 and after == home
            for (country, length), (after, _) in itertools.pairwise(runs)
        )
    assert returns > 5


def test_payees_have_their_usual_amounts(lawful: Begun) -> None:
    """Most transfers go to a recipient of before, and the amounts to one differ less than the amounts of one customer."""
    of_payee: dict[tuple[str, str], list[float]] = defaultdict(list)
    of_customer: dict[str, list[float]] = defaultdict(list)
    for _, session in lawful:
        for action, amount, detail in zip(session.actions, session.amounts, session.details, strict=True):
            if action is Action.TRANSFER_SMALL and amount is not None:
                of_payee[session.account_id, detail["recipient"]].append(np.log(amount))
                of_customer[session.account_id].append(np.log(amount))

    def spread(groups: list[list[float]]) -> float:
        return float(np.median([np.std(group) for group in groups if len(group) >= 5]))

    assert spread(list(of_payee.values())) < 0.5 * spread(list(of_customer.values()))
    repeated = sum(len(amounts) - 1 for amounts in of_payee.values())
    assert repeated > 0.5 * sum(map(len, of_payee.values()))


def test_who_forgets_the_password_sets_it_anew(lawful: Begun) -> None:
    """Failed logins lead to a new password in the session, or the customer gives up and mostly comes again."""
    kinds = Counter(session.kind for _, session in lawful)
    assert kinds[FORGOTTEN] > kinds[GIVES_UP] > 0
    for _, session in lawful:
        outcomes = [detail["outcome"] for detail in session.details if "outcome" in detail]
        if session.kind == GIVES_UP:
            assert set(session.actions) == {Action.LOGIN}
            assert outcomes == ["failure"] * len(session.actions)
        elif session.kind == FORGOTTEN:
            assert session.actions[len(outcomes)] is Action.CHANGE_PASSWORD
            assert outcomes[-1] == "success"


def test_every_sign_of_an_attacker_is_a_customers_too(lawful: Begun) -> None:
    """Shares of lawful sessions that show each sign, in the last four of six weeks; what is rare is rare in life."""
    shown: Counter[str] = Counter()
    seen = 0
    for at_ms, session, row in signals(lawful, START_MS):
        if at_ms < START_MS + 14 * DAY_MS:
            continue
        seen += 1
        large = Action.TRANSFER_LARGE in session.actions
        shown["new device"] += row["device known"] < 0
        shown["new country"] += row["country known"] < 0
        shown["new network"] += row["network known"] < 0
        shown["large sum to a new recipient"] += large and row["recipient known"] < 0
        shown["large sum from a device new today"] += large and row["device known"] < 24
        shown["large sum the day after a new password"] += large and row["since password"] < np.log(DAY_MS)
        shown["large sum to a recipient of yesterday"] += large and 1 < row["recipient known"] < 48
        shown["failed logins"] += row["failures"] > 0
        shown["ten times the usual"] += row["amount by the usual"] > np.log(10)
        shown["at an unusual hour"] += row["hour usual"] == 0
        shown["a program's pace"] += row["pace by the usual"] < -2
        shown["many small transfers"] += row[Action.TRANSFER_SMALL] > 8
    shares = {sign: count / seen for sign, count in shown.items()}
    assert {sign for sign, share in shares.items() if share < 0.0005} == set(), shares
    assert shares["new device"] > 0.01
    assert shares["new network"] > 0.05
    assert shares["large sum to a new recipient"] > 0.004


def test_one_device_comes_to_many_accounts_lawfully(lawful: Begun) -> None:
    """The machines of programs that read come to many accounts; so do terminals that stand where many come."""
    accounts: dict[str, set[str]] = defaultdict(set)
    for _, session in lawful:
        accounts[session.attributes["device"]].add(session.account_id)
    assert sum(len(those) > 5 for those in accounts.values()) >= 3
    assert sum(len(those) > 1 for those in accounts.values()) > 10


@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(0.1, 4.0))
def test_a_rhythm_keeps_its_number_of_visits(seed: int, visits_a_day: float) -> None:
    """In four weeks a customer comes about as often as their habits expect, within each day."""
    rng = stream(seed, "test")
    rhythm = draw_rhythm(rng, Style(), visits_a_day)
    visits = []
    for day in range(20_000, 20_028):
        those = rhythm.draw_visits_ms(rng, day)
        assert all(day * DAY_MS <= at_ms < (day + 1) * DAY_MS for at_ms in those)
        visits += those
    expected = 4 * sum(rhythm.visits)
    assert abs(len(visits) - expected) < 6 * expected**0.5 + 0.2 * expected + 3


@settings(max_examples=60, deadline=None)
@given(seeds, st.lists(st.tuples(st.floats(1.0, 300_000.0), st.integers(0, 90 * DAY_MS)), max_size=20))
def test_an_account_has_what_is_usual_less_what_was_spent(
    seed: int, payments: list[tuple[float, int]]
) -> None:
    """Funds stay between nothing and the usual, fall by what is spent, and come back with time."""
    purse = draw_owners(seed, 1, LivesBehaviour().customer_types, Networks(seed, 1))[0].purse
    now_ms = 0
    for dollars, later_ms in payments:
        now_ms += later_ms
        before = purse.funds(now_ms)
        purse.spend(dollars, now_ms)
        assert purse.funds(now_ms) == pytest.approx(max(0.0, before - dollars), abs=1e-3)
        assert 0 <= purse.funds(now_ms) <= purse.funds(now_ms + DAY_MS) <= purse.usual
    rng = stream(seed, "test")
    for _ in range(2 * MOST_PAYEES):
        purse.add(purse.draw_new(rng, large=False))
    assert len(purse.small) <= MOST_PAYEES
