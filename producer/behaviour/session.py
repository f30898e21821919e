"""A simulated session, and the seeded draws that every preset is made of."""

import math
import random
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, repeat

import msgspec

from detector.contract.actions import Action
from detector.contract.events import SessionAction

SMALL_BELOW = 500.0
LARGE_ABOVE = 10_000.0


class SimulatedSession(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One session with its truth. `actions`, `gaps_ms` and `amounts` are of one length, at least 1."""

    session_id: str
    account_id: str
    kind: str
    """What the session is: a lawful kind or an attack family. Truth: never part of an event."""
    customer_type: str
    """The habits of the account's owner. Truth as well."""
    attack_from: int | None
    """Index of the first action that is the attacker's; None where all are the customer's."""
    actions: tuple[Action, ...]
    gaps_ms: tuple[int, ...]
    """Milliseconds since the previous action; the first is 0."""
    amounts: tuple[float | None, ...]
    """Dollars of each transfer, None for every other action."""
    attributes: dict[str, str] = {}
    """Carried by each event, such as the device."""
    details: tuple[dict[str, str], ...] = ()
    """What an action's event carries beside them, such as the recipient: one an action, or none at all."""
    attack_id: str = ""
    """The same for all sessions of one attack, where one can span several. Truth, as is the stage."""
    stage: str = ""
    """What the attacker does in this session of the attack."""

    @property
    def is_attack(self) -> bool:
        """Whether any action is an attacker's."""
        return self.attack_from is not None

    @property
    def label(self) -> int:
        """1 for an attack, 0 otherwise."""
        return int(self.is_attack)

    @property
    def duration_ms(self) -> int:
        """From the first action to the last."""
        return sum(self.gaps_ms)

    def timestamps_ms(self, start_ms: int = 0) -> list[int]:
        """Return when each action happens, the first at `start_ms`."""
        return list(accumulate(self.gaps_ms, initial=start_ms))[1:]

    def events(self, start_ms: int) -> Iterator[SessionAction]:
        """Yield the events in order, the first at `start_ms` (Unix milliseconds).

        An event's id is the session's with the event's number: nothing in it depends on the label.
        """
        occurred_at_ms = start_ms
        details: Iterable[dict[str, str]] = self.details or repeat({}, len(self.actions))
        for number, (action, gap_ms, amount, detail) in enumerate(
            zip(self.actions, self.gaps_ms, self.amounts, details, strict=True), start=1
        ):
            occurred_at_ms += gap_ms
            yield SessionAction(
                event_id=f"{self.session_id}-{number}",
                session_id=self.session_id,
                account_id=self.account_id,
                action=action,
                occurred_at_ms=occurred_at_ms,
                amount=amount,
                attributes=self.attributes | detail if detail else self.attributes,
            )


def stream(seed: int, purpose: str) -> random.Random:
    """Return a generator of its own for one purpose, so that one more draw here moves nothing elsewhere.

    The standard library's, since Python promises that a seed keeps its `random()` sequence, and NumPy does not
    (NEP 19); single draws are also several times cheaper.
    """
    return random.Random(f"{seed}/{purpose}")  # noqa: S311  a simulation, not a secret


def draw_id(rng: random.Random) -> str:
    """Draw a 128-bit identifier, 32 hexadecimal digits."""
    return f"{rng.getrandbits(128):032x}"


def draw_amount(rng: random.Random, action: Action) -> float | None:
    """Draw dollars within the bounds of the contract's transfers; None for other actions."""
    if action is Action.TRANSFER_SMALL:
        return round(rng.uniform(1.0, SMALL_BELOW - 0.01), 2)
    if action is Action.TRANSFER_LARGE:
        return round(rng.uniform(LARGE_ABOVE + 0.01, 50_000.0), 2)
    return None


def draw_gap_ms(rng: random.Random, median_s: float, sigma: float, longest_s: float) -> int:
    """Draw a log-normal gap in milliseconds, at least 1 and at most `longest_s`.

    Times between human actions are heavy-tailed; the log-normal is the usual fit (Blenn and Van Mieghem,
    "Are human interactivity times lognormal?", 2016).
    """
    seconds = rng.lognormvariate(math.log(median_s), sigma)
    return max(1, round(1_000 * min(seconds, longest_s)))


def apportion(total: int, weights: Mapping[str, float]) -> dict[str, int]:
    """Split `total` in proportion to `weights` by largest remainders (Hamilton); ties go to the earlier key."""
    if total < 0 or not weights or min(weights.values()) < 0 or sum(weights.values()) <= 0:
        raise ValueError(
            f"cannot split {total} by {dict(weights)}: expected a total of 0 or more, and weights of 0 or more "
            "of which one is above 0"
        )
    whole = sum(weights.values())
    quotas = {key: total * weight / whole for key, weight in weights.items()}
    counts = {key: math.floor(quota) for key, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda key: counts[key] - quotas[key])
    for key in by_remainder[: total - sum(counts.values())]:
        counts[key] += 1
    return counts


def shuffled(rng: random.Random, counts: Mapping[str, int]) -> Iterator[str]:
    """Yield each key exactly its count of times, in a uniformly random order, without holding the order.

    Selection sampling: each next key is drawn in proportion to how many of it are left (Fan, Muller and Rezucha
    1962; Knuth, The Art of Computer Programming, volume 2, 3.4.2, algorithm S).
    """
    left = dict(counts)
    for remaining in range(sum(left.values()), 0, -1):
        position = int(rng.random() * remaining)
        for key, count in left.items():
            if position < count:
                left[key] = count - 1
                yield key
                break
            position -= count
