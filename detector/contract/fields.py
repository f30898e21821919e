"""Fields of an event beyond those that every event needs: read leniently, since what they hold is anybody's.

A field that is not there, or no text, number or truth value, counts as absent; the event is scored all the same.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import permutations
from operator import attrgetter
from typing import Any, Final

import msgspec

from detector.contract.events import SessionEvent, decode_event, exactly
from detector.contract.relaxed import relaxed

Value = str | float | None
_EXACT: Final = 2**53
_Scalar = str | int | float | bool | None
_AS_THEY_ARE: Final = {str, float, type(None)}


class FieldReader:
    """Reads some fields of events, and nothing else of them.

    Args:
        paths: `amount`, or `attributes.` and names, a dot between them.

    Raises:
        ValueError: one lies within another.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = tuple(tuple(path.split(".")) for path in paths)
        for one, other in permutations(paths, 2):
            if other.startswith(f"{one}."):
                raise ValueError(f"fields {one} and {other}: expected no field within another")
        names, fields = _expected(self._paths, _Scalar)
        self._kind = msgspec.defstruct(
            "Event", fields, bases=(SessionEvent,), frozen=True, kw_only=True, gc=False
        )
        self._events: msgspec.json.Decoder[SessionEvent] = msgspec.json.Decoder(self._kind)
        self._as_expected = msgspec.json.Decoder(_struct(fields))
        self._values = _getter(names)
        self._apart = _Apart(self._paths)

    def event(self, value: bytes) -> SessionEvent:
        """Decode an event as `decode_event` does, and the fields with it where they are as expected.

        Raises:
            MalformedEventError: as `decode_event`.
        """
        try:
            return exactly(value, self._events)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return decode_event(value)  # it may be for the fields, which are not what makes an event

    def of(
        self, event: SessionEvent, value: bytes, json: Callable[[bytes], bytes] = bytes
    ) -> tuple[Value, ...]:
        """Return a value for each path, None where there is none, of an event that `event` made of `json(value)`."""
        return _plain(self._values(event)) if event.__class__ is self._kind else self.read(json(value))

    def read(self, value: bytes) -> tuple[Value, ...]:
        """Return a value for each path, None where there is none.

        Args:
            value: of an event that was decoded.
        """
        try:
            found: tuple[_Scalar, ...] = self._values(self._as_expected.decode(value))
        except (msgspec.DecodeError, UnicodeError):
            apart = self._apart.read(relaxed(value))
            found = tuple(apart.get(path) for path in self._paths)
        return _plain(found)


class _Apart:
    """Reads the fields of an object each by itself, where one of them is not what is expected.

    Args:
        paths: of them, none within another.
    """

    def __init__(self, paths: Sequence[tuple[str, ...]]) -> None:
        below: dict[str, list[tuple[str, ...]]] = {}
        for name, *path in paths:
            below.setdefault(name, []).append(tuple(path))
        self._below = {name: _Apart(under) if any(under) else None for name, under in below.items()}
        names, fields = _expected([(name,) for name in below], msgspec.Raw)
        self._object = msgspec.json.Decoder(_struct(fields))
        self._values = _getter(names)
        self._scalar = msgspec.json.Decoder(_Scalar)

    def read(self, value: bytes) -> dict[tuple[str, ...], _Scalar]:
        """Return those that can be read."""
        found: dict[tuple[str, ...], _Scalar] = {}
        try:
            values = self._values(self._object.decode(value))
        except (msgspec.DecodeError, UnicodeError):
            return found
        for (name, below), raw in zip(self._below.items(), values, strict=True):
            if raw is not None and below is not None:
                found |= {(name, *path): one for path, one in below.read(raw).items()}
            elif raw is not None:
                with suppress(msgspec.DecodeError, UnicodeError):
                    found[name,] = self._scalar.decode(raw)
        return found


def _getter(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda struct: tuple(attrgetter(name)(struct) for name in names)


def _plain(found: tuple[_Scalar, ...]) -> tuple[Value, ...]:
    if _AS_THEY_ARE.issuperset(map(type, found)):
        return found
    return tuple([plain(one) for one in found])


def _struct(fields: Sequence[tuple[str, Any, Any]]) -> type[msgspec.Struct]:
    return msgspec.defstruct("Fields", fields, frozen=True, gc=False)


def _expected(paths: Sequence[tuple[str, ...]], kind: Any) -> tuple[list[str], list[tuple[str, Any, Any]]]:
    """Return the attributes that the paths lead to, and the fields of a struct that has them, each of a kind and optional."""
    names = list(dict.fromkeys(path[0] for path in paths))
    fields: list[tuple[str, Any, Any]] = []
    reached: dict[tuple[str, ...], str] = {}
    for index, name in enumerate(names):
        field = f"field_{index}"
        below = [path[1:] for path in paths if path[0] == name and len(path) > 1]
        if below:
            found, inner = _expected(below, kind)
            under = _struct(inner)
            default = msgspec.field(default_factory=under, name=name)
            fields.append((field, under, default))
            reached |= {(name, *path): f"{field}.{one}" for path, one in zip(below, found, strict=True)}
        else:
            fields.append((field, kind, msgspec.field(default=None, name=name)))
            reached[name,] = field
    return [reached[path] for path in paths], fields


def plain(value: Any) -> Value:
    """Return a scalar as a text or a number of double precision, None for what is none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and not -_EXACT <= value <= _EXACT:
        try:
            return float(value)
        except OverflowError:
            return None
    return value if isinstance(value, str | int | float) else None
