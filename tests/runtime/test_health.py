"""Health over HTTP and the watchdog."""

import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest

from detector.runtime.health import EXIT_STALLED, MAX_CONNECTIONS, HealthServer, Heartbeat
from detector.runtime.metrics import DetectorMetrics


def status(port: int, path: str) -> int:
    """Return the HTTP status of a path."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_health_follows_the_loop() -> None:
    """Alive while the loop comes round, ready once it is in the group, neither when it stands still."""
    now_s = [0.0]
    heartbeat = Heartbeat(lambda: now_s[0])
    server = HealthServer("127.0.0.1", 0, DetectorMetrics().registry, heartbeat, stall_timeout_s=10)
    try:
        assert (status(server.port, "/healthz"), status(server.port, "/readyz")) == (200, 503)
        heartbeat.ready = True
        assert status(server.port, "/readyz") == 200
        now_s[0] = 11
        assert (status(server.port, "/healthz"), status(server.port, "/readyz")) == (503, 503)
        heartbeat.beat()
        assert (status(server.port, "/healthz"), status(server.port, "/metrics")) == (200, 200)
        assert status(server.port, "/secrets") == 404
    finally:
        server.close()


def test_silent_connections_hold_no_threads(capfd: pytest.CaptureFixture[str]) -> None:
    """Whoever connects and says nothing, or half a request, costs a few threads at most, and who asks is answered."""
    server = HealthServer("127.0.0.1", 0, DetectorMetrics().registry, Heartbeat(), stall_timeout_s=600)
    before = threading.active_count()
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5 * MAX_CONNECTIONS)]
    try:
        for one in silent[::2]:
            one.sendall(b"GET /metr")
        for _ in range(3):
            assert status(server.port, "/healthz") == 200
        for one in silent[: 4 * MAX_CONNECTIONS]:  # they are closed, each with its thread
            one.settimeout(10)
            assert one.recv(1) == b""
        assert threading.active_count() <= before + MAX_CONNECTIONS + 1
        assert status(server.port, "/metrics") == 200
    finally:
        for one in silent:
            one.close()
        server.close()
    assert not capfd.readouterr().err


def test_a_taken_port_is_an_error() -> None:
    """A second server on the same port fails at once."""
    heartbeat, registry = Heartbeat(), DetectorMetrics().registry
    server = HealthServer("127.0.0.1", 0, registry, heartbeat, 10)
    try:
        with pytest.raises(OSError, match="in use"):
            HealthServer("127.0.0.1", server.port, registry, heartbeat, 10)
    finally:
        server.close()


@pytest.mark.parametrize(("beats", "code"), [(True, 0), (False, EXIT_STALLED)])
def test_the_watchdog_ends_a_process_that_stands_still(beats: bool, code: int) -> None:  # noqa: FBT001  a parameter
    """A loop that hangs ends the process with exit code 70; one that beats is left alone."""
    program = f"""
import time
from detector.runtime.health import Heartbeat, Watchdog
heartbeat = Heartbeat()
with Watchdog(heartbeat, stall_timeout_s=1.0):
    for _ in range(30):
        time.sleep(0.1)
        if {beats}:
            heartbeat.beat()
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == code
    assert ("stood still" in ended.stderr) is not beats
