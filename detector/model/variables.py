"""What the conditions of rules may name under a model, and how what it reads is told to them (ADR 0039)."""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from math import ceil, inf
from typing import Any, Final, NamedTuple

from detector.core.encoding import Encoding
from detector.core.signals import ABSENT, FIRST, OF_GAP, UNKNOWN, Kind, Signal

ACTION, SCORE, AMOUNT, GAP, ACTION_NUMBER = "action", "score", "amount", "gap", "action_number"
EXACT: Final = (SCORE, AMOUNT, GAP, ACTION_NUMBER)
"""What is not known before an event comes."""
_NEVER: Final = timedelta(days=3_650_000)
"""How long ago what never happened is: longer than anything."""
PROBES: Final[Mapping[str, tuple[Any, ...]]] = {AMOUNT: (-inf, 0.0, inf), GAP: (timedelta(), _NEVER)}
"""Values of what an event may lack, of which one most likely tells that a condition can't hold without."""
_RESERVED: Final = re.compile(
    "as|break|const|continue|else|false|for|function|if|import|in|let|loop|namespace|null|package|return|true|var|void|while"
)


class Variable(NamedTuple):
    """What conditions may name.

    Attributes:
        name: as they do.
        type: in CEL's words.
        values: of a signal, by its code, None where nothing is known; of an action, those in the vocabulary. Empty of any
            other.
        signal: its index among the model's; None of what is none.
    """

    name: str
    type: str
    values: tuple[Any, ...] = ()
    signal: int | None = None


def variables_of(encoding: Encoding) -> list[Variable]:
    """Return what conditions may name under a model: what every event has, and its signals as `name.kind`."""
    found = [
        Variable(ACTION, "string", () if encoding.unknown_token else encoding.vocabulary),
        Variable(SCORE, "double"),
        Variable(AMOUNT, "double"),
        Variable(GAP, "duration"),
        Variable(ACTION_NUMBER, "int"),
    ]
    names: set[str] = set()
    for at, one in enumerate(encoding.signals.declared):
        name = plain = _identifier(one.name)
        while name in names:
            name = f"{plain}_{len(names)}"
        names.add(name)
        found += (Variable(f"{name}.{what}", *told, at) for what, told in _told(one).items())
    return found


def _identifier(name: str) -> str:
    """Make of a signal's name one that CEL takes."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"_{plain}" if plain[0].isdigit() or _RESERVED.fullmatch(plain) else plain


def _told(signal: Signal) -> dict[str, tuple[str, tuple[Any, ...]]]:
    """Return type and values of what a signal tells, by the codes: of what lies between bounds, the lower one."""

    def by_code(unknown: Any, values: Sequence[Any]) -> tuple[Any, ...]:
        known = {ABSENT: None, UNKNOWN: unknown} | dict(enumerate(values, start=FIRST))
        return tuple(known.get(code) for code in range(signal.codes))

    times = [timedelta(), *(timedelta(milliseconds=one) for one in signal.bounds)]
    known_for: dict[str, tuple[str, tuple[Any, ...]]] = {}
    match signal.kind:
        case Kind.LEVEL:
            told = "string", by_code(None, [*signal.values, "other"])
        case Kind.NOVELTY:
            told = "string", by_code("no history", ["never", *["known"] * len(times)])
            known_for = {"known_for": ("duration", by_code(None, [None, *times]))}
        case Kind.CHANGE:
            told = "bool", by_code(None, [False, True])
        case Kind.SINCE:
            told = "duration", by_code(_NEVER, times)
        case Kind.COUNT:  # in whole numbers, as `detector.core.wording` tells it
            told = "int", by_code(None, [0, *(max(0, ceil(one)) for one in signal.bounds)])
        case Kind.MAGNITUDE if signal.of == OF_GAP:
            told = "duration", by_code(None, times)
        case _:
            told = "double", by_code(None, [-inf, *map(float, signal.bounds)])
    return {signal.kind.value: told} | known_for


def as_told(value: object) -> str:
    """Put a value as a condition would."""
    if isinstance(value, timedelta):
        return f'duration("{value.total_seconds():.0f}s")' if value < _NEVER else "never"
    if value == -inf:
        return "less"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()
