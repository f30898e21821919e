"""Open streams: how many there may be, for how long, and what becomes of one that nobody reads."""

import logging
import time
from collections.abc import AsyncGenerator

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from detector.console.access import ends_s
from detector.console.board import Board
from detector.console.config import SEND_TIMEOUT_S

_LOG = logging.getLogger(__name__)
MOST = 64
_PING_EVERY_S = 15


class Streams:
    """Streams of a board's messages to pages.

    Args:
        board: what they tell of.
        most: that may be open at once; beyond, a page is asked to come again.
        send_timeout_s: a page that takes nothing for so long is cut off.
    """

    def __init__(self, board: Board, *, most: int = MOST, send_timeout_s: float = SEND_TIMEOUT_S) -> None:
        self._board = board
        self._most = most
        self._send_timeout_s = send_timeout_s
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with a stream, until the page goes."""
        request = Request(scope, receive)
        if request.method == "HEAD":
            await Response(media_type="text/event-stream")(scope, receive, send)
            return
        if self._open >= self._most:
            busy = PlainTextResponse("too many pages are open\n", 503, {"Retry-After": "5"})
            await busy(scope, receive, send)
            return
        self._open += 1
        complete = False

        async def send_noted(message: Message) -> None:
            nonlocal complete
            complete = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        try:
            events = self._events(request.headers.get("last-event-id"), ends_s(request))
            stream = EventSourceResponse(events, ping=_PING_EVERY_S, send_timeout=self._send_timeout_s)
            await stream(scope, receive, send_noted)
            if not complete:  # this process ends: an answer without an end would be an error to the server
                await send({"type": "http.response.body"})
        except TimeoutError:
            _LOG.info("a page took nothing for %g s and was cut off", self._send_timeout_s)
        finally:
            self._open -= 1

    async def _events(self, position: str | None, until_s: float | None) -> AsyncGenerator[ServerSentEvent]:
        async for message in self._board.messages(position):
            if until_s is not None and time.time() >= until_s:
                return  # the page comes again, and is sent to the sign-in
            yield ServerSentEvent(message.data, event=message.event, id=message.position)
