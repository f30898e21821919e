"""Events in Avro, read by the schema that they were written with."""

import io
import json
from collections.abc import Callable, Iterable
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
    from fastavro import parse_schema, schemaless_reader  # noqa: PLC0415  an extra
    from fastavro.read import LOGICAL_READERS  # noqa: PLC0415  as above

    for unit, in_a_ms in (("millis", 1), ("micros", 1_000), ("nanos", 1_000_000)):
        for kind in ("timestamp", "local-timestamp"):
            LOGICAL_READERS[f"long-{kind}-{unit}"] = lambda data, *_, by=in_a_ms: data // by
    named: dict[str, Any] = {}
    for one in referred:
        parse_schema(json.loads(one), named)
    parsed = parse_schema(json.loads(schema), named)
    if not isinstance(parsed, dict) or parsed["type"] != "record":
        raise ValueError("it is of no record: expected one with the fields of an event")

    def read(content: bytes) -> bytes:
        try:
            found = schemaless_reader(
                io.BytesIO(content), parsed, None, handle_unicode_errors="surrogateescape"
            )
        except Exception as error:
            raise MalformedEventError(
                f"not as its Avro schema says ({type(error).__name__}: {error})"
            ) from error
        return written(found)

    return read
