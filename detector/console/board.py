"""What the console knows: the newest alerts, the state of the link to Kafka, the workers' figures.

All of it lives in one event loop; readers wait for a change and then take what they have not seen.
"""

import asyncio
import bisect
import re
import uuid
from collections.abc import AsyncGenerator, Iterable
from enum import StrEnum
from typing import NamedTuple

import msgspec

from detector.console.figures import Figures
from detector.contract.alerts import Alert

_ALERTS_A_MESSAGE = 100


class Link(StrEnum):
    """How it stands with the brokers."""

    CONNECTING = "connecting"
    READING = "reading"  # what was on the topic before
    LIVE = "live"
    NO_TOPIC = "no_topic"
    UNREACHABLE = "unreachable"


class LinkState(msgspec.Struct, frozen=True):
    """The link, since when, and for people what it suffers from."""

    link: Link
    since_ms: int
    detail: str = ""


class About(msgspec.Struct, frozen=True, kw_only=True):
    """The console itself.

    Attributes:
        keep: most alerts; beyond, the one detected longest ago goes.
        workers: of how many there are figures.
        token_required: whether a viewer had to sign in.
    """

    keep: int
    workers: int
    token_required: bool


class Message(NamedTuple):
    """One message to a page: its kind, its data as JSON, and where to go on after it if that is a position."""

    event: str
    data: str
    position: str | None = None


class Numbered(NamedTuple):
    """An alert and when, in the order of arrival, it came."""

    number: int
    alert: Alert


class Board:
    """The newest alerts and the latest states.

    Args:
        about: what a page should know of the console itself.
        link: at the start.
    """

    def __init__(self, about: About, link: LinkState) -> None:
        self._about = about
        self._run = uuid.uuid4().hex[:8]
        self._number = 0
        self._by_time: list[Numbered] = []
        self._ids: set[str] = set()
        self._link = link
        self._figures: Figures | None = None
        self._changed = asyncio.Event()

    def add(self, alerts: Iterable[Alert]) -> None:
        """Take alerts in; one that is there already is ignored."""
        for alert in alerts:
            if alert.alert_id in self._ids:
                continue
            self._number += 1
            self._ids.add(alert.alert_id)
            # Partitions are read one after the other, so that what was kept arrives out of its order in time.
            bisect.insort(
                self._by_time, Numbered(self._number, alert), key=lambda one: one.alert.detected_at_ms
            )
            if len(self._by_time) > self._about.keep:
                self._ids.remove(self._by_time.pop(0).alert.alert_id)
        self._notify()

    def find(self, alert_id: str) -> Alert | None:
        """Return the alert with this id, if it is among those kept."""
        return next((one.alert for one in self._by_time if one.alert.alert_id == alert_id), None)

    def set_link(self, link: LinkState) -> None:
        """Tell of the link to Kafka; the same state keeps the time it began."""
        if link.link == self._link.link:
            link = msgspec.structs.replace(link, since_ms=self._link.since_ms)
        if link != self._link:
            self._link = link
            self._notify()

    def set_figures(self, figures: Figures) -> None:
        """Tell of the workers."""
        self._figures = figures
        self._notify()

    async def messages(self, position: str | None) -> AsyncGenerator[Message]:
        """Yield all there is, and then what changes, for ever.

        A reader that is slow gets the latest states and those alerts that are still kept: nothing piles up for it.

        Args:
            position: of the last message that a page had, to go on after it; None or another run's begins anew.
        """
        known = re.fullmatch(rf"{self._run}-([0-9]{{1,18}})", position or "")
        number = int(known[1]) if known else 0
        if number == 0:
            yield Message("about", _json(self._about))
        link: LinkState | None = None
        figures: Figures | None = None
        while True:
            changed = self._changed
            if self._link is not link:
                link = self._link
                yield Message("link", _json(link))
            if self._figures is not None and self._figures is not figures:
                figures = self._figures
                yield Message("figures", _json(figures))
            while newer := self._after(number):
                number = newer[-1].number
                yield Message("alerts", _json([one.alert for one in newer]), f"{self._run}-{number}")
            await changed.wait()

    def _after(self, number: int) -> list[Numbered]:
        if number >= self._number:
            return []
        newer = sorted(one for one in self._by_time if one.number > number)
        return newer[:_ALERTS_A_MESSAGE]

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
