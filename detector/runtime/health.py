"""Health: /metrics, /healthz and /readyz over HTTP, and the watchdog that ends a worker that stands still."""

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from detector.runtime.periodic import Periodic

_LOG = logging.getLogger(__name__)
EXIT_STALLED = 70
"""EX_SOFTWARE of sysexits.h: an orchestrator restarts the worker."""
MAX_CONNECTIONS: Final = 16
_SILENT_S: Final = 10.0


class Heartbeat:
    """When the loop last made progress, and whether it is ready. Shared between threads: two plain fields."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._last_s = clock_s()
        self.ready = False

    def beat(self) -> None:
        """Tell that the loop made progress: it committed a batch, or found nothing to do."""
        self._last_s = self._clock_s()

    def age_s(self) -> float:
        """Return the time since the last beat, in seconds."""
        return self._clock_s() - self._last_s


class _SilentHandler(WSGIRequestHandler):
    timeout = _SILENT_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """Log nothing: scrapes come every few seconds."""


class _Server(ThreadingWSGIServer):
    """A thread for each connection, of which there are few: a new one ends the oldest.

    A scrape takes milliseconds. What is open for longer is silent, or sends byte by byte, and would use up the threads
    that this process may have.
    """

    request_queue_size = 128

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._open: deque[socket.socket] = deque()

    def process_request(self, request: Any, client_address: Any) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            with suppress(OSError, IndexError):  # it has just ended by itself
                self._open.popleft().shutdown(socket.SHUT_RDWR)
        self._open.append(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with suppress(ValueError):
            self._open.remove(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of who was silent for too long, or has gone."""


class HealthServer:
    """Serves /metrics, /healthz (the loop makes progress) and /readyz (it holds partitions, or waits for some).

    Raises:
        OSError: the port is taken or the address is not this machine's.
    """

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, heartbeat: Heartbeat, stall_timeout_s: float
    ) -> None:
        metrics = make_wsgi_app(registry)

        def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            path = environ.get("PATH_INFO")
            if path == "/metrics":
                exposition: Iterable[bytes] = metrics(environ, start_response)
                return exposition
            age_s = heartbeat.age_s()
            alive = age_s < stall_timeout_s
            answers = {
                "/healthz": (alive, f"the loop last made progress {age_s:.1f} s ago\n"),
                "/readyz": (
                    alive and heartbeat.ready,
                    "ready\n" if heartbeat.ready else "not in the group yet\n",
                ),
            }
            if path not in answers:
                start_response("404 Not Found", [("Content-Type", "text/plain")])
                return [b"expected /metrics, /healthz or /readyz\n"]
            good, text = answers[path]
            status = "200 OK" if good else "503 Service Unavailable"
            start_response(status, [("Content-Type", "text/plain")])
            return [text.encode()]

        self._server = make_server(host, port, app, _Server, _SilentHandler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Watchdog(Periodic):
    """Ends the process when the loop stands still: kafka-python's commit has no time limit of its own.

    A context manager; outside it nothing is watched.
    """

    def __init__(self, heartbeat: Heartbeat, stall_timeout_s: float) -> None:
        super().__init__(self._look, min(1.0, stall_timeout_s / 4), "watchdog")
        self._heartbeat = heartbeat
        self._stall_timeout_s = stall_timeout_s

    def _look(self) -> None:
        age_s = self._heartbeat.age_s()
        if age_s > self._stall_timeout_s:
            _LOG.critical(
                "the loop has stood still for %.0f s, expected it round within %.0f s: ending with exit code %d, "
                "so that this worker is restarted and its partitions are taken over",
                age_s,
                self._stall_timeout_s,
                EXIT_STALLED,
            )
            logging.shutdown()
            os._exit(EXIT_STALLED)  # the main thread may hang in the client: nothing gentler reaches it
