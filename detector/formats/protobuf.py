"""Events in Protobuf, read by the .proto file that has their message."""

import base64
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, Final

from detector.contract.events import MalformedEventError
from detector.contract.relaxed import written

_FILE: Final = "event.proto"
_MAX_INDEXES_BYTES: Final = 64
_GOOGLE: Final = "google.protobuf"
_TIMESTAMP: Final = f"{_GOOGLE}.Timestamp"


def protobuf_reader(
    schema: str, referred: Mapping[str, str] = MappingProxyType({})
) -> Callable[[bytes], bytes]:
    """Return what reads a message as JSON: fields by their names in the file, those that are not set left out.

    In front of the message are the indexes that tell which of the file's it is, each within the one before, as zigzag
    varints with their count first; a single 0 is the first message.

    Args:
        schema: a .proto file, or its descriptor in base64, as clients in Python register it.
        referred: schemas by the names that it imports them under, each behind those that it imports itself; Google's own
            need not be there.

    Raises:
        ValueError: it can't be used.
        Exception: likewise, by protobuf.
    """
    from google.protobuf import descriptor_pool, message_factory  # noqa: PLC0415  an extra

    pool = descriptor_pool.DescriptorPool()
    texts = frozenset[str]()
    for file in _compiled(schema, referred):
        if file.package != _GOOGLE:
            texts |= {*_unchecked(file.message_type, file.package)}
        pool.Add(file)
    described = pool.FindFileByName(_FILE)
    kinds: dict[bytes, Any] = {}

    def kind_of(indexes: bytes) -> Any:
        if (kind := kinds.get(indexes)) is None:
            below = every = list(described.message_types_by_name.values())
            for index in _numbers(indexes)[1:] or [0]:
                if index < 0:
                    raise ValueError(f"index {index} of its message")
                # Confluent's clients in Java count no entries of maps among nested messages, those in Go and Python do.
                found = below[index] if index < len(below) else every[index]
                every = found.nested_types
                below = [one for one in every if not one.GetOptions().map_entry]
            kind = kinds[indexes] = message_factory.GetMessageClass(found)
        return kind

    def read(content: bytes) -> bytes:
        try:
            end = _end_of_indexes(content)
            return written(_plain(kind_of(content[:end]).FromString(content[end:]), texts))
        except Exception as error:
            raise MalformedEventError(
                f"not as its Protobuf schema says ({type(error).__name__}: {error})"
            ) from error

    return read


def _compiled(schema: str, referred: Mapping[str, str]) -> list[Any]:
    """Return the descriptors of a file and of all that it imports, each behind those that it imports itself."""
    from google.protobuf import descriptor_pb2  # noqa: PLC0415  an extra
    from grpc_tools import protoc  # noqa: PLC0415  as above

    files = [*referred.items(), (_FILE, schema)]
    described = [
        descriptor_pb2.FileDescriptorProto.FromString(one) for _, text in files if (one := _decoded(text))
    ]
    if described and len(described) < len(files):
        raise ValueError("it is a descriptor, and what it imports is text, or the other way round")
    for (name, _), one in zip(files, described, strict=False):
        one.name = name
    texts = dict(files)
    if described:  # what is Google's is left to compile
        own = {name for one in described for name in one.dependency} - referred.keys()
        texts = {
            _FILE: "".join(['syntax = "proto3";', *(f'import public "{name}";' for name in sorted(own))])
        }
    with TemporaryDirectory() as folder:
        for name, text in texts.items():
            path = Path(folder, name)
            if not path.resolve().is_relative_to(Path(folder).resolve()):
                raise ValueError(f"it imports {name!r}: expected a file below its own")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        made, google = Path(folder, "made"), resources.files(protoc.__package__) / "_proto"
        told = ["", f"-I{folder}", f"-I{google}", "--include_imports", f"--descriptor_set_out={made}"]
        if protoc.main([*told, _FILE]):
            raise ValueError("protoc can't compile it; standard error says why")
        compiled = list(descriptor_pb2.FileDescriptorSet.FromString(made.read_bytes()).file)
    return [*compiled[:-1], *described] if described else compiled


def _decoded(schema: str) -> bytes:
    """Return what a schema is in base64; nothing for a text."""
    try:
        return base64.b64decode(schema, validate=True)
    except ValueError:
        return b""


def _end_of_indexes(content: bytes) -> int:
    count, at = None, 0
    ends = (at for at, byte in enumerate(content[:_MAX_INDEXES_BYTES], start=1) if not byte & 0x80)
    for at in ends:
        if count is None:
            (count,) = _numbers(content[:at])
        elif count:
            count -= 1
        if count <= 0:
            break
    if count != 0:
        raise ValueError(f"no indexes of its message within {_MAX_INDEXES_BYTES} bytes")
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


def _unchecked(messages: Iterable[Any], within: str) -> Iterator[str]:
    """Make bytes of texts, so that one that is no UTF-8 does not hide its message; yields the fields' full names.

    Keys of maps can't be bytes.
    """
    for message in messages:
        name = f"{within}.{message.name}".lstrip(".")
        yield from _unchecked(message.nested_type, name)
        for field in message.field:
            if field.type == field.TYPE_STRING and not (message.options.map_entry and field.number == 1):
                field.type = field.TYPE_BYTES
                yield f"{name}.{field.name}"


def _plain(message: Any, texts: Container[str]) -> Any:
    """Return a message as JSON has it; one of Google's own as JSON has that, a time in milliseconds.

    Args:
        message: whose texts are bytes.
        texts: full names of the fields that are.
    """
    kind = message.DESCRIPTOR
    if kind.full_name == _TIMESTAMP:
        return message.seconds * 1_000 + message.nanos // 1_000_000
    if kind.file.package == _GOOGLE:
        from google.protobuf import json_format  # noqa: PLC0415  an extra

        try:
            return json_format.MessageToDict(message)
        except Exception:  # noqa: BLE001  NaN, an Any of anything: absent, and hides nothing else
            return None
    return {field.name: _value(field, value, texts) for field, value in message.ListFields()}


def _value(field: Any, value: Any, texts: Container[str]) -> Any:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        of = inner.fields_by_name["value"]
        return {str(key): _value(of, value[key], texts) for key in value}
    if field.is_repeated:
        return [_single(field, one, texts) for one in value]
    return _single(field, value, texts)


def _single(field: Any, value: Any, texts: Container[str]) -> Any:
    if field.message_type is not None:
        return _plain(value, texts)
    if field.full_name in texts:
        return value.decode(errors="surrogateescape")
    if field.enum_type is not None and (name := field.enum_type.values_by_number.get(value)) is not None:
        return name.name
    return value
