"""The official Apache Kafka image in a container, where a Docker engine answers (testcontainers)."""

import importlib.util
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from broker.errors import BrokerError, ContainerUnavailableError
from broker.jars import KAFKA_VERSION
from broker.probe import await_answer, free_ports
from broker.settings import LOOPBACK, SINGLE_NODE

IMAGE = f"apache/kafka:{KAFKA_VERSION}"

_ENGINE_TIMEOUT_S = 3
_SILENCE_TIMEOUT_S = 15
_PULL_TIMEOUT_S = 120.0
_START_TIMEOUT_S = 60.0
_LOG_LINES_SHOWN = 10
_BROKER_PORT = 9092
_CONTROLLER_PORT = 9093
_INTERNAL_PORT = 9094

_log = logging.getLogger(__name__)


@contextmanager
def container() -> Iterator[str]:
    """Run the broker in a container for the block; yields its bootstrap address, on the loopback interface.

    Never hangs: an engine has 3 s to answer, a pull 15 s between signs of progress and two minutes in all.

    Raises:
        ContainerUnavailableError: no engine answers, an image cannot be had, or the container does not come up.
    """
    if importlib.util.find_spec("testcontainers") is None:
        raise ContainerUnavailableError("testcontainers is not installed; expected it for a container")
    from testcontainers.core.config import testcontainers_config  # noqa: PLC0415 - an optional dependency, and slow
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - as above

    images = [IMAGE] if testcontainers_config.ryuk_disabled else [IMAGE, testcontainers_config.ryuk_image]
    for image in images:
        _ensure_image(image)
    (port,) = free_ports()
    kafka = DockerContainer(IMAGE, env=_environment(port))
    # Not with_bind_ports, which binds every interface.
    kafka.ports[str(_BROKER_PORT)] = (LOOPBACK, port)  # type: ignore[assignment]  # docker's own form, passed on
    address = f"{LOOPBACK}:{port}"
    try:
        kafka.start()
        await_answer(address, _START_TIMEOUT_S, lambda: _check_running(kafka.get_wrapped_container()))
    except BaseException as error:
        kafka.stop()
        if isinstance(error, Exception):  # docker's, requests' or ours: none of them may stop the next way
            raise ContainerUnavailableError(f"a container of {IMAGE} does not come up: {error}") from error
        raise
    try:
        yield address
    finally:
        kafka.stop()


def _check_running(running: Any) -> None:
    """Raise ContainerUnavailableError, with the container's last lines, once it has ended."""
    running.reload()
    if running.status == "exited":
        said = running.logs(tail=_LOG_LINES_SHOWN).decode(errors="replace")
        raise ContainerUnavailableError(f"it ended by itself, saying:\n{said}")


def _ensure_image(image: str) -> None:
    """Return if the engine has the image or can pull it in time; ContainerUnavailableError otherwise."""
    try:
        if image in _local_tags():
            return
        _log.info("pulling %s", image)
        _pull(image)
    except BrokerError:
        raise
    except Exception as error:  # the docker package lets requests' and urllib3's exceptions through
        raise ContainerUnavailableError(f"the Docker engine cannot provide {image}: {error}") from error


def _local_tags() -> set[str]:
    engine = _engine(_ENGINE_TIMEOUT_S)
    try:
        return {tag for image in engine.images.list() for tag in image.tags}
    finally:
        engine.close()


def _pull(image: str) -> None:
    deadline_s = time.monotonic() + _PULL_TIMEOUT_S
    engine = _engine(_SILENCE_TIMEOUT_S)
    try:
        for event in engine.api.pull(*image.rsplit(":", 1), stream=True, decode=True):
            if "error" in event:
                raise ContainerUnavailableError(f"{image} cannot be pulled: {event['error']}")
            if time.monotonic() > deadline_s:
                raise ContainerUnavailableError(f"{image} was not pulled within {_PULL_TIMEOUT_S:g} s")
    finally:
        engine.close()


def _engine(timeout_s: int) -> Any:
    from testcontainers.core.docker_client import DockerClient  # noqa: PLC0415 - as above

    try:
        return DockerClient(timeout=timeout_s).client
    except Exception as error:
        raise ContainerUnavailableError(f"no Docker engine answers: {error}") from error


def _environment(port: int) -> dict[str, str]:
    """Server properties as the image takes them: KAFKA_ before the name in capitals, dots as underscores."""
    properties = {
        **SINGLE_NODE,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "listeners": (
            f"PLAINTEXT://:{_BROKER_PORT},INTERNAL://{LOOPBACK}:{_INTERNAL_PORT},CONTROLLER://:{_CONTROLLER_PORT}"
        ),
        # The broker verifies transactions over a connection to itself (KIP-890), and in there nothing listens on
        # the port that clients are told.
        "inter.broker.listener.name": "INTERNAL",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port},INTERNAL://{LOOPBACK}:{_INTERNAL_PORT}",
        "controller.quorum.voters": f"1@localhost:{_CONTROLLER_PORT}",
    }
    return {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in properties.items()}
