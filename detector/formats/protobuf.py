"""Events in Protobuf, read by the descriptor of the file that has their message."""

from collections.abc import Callable
from typing import Any, Final

from detector.contract.events import MalformedEventError
from detector.contract.relaxed import written

_MAX_INDEXES: Final = 32
_TIMESTAMP: Final = "google.protobuf.Timestamp"


def protobuf_reader(file: bytes, *referred: bytes) -> Callable[[bytes], bytes]:
    """Return what reads a message as JSON: fields by their names in the file, those that are not set left out.

    In front of the message are the indexes that tell which of the file's it is, each within the one before, as zigzag
    varints with their count first; a single 0 is the first message.

    Args:
        file: a FileDescriptorProto.
        referred: those that it imports, each behind those that it imports itself; Google's own need not be there.

    Raises:
        Exception: protobuf can't use them.
    """
    from google.protobuf import (  # noqa: PLC0415  an extra
        any_pb2,
        descriptor_pb2,
        descriptor_pool,
        duration_pb2,
        empty_pb2,
        message_factory,
        struct_pb2,
        timestamp_pb2,
        wrappers_pb2,
    )

    pool = descriptor_pool.DescriptorPool()
    for own in (any_pb2, descriptor_pb2, duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2):
        pool.AddSerializedFile(own.DESCRIPTOR.serialized_pb)
    for one in (*referred, file):
        pool.AddSerializedFile(one)
    described = pool.FindFileByName(descriptor_pb2.FileDescriptorProto.FromString(file).name)
    kinds: dict[bytes, Any] = {}

    def kind_of(indexes: bytes) -> Any:
        if (kind := kinds.get(indexes)) is None:
            found, below = None, list(described.message_types_by_name.values())
            for index in _numbers(indexes)[1:] or [0]:
                found = below[index]
                below = found.nested_types
            kind = kinds[indexes] = message_factory.GetMessageClass(found)
        return kind

    def read(content: bytes) -> bytes:
        try:
            end = _end_of_indexes(content)
            return written(_plain(kind_of(content[:end]).FromString(content[end:])))
        except Exception as error:
            raise MalformedEventError(
                f"not as its Protobuf schema says ({type(error).__name__}: {error})"
            ) from error

    return read


def _end_of_indexes(content: bytes) -> int:
    at, left = 0, 1
    while left:
        begin = at
        while content[at] & 0x80:
            at += 1
        at += 1
        left -= 1
        if not begin and not 0 <= (left := _numbers(content[:at])[0]) <= _MAX_INDEXES:
            raise ValueError(f"{left} indexes of its message")
    return at


def _numbers(varints: bytes) -> list[int]:
    """Return the numbers that zigzag varints stand for."""
    numbers, number, shift = [], 0, 0
    for byte in varints:
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            numbers.append(number >> 1 ^ -(number & 1))
            number = shift = 0
    return numbers


def _plain(message: Any) -> Any:
    """Return a message as JSON has it; one of Google's own as JSON has that, a time in milliseconds."""
    kind = message.DESCRIPTOR
    if kind.full_name == _TIMESTAMP:
        return message.seconds * 1_000 + message.nanos // 1_000_000
    if kind.file.package == "google.protobuf":
        from google.protobuf import json_format  # noqa: PLC0415  an extra

        return json_format.MessageToDict(message)
    return {field.name: _value(field, value) for field, value in message.ListFields()}


def _value(field: Any, value: Any) -> Any:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        of = inner.fields_by_name["value"]
        return {str(key): _value(of, value[key]) for key in value}
    if field.is_repeated:
        return [_single(field, one) for one in value]
    return _single(field, value)


def _single(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return _plain(value)
    if field.enum_type is not None and (name := field.enum_type.values_by_number.get(value)) is not None:
        return name.name
    return value
