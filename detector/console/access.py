"""Who may see the console: the token, the cookie that stands for it, and requests of the console's own page only."""

import hmac
import logging
import time

from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    BaseUser,
    SimpleUser,
    has_required_scope,
)
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from detector.console.config import ConsoleConfig

_LOG = logging.getLogger(__name__)
VIEWER, ANALYST = "viewer", "analyst"
RIGHTS_HEADER = "Console-Rights"
"""What the one who asks may do, in the answer of a session."""
SESSION_MAX_AGE_S = 12 * 3600

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


def access(config: ConsoleConfig) -> list[Middleware]:
    """Return what a request passes before it is answered, the outermost first."""
    authentication = Middleware(AuthenticationMiddleware, backend=_Access(config.token, config.analyst_token))
    if config.token is None:
        # A foreign page that points its own name at this machine (DNS rebinding) would else read along.
        hosts = ["127.0.0.1", "localhost", "[::1]", "::1", config.host]
        named = Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
        return [Middleware(_OwnPageOnly), named, authentication]
    session = Middleware(
        SessionMiddleware,
        # Another token ends every session; the cookie says nothing of the token.
        secret_key=hmac.digest(
            f"{config.token} {config.analyst_token or ''}".strip().encode(),
            b"session-detector console session",
            "sha256",
        ).hex(),
        session_cookie="__Host-console",
        max_age=SESSION_MAX_AGE_S,
        same_site="strict",
        https_only=True,  # browsers make an exception for localhost
    )
    return [Middleware(_OwnPageOnly), session, authentication]


def ends_s(connection: HTTPConnection) -> float | None:
    """Return when what let the viewer in ends, in seconds of the epoch; None if it doesn't: no cookie did."""
    signed_in_s = connection.scope.get("session", {}).get(VIEWER)
    return None if signed_in_s is None else float(signed_in_s) + SESSION_MAX_AGE_S


class _Access(AuthenticationBackend):
    """Anybody, where there is no token; else who presents one, or did and has the cookie."""

    def __init__(self, token: str | None, analyst_token: str | None) -> None:
        self._token = token
        self._analyst_token = analyst_token

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        if self._analyst_token is not None and (
            conn.session.get(ANALYST) or _presented(conn, self._analyst_token)
        ):
            return AuthCredentials([VIEWER, ANALYST]), SimpleUser(ANALYST)
        if self._token is None or conn.session.get(VIEWER) or _presented(conn, self._token):
            return AuthCredentials([VIEWER]), SimpleUser(VIEWER)
        return None


class SignIn:
    """Exchanges a token for a cookie, ends it, and tells whether there is need of one.

    Args:
        token: None if the console asks for none.
        analyst_token: of who may give verdicts; None if nobody may.
    """

    def __init__(self, token: str | None, analyst_token: str | None = None) -> None:
        self._token = token
        self._analyst_token = analyst_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope, receive)
        await self._answer(request)(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        if request.method in {"GET", "HEAD"}:
            allowed = has_required_scope(request, [VIEWER])
            rights = " ".join(request.auth.scopes)
            return Response(status_code=204 if allowed else 401, headers={RIGHTS_HEADER: rights})
        if self._token is None:
            return PlainTextResponse("this console asks for no token\n", 404)
        if request.method == "DELETE":
            request.session.clear()
            return Response(status_code=204)
        is_analyst = self._analyst_token is not None and _presented(request, self._analyst_token)
        if not (is_analyst or _presented(request, self._token)):
            _LOG.warning("a sign-in from %s was refused", request.client.host if request.client else "?")
            return PlainTextResponse("wrong token\n", 401, {"WWW-Authenticate": "Bearer"})
        request.session.clear()
        request.session[VIEWER] = int(time.time())
        if is_analyst:
            request.session[ANALYST] = True
        return Response(status_code=204)


def _presented(connection: HTTPConnection, token: str) -> bool:
    scheme, _, given = connection.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


class _OwnPageOnly:
    """Refuses what another site's page asks for, links that lead here aside (Fetch Metadata Request Headers, W3C).

    Such a page could read no answer, but might open streams; and to a cookie, any port of a host is the same site.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            own = headers.get("sec-fetch-site", "none") in {"same-origin", "none"}
            link = scope["method"] == "GET" and headers.get("sec-fetch-dest") == "document"
            if not (own or link):
                await PlainTextResponse("for this console's own page only\n", 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class WithSecurityHeaders:
    """Adds SECURITY_HEADERS to every answer, errors included, and keeps answers out of caches that said nothing else.

    Args:
        app: whose answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)
