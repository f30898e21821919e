"""The faults: each hurts a running cluster in one way, and leaves it able to heal."""

import random
import signal
import time
from collections.abc import Callable, Mapping

from tests.chaos.cluster import (
    SESSION_TIMEOUT_MS,
    STALL_TIMEOUT_MS,
    TRANSACTION_TIMEOUT_MS,
    ChaosError,
    Cluster,
    until,
)
from tests.chaos.launcher import DEADLY
from tests.chaos.models import RULES, VERSIONS
from tests.chaos.nodes import Node
from tests.chaos.operators import (
    change_model_for_a_failing_one,
    delete_state,
    join_old_worker,
    narrow_alerts,
    narrow_dead_letters,
    spoil_state_topic,
    upgrade,
)
from tests.chaos.producers import poison_batches, wild_clocks
from tests.chaos.worker import Worker

_WORKERS = (2, 2, 3, 3, 4, 5, 8)
"""How many workers there may be; few more often than many, for the sake of the machine."""
_DEADLY_PATIENCE_S = 15.0
_DISK_PATIENCE_S = 20.0

Fault = Callable[[Cluster, random.Random], None]


def _victim(cluster: Cluster, rng: random.Random) -> Worker:
    """Choose a worker at work; where none is yet, any."""
    return rng.choice(cluster.at_work() or cluster.workers)


def kill_worker(cluster: Cluster, rng: random.Random) -> None:
    """SIGKILL at any moment; another worker is started."""
    _victim(cluster, rng).send(signal.SIGKILL)
    cluster.start_worker()


def kill_at(point: str) -> Fault:
    """Return the fault that kills a worker at one point of its loop."""

    def fault(cluster: Cluster, rng: random.Random) -> None:
        doomed = cluster.start_worker((point, rng.randint(1, 5)))
        deadline_s = time.monotonic() + _DEADLY_PATIENCE_S
        while doomed.alive and time.monotonic() < deadline_s:
            time.sleep(0.05)
        if doomed.alive:  # it never got there: it held no partition
            doomed.send(signal.SIGKILL)

    fault.__doc__ = f"SIGKILL {point.replace('-', ' ')}."
    return fault


def terminate_worker(cluster: Cluster, rng: random.Random) -> None:
    """SIGTERM; another worker is started."""
    _victim(cluster, rng).send(signal.SIGTERM)
    cluster.start_worker()


def scale_workers(cluster: Cluster, rng: random.Random) -> None:
    """Workers join, or leave in order, until there are as many as drawn."""
    wanted = rng.choice([number for number in _WORKERS if number != len(cluster.workers)])
    for worker in rng.sample(cluster.workers, max(0, len(cluster.workers) - wanted)):
        worker.send(signal.SIGTERM)
    for _ in range(wanted - len(cluster.workers)):
        cluster.start_worker()


def zombie(cluster: Cluster, rng: random.Random) -> None:
    """SIGSTOP past the session timeout: the group goes on, and the worker wakes as nobody."""
    _stopped(_victim(cluster, rng), SESSION_TIMEOUT_MS / 1000 + rng.uniform(0.5, 2))


def zombies_in_rebalance(cluster: Cluster, rng: random.Random) -> None:
    """Two workers are stopped while a third joins: one before it can rejoin, the other while it waits for the first.

    The group throws both out. The second learns of it in the middle of joining, where the client forgets to say so.
    """
    while len(cluster.at_work()) < 2:
        cluster.supervise()
        joined = cluster.start_worker()
        until(lambda one=joined: one.at_work or not one.alive, "a worker to hold partitions")  # type: ignore[misc]
    first, second = rng.sample(cluster.at_work(), 2)
    joining = cluster.start_worker()
    until(lambda: bool(joining.said("threshold")) or not joining.alive, "a worker to start")
    first.send(signal.SIGSTOP)
    time.sleep(SESSION_TIMEOUT_MS / 1000 * rng.uniform(0.4, 0.9))
    second.send(signal.SIGSTOP)
    time.sleep(2 * SESSION_TIMEOUT_MS / 1000 + rng.uniform(1, 2))
    second.send(signal.SIGCONT)
    time.sleep(rng.uniform(0, 1))
    first.send(signal.SIGCONT)


def late_transaction(cluster: Cluster, rng: random.Random) -> None:
    """SIGSTOP past the transaction timeout, but not the session's: the broker aborts behind the worker's back."""
    _stopped(_victim(cluster, rng), TRANSACTION_TIMEOUT_MS / 1000 + rng.uniform(0.5, 1))


def short_pause(cluster: Cluster, rng: random.Random) -> None:
    """SIGSTOP for less than any timeout."""
    _stopped(_victim(cluster, rng), rng.uniform(0.1, 1))


def _stopped(worker: Worker, seconds: float) -> None:
    worker.send(signal.SIGSTOP)
    time.sleep(seconds)
    worker.send(signal.SIGCONT)


def cut_network(cluster: Cluster, rng: random.Random) -> None:
    """Silence between some of the workers and the broker, shorter or longer than the session timeout."""
    proxies = cluster.proxies_of(_victim(cluster, rng))
    for proxy in proxies:
        proxy.cut()
    time.sleep(rng.choice([rng.uniform(0.2, 2), SESSION_TIMEOUT_MS / 1000 + rng.uniform(0.5, 2)]))
    for proxy in proxies:
        proxy.mend()


def reset_connections(cluster: Cluster, rng: random.Random) -> None:
    """Connections of some of the workers break, several times, with what was on its way."""
    proxies = cluster.proxies_of(_victim(cluster, rng))
    for _ in range(rng.randint(1, 4)):
        for proxy in proxies:
            proxy.reset()
        time.sleep(rng.uniform(0, 0.5))


def _node(cluster: Cluster, rng: random.Random) -> Node:
    return rng.choice(cluster.nodes)


def kill_broker(cluster: Cluster, rng: random.Random) -> None:
    """SIGKILL of a broker; it comes back on its data. What it led and coordinated goes to another, if there is one."""
    broker = _node(cluster, rng).broker
    broker.kill()
    broker.start()


def restart_broker(cluster: Cluster, rng: random.Random) -> None:
    """A broker stops in order, stays away for some seconds, and comes back."""
    broker = _node(cluster, rng).broker
    broker.stop()
    time.sleep(rng.uniform(0, 4))
    broker.start()


def stop_broker_for_a_minute(cluster: Cluster, rng: random.Random) -> None:
    """A broker is away for a minute."""
    broker = _node(cluster, rng).broker
    broker.stop()
    time.sleep(60)
    broker.start()


def fill_disk(cluster: Cluster, rng: random.Random) -> None:
    """A broker's disk is full, and the broker ends itself; it comes back once there is room."""
    node = _node(cluster, rng)
    if node.disk is None:
        raise ChaosError("no disk to fill: this process may not mount one")
    node.disk.fill()
    try:
        until(lambda: not node.broker.running, "the broker to end on its full disk", _DISK_PATIENCE_S)
    finally:
        node.disk.free()
    node.broker.start()


def slow_broker(cluster: Cluster, rng: random.Random) -> None:
    """A broker runs in fits and starts for some seconds."""
    broker = _node(cluster, rng).broker
    deadline_s = time.monotonic() + rng.uniform(2, 4)
    while time.monotonic() < deadline_s:
        broker.pause()
        time.sleep(rng.uniform(0.05, 0.4))
        broker.resume()
        time.sleep(rng.uniform(0.02, 0.1))


def hanging_broker(cluster: Cluster, rng: random.Random) -> None:
    """A broker takes requests and answers none, for longer than a worker's watchdog waits."""
    broker = _node(cluster, rng).broker
    broker.pause()
    time.sleep(STALL_TIMEOUT_MS / 1000 + 4)
    broker.resume()


def add_partition(cluster: Cluster, _: random.Random) -> None:
    """The input gets a partition more; sessions move among partitions."""
    cluster.add_partition()


def change_model(cluster: Cluster, rng: random.Random) -> None:
    """Another model is put in service under load, now and then after a file that is none; its workers reload."""
    if rng.random() < 0.3:
        cluster.put_damaged_model()
        time.sleep(0.5)
    cluster.put_model(rng.randrange(len(VERSIONS)))
    time.sleep(rng.uniform(0, 1))


def change_rules(cluster: Cluster, rng: random.Random) -> None:
    """Other rules are put in service under load, now and then after a file that fits no model; workers reload."""
    if rng.random() < 0.3:
        cluster.put_refused_rules()
        time.sleep(0.5)
    cluster.put_rules(rng.randrange(len(RULES)))
    time.sleep(rng.uniform(0, 1))


ROLLING_UPGRADE = "rolling upgrade"
"""The first fault of a run, if it is one: its first workers are of the old version."""
OLD_WORKER = "old worker joins"
FAULTS: Mapping[str, tuple[float, Fault]] = {
    "kill worker": (4, kill_worker),
    **{f"kill worker {point}": (1.5, kill_at(point)) for point in DEADLY},
    "terminate worker": (3, terminate_worker),
    "workers join or leave": (4, scale_workers),
    "zombie": (3, zombie),
    "zombies in a rebalance": (1.5, zombies_in_rebalance),
    "transaction timeout": (3, late_transaction),
    "short pause": (2, short_pause),
    "network cut": (4, cut_network),
    "connections reset": (3, reset_connections),
    "broker killed": (3, kill_broker),
    "broker restarted": (2, restart_broker),
    "broker slow": (3, slow_broker),
    "broker hangs": (0.5, hanging_broker),
    "broker away for a minute": (0.3, stop_broker_for_a_minute),
    "disk full": (1.5, fill_disk),
    "partition added": (0.5, add_partition),
    "model changed": (5, change_model),
    "rules changed": (4, change_rules),
    "model fails": (3, change_model_for_a_failing_one),
    "poison batch": (4, poison_batches),
    "wild clocks": (4, wild_clocks),
    "state deleted": (3, delete_state),
    "state topic with retention": (2.5, spoil_state_topic),
    "alerts topic narrow": (2, narrow_alerts),
    "dead-letter topic narrow": (2, narrow_dead_letters),
    OLD_WORKER: (2.5, join_old_worker),
    ROLLING_UPGRADE: (0, upgrade),
}
"""Each fault with the weight it is drawn with."""
