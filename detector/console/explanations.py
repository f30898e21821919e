"""Explanations of alerts on the board, computed when a page asks for one."""

import asyncio
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from detector.console.board import Board
from detector.contract.alerts import Alert
from detector.core.explaining import NotExplainableError
from detector.model.artifact import ModelRefusedError
from detector.model.at_hand import ModelMissingError, ModelsAtHand


class Explanations:
    """Answers with an alert's explanation, or with `unexplained` and the reason why there is none.

    Beside it, where the model reads signals, `signals`: what each says of the deciding action, and whether as usual.

    One at a time, beside the event loop: many pages hold up each other and nothing else.

    Args:
        board: has the alerts.
        models: that they may name.
    """

    def __init__(self, board: Board, models: ModelsAtHand) -> None:
        self._board = board
        self._models = models
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        answer = msgspec.json.encode(await self._answer(Request(scope).path_params["alert_id"]))
        await Response(answer, media_type="application/json")(scope, receive, send)

    async def _answer(self, alert_id: str) -> object:
        alert = self._board.find(alert_id)
        if alert is None:
            return {"unexplained": "the alert is not among those that are kept here"}
        async with self._turn:
            return await asyncio.to_thread(self._explained, alert)

    def _explained(self, alert: Alert) -> dict[str, Any]:
        found: dict[str, Any] = {}
        try:
            found["signals"] = [one._asdict() for one in self._models.said(alert)]
            found |= msgspec.to_builtins(self._models.explain(alert))
        except (ModelMissingError, ModelRefusedError, NotExplainableError) as error:
            found["unexplained"] = str(error)
        return found
