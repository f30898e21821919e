"""The `seed` preset: the sessions of the notebook this project grew from, exactly, with times added.

The notebook has no times, so here they carry no information: one log-normal for every action of every kind.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from detector.contract.actions import Action
from producer.behaviour.session import (
    SimulatedSession,
    apportion,
    draw_amount,
    draw_gap_ms,
    draw_id,
    shuffled,
    stream,
)

CUSTOMER_TYPE: Final = "notebook"
NORMAL: Final = "normal"
QUICK_DRAIN: Final = "quick_drain"
PASSWORD_RESET: Final = "password_reset"  # noqa: S105  an attack's name, not a secret
MIX: Final = {NORMAL: 10_000, QUICK_DRAIN: 500, PASSWORD_RESET: 500}
"""The notebook's numbers of sessions; other totals keep the proportions."""

_ATTACKS: Final = {
    QUICK_DRAIN: (Action.LOGIN, Action.ADD_RECIPIENT, Action.TRANSFER_LARGE, Action.LOGOUT),
    PASSWORD_RESET: (Action.LOGIN, Action.CHANGE_PASSWORD, Action.TRANSFER_LARGE, Action.LOGOUT),
}
_NORMAL_ACTIONS: Final = (
    Action.VIEW_BALANCE,
    Action.VIEW_TRANSACTIONS,
    Action.TRANSFER_SMALL,
    Action.LOGOUT,
)
_CUMULATIVE_WEIGHTS: Final = (0.4, 0.8, 0.9, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedBehaviour:
    """What the notebook leaves open: times, and how often an account comes back.

    The median of 8 s is a person reading a page of balances; sigma 0.8 puts nine gaps of ten between 2 and 30 s.
    """

    gap_median_s: float = 8.0
    gap_sigma: float = 0.8
    gap_longest_s: float = 600.0
    sessions_per_account: float = 4.0


def sessions(count: int, seed: int, behaviour: SeedBehaviour = SeedBehaviour()) -> Iterator[SimulatedSession]:
    """Yield `count` sessions lazily, in a random order, with the notebook's mix kept exact by apportionment."""
    mix, ids, accounts, actions, times, amounts = (
        stream(seed, f"seed/{purpose}")
        for purpose in ("mix", "ids", "accounts", "actions", "times", "amounts")
    )
    population = max(1, round(count / behaviour.sessions_per_account))
    for kind in shuffled(mix, apportion(count, MIX)):
        done = _ATTACKS[kind] if kind in _ATTACKS else _normal_actions(actions)
        yield SimulatedSession(
            session_id=draw_id(ids),
            account_id=f"account-{accounts.randrange(population):08d}",
            kind=kind,
            customer_type=CUSTOMER_TYPE,
            attack_from=0 if kind in _ATTACKS else None,
            actions=done,
            gaps_ms=(
                0,
                *(
                    draw_gap_ms(times, behaviour.gap_median_s, behaviour.gap_sigma, behaviour.gap_longest_s)
                    for _ in done[1:]
                ),
            ),
            amounts=tuple(draw_amount(amounts, action) for action in done),
        )


def _normal_actions(rng: random.Random) -> tuple[Action, ...]:
    """LOGIN, then 3 to 8 draws, ended by the first LOGOUT drawn."""
    done = [Action.LOGIN]
    for action in rng.choices(_NORMAL_ACTIONS, cum_weights=_CUMULATIVE_WEIGHTS, k=rng.randint(3, 8)):
        done.append(action)
        if action is Action.LOGOUT:
            break
    return tuple(done)
