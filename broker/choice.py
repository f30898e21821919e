"""Which broker: the one named in the environment, a container, or the embedded one."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

from broker.container import IMAGE, container
from broker.embedded import EmbeddedBroker
from broker.errors import BrokerError, BrokerUnresponsiveError, ContainerUnavailableError, NoBrokerError
from broker.probe import reachable

BOOTSTRAP_VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"

_EXTERNAL_TIMEOUT_S = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that answers, and where it came from."""

    bootstrap_servers: str
    kind: Literal["external", "container", "embedded"]


@contextmanager
def obtain(environ: Mapping[str, str] = os.environ) -> Iterator[Broker]:
    """Provide a broker for the block, in this order, and take it down after it unless it is somebody else's.

    1. `KAFKA_BOOTSTRAP_SERVERS`, if set: that one or none. 2. A container, if a Docker engine answers and has the
    image or pulls it in time. 3. The embedded broker, with its data in a temporary folder.

    Says on the log (`broker.choice`, INFO) which it is and why it is no other.

    Raises:
        BrokerUnresponsiveError: nothing listens at `KAFKA_BOOTSTRAP_SERVERS`.
        NoBrokerError: none of the three can be had.
    """
    with ExitStack() as stack:
        yield _choose(environ.get(BOOTSTRAP_VARIABLE, "").strip(), stack)


def _choose(external: str, stack: ExitStack) -> Broker:
    if external:
        if not reachable(external, _EXTERNAL_TIMEOUT_S):
            raise BrokerUnresponsiveError(
                f"{BOOTSTRAP_VARIABLE} names {external!r}, where no connection is accepted within"
                f" {_EXTERNAL_TIMEOUT_S:g} s; expected a broker as host:port[,host:port]."
                " Start it, correct the variable, or unset it to have a broker started for you"
            )
        _log.info("broker: %s, named by %s", external, BOOTSTRAP_VARIABLE)
        return Broker(external, "external")
    try:
        address = stack.enter_context(container())
    except ContainerUnavailableError as error:
        no_container = str(error)
    else:
        _log.info("broker: %s, a container of %s", address, IMAGE)
        return Broker(address, "container")
    try:
        embedded = stack.enter_context(EmbeddedBroker())
    except BrokerError as error:
        raise NoBrokerError(
            "no Kafka broker can be had; expected one of three ways to be open:\n"
            f"1. {BOOTSTRAP_VARIABLE}: not set. Set it to host:port of a running broker\n"
            f"2. a container of {IMAGE}: {no_container}. Start a Docker engine that has the image or can pull it\n"
            f"3. the embedded broker: {error}"
        ) from error
    _log.info("broker: %s, embedded (no container: %s)", embedded.bootstrap_servers, no_container)
    return Broker(embedded.bootstrap_servers, "embedded")
