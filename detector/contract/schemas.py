"""The contract as documents, generated from the types and checked in under docs/schemas: JSON Schemas and AsyncAPI."""

from pathlib import Path
from typing import Any

import msgspec

from detector.contract.alerts import Alert
from detector.contract.asyncapi import asyncapi
from detector.contract.epochs import ModelEpoch
from detector.contract.events import SessionAction
from detector.contract.explanations import Explanation
from detector.contract.listings import AccountListing
from detector.contract.verdicts import Verdict

SCHEMAS: dict[str, type[msgspec.Struct]] = {
    "session-action.v1.schema.json": SessionAction,
    "account-listing.v1.schema.json": AccountListing,
    "session-alert.v1.schema.json": Alert,
    "session-explanation.v1.schema.json": Explanation,
    "session-verdict.v1.schema.json": Verdict,
    "model-epoch.v1.schema.json": ModelEpoch,
}


def schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the JSON Schema of one type. Fields it does not name are allowed."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(kind)}


def documents() -> dict[str, dict[str, Any]]:
    """Return every document by the name of its file."""
    return {name: schema(kind) for name, kind in SCHEMAS.items()} | {"asyncapi.json": asyncapi()}


def write_schemas(folder: Path) -> list[Path]:
    """Write all documents into `folder`; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, document in documents().items():
        text = msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=2)
        path = folder / name
        path.write_bytes(text + b"\n")
        written.append(path)
    return written
