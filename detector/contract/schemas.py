"""JSON Schemas (2020-12) of what crosses Kafka, generated from the types and checked in under docs/schemas."""

from pathlib import Path
from typing import Any

import msgspec

from detector.contract.accounts import AccountListing
from detector.contract.alerts import Alert
from detector.contract.events import SessionEvent

SCHEMAS: dict[str, type[msgspec.Struct]] = {
    "session-action.v1.schema.json": SessionEvent,
    "account-listing.v1.schema.json": AccountListing,
    "session-alert.v1.schema.json": Alert,
}


def schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the JSON Schema of one type. Fields it does not name are allowed."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(kind)}


def write_schemas(folder: Path) -> list[Path]:
    """Write all schemas into `folder`; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, kind in SCHEMAS.items():
        text = msgspec.json.format(msgspec.json.encode(schema(kind), order="sorted"), indent=2)
        path = folder / name
        path.write_bytes(text + b"\n")
        written.append(path)
    return written
