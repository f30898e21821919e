"""Verdicts from the page: of who has the right, on an alert that the board has, to the verdicts topic."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Annotated

import msgspec
from kafka.errors import KafkaError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from detector.console.board import Board
from detector.contract.events import Identifier
from detector.contract.verdicts import MAX_WHY_CHARS, Finding, Verdict, new_verdict_id
from detector.runtime.recovery import TopicsUnfitError

_LOG = logging.getLogger(__name__)
_MAX_BYTES = 64 * 1024


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What the page sends."""

    alert_id: Identifier
    verdict: Finding
    by: Identifier
    why: Annotated[str, msgspec.Meta(max_length=MAX_WHY_CHARS)] = ""


class Verdicts:
    """Publishes a verdict; answers 204 once it is acknowledged, or says why not.

    A request must be JSON: no other site's form can send that without being asked about it first, and cookies are
    SameSite.

    Args:
        board: has the alerts.
        publish: a verdict; called beside the event loop.
    """

    def __init__(self, board: Board, publish: Callable[[Verdict], None]) -> None:
        self._board = board
        self._publish = publish

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await (await self._answer(Request(scope, receive)))(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return PlainTextResponse("expected application/json\n", 415)
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > _MAX_BYTES:
                return PlainTextResponse(f"expected at most {_MAX_BYTES} bytes\n", 413)
        try:
            given = msgspec.json.decode(body, type=Given)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            return PlainTextResponse(
                f"{error}: expected a JSON object of alert_id, verdict ({' or '.join(Finding)}), by, and why if there is a reason\n",
                400,
            )
        alert = self._board.find(given.alert_id)
        if alert is None:
            return PlainTextResponse("the alert is not among those that are kept here\n", 404)
        verdict = Verdict(
            verdict_id=new_verdict_id(),
            account_id=alert.account_id,
            session_id=alert.session_id,
            alert_id=alert.alert_id,
            verdict=given.verdict,
            by=given.by,
            decided_at_ms=time.time_ns() // 1_000_000,
            why=given.why,
        )
        try:
            await asyncio.to_thread(self._publish, verdict)
        except (TopicsUnfitError, KafkaError) as error:
            _LOG.warning("a verdict was not published: %s: %s", type(error).__name__, error)
            return PlainTextResponse("the verdict was not published: Kafka refuses it or is away\n", 503)
        return Response(status_code=204)
