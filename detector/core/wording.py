"""Words for what a step tells: ranges of time, and a signal's code, from nothing but the signal's declaration."""

from collections.abc import Callable, Mapping, Sequence
from math import ceil, exp
from typing import Final

from detector.core.profile import LEAST_SPREAD
from detector.core.signals import ABSENT, FIRST, OF_ACCOUNT, OF_BEGIN, OF_GAP, OF_TIME, UNKNOWN, Kind, Signal

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1))
_TO = "–"  # noqa: RUF001  the dash of ranges
_THINGS = {OF_ACCOUNT: "account", OF_BEGIN: "session", OF_GAP: "gap", OF_TIME: "time"}
_SINCE = "since "
_TOLD_TIMES = 1.5
_LARGEST_EXPONENT = 700  # a double holds no more


def told(signal: Signal, code: int) -> str:
    """Put a signal's code into words.

    Args:
        signal: as declared.
        code: of an event, so not the padding's 0.
    """
    if code == ABSENT:
        return f"no {_thing(signal)}"
    return _unknown(signal) if code == UNKNOWN else _WORDS[signal.kind](signal, code - FIRST)


def span(low_ms: float, high_ms: float | None) -> str:
    """Name a range of time: under its end, from one end to the other, or its start or more."""
    low, low_unit = _amount(low_ms)
    if high_ms is None:
        return f"{low} {low_unit} or more"
    high, high_unit = _amount(high_ms)
    if low_ms == 0:
        return f"under {high} {high_unit}"
    return f"{low}{'' if low_unit == high_unit else ' ' + low_unit}{_TO}{high} {high_unit}"


def _unknown(signal: Signal) -> str:
    if signal.kind is Kind.SINCE:
        return f"{signal.name}: never"
    return (
        f"first {_thing(signal)} in the session" if signal.kind is Kind.CHANGE else without_history([signal])
    )


def without_history(signals: Sequence[Signal]) -> str:
    """Tell of what an account has no history: of nothing, where one of the signals is of the account itself."""
    if any(one.of == OF_ACCOUNT for one in signals):
        return "account without history"
    return f"no history of {', '.join(dict.fromkeys(map(_thing, signals)))}"


def _level(signal: Signal, at: int) -> str:
    return f"{signal.name} {signal.values[at]}" if at < len(signal.values) else f"other {signal.name}"


def _magnitude(signal: Signal, at: int) -> str:
    between = _time(signal, at) if signal.of == OF_GAP else _range(*_bounds(signal, at))
    return f"{signal.name} {between}"


def _deviation(signal: Signal, at: int) -> str:
    """Tell how far from the usual, and how many times it that is at least: no account's spread is below LEAST_SPREAD."""
    thing, (low, high) = _thing(signal), _bounds(signal, at)
    if low is not None and low >= 0:
        times = exp(min(LEAST_SPREAD * low, _LARGEST_EXPONENT))
        at_least = f", {times:.2g} times it or more" if times >= _TOLD_TIMES else ""
        return f"{thing} {_range(low, high)} deviations above the usual{at_least}"
    if high is not None and high <= 0:
        return f"{thing} {_range(-high, None if low is None else -low)} deviations below the usual"
    return f"{thing} as usual"


def _novelty(signal: Signal, at: int) -> str:
    return f"{_thing(signal)} {f'known for {_time(signal, at - 1)}' if at else 'never seen'}"


def _change(signal: Signal, at: int) -> str:
    return f"{'other' if at else 'same'} {_thing(signal)} {'than' if at else 'as'} before in the session"


def _since(signal: Signal, at: int) -> str:
    return f"{_time(signal, at)} since {signal.name.removeprefix(_SINCE)}"


def _count(signal: Signal, at: int) -> str:
    """Tell the whole numbers between the bounds; what lies back weighs less by now, and so may have been more."""
    low, high = _bounds(signal, at)
    first = 0 if low is None else max(ceil(low), 0)
    last = None if high is None else ceil(high) - 1
    if last is None:
        number = f"{first:,} or more"
    elif last <= 0:
        number = "none" if first == 0 else "under 1"
    else:
        number = f"{first:,}" if last <= first else f"{first:,}{_TO}{last:,}"
    return f"{signal.name}: {number}"


def _habit(signal: Signal, at: int) -> str:
    low, high = (None if one is None else 100 * one for one in _bounds(signal, at))
    return f"{signal.name} of {_range(low, high)} % of its sessions"


_WORDS: Final[Mapping[Kind, Callable[[Signal, int], str]]] = {
    Kind.LEVEL: _level,
    Kind.MAGNITUDE: _magnitude,
    Kind.DEVIATION: _deviation,
    Kind.NOVELTY: _novelty,
    Kind.CHANGE: _change,
    Kind.SINCE: _since,
    Kind.COUNT: _count,
    Kind.HABIT: _habit,
}


def _thing(signal: Signal) -> str:
    """Name what a signal is of, by its field's last name."""
    return _THINGS.get(signal.of, signal.of.rpartition(".")[2])


def _bounds(signal: Signal, at: int) -> tuple[float | None, float | None]:
    """Return between which bounds a bucket lies; None is without an end."""
    bounds = signal.bounds
    return bounds[at - 1] if at else None, bounds[at] if at < len(bounds) else None


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return f"under {high:,.6g}"
    if high is None:
        return f"{low:,.6g} or more"
    return f"under {high:,.6g}" if low == 0 else f"{low:,.6g}{_TO}{high:,.6g}"


def _time(signal: Signal, at: int) -> str:
    low, high = _bounds(signal, at)
    return span(low or 0, high)


def _amount(ms: float) -> tuple[str, str]:
    unit, unit_ms = next(((unit, size) for unit, size in _UNITS if ms >= size), _UNITS[-1])
    return f"{ms / unit_ms:.3g}", unit
