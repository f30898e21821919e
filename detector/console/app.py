"""The application: one page, its files and a stream of events."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx2
from starlette.applications import Starlette
from starlette.authentication import has_required_scope
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from detector.console.access import ANALYST, VIEWER, SignIn, WithSecurityHeaders, access
from detector.console.board import VERDICTS_LINK, About, Board, Link, LinkState
from detector.console.config import ConsoleConfig
from detector.console.explanations import Explanations
from detector.console.feed import Feed
from detector.console.figures import EVERY_S, WorkerReader
from detector.console.streams import Streams
from detector.console.verdicts import Verdicts
from detector.model.at_hand import ModelsAtHand
from detector.runtime.subscription import recent_alerts, verdicts_since
from detector.runtime.verdicts import publish_verdict

_STATIC = Path(__file__).with_name("static")
_CLOCKS_MS = 3_600_000
"""A verdict may have been published by a clock that is so far behind its alert's."""


def create_app(config: ConsoleConfig) -> ASGIApp:
    """Return the application. Alerts and figures are read from its start to its end (ASGI's lifespan)."""
    about = About(
        keep=config.keep,
        workers=len(config.metrics_urls),
        token_required=config.token is not None,
        runbook_url=config.runbook_url,
    )
    board = Board(about, LinkState(Link.CONNECTING, time.time_ns() // 1_000_000))

    @asynccontextmanager
    async def running(_: Starlette) -> AsyncIterator[None]:
        subscribe = partial(recent_alerts, config.bootstrap_servers, config.topic, most=config.keep)
        feed = Feed(subscribe, board.add, board.set_link, asyncio.get_running_loop(), "alerts")
        beside = [_read_figures(config.metrics_urls, board), _follow_verdicts(config, board)]
        tasks = [asyncio.create_task(one) for one in beside]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(asyncio.to_thread(feed.close), *tasks, return_exceptions=True)

    routes = [
        Route("/", _page),
        Route("/login", _login_page),
        Route("/session", SignIn(config.token, config.analyst_token), methods=["GET", "POST", "DELETE"]),
        Route("/stream", _For(VIEWER, Streams(board)), methods=["GET"]),
        Route(
            "/verdicts",
            _For(ANALYST, Verdicts(board, lambda one: publish_verdict(config.publishing, one))),
            methods=["POST"],
        ),
        Route(
            "/explanations/{alert_id:path}",
            _For(VIEWER, Explanations(board, ModelsAtHand(config.models))),
            methods=["GET"],
        ),
        Route("/healthz", _healthz),
        Mount("/static", _Files(directory=_STATIC)),
    ]
    app = Starlette(routes=routes, middleware=access(config), lifespan=running)
    app.router.redirect_slashes = False  # such an answer would hold the host that the request named
    return WithSecurityHeaders(app)


class _For:
    def __init__(self, right: str, app: ASGIApp) -> None:
        self._right = right
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, refused = Request(scope), PlainTextResponse("sign in\n", 401)
        if has_required_scope(request, [VIEWER]):
            refused = PlainTextResponse("not yours to do\n", 403)
        allowed = has_required_scope(request, [self._right])
        await (self._app if allowed else refused)(scope, receive, send)


class _Files(StaticFiles):
    """Files that a browser asks after each time: those of two versions don't fit together."""

    def file_response(self, *args: object, **options: object) -> Response:
        answer = super().file_response(*args, **options)  # type: ignore[arg-type]  # handed on as they are
        answer.headers["Cache-Control"] = "no-cache"
        return answer


async def _page(request: Request) -> Response:
    if not has_required_scope(request, [VIEWER]):
        return RedirectResponse("login", 303)
    return FileResponse(_STATIC / "index.html", headers={"Cache-Control": "no-store"})


async def _login_page(_: Request) -> Response:
    return FileResponse(_STATIC / "login.html", headers={"Cache-Control": "no-store"})


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _read_figures(urls: tuple[str, ...], board: Board) -> None:
    if not urls:
        return
    loop = asyncio.get_running_loop()
    async with httpx2.AsyncClient() as client:
        reader = WorkerReader(urls, client)
        while True:
            begun_s = loop.time()
            board.set_figures(await reader.read())
            await asyncio.sleep(max(0.0, begun_s + EVERY_S - loop.time()))


async def _follow_verdicts(config: ConsoleConfig, board: Board) -> None:
    """Read verdicts once it is known which alerts they may be on, from the oldest of these on."""
    oldest_ms = await board.oldest_ms()
    since_ms = max(0, (time.time_ns() // 1_000_000 if oldest_ms is None else oldest_ms) - _CLOCKS_MS)
    subscribe = partial(verdicts_since, config.bootstrap_servers, config.verdicts_topic, since_ms)
    tell = partial(board.set_link, of=VERDICTS_LINK)
    feed = Feed(subscribe, board.judge, tell, asyncio.get_running_loop(), "verdicts")
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.to_thread(feed.close)
