"""Events as the world sends them, and a registry of the schemas that they are written by."""

import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fastavro import parse_schema, schemaless_writer
from google.protobuf import descriptor_pool, message_factory

from detector.contract.actions import ACTION_CODES
from detector.formats.protobuf import _compiled

AVRO_ID, PROTOBUF_ID, JSON_ID, AVRO_TIMED_ID, UNKNOWN_ID = 3, 4, 5, 6, 404
_IDS = ("event_id", "session_id", "account_id", "action")
_AMOUNT = {"name": "amount", "type": ["null", "double"], "default": None}
_ATTRIBUTES = {"name": "attributes", "type": {"type": "map", "values": "string"}}


def avro_schema(time: Any = "long") -> dict[str, Any]:
    """Return the schema of an event, whose time is of a type."""
    fields: list[dict[str, Any]] = [{"name": name, "type": "string"} for name in _IDS]
    fields += [{"name": "occurred_at_ms", "type": time}, _AMOUNT, _ATTRIBUTES]
    return {"type": "record", "name": "Event", "fields": fields}


def avro(event: dict[str, Any], schema: dict[str, Any] | None = None) -> bytes:
    """Return an event in Avro."""
    out = io.BytesIO()
    schemaless_writer(out, parse_schema(schema or avro_schema()), {"attributes": {}} | event)
    return out.getvalue()


_FIELDS = """
  string event_id = 1; string session_id = 2; string account_id = 3; shop.Action action = 4;
  optional double amount = 6; map<string, string> attributes = 7;
"""
_CODES = " ".join(f"{name} = {number};" for name, number in ACTION_CODES.items())
ACTIONS = f'syntax = "proto3"; package shop; enum Action {{ NONE = 0; {_CODES} }}'
EVENTS = f"""
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "shop/actions.proto";
message Other {{}}
message Event {{
  {_FIELDS}
  int64 occurred_at_ms = 5;
  message Inner {{ {_FIELDS} google.protobuf.Timestamp occurred_at_ms = 5; }}
}}
"""
DESCRIPTORS = _compiled(EVENTS, {"shop/actions.proto": ACTIONS})
"""Of Google's file, the one of actions and the one of events."""
_POOL = descriptor_pool.DescriptorPool()
for _one in DESCRIPTORS:
    _POOL.Add(_one)


def protobuf(event: dict[str, Any], *, is_inner: bool = False) -> bytes:
    """Return an event in Protobuf behind its indexes: the file's second message, or the first one within that."""
    name = "shop.Event.Inner" if is_inner else "shop.Event"
    kind = message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))
    told = event | {"action": ACTION_CODES[event["action"]]}
    if is_inner:
        seconds, rest_ms = divmod(event["occurred_at_ms"], 1_000)
        told["occurred_at_ms"] = {"seconds": seconds, "nanos": rest_ms * 1_000_000}
    written: bytes = kind(**told).SerializeToString()
    return (b"\x04\x02\x00" if is_inner else b"\x02\x02") + written


def framed(schema_id: int, content: bytes) -> bytes:
    """Put Confluent's prefix before what is written by a schema."""
    return b"\0" + schema_id.to_bytes(4) + content


def cloud_event(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event as the data of a CloudEvent in structured mode."""
    return {"specversion": "1.0", "type": "shop.action", "source": "/shop", "id": "1", "data": event}


def connect(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event as Connect's JsonConverter writes it with its schema."""
    return {
        "schema": {"type": "struct", "fields": [{"field": "event_id", "type": "string"}]},
        "payload": event,
    }


def debezium(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event as Debezium tells of the row that it was inserted as."""
    return {"before": None, "after": event, "source": {"table": "events"}, "op": "c", "ts_ms": 1}


def _json(*around: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[dict[str, Any]], bytes]:
    def encode(event: dict[str, Any]) -> bytes:
        for one in around:
            event = one(event)
        return json.dumps(event).encode()

    return encode


WIRES: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "json": _json(),
    "byte-order mark": lambda event: b"\xef\xbb\xbf" + _json()(event),
    "cloudevents": _json(cloud_event),
    "connect": _json(connect),
    "debezium": _json(debezium),
    "debezium in connect": _json(debezium, connect),
    "debezium in connect in cloudevents": _json(debezium, connect, cloud_event),
    "confluent json": lambda event: framed(JSON_ID, _json()(event)),
    "confluent cloudevents": lambda event: framed(JSON_ID, _json(cloud_event)(event)),
    "confluent avro": lambda event: framed(AVRO_ID, avro(event)),
    "confluent protobuf": lambda event: framed(PROTOBUF_ID, protobuf(event)),
    "confluent protobuf, inner message": lambda event: framed(PROTOBUF_ID, protobuf(event, is_inner=True)),
}
"""What makes the value of a record of an event."""


_ACTIONS = {"name": "shop/actions.proto", "subject": "shop/actions", "version": 3}


class StubRegistry:
    """What a Schema Registry answers of some schemas: over HTTP, as Confluent's API has it.

    Attributes:
        asked: paths, in order.
        fails_with: a status that it answers instead, if not 0.
    """

    def __init__(self) -> None:
        micros = {"type": "long", "logicalType": "timestamp-micros"}
        self.schemas: dict[int, dict[str, Any]] = {
            AVRO_ID: {"schema": json.dumps(avro_schema())},
            AVRO_TIMED_ID: {"schema": json.dumps(avro_schema(micros))},
            JSON_ID: {"schema": '{"type": "object"}', "schemaType": "JSON"},
            PROTOBUF_ID: {"schema": EVENTS, "schemaType": "PROTOBUF", "references": [_ACTIONS]},
        }
        self.versions: dict[str, dict[str, Any]] = {
            "/subjects/shop%2Factions/versions/3": {"schema": ACTIONS, "schemaType": "PROTOBUF"}
        }
        self.asked: list[str] = []
        self.authorizations: set[str | None] = set()
        self.fails_with = 0

    def answer(self, path: str) -> tuple[int, Any]:
        """Return status and body."""
        self.asked.append(path)
        if self.fails_with:
            return self.fails_with, {"error_code": self.fails_with * 100}
        number = int(path.rpartition("/")[2])
        if number >= 2**31:  # no number to Confluent's, and so no path
            return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}
        schema = self.versions.get(path) or self.schemas.get(number)
        if schema is None:
            return 404, {"error_code": 40403, "message": "Schema not found"}
        return 200, schema


@contextmanager
def serving(registry: StubRegistry) -> Iterator[str]:
    """Serve a registry for the block; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            registry.authorizations.add(self.headers.get("Authorization"))
            status, body = registry.answer(self.path)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
