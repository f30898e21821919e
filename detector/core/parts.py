"""The parts of an action that its signals tell of: its amount, its device, what its account did before.

A part is what the signals say of one thing, so that two that say the same of it do not hide each other. Without a part,
they say what is usual for the account (`Signal.usual`); where they say that already, there is no such part.
"""

from collections.abc import Iterable
from typing import NamedTuple

from detector.core.encoding import Encoding
from detector.core.signals import UNKNOWN, Kind, Signal
from detector.core.wording import told, without_history

_SIGNALS_AT = 2  # in a step, behind the action's code
_LEARNED = {Kind.NOVELTY, Kind.DEVIATION, Kind.HABIT}
_OF_THE_PAST = {Kind.SINCE, Kind.COUNT}
_NO_HISTORY = "no history"


class Part(NamedTuple):
    """What some signals say of one thing.

    Attributes:
        words: what they say.
        usual: for each the place in its step, and the code in its stead.
    """

    words: str
    usual: tuple[tuple[int, int], ...]


class Said(NamedTuple):
    """What one signal says of an action, in words, and whether that is as usual for the account."""

    words: str
    is_usual: bool


def said_of(step: bytes, encoding: Encoding) -> list[Said]:
    """Tell what each signal says of a packed step, in their order."""
    return [
        Said(told(signal, step[place]), signal.usual(step[place]) == step[place])
        for place, signal in enumerate(encoding.signals.declared, start=_SIGNALS_AT)
    ]


def parts_of(step: bytes, encoding: Encoding) -> list[Part]:
    """List the parts of a packed step that are not as usual, in the order of the signals."""
    found: dict[object, list[tuple[int, Signal, int]]] = {}
    for place, signal in enumerate(encoding.signals.declared, start=_SIGNALS_AT):
        if signal.usual(code := step[place]) != code:
            found.setdefault(_thing(signal, code), []).append((place, signal, code))
    return [
        Part(
            without_history([signal for _, signal, _ in of_thing])
            if thing is _NO_HISTORY
            else " and ".join(dict.fromkeys(told(signal, code) for _, signal, code in of_thing)),
            tuple((place, signal.usual(code)) for place, signal, code in of_thing),
        )
        for thing, of_thing in found.items()
    ]


def without(step: bytes, parts: Iterable[Part]) -> bytes:
    """Return a packed step without some of its parts."""
    changed = bytearray(step)
    for part in parts:
        for place, code in part.usual:
            changed[place] = code
    return bytes(changed)


def _thing(signal: Signal, code: int) -> object:
    if code == UNKNOWN and signal.kind in _LEARNED:
        return _NO_HISTORY
    # What came before is a thing of its own, of which only signals of the same events speak.
    return (signal.kind, signal.of, signal.values) if signal.kind in _OF_THE_PAST else signal.of
