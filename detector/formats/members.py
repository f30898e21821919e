"""Objects of JSON by their members, each left as it is written; and fields that others call otherwise."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, Self

import msgspec

from detector.contract.events import MalformedEventError, SessionEvent
from detector.contract.relaxed import relaxed

EVENT_FIELDS: Final = SessionEvent.__struct_fields__
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
Members = dict[str, msgspec.Raw]


def members_of(value: bytes | msgspec.Raw) -> Members:
    """Return the members of an object, not looked into.

    Raises:
        ValueError: it is none.
        RecursionError: it is nested too deep.
    """
    try:
        return _OBJECT.decode(value)
    except (msgspec.DecodeError, UnicodeError):
        return _OBJECT.decode(relaxed(bytes(value)))


class FieldMap(tuple[tuple[str, str], ...]):
    """What events call the fields of the contract: pairs of a field's name and theirs, a name or a path with dots.

    The field is then read there alone: what an event has under the contract's own name is something else.
    """

    __slots__ = ()

    @classmethod
    def of(cls, given: Sequence[str]) -> Self:
        """Make one of texts such as `session_id=sid` or `attributes.device=client.device.id`.

        Raises:
            ValueError: a text is no such pair, or a field is named twice.
        """
        pairs = [(field, name) for field, _, name in (one.partition("=") for one in given)]
        fields = [field for field, _ in pairs]
        for one, (field, name) in zip(given, pairs, strict=True):
            if not name or (field not in {*EVENT_FIELDS, "amount"} and not field.startswith("attributes.")):
                raise ValueError(
                    f"{one!r}: expected FIELD=NAME, the field one of {', '.join(EVENT_FIELDS)}, amount or attributes. and a path"
                )
            if fields.count(field) > 1:
                raise ValueError(f"{one!r}: {field} is named more than once: expected each once")
        return cls(pairs)

    def renamed(self, value: bytes) -> bytes:
        """Return an event with the contract's names.

        Raises:
            MalformedEventError: it is no object.
        """
        try:
            members = members_of(value)
        except (ValueError, RecursionError) as error:
            raise MalformedEventError(str(error)) from error
        found = [(field, _reached(members, name)) for field, name in self]
        for field, one in found:
            _put(members, field, one)
        return msgspec.json.encode(members)


@lru_cache
def names_of_events(fields: FieldMap) -> frozenset[str]:
    """Return the names of which an event has some at its top, and an envelope none."""
    theirs = dict(fields)
    names = [theirs.get(field, field) for field in EVENT_FIELDS]
    return frozenset([*names, *(name.split(".")[0] for name in names)])


def _below(members: Mapping[str, msgspec.Raw], name: str) -> Members:
    try:
        return members_of(members[name])
    except (KeyError, ValueError, RecursionError):
        return {}


def _reached(members: Mapping[str, msgspec.Raw], name: str) -> msgspec.Raw | None:
    if name in members:
        return members[name]
    first, dot, rest = name.partition(".")
    return _reached(_below(members, first), rest) if dot else None


def _put(members: Members, field: str, value: msgspec.Raw | None) -> None:
    first, dot, rest = field.partition(".")
    if dot:
        below = _below(members, first)
        _put(below, rest, value)
        value = msgspec.Raw(msgspec.json.encode(below))
    if value is None:
        members.pop(first, None)
    else:
        members[first] = value
