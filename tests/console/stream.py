"""Reading the console's stream of events as a page does (WHATWG HTML, Server-sent events)."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx2
import msgspec

from tests.runtime.stack import PATIENCE_S


class Event(NamedTuple):
    """One event: its kind, its data decoded, and the position after it."""

    kind: str
    data: Any
    position: str | None


@contextmanager
def stream(url: str, **headers: str) -> Iterator[Iterator[Event]]:
    """Open the stream for the block."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with httpx2.stream("GET", f"{url}/stream", headers=named, timeout=PATIENCE_S) as answer:
        answer.raise_for_status()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield _events(answer)


def _events(answer: httpx2.Response) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        if name:
            fields[name] = value
        elif fields and not line:
            if "data" in fields:
                yield Event(fields["event"], msgspec.json.decode(fields["data"]), fields.get("id"))
            fields = {}


def wait_for_event(events: Iterator[Event], fits: Callable[[Event], bool], what: str) -> Event:
    """Read on until an event fits."""
    deadline_s = time.monotonic() + PATIENCE_S
    for event in events:
        if fits(event):
            return event
        assert time.monotonic() < deadline_s, f"waited {PATIENCE_S:g} s for {what}"
    raise AssertionError(f"the stream ended before {what}")


def wait_for_sessions(events: Iterator[Event], *wanted: str) -> list[str]:
    """Read on until these sessions' alerts have come; return the sessions of all alerts that did, in order."""
    came: list[str] = []

    def complete(event: Event) -> bool:
        if event.kind == "alerts":
            came.extend(one["session_id"] for one in event.data)
        return set(wanted) <= set(came)

    wait_for_event(events, complete, f"the alerts of {wanted}")
    return came


def wait_for_link(events: Iterator[Event], state: str) -> Event:
    """Read on until the link to Kafka is in a state."""
    return wait_for_event(events, lambda event: event.kind == "link" and event.data["link"] == state, state)
