"""A feed: a thread that reads a topic, outlives its brokers' restarts, and tells how it stands."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from kafka.errors import KafkaError

from detector.console.board import Link, LinkState
from detector.runtime.subscription import Recent

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
_CHECK_EVERY_S = 2.0
_CHECK_TIMEOUT_MS = 2_000
_RETRY_AFTER_S = 2.0


class Feed(Generic[_T]):
    """Hands on what a topic holds, from a thread of its own: the Kafka client blocks.

    Args:
        subscribe: opens a subscription.
        take: what came; called in the event loop `loop`, as is `tell`.
        tell: of the state of the link.
        loop: that everything on the board happens in.
        name: of what is read.
    """

    def __init__(
        self,
        subscribe: Callable[[], Recent[_T]],
        take: Callable[[list[_T]], None],
        tell: Callable[[LinkState], None],
        loop: asyncio.AbstractEventLoop,
        name: str,
    ) -> None:
        self._subscribe = subscribe
        self._take = take
        self._tell_link = tell
        self._loop = loop
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading. Blocks for a check's time limit at most, if the brokers are away."""
        self._stop.set()
        self._thread.join(_CHECK_TIMEOUT_MS / 1000 + 1)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                subscription = self._subscribe()
                try:
                    self._follow(subscription)
                finally:
                    subscription.close()
            except KafkaError as error:
                # Refused, or not yet there: a new client asks from the start. What is on the board already is
                # recognised by its id.
                self._tell(Link.UNREACHABLE, _words(error))
                _LOG.warning("no %s: %s. Trying again", self._thread.name, error)
                self._stop.wait(_RETRY_AFTER_S)

    def _follow(self, subscription: Recent[_T]) -> None:
        checked_s, caught_up = float("-inf"), False
        while not self._stop.is_set():
            came = subscription.poll()
            if came and not self._stop.is_set():
                self._loop.call_soon_threadsafe(self._take, came)
            now_s = time.monotonic()
            if now_s - checked_s >= _CHECK_EVERY_S or subscription.caught_up != caught_up:
                checked_s, caught_up = now_s, subscription.caught_up
                self._check(subscription)

    def _check(self, subscription: Recent[_T]) -> None:
        try:
            subscription.check(_CHECK_TIMEOUT_MS)
        except KafkaError as error:
            # The client finds its way back by itself, and goes on where it was.
            self._tell(Link.UNREACHABLE, _words(error))
        else:
            if not subscription.has_topic:
                self._tell(Link.NO_TOPIC)
            else:
                self._tell(Link.LIVE if subscription.caught_up else Link.READING)

    def _tell(self, link: Link, detail: str = "") -> None:
        state = LinkState(link, time.time_ns() // 1_000_000, detail)
        if not self._stop.is_set():  # the loop may be closed by then
            self._loop.call_soon_threadsafe(self._tell_link, state)


def _words(error: KafkaError) -> str:
    return type(error).__name__
