"""The application: one page, its files, a stream of events, and who may see them."""

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx2
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    BaseUser,
    SimpleUser,
    has_required_scope,
    requires,
)
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from detector.console.board import About, Board, Link, LinkState
from detector.console.config import ConsoleConfig
from detector.console.feed import Feed
from detector.console.figures import EVERY_S, TIMEOUT_S, WorkerReader
from detector.runtime.subscription import RecentAlerts

_LOG = logging.getLogger(__name__)
_STATIC = Path(__file__).with_name("static")
_VIEWER = "viewer"
_SESSION_MAX_AGE_S = 12 * 3600
_PING_EVERY_S = 15
_SEND_TIMEOUT_S = 60

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""On every answer. The page needs no more than its own files, so that markup in an id can do nothing
(Content Security Policy Level 3 and Trusted Types, W3C)."""


def create_app(config: ConsoleConfig) -> ASGIApp:
    """Return the application. Alerts and figures are read from its start to its end (ASGI's lifespan)."""
    about = About(keep=config.keep, workers=len(config.metrics_urls), token_required=config.token is not None)
    board = Board(about, LinkState(Link.CONNECTING, _now_ms()))

    @asynccontextmanager
    async def running(_: Starlette) -> AsyncIterator[None]:
        subscription = partial(RecentAlerts, config.bootstrap_servers, config.topic, most=config.keep)
        feed = Feed(subscription, board, asyncio.get_running_loop())
        reading = asyncio.create_task(_read_figures(config.metrics_urls, board))
        try:
            yield
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await asyncio.to_thread(feed.close)

    async def stream(request: Request) -> Response:
        if request.method == "HEAD":  # its answer would never end
            return Response(media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        position = request.headers.get("last-event-id")
        events = (
            ServerSentEvent(message.data, event=message.event, id=message.position)
            async for message in board.messages(position)
        )
        return EventSourceResponse(events, ping=_PING_EVERY_S, send_timeout=_SEND_TIMEOUT_S)

    routes = [
        Route("/", _page),
        Route("/login", _login_page),
        Route("/session", _Session(config.token), methods=["GET", "POST", "DELETE"]),
        Route("/stream", requires(_VIEWER, status_code=401)(stream)),
        Route("/healthz", _healthz),
        Mount("/static", StaticFiles(directory=_STATIC)),
    ]
    return _SecurityHeaders(Starlette(routes=routes, middleware=_access(config), lifespan=running))


def _access(config: ConsoleConfig) -> list[Middleware]:
    authentication = Middleware(AuthenticationMiddleware, backend=_Access(config.token))
    if config.token is None:
        # A foreign page that points its own name at this machine (DNS rebinding) would else read along.
        hosts = ["127.0.0.1", "localhost", "[::1]", "::1", config.host]
        return [Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False), authentication]
    session = Middleware(
        SessionMiddleware,
        # Another token ends every session; the cookie says nothing of the token.
        secret_key=hmac.digest(config.token.encode(), b"session-detector console session", "sha256").hex(),
        session_cookie="__Host-console",
        max_age=_SESSION_MAX_AGE_S,
        same_site="strict",
        https_only=True,  # browsers make an exception for localhost
    )
    return [session, authentication]


class _Access(AuthenticationBackend):
    """Anybody, where there is no token; else who presents it, or did and has the cookie."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        if self._token is None or conn.session.get(_VIEWER) or _presented(conn, self._token):
            return AuthCredentials([_VIEWER]), SimpleUser(_VIEWER)
        return None


class _Session:
    """Exchanges the token for a cookie, ends it, and tells whether there is need of one."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await self._answer(request)(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        if request.method in {"GET", "HEAD"}:
            allowed = has_required_scope(request, [_VIEWER])
            return Response(status_code=204 if allowed else 401, headers={"Cache-Control": "no-store"})
        if self._token is None:
            return PlainTextResponse("this console asks for no token\n", 404)
        if request.method == "DELETE":
            request.session.clear()
            return Response(status_code=204)
        if not _presented(request, self._token):
            _LOG.warning("a sign-in from %s was refused", request.client.host if request.client else "?")
            return PlainTextResponse("wrong token\n", 401, {"WWW-Authenticate": "Bearer"})
        request.session[_VIEWER] = True
        return Response(status_code=204)


def _presented(connection: HTTPConnection, token: str) -> bool:
    scheme, _, given = connection.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


async def _page(request: Request) -> Response:
    if not has_required_scope(request, [_VIEWER]):
        return RedirectResponse("login", 303, {"Cache-Control": "no-store"})
    return FileResponse(_STATIC / "index.html", headers={"Cache-Control": "no-store"})


async def _login_page(_: Request) -> Response:
    return FileResponse(_STATIC / "login.html", headers={"Cache-Control": "no-store"})


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _read_figures(urls: tuple[str, ...], board: Board) -> None:
    if not urls:
        return
    async with httpx2.AsyncClient(timeout=TIMEOUT_S) as client:
        reader = WorkerReader(urls, client)
        while True:
            board.set_figures(await reader.read())
            await asyncio.sleep(EVERY_S)


class _SecurityHeaders:
    """Adds SECURITY_HEADERS to every answer, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
