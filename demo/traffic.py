"""What a run publishes: what warms it up, what is shown, and the truth. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from detector.contract.events import decode_event

START: Final = "2026-01-05"
"""Simulated time begins here (UTC), so that a seed gives the same bytes on any day."""
_START_MS: Final = 1_767_571_200_000
_DAY_MS: Final = 86_400_000
_DAYS_BEFORE: Final = 28
_DAYS_SHOWN: Final = 8
_SESSIONS_BEFORE: Final = 400


@dataclass(frozen=True, slots=True)
class Plan:
    """A preset.

    Attributes:
        simulations: the options of each `producer simulate`, whose events follow each other.
        shown_from_ms: what happens before is published first, and not counted.
        model: in service.
        beside: of the same traffic, worked out offline; empty for none.
        told: what is simulated.
    """

    simulations: Sequence[Sequence[str]]
    shown_from_ms: int
    model: str
    beside: str
    told: str


def lives(customers: int, seed: int) -> Plan:
    """Days in customers' lives, whose accounts have histories when the days shown begin."""
    days = _DAYS_BEFORE + _DAYS_SHOWN
    options = ["--preset", "realistic", "--customers", f"{customers}", "--days", f"{days}"]
    return Plan(
        simulations=[[*options, "--seed", f"{seed}", "--start-time", START]],
        shown_from_ms=_START_MS + _DAYS_BEFORE * _DAY_MS,
        model="history",
        beside="seed",
        told=f"{_DAYS_SHOWN} days of {customers:,} customers, after {_DAYS_BEFORE} that make their accounts' histories",
    )


def notebook(sessions: int, seed: int) -> Plan:
    """Sessions of the notebook's three kinds, after others that warm broker and detector up."""
    options = ["--preset", "seed", "--live-sessions", "50"]  # so that they come evenly
    before = ["--sessions", f"{_SESSIONS_BEFORE}", "--seed", f"{seed + 1}", "--start-time", START]
    shown = ["--sessions", f"{sessions}", "--seed", f"{seed}", "--start-time", "2026-01-06"]
    return Plan(
        simulations=[[*options, *before], [*options, *shown]],
        shown_from_ms=_START_MS + _DAY_MS,
        model="seed",
        beside="",
        told=f"{sessions:,} sessions as the notebook draws them",
    )


@dataclass(frozen=True, slots=True)
class Traffic:
    """Events as JSON lines, in the order of time.

    Attributes:
        before, shown: the lines of either part.
        span_ms: from the first event shown to the last.
        actions: of each session that began in the part shown.
    """

    before: Sequence[bytes]
    shown: Sequence[bytes]
    span_ms: int
    actions: Mapping[str, Sequence[str]]

    def speed(self, rate: float) -> str:
        """Return how many times as fast as it happened the part shown has `rate` events a second in the mean."""
        return f"{rate * self.span_ms / 1000 / len(self.shown):.3f}" if self.span_ms else "max"


def parted(lines: Iterable[bytes], shown_from_ms: int) -> Traffic:
    """Part a recording at a time; a session that is under way then is counted in neither part."""
    before: list[bytes] = []
    shown: list[bytes] = []
    begun: set[str] = set()
    actions: dict[str, list[str]] = {}
    first_ms = last_ms = shown_from_ms
    for line in lines:
        event = decode_event(line)
        if event.occurred_at_ms < shown_from_ms:
            before.append(line)
            begun.add(event.session_id)
            continue
        first_ms = first_ms if shown else event.occurred_at_ms
        last_ms = event.occurred_at_ms
        shown.append(line)
        if event.session_id not in begun:
            actions.setdefault(event.session_id, []).append(event.action)
    return Traffic(before, shown, last_ms - first_ms, actions)


def looks_like_an_attack(actions: Iterable[str]) -> bool:
    """Tell whether a session did what attacks do: a new password or recipient, and a large sum."""
    done = set(actions)
    return "TRANSFER_LARGE" in done and not done.isdisjoint({"ADD_RECIPIENT", "CHANGE_PASSWORD"})
