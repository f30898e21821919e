"""Open streams, served by the real server: bounded in number, in time, and in what a page that reads nothing costs."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import psutil
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from detector.console import command, streams
from detector.console.access import SESSION_MAX_AGE_S
from detector.console.board import About, Board, Link, LinkState
from detector.console.command import listen
from detector.console.config import SEND_TIMEOUT_S
from detector.console.streams import Streams
from tests.console.alerts import NOW_MS, alert
from tests.waiting import PATIENCE_S, wait_for


def full_board(alerts: int) -> Board:
    """Return a board with alerts of 4 kB."""
    board = Board(About(keep=alerts, workers=0, token_required=False), LinkState(Link.LIVE, NOW_MS))
    board.add(alert(f"s{number}", explanation=["x" * 4_000]) for number in range(alerts))
    return board


@contextmanager
def serving(app: ASGIApp, send_timeout_s: float = SEND_TIMEOUT_S) -> Iterator[tuple[str, int]]:
    """Serve an application for the block, as the command does; yield its address."""
    with listen("127.0.0.1", 0, socket.AF_INET, send_timeout_s) as listening:
        server = uvicorn.Server(
            uvicorn.Config(Starlette(routes=[Mount("/", app)]), log_config=None, timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()
        finally:
            server.should_exit = True
            thread.join()


def request(address: tuple[str, int]) -> socket.socket:
    """Ask for a stream and take nothing of the answer."""
    page = socket.socket()
    page.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    page.connect(address)
    page.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    page.settimeout(PATIENCE_S)
    return page


def status(address: tuple[str, int]) -> int:
    """Return the status with which a further stream is answered, and leave it."""
    with (
        httpx2.Client() as client,
        client.stream("GET", f"http://{address[0]}:{address[1]}/stream") as answer,
    ):
        return answer.status_code


def test_so_many_streams_and_no_more() -> None:
    """The one beyond is asked to come again, instead of taking the place of pages and probes; one that goes makes room."""
    with serving(Streams(full_board(1), most=2)) as address:
        pages = [request(address) for _ in range(2)]
        for page in pages:
            assert page.recv(12) == b"HTTP/1.1 200"
        with httpx2.Client() as client:
            refused = client.get(f"http://{address[0]}:{address[1]}/stream")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        pages[0].close()
        wait_for(lambda: status(address) == 200, "room for a page")
        pages[1].close()
    assert command.MAX_CONNECTIONS > 2 * streams.MOST


def test_a_page_that_reads_nothing_is_cut_off() -> None:
    """Its stream ends and makes room, and its connection is closed, although not all was sent; others go on."""
    with (
        serving(Streams(full_board(2_000), most=1, send_timeout_s=0.5), 0.5) as address,
        request(address) as slow,
    ):
        wait_for(lambda: status(address) == 200, "room for a page that reads")
        ends = (address, slow.getsockname())
        wait_for(lambda: ends not in connections(), "the connection to be given up")


def connections() -> set[tuple[object, object]]:
    """Return this process's connections by local and remote address."""
    return {(tuple(one.laddr), tuple(one.raddr)) for one in psutil.Process().net_connections("tcp")}


def test_a_stream_tells_nothing_after_its_cookie_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve hours after the sign-in the stream ends before the next message; the page then has to sign in."""
    now_s = [1_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now_s[0])
    board = full_board(1)
    opened = Streams(board)
    loops = []

    async def signed_in(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["session"] = {"viewer": 1_000_000}
            loops.append(asyncio.get_running_loop())
        await opened(scope, receive, send)

    with (
        serving(signed_in) as address,
        httpx2.Client() as client,
        client.stream("GET", f"http://{address[0]}:{address[1]}/stream", timeout=PATIENCE_S) as answer,
    ):
        lines = answer.iter_lines()
        assert any("s0" in line for line in lines)
        now_s[0] += SESSION_MAX_AGE_S
        loops[0].call_soon_threadsafe(board.set_link, LinkState(Link.UNREACHABLE, NOW_MS))
        assert not any("unreachable" in line for line in lines)
