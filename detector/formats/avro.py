"""Events in Avro, read by the schema that they were written with."""

import io
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from detector.contract.events import MalformedEventError
from detector.contract.relaxed import written


def avro_reader(schema: str, referred: Iterable[str] = ()) -> Callable[[bytes], bytes]:
    """Return what reads a record as JSON; its times in whole milliseconds, as the contract has them.

    Args:
        schema: in JSON.
        referred: schemas of the types that it names, each behind those that it names itself.

    Raises:
        ValueError: it is none of a record.
        Exception: fastavro can't use it.
    """
    from fastavro import _read_py, parse_schema, schemaless_reader  # noqa: PLC0415  an extra

    _set_up_logical_types()
    named: dict[str, Any] = {}
    for one in referred:
        parse_schema(json.loads(one), named)
    parsed = parse_schema(json.loads(schema), named)
    if not isinstance(parsed, dict) or parsed["type"] != "record":
        raise ValueError("it is of no record: expected one with the fields of an event")

    # Compiled, it runs out of the stack where its values lie in each other thousands deep, and ends the process.
    as_read = _read_py.schemaless_reader if _contains_itself(parsed, named) else schemaless_reader

    def read(content: bytes) -> bytes:
        try:
            return written(
                as_read(io.BytesIO(content), parsed, None, handle_unicode_errors="surrogateescape")
            )
        except Exception as error:
            raise MalformedEventError(
                f"not as its Avro schema says ({type(error).__name__}: {error})"
            ) from error

    return read


@cache
def _set_up_logical_types() -> None:
    """Have times read as whole milliseconds, a UUID as the text that it is, and what is none of its type as it is."""
    from fastavro.read import LOGICAL_READERS  # noqa: PLC0415  an extra

    LOGICAL_READERS.pop("string-uuid", None)
    for name, reads in LOGICAL_READERS.items():
        LOGICAL_READERS[name] = _or_as_it_is(reads)
    for unit, in_a_ms in (("millis", 1), ("micros", 1_000), ("nanos", 1_000_000)):
        for kind in ("timestamp", "local-timestamp"):
            LOGICAL_READERS[f"long-{kind}-{unit}"] = lambda data, *_, by=in_a_ms: data // by


def _or_as_it_is(reads: Callable[..., Any]) -> Callable[..., Any]:
    def read(data: Any, *schemas: Any) -> Any:
        try:
            return reads(data, *schemas)
        except Exception:  # noqa: BLE001  one field must not hide the others, whatever is wrong with it
            return data

    return read


def _contains_itself(schema: Any, named: Mapping[str, Any], around: frozenset[str] = frozenset()) -> bool:
    """Tell whether a type lies within itself: how deep its values do is then up to who writes them."""
    if isinstance(schema, list):
        return any(_contains_itself(one, named, around) for one in schema)
    if isinstance(schema, str):
        return schema in around or (schema in named and _contains_itself(named[schema], named, around))
    within = around | {schema.get("name", "")}
    types = [one["type"] for one in schema.get("fields", ())] or [
        schema.get("items", schema.get("values", "null"))
    ]
    return any(_contains_itself(one, named, within) for one in types)
