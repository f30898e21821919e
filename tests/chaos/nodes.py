"""The brokers of a cluster: each with a disk of its own, and listeners behind proxies."""

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from broker import EmbeddedBroker
from broker.embedded import random_cluster_id
from broker.probe import free_ports
from tests.chaos.disk import Disk, can_mount
from tests.chaos.proxy import Proxy

SIDES = 2
"""Workers are on one side or the other: each side reaches every broker through proxies of its own."""
_PORTS = 2 + 2 * SIDES
_HEAP_MB = 384


class Node:
    """One broker, on its disk, behind its proxies.

    Attributes:
        broker: not started yet.
        disk: the broker's own, where one can be mounted.
        proxies: one for each side.
        address: past the proxies.
    """

    def __init__(self, folder: Path, number: int, ports: Sequence[Sequence[int]], cluster_id: str) -> None:
        port, controller_port, *others = ports[number]
        proxied, proxy_ports = others[:SIDES], others[SIDES:]
        names = [f"PROXIED{side}" for side in range(SIDES)]
        main, copies = f"PLAINTEXT://127.0.0.1:{port}", str(len(ports))
        voters = [f"{node + 1}@127.0.0.1:{controller}" for node, (_, controller, *_) in enumerate(ports)]
        self.address = f"127.0.0.1:{port}"
        self._log = folder / f"broker-{number}.log"
        self.disk = Disk(folder / f"disk-{number}") if can_mount() else None
        self.proxies = [Proxy(at, target) for at, target in zip(proxy_ports, proxied, strict=True)]
        self.broker = EmbeddedBroker(
            port=port,
            data_dir=folder / f"disk-{number}" / "broker",
            heap_mb=_HEAP_MB,
            cluster_id=cluster_id,
            properties={
                "node.id": str(number + 1),
                # Clients stay on the listener that they came through, and so behind its proxy.
                "listeners": f"{main},{_urls(names, proxied)},CONTROLLER://127.0.0.1:{controller_port}",
                "advertised.listeners": f"{main},{_urls(names, proxy_ports)}",
                "inter.broker.listener.name": "PLAINTEXT",
                "controller.quorum.voters": ",".join(voters),
                "listener.security.protocol.map": ",".join(
                    f"{name}:PLAINTEXT" for name in ["PLAINTEXT", "CONTROLLER", *names]
                ),
                "broker.session.timeout.ms": "3000",  # after a crash the new registration waits for so long
                # A dead worker's transaction is given up soon, so that a run has time for many.
                "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
                # What a wrong retention would delete is deleted by a fault of its own, when it is meant to be.
                "log.retention.check.interval.ms": "86400000",
                # As docs/guarantees.md asks: what one broker of three acknowledged, another has.
                "default.replication.factor": copies,
                "offsets.topic.replication.factor": copies,
                "transaction.state.log.replication.factor": copies,
                "min.insync.replicas": str(len(ports) // 2 + 1),
                "transaction.state.log.min.isr": str(len(ports) // 2 + 1),
            },
        )

    def keep_log(self) -> None:
        """Copy the broker's log beside the workers': its own goes with the disk."""
        with suppress(OSError):
            shutil.copy(self.broker.data_dir / "kafka.log", self._log)


class Nodes:
    """All brokers of a cluster. A context manager; leaving it ends them.

    Args:
        folder: for their disks.
        count: 1, or 3 for a cluster that lives on when one is gone.
    """

    def __init__(self, folder: Path, count: int) -> None:
        free = free_ports(_PORTS * count)
        ports = [free[first : first + _PORTS] for first in range(0, len(free), _PORTS)]
        cluster_id = random_cluster_id()
        self.all = [Node(folder, number, ports, cluster_id) for number in range(count)]
        self._stack = ExitStack()

    @property
    def bootstrap_servers(self) -> str:
        """Addresses past the proxies."""
        return ",".join(node.address for node in self.all)

    def proxied_servers(self, side: int) -> str:
        """Return the addresses of one side's proxies."""
        return ",".join(f"127.0.0.1:{node.proxies[side].port}" for node in self.all)

    def __enter__(self) -> Self:
        """Start disks, brokers and proxies."""
        with ExitStack() as stack:
            for node in self.all:
                if node.disk is not None:
                    stack.enter_context(node.disk)
                stack.callback(node.keep_log)
                stack.callback(node.broker.close)
                for proxy in node.proxies:
                    stack.enter_context(proxy)
            with ThreadPoolExecutor(len(self.all)) as pool:  # none answers before most of them are up
                list(pool.map(lambda node: node.broker.start(), self.all))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End everything."""
        self._stack.close()


def _urls(names: Sequence[str], ports: Sequence[int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in zip(names, ports, strict=True))
