"""Is there a broker, and is that port free: questions to the network that the ways to a broker have in common."""

import itertools
import logging
import random
import socket
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from broker.errors import BrokerUnresponsiveError, PortInUseError
from broker.settings import LOOPBACK

_POLL_INTERVAL_S = 0.02
_REQUEST_TIMEOUT_MS = 2000
PORTS = range(20_000, 32_000)


def free_ports(count: int = 1, besides: Container[int] = ()) -> list[int]:
    """So many ports of the loopback interface that nothing listens on now, all different, none of `besides`.

    Below the ports that systems give outgoing connections (Linux from 32768, the others from 49152): a client that
    keeps trying to reach a broker while it is down would otherwise now and then be given the broker's own port,
    connect to itself, and keep the broker from coming back.
    """
    drawn = random.SystemRandom().sample(PORTS, k=100 + count)
    free = list(itertools.islice((port for port in drawn if port not in besides and _is_free(port)), count))
    if len(free) < count:
        raise PortInUseError(
            f"of {len(drawn)} ports tried between {PORTS.start} and {PORTS.stop} on {LOOPBACK} {len(free)} are free;"
            f" expected {count}. Name one with --port"
        )
    return free


def require_free(port: int) -> None:
    """Raise PortInUseError if something listens on this port of the loopback interface."""
    if not _is_free(port):
        raise PortInUseError(
            f"port {port} on {LOOPBACK} is taken by another program; expected it free for the broker."
            " End that program, or choose another port with --port (0 = a free one)"
        )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As Java does: connections of an earlier broker that linger in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def await_answer(
    bootstrap_servers: str, timeout_s: float, check_alive: Callable[[], None] = lambda: None
) -> None:
    """Return once the broker has answered a metadata request naming at least one live broker.

    Args:
        bootstrap_servers: one `host:port`.
        timeout_s: how long to wait for it.
        check_alive: called while waiting; raises if waiting is in vain.

    Raises:
        BrokerUnresponsiveError: no such answer within `timeout_s`.
    """
    deadline_s = time.monotonic() + timeout_s
    with _client_silenced():
        while (seen := _no_answer(bootstrap_servers)) is not None:
            check_alive()
            if time.monotonic() > deadline_s:
                raise BrokerUnresponsiveError(
                    f"no answer from the broker at {bootstrap_servers} within {timeout_s:g} s: {seen}. Expected its"
                    " metadata; the machine may be overloaded: try again, and look at the broker's log"
                )
            time.sleep(_POLL_INTERVAL_S)


def _no_answer(bootstrap_servers: str) -> str | None:
    """Ask once, for a few seconds at most: None, or what there was instead of metadata naming a live broker."""
    if not reachable(bootstrap_servers, timeout_s=1.0):
        return "the port refuses connections"
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=bootstrap_servers,
            bootstrap_timeout_ms=_REQUEST_TIMEOUT_MS,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
        )
        try:
            return None if admin.describe_cluster()["brokers"] else "its metadata names no live broker"
        finally:
            admin.close()
    except KafkaError as error:
        return f"{type(error).__name__}: {error}"


@contextmanager
def _client_silenced() -> Iterator[None]:
    """The client logs every refused connection as an error; while a broker starts they are no news."""
    logger = logging.getLogger("kafka")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def reachable(bootstrap_servers: str, timeout_s: float) -> bool:
    """Whether any of the comma-separated `host:port` accepts a TCP connection within `timeout_s` each."""
    for address in bootstrap_servers.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout_s).close()
        except (OSError, ValueError, OverflowError):
            continue
        return True
    return False
