"""Attackers among lives: what they do over sessions, how they come, and that nothing simple gives them away."""

import copy
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable

import numpy as np
import pytest

from detector.contract.actions import Action
from producer.behaviour.lives.attackers import ATTEMPT, SCHEMES, Scheme
from producer.behaviour.lives.hours import DAY_MS
from producer.behaviour.lives.networks import Networks
from producer.behaviour.lives.owners import draw_owners
from producer.behaviour.lives.stream import LivesBehaviour
from producer.behaviour.lives.visits import GIVES_UP, LOCKED_OUT
from producer.behaviour.session import SMALL_BELOW, SimulatedSession
from producer.recording import label_of
from tests.producer.conftest import START_MS, Begun
from tests.producer.shallow import BOUNDS, Floats, interval_recall, shallow_recalls
from tests.producer.signals import signals
from tests.producer.test_lives import TRANSFERS, by_account


def attacks(begun: Begun) -> dict[str, Begun]:
    """Group the sessions of attackers who got in by attack, in order."""
    grouped: dict[str, Begun] = defaultdict(list)
    for begins_ms, session in begun:
        if session.is_attack:
            grouped[session.attack_id].append((begins_ms, session))
    return grouped


def test_an_attack_is_known_by_its_id_over_all_its_sessions(attacked: Begun) -> None:
    """Its sessions are of one account and one family, in the order of the family's stages, which may be cut short."""
    schemes = {scheme.name: scheme for scheme in SCHEMES}
    seen: dict[str, Counter[int]] = defaultdict(Counter)
    for those in attacks(attacked).values():
        one, *_ = those
        assert len({(session.account_id, session.kind) for _, session in those}) == 1
        stages = [stage.name for stage in schemes[one[1].kind].stages]
        assert [session.stage for _, session in those] == stages[: len(those)]
        seen[one[1].kind][len(those)] += 1
        for (begins_ms, session), (next_ms, _) in itertools.pairwise(those):
            assert next_ms > begins_ms + session.duration_ms
    assert set(seen) == set(schemes)
    for name, scheme in schemes.items():
        assert max(seen[name]) == len(scheme.stages)
        assert seen[name][len(scheme.stages)] > 0.7 * seen[name].total()


def test_labels_tell_what_an_attack_over_sessions_needs(attacked: Begun) -> None:
    """Sessions of attackers have the attack's id and the stage in their label, others have neither."""
    for _, session in attacked:
        label = label_of(session)
        told = getattr(label, "attack_id", None), getattr(label, "stage", None)
        assert told == ((session.attack_id, session.stage) if session.attack_id else (None, None))
        assert label.label == (session.attack_from is not None)
        assert not session.is_attack or session.attack_id


def test_families_over_sessions_do_what_they_say(attacked: Begun) -> None:
    """Look today and take tomorrow; the lock first and the money after; small and then large; to the same recipient."""

    def recipients(session: SimulatedSession) -> set[str]:
        return {detail["recipient"] for detail in session.details if "recipient" in detail}

    for those in attacks(attacked).values():
        stages = {session.stage: session for _, session in those}
        if "look" in stages:
            assert not recipients(stages["look"])
            assert Action.CHANGE_PASSWORD not in stages["look"].actions
        if "lock" in stages:
            assert Action.CHANGE_PASSWORD in stages["lock"].actions
            assert not TRANSFERS & set(stages["lock"].actions)
        if "try" in stages:
            assert Action.TRANSFER_LARGE not in stages["try"].actions
            assert "take" not in stages or recipients(stages["try"]) & recipients(stages["take"])
        if "take" in stages:
            assert TRANSFERS & set(stages["take"].actions)


def test_stolen_passwords_are_tried_on_many_accounts_from_one_device(attacked: Begun) -> None:
    """A mass of attempts has one device; few get in. Where nobody did, the label says lawful, and the stage says why."""
    attempts: dict[str, Begun] = defaultdict(list)
    for begins_ms, session in attacked:
        if session.stage == ATTEMPT:
            assert not session.is_attack
            assert set(session.actions) == {Action.LOGIN}
            assert all(detail["outcome"] == "failure" for detail in session.details)
            attempts[session.attack_id].append((begins_ms, session))
    masses = [those for those in attempts.values() if len(those) > 10]
    assert masses
    for those in masses:
        assert len({session.attributes["device"] for _, session in those}) == 1
        assert len({session.account_id for _, session in those}) > 0.9 * len(those)
    fitting = sum(
        session.kind == "credential_stuffing" and session.stage == "look" for _, session in attacked
    )
    assert 0.02 < fitting / sum(map(len, masses)) < 0.15


def test_attackers_come_as_they_can(attacked: Begun) -> None:
    """Some from the customer's own device, some from one never seen; some through a neighbour's network; money to strangers."""
    shown: Counter[str] = Counter()
    homes = {
        session.attributes["network"]: session.account_id
        for _, session in attacked
        if not session.is_attack and session.attributes["channel"] == "web"
    }
    total = 0
    for at_ms, session, row in signals(attacked, START_MS):
        if at_ms < START_MS + 14 * DAY_MS or not session.is_attack:
            continue
        total += 1
        shown["own device"] += row["device known"] < 0
        shown["customer's device"] += row["device known"] > 24
        network = session.attributes["network"]
        shown["another's network"] += (
            row["network known"] < 0 and homes.get(network, session.account_id) != session.account_id
        )
        shown["money to a stranger"] += row["recipient known"] < 0
    shares = {way: count / total for way, count in shown.items()}
    assert all(0.1 < share < 0.9 for share in shares.values()), shares


def test_attackers_take_no_more_than_there_is(attacked: Begun) -> None:
    """No attack takes a large sum from an account that had none, and sums grow with what the account has."""
    networks = Networks(6, 2_000)
    purses = {
        owner.account_id: owner.purse
        for owner in draw_owners(6, 2_000, LivesBehaviour().customer_types, networks)
    }
    taken, usual = [], []
    for _, session in attacked:
        if session.is_attack:
            assert session.attack_from is not None
            total = sum(amount or 0.0 for amount in session.amounts[session.attack_from :])
            assert total <= max(SMALL_BELOW, purses[session.account_id].usual + 30)
            if Action.TRANSFER_LARGE in session.actions[session.attack_from :]:
                taken.append(np.log(total))
                usual.append(np.log(purses[session.account_id].usual))
    assert np.corrcoef(taken, usual)[0, 1] > 0.5


def test_owners_take_their_accounts_back(attacked: Begun) -> None:
    """An owner whose password an attacker has changed fails to log in at the next visit, and sets it anew then or later."""
    taken_back = 0
    for own in by_account(attacked).values():
        locked = False
        for _, session in own:
            if session.kind in {LOCKED_OUT, GIVES_UP} and locked:
                assert session.details[0]["outcome"] == "failure" or session.kind == LOCKED_OUT
                taken_back += session.kind == LOCKED_OUT
            locked = locked or (session.is_attack and Action.CHANGE_PASSWORD in session.actions)
            if session.kind == LOCKED_OUT:
                assert locked
                locked = False
    assert taken_back > 20


SINGLE = {0.001: 0.1, 0.01: 0.3}
"""By the share of false alarms, what one signal, cut at two places, may catch of all sessions of attackers."""


OF_A_STAGE = 0.5
"""What it may catch of one family's stage at 0.1 %: some stages are their sign, as a second session after a first."""


class Seen:
    """The signals of sessions after two weeks, of customers and of attackers who got in."""

    def __init__(self, begun: Begun) -> None:
        after = [
            (session, row)
            for at_ms, session, row in signals(begun, START_MS)
            if at_ms >= START_MS + 14 * DAY_MS and session.stage != ATTEMPT
        ]
        self.names = list(after[0][1])
        rows = np.array([list(row.values()) for _, row in after])
        is_attack = np.array([session.is_attack for session, _ in after])
        self.stages = np.array(
            [f"{session.kind}/{session.stage}" for session, _ in after if session.is_attack]
        )
        self.lawful, self.attacks = rows[~is_attack], rows[is_attack]
        self.sessions = [session for session, _ in after]

    def exceeding(self, *names: str) -> dict[str, float]:
        """Return what single signals catch beyond the bounds, the named ones or all."""
        found = {}
        for name in names or self.names:
            number = self.names.index(name)
            ours, theirs = self.lawful[:, [number]], self.attacks[:, [number]]
            for false_alarms, bound in SINGLE.items():
                if (caught := interval_recall(ours, theirs, false_alarms)) > bound:
                    found[f"{name} at {false_alarms:.1%}"] = caught
            for stage in np.unique(self.stages):
                if (caught := interval_recall(ours, theirs[self.stages == stage], 0.001)) > OF_A_STAGE:
                    found[f"{name} of {stage}"] = caught
        return found


@pytest.fixture(scope="module")
def seen(attacked: Begun) -> Seen:
    """Look at the sessions through an account's own past."""
    return Seen(attacked)


def test_no_single_signal_gives_an_attack_away(seen: Seen) -> None:
    """No signal of an account's past, time, amounts or actions tells attackers from customers by itself."""
    assert len(seen.attacks) > 1_000
    assert seen.exceeding() == {}


@pytest.mark.parametrize("scheme", SCHEMES, ids=[scheme.name for scheme in SCHEMES])
def test_no_family_is_told_by_an_artefact(seen: Seen, scheme: Scheme) -> None:
    """Length, duration, mean gap and first gap do not give a family away here either."""
    lawful = [session for session in seen.sessions if not session.is_attack]
    attacks = [session for session in seen.sessions if session.is_attack and session.kind == scheme.name]
    recalls = shallow_recalls(lawful, attacks)
    assert {name: recall for name, recall in recalls.items() if recall > BOUNDS[name]} == {}


def _known(rows: Floats, _: Floats) -> Floats:
    return np.where(rows < 0, 1.0, rows)


def _fixed(_: Floats, rows: Floats) -> Floats:
    return np.full_like(rows, 12_345.67)


def _apart(_: Floats, rows: Floats) -> Floats:
    return rows * 0.01


@pytest.mark.parametrize(
    ("name", "plant", "of_attackers"),
    [("device known", _known, False), ("amount", _fixed, True), ("millisecond", _apart, True)],
)
def test_the_look_does_find_artefacts(
    seen: Seen, name: str, plant: Callable[[Floats, Floats], Floats], *, of_attackers: bool
) -> None:
    """Customers who never have a new device, attackers who take one sum, or who begin on the second: each is found."""
    planted = copy.copy(seen)
    planted.lawful, planted.attacks = seen.lawful.copy(), seen.attacks.copy()
    column = planted.names.index(name)
    rows = planted.attacks if of_attackers else planted.lawful
    rows[:, column] = plant(planted.lawful[:, column], planted.attacks[:, column])
    assert planted.exceeding(name)
