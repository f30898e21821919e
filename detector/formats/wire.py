"""The wire format of a topic: what its events are wrapped in and written as, and what they call their fields."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple, Self, TypeVar

import msgspec

from detector.contract.events import MalformedEventError, SessionEvent
from detector.formats.members import FieldMap, Members, members_of, names_of_events
from detector.formats.registry import MAGIC, unframed

_Event = TypeVar("_Event", bound=SessionEvent)
_MAX_LAYERS: Final = 4
"""Confluent's prefix, around a CloudEvent, around Connect's envelope, around Debezium's."""


INPUT_FORMAT: Final = (
    "What the values of the events' topic are from outside: json, confluent (its prefix of five bytes, before JSON, Avro or "
    "Protobuf), cloudevents (structured), connect or debezium (their envelopes in JSON); auto takes all of these by their marks."
)
FIELD: Final = (
    "What events call a field, a name or a path with dots: session_id=sid; also amount=… and attributes.…=…. May be given "
    "more than once; in the variable, with spaces between."
)
"""The help of the two settings, for every command that has them."""


class InputFormat(StrEnum):
    """What a value is, from outside: JSON, or something around or in place of it. AUTO looks."""

    AUTO = "auto"
    JSON = "json"
    CONFLUENT = "confluent"
    CLOUDEVENTS = "cloudevents"
    CONNECT = "connect"
    DEBEZIUM = "debezium"


class WireFormat(NamedTuple):
    """How the values of a topic are read.

    Attributes:
        outside: what each value is; AUTO takes an event for one, and what can be none for what its marks say.
        fields: how events call their fields.
    """

    outside: InputFormat = InputFormat.AUTO
    fields: FieldMap = FieldMap()

    @classmethod
    def of(cls, outside: str, fields: Sequence[str]) -> Self:
        """Make one of the settings `--input-format` and `--field`.

        Raises:
            ValueError: there is no such format, or a field is not told as FIELD=NAME.
        """
        return cls(InputFormat(outside), FieldMap.of(fields))

    def event_of(self, decode: Callable[[bytes], _Event]) -> Callable[[bytes], _Event]:
        """Return what decodes an event in this format, given what decodes one in JSON: that itself, if it is plain.

        What is returned raises MalformedEventError as `decode` does, UnknownSchemaError, which is one, and RegistryError.
        """
        if self.fields or self.outside not in {InputFormat.AUTO, InputFormat.JSON}:
            return lambda value: decode(self.json(value))
        if self.outside is InputFormat.JSON:
            return decode

        def event(value: bytes) -> _Event:
            if value[:1] == MAGIC:
                return decode(self.json(value))
            try:  # most are plain, and pay nothing
                return decode(value)
            except MalformedEventError:
                inner = self.json(value)
                if inner is value:
                    raise
                return decode(inner)

        return event

    def json(self, value: bytes) -> bytes:
        """Return the JSON of the event in a value, with the contract's names; the value itself, if it is that.

        Raises:
            MalformedEventError: it is not in this format, or its envelope is around nothing.
            RegistryError: the registry that knows its schema can't be asked.
        """
        inner, outside = value, InputFormat.JSON
        if self.outside is not InputFormat.JSON:
            inner, outside = self._unwrapped(value)
        if self.outside not in {InputFormat.AUTO, outside}:
            raise MalformedEventError(f"{outside} from outside: expected {self.outside}")
        return self.fields.renamed(inner) if self.fields else inner

    def _unwrapped(self, value: bytes) -> tuple[bytes, InputFormat]:
        """Return what lies within all envelopes, and which is the outermost; JSON if there is none."""
        outermost = InputFormat.JSON
        for _ in range(_MAX_LAYERS):
            if value[:1] == MAGIC:
                layer, value = InputFormat.CONFLUENT, unframed(value)
            elif (found := self._envelope(value, is_inner=outermost is not InputFormat.JSON)) is not None:
                layer, value = found
            else:
                break
            outermost = layer if outermost is InputFormat.JSON else outermost
        return value, outermost

    def _envelope(self, value: bytes, *, is_inner: bool) -> tuple[InputFormat, bytes] | None:
        try:
            members = members_of(value)
        except (ValueError, RecursionError):
            return None
        names = names_of_events(self.fields)
        for layer, marks, name in _ENVELOPES:
            # Nobody who fills in fields of an event can take away those that make it one.
            is_told = layer is self.outside and not is_inner
            if marks <= members.keys() and (is_told or (names - marks).isdisjoint(members)):
                return layer, _content(layer, members, name)
        return None


AS_IT_COMES: Final = WireFormat()
"""The default."""
_ENVELOPES: Final = (
    (InputFormat.CLOUDEVENTS, {"specversion", "type", "source", "id"}, "data"),
    (InputFormat.DEBEZIUM, {"op", "source", "after"}, "after"),
    (InputFormat.CONNECT, {"schema", "payload"}, "payload"),
)
"""Each with the members that it always has, and the one that holds the event."""


def _content(layer: InputFormat, members: Members, name: str) -> bytes:
    content = bytes(members.get(name, msgspec.Raw(b"null"))).strip()
    if content[:1] != b"{":
        op = (
            f", op {bytes(members['op']).decode(errors='replace')[:16]}"
            if layer is InputFormat.DEBEZIUM
            else ""
        )
        raise MalformedEventError(f"{name} of {layer}{op} is no object: expected the event")
    return content
