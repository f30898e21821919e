"""Lag: how many records wait for this worker, as the brokers tell, and how many for somebody's open transaction."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple, Protocol

from kafka import TopicPartition
from kafka.admin import OffsetSpec
from prometheus_client import Gauge

from detector.client.admin import Admin
from detector.connection import client_options

_LOG = logging.getLogger(__name__)
_INTERVAL_S = 5.0
_PATIENCE_S = 1.0
"""How long a measurement waits for the loop to tell where it is. A turn that takes longer stands where it was."""
_TIMEOUT_MS = 3_000

Lags = tuple[Gauge, Gauge, Gauge]
"""By partition: records that could be read and are not committed, those behind an open transaction, and for how long."""
Positions = Mapping[TopicPartition, int]
Sources = Collection[TopicPartition]


class Ends(NamedTuple):
    """Where a partition ends.

    Attributes:
        stable: its last stable offset, before the first open transaction: as far as committed records can be read.
        high: its high watermark.
    """

    stable: int
    high: int


class EndsOf(Protocol):
    """Tells where partitions end."""

    def __call__(self, sources: Sources, /) -> Mapping[TopicPartition, Ends]:
        """Return the ends of these partitions, without those that could not be told."""

    def close(self) -> None:
        """Ask no more."""


class LagMeter:
    """Measures the lag of the held partitions on a thread of its own, so that no broker that is away stops the loop.

    What was read is told by positions, which pass markers of transactions and aborted records as well; offsets of the
    state do not, and would stay one marker behind for ever. The ends are asked for first and the positions after, so
    that a worker that keeps up shows no lag; where the loop stands still, the last positions count, and the lag grows.
    A partition whose end nobody tells, as one without a leader, has no lag exposed: it is not known.

    Args:
        ends: tells the ends of partitions; closed with this object.
        lags: where it is exposed.
        interval_s: between two measurements.
        patience_s: how long one waits for the loop to tell where it is.
        clock_s: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        ends: EndsOf,
        lags: Lags,
        interval_s: float = _INTERVAL_S,
        patience_s: float = _PATIENCE_S,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ends = ends
        self._lags = lags
        self._interval_s = interval_s
        self._patience_s = patience_s
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._positions: Positions = {}
        self._shown: set[int] = set()
        self._stood: dict[TopicPartition, tuple[int, float]] = {}
        self._is_closed = self._is_asked = False
        self._told, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="lag", daemon=True)

    def heed(
        self, held: AbstractSet[TopicPartition], position: Callable[[TopicPartition], int | None]
    ) -> None:
        """Tell where reading is, if that is asked for, or other partitions are held. Called between two batches.

        Args:
            held: this worker's partitions.
            position: of the next record to be read; None if the group has just taken the partition away.
        """
        changed = held != self._positions.keys()
        if not changed and not self._is_asked:
            return
        told = ((source, position(source)) for source in held)
        with self._lock:
            self._positions = {source: offset for source, offset in told if offset is not None}
            self._show({}, among=self._positions)
        self._told.set()
        if changed:
            self._wake.set()
            if self._thread.ident is None:
                self._thread.start()

    def close(self) -> None:
        """Measure no more, and expose nothing."""
        with self._lock:
            self._is_closed = True
            self._positions = {}
            self._show({}, among={})
        self._told.set()
        self._wake.set()

    def measure(self) -> None:
        """Measure once."""
        ends: Mapping[TopicPartition, Ends] = {}
        try:
            if self._positions:
                ends = self._ends(self._positions.keys())
        except Exception as error:  # noqa: BLE001  whatever it is: no measurement must be the last
            _LOG.warning("the lag is not known: %s: %s", type(error).__name__, error)
        self._told.clear()
        self._is_asked = True
        self._told.wait(self._patience_s)
        self._is_asked = False
        with self._lock:
            known = {source: end for source, end in ends.items() if source in self._positions}
            self._show(known, among=known)

    def _run(self) -> None:
        while not self._is_closed:
            self._wake.wait(self._interval_s)
            self._wake.clear()
            self.measure()
        self._ends.close()

    def _show(self, ends: Mapping[TopicPartition, Ends], among: Sources) -> None:
        """Expose what was measured, and nothing of other partitions than these."""
        lag, events, seconds = gauges = self._lags
        for gone in self._shown - {source.partition for source in among}:
            for gauge in gauges:
                gauge.remove(str(gone))
            self._shown.discard(gone)
        for source, end in ends.items():
            position, number = self._positions[source], source.partition
            lag.labels(number).set(max(0, end.stable - position))
            events.labels(number).set(max(0, end.high - max(end.stable, position)))
            seconds.labels(number).set(self._stood_s(source, end))
            self._shown.add(number)

    def _stood_s(self, source: TopicPartition, end: Ends) -> float:
        """Return for how long a partition has ended before the same open transaction; one after the other is none."""
        stable, since_s = self._stood.get(source, (-1, 0.0))
        if end.high == end.stable or end.stable != stable:
            self._stood[source] = end.stable, self._clock_s()
            return 0.0
        return self._clock_s() - since_s


class EndsOfBrokers:
    """Asks the brokers for the ends of partitions, with a client of its own, which is opened when first needed.

    Args:
        bootstrap_servers: comma-separated.
        client_id: of the worker.
    """

    def __init__(self, bootstrap_servers: str, client_id: str) -> None:
        self._servers = bootstrap_servers
        self._client_id = f"{client_id}-lag"
        self._admin: Admin | None = None

    def __call__(self, sources: Sources, /) -> dict[TopicPartition, Ends]:
        """Return the ends of these partitions, without those that no broker tells.

        Raises:
            KafkaError: no broker can be reached, or lets this client in.
        """
        if (admin := self._admin) is None:
            admin = self._admin = Admin(
                **client_options(self._servers),
                client_id=self._client_id,
                request_timeout_ms=_TIMEOUT_MS,
                bootstrap_timeout_ms=_TIMEOUT_MS,
            )
        ends = _told(admin, sources)
        if len(ends) < len(sources) > 1:  # one without a leader fails all that are asked for with it
            for source in sources:
                ends |= _told(admin, [source])
        if not ends:
            self.close()  # the next one reads passwords and certificates anew
        return ends

    def close(self) -> None:
        """Close the client, if it is open."""
        if self._admin is not None:
            self._admin.close()
            self._admin = None


def _told(admin: Admin, sources: Sources) -> dict[TopicPartition, Ends]:
    latest = dict.fromkeys(sources, OffsetSpec.LATEST)
    try:
        stable, high = (
            admin.list_partition_offsets(latest, isolation_level=level, timeout_ms=_TIMEOUT_MS)
            for level in ("read_committed", "read_uncommitted")
        )
    except Exception as error:  # noqa: BLE001  kafka-python has more than its own for a leader that is nobody
        names = ", ".join(f"{source.topic}[{source.partition}]" for source in sources)
        _LOG.warning("the lag of %s is not known: %s: %s", names, type(error).__name__, error)
        return {}
    return {source: Ends(stable[source].offset, high[source].offset) for source in sources}
