"""Reading the console's stream of events as a page does (WHATWG HTML, Server-sent events)."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import msgspec

from tests.waiting import PATIENCE_S


class Viewer:
    """What a page has been told so far.

    Attributes:
        alerts: in the order they came.
        verdicts: likewise.
        link: the state of the link to the alerts, the last told.
        verdicts_link: of that to the verdicts.
        position: of the last message that had one.
    """

    def __init__(self, answer: httpx2.Response) -> None:
        self.alerts: list[dict[str, Any]] = []
        self.verdicts: list[dict[str, Any]] = []
        self.link: dict[str, Any] = {}
        self.verdicts_link: dict[str, Any] = {}
        self.position = ""
        self._lines = answer.iter_lines()

    @property
    def sessions(self) -> list[str]:
        """The sessions of the alerts."""
        return [one["session_id"] for one in self.alerts]

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Read on until a condition holds."""
        deadline_s = time.monotonic() + PATIENCE_S
        fields: dict[str, str] = {}
        while not condition():
            line = next(self._lines)  # there is always another: pings come for ever
            assert time.monotonic() < deadline_s, f"waited {PATIENCE_S:g} s for {what}"
            name, _, value = line.partition(": ")
            if name:
                fields[name] = value
            elif not line:
                self._take(fields)
                fields = {}

    def wait_for_sessions(self, *wanted: str) -> None:
        """Read on until these sessions' alerts have come."""
        self.wait_for(lambda: set(wanted) <= set(self.sessions), f"alerts of {wanted}")

    def wait_for_link(self, state: str) -> None:
        """Read on until the link to Kafka is in a state."""
        self.wait_for(lambda: self.link.get("link") == state, state)

    def _take(self, fields: dict[str, str]) -> None:
        event, told = fields.get("event", ""), msgspec.json.decode(fields.get("data", "null"))
        self.position = fields.get("id", self.position)
        match event:
            case "alerts":
                self.alerts += told
            case "verdicts":
                self.verdicts += told
            case "link":
                self.link = told
            case "verdicts-link":
                self.verdicts_link = told


@contextmanager
def stream(url: str, **headers: str) -> Iterator[Viewer]:
    """Open the stream for the block."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with httpx2.stream("GET", f"{url}/stream", headers=named, timeout=PATIENCE_S) as answer:
        answer.raise_for_status()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Viewer(answer)
