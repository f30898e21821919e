"""What the console knows: the newest alerts, verdicts on them, the links to Kafka, the workers' figures.

All of it lives in one event loop; readers wait for a change and then take what they have not seen.
"""

import asyncio
import bisect
import re
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from enum import StrEnum
from operator import attrgetter, itemgetter
from typing import NamedTuple

import msgspec

from detector.console.figures import Figures
from detector.console.judged import Judged, NumberedVerdict, Session
from detector.contract.alerts import Alert
from detector.contract.verdicts import Verdict

_RECORDS_A_MESSAGE = 100
LINK, VERDICTS_LINK, _FIGURES = "link", "verdicts-link", "figures"
"""Messages of states, of which a page needs the latest only."""


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
        runbook_url: of the runbook's page, to link to; empty if nobody said.
        keep: most alerts; beyond, the one detected longest ago goes.
        workers: of how many there are figures.
        token_required: whether a viewer had to sign in.
    """

    keep: int
    workers: int
    token_required: bool
    runbook_url: str = ""


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
    """The newest alerts, verdicts, and the latest states.

    Args:
        about: what a page should know of the console itself.
        link: to both topics, at the start.
    """

    def __init__(self, about: About, link: LinkState) -> None:
        self._about = about
        self._run = uuid.uuid4().hex[:8]
        self._number = 0
        self._by_time: list[Numbered] = []
        self._ids: set[str] = set()
        self._sessions: Counter[Session] = Counter()
        self._judged = Judged(2 * about.keep, lambda session: session in self._sessions)
        self._states: dict[str, LinkState | Figures] = {LINK: link, VERDICTS_LINK: link}
        self._changed = asyncio.Event()

    def add(self, alerts: Iterable[Alert]) -> None:
        """Take alerts in; one that is there already is ignored."""
        for alert in alerts:
            if alert.alert_id in self._ids:
                continue
            self._number += 1
            self._ids.add(alert.alert_id)
            self._sessions[alert.account_id, alert.session_id] += 1
            # Partitions are read one after the other, so that what was kept arrives out of its order in time.
            bisect.insort(
                self._by_time, Numbered(self._number, alert), key=lambda one: one.alert.detected_at_ms
            )
            if len(self._by_time) > self._about.keep:
                self._drop(self._by_time.pop(0).alert)
        self._notify()

    def _drop(self, alert: Alert) -> None:
        self._ids.remove(alert.alert_id)
        session = alert.account_id, alert.session_id
        self._sessions[session] -= 1
        if not self._sessions[session]:
            del self._sessions[session]

    def judge(self, verdicts: Iterable[Verdict]) -> None:
        """Take verdicts in; one that is there already is ignored."""
        for verdict in verdicts:
            self._number += self._judged.add(verdict, self._number + 1)
        self._notify()

    async def oldest_ms(self) -> int | None:
        """Wait until the topic's alerts were read, and return when the oldest of those kept was decided."""
        while self._states[LINK].link is not Link.LIVE:  # type: ignore[union-attr]  # a link's state
            await self._changed.wait()
        return self._by_time[0].alert.detected_at_ms if self._by_time else None

    def find(self, alert_id: str) -> Alert | None:
        """Return the alert with this id, if it is among those kept."""
        return next((one.alert for one in self._by_time if one.alert.alert_id == alert_id), None)

    def set_link(self, link: LinkState, of: str = LINK) -> None:
        """Tell of a link to Kafka; the same state keeps the time it began."""
        before = self._states[of]
        if isinstance(before, LinkState) and link.link == before.link:
            link = msgspec.structs.replace(link, since_ms=before.since_ms)
        if link != before:
            self._states[of] = link
            self._notify()

    def set_figures(self, figures: Figures) -> None:
        """Tell of the workers."""
        self._states[_FIGURES] = figures
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
        told: dict[str, LinkState | Figures] = {}
        while True:
            changed = self._changed
            for event, state in list(self._states.items()):
                if told.get(event) is not state:
                    told[event] = state
                    yield Message(event, _json(state))
            while newer := self._after(number):
                number = newer[-1].number
                alerts = [one.alert for one in newer if isinstance(one, Numbered)]
                verdicts = [one.verdict for one in newer if isinstance(one, NumberedVerdict)]
                *first, (event, last) = filter(itemgetter(1), (("alerts", alerts), ("verdicts", verdicts)))
                for kind, records in first:
                    yield Message(kind, _json(records))
                yield Message(event, _json(last), f"{self._run}-{number}")
            await changed.wait()

    def _after(self, number: int) -> list[Numbered | NumberedVerdict]:
        if number >= self._number:
            return []
        newer: list[Numbered | NumberedVerdict] = [one for one in self._by_time if one.number > number]
        newer += self._judged.after(number)
        newer.sort(key=attrgetter("number"))
        return newer[:_RECORDS_A_MESSAGE]

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
