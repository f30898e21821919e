"""Fields of an event beyond those that every event needs: read leniently, since what they hold is anybody's.

A field that is not there, or no text, number or truth value, counts as absent; the event is scored all the same.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

Value = str | float | None
_EXACT: Final = 2**53
_Scalar = str | int | float | bool | None


class FieldReader:
    """Reads some fields of events, and nothing else of them.

    Args:
        paths: `amount`, or `attributes.` and names, a dot between them.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = tuple(tuple(path.split(".")) for path in paths)
        self._as_expected = msgspec.json.Decoder(_struct_of(self._paths, _Scalar))
        self._any = msgspec.json.Decoder(dict[str, msgspec.Raw])
        self._scalar = msgspec.json.Decoder(_Scalar)

    def read(self, value: bytes) -> tuple[Value, ...]:
        """Return a value for each path, None where there is none.

        Args:
            value: of an event that was decoded, so valid JSON.
        """
        try:
            whole = self._as_expected.decode(value)
        except (msgspec.DecodeError, UnicodeError):
            return tuple(self._read_apart(value, path) for path in self._paths)
        return tuple(plain(_reached(whole, path)) for path in self._paths)

    def _read_apart(self, value: bytes, path: Sequence[str]) -> Value:
        """Read one field where another, or this one, is not what is expected."""
        try:
            for name in path[:-1]:
                value = self._any.decode(value)[name]
            return plain(self._scalar.decode(self._any.decode(value)[path[-1]]))
        except (msgspec.DecodeError, UnicodeError, KeyError):
            return None


def _struct_of(paths: Sequence[tuple[str, ...]], leaf: Any) -> type[msgspec.Struct]:
    """Make a type with a field for each path, all of them optional."""
    names = list(dict.fromkeys(path[0] for path in paths))
    fields: list[tuple[str, Any, Any]] = []
    for index, name in enumerate(names):
        below = [path[1:] for path in paths if path[0] == name and len(path) > 1]
        kind = _struct_of(below, leaf) | None if below else leaf
        fields.append((f"field_{index}", kind, msgspec.field(default=None, name=name)))
    return msgspec.defstruct("Fields", fields, frozen=True, gc=False)


def _reached(struct: Any, path: Sequence[str]) -> Any:
    for name in path:
        if struct is None:
            return None
        encoded = struct.__struct_encode_fields__
        struct = getattr(struct, struct.__struct_fields__[encoded.index(name)])
    return struct


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
