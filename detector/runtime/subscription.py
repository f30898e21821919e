"""Subscribing to the alerts topic: committed alerts only."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from kafka import KafkaConsumer, TopicPartition

from detector.connection import AccessRefusedError, access_explained, client_options, right_missing
from detector.contract.alerts import Alert, decode_alert

_LOG = logging.getLogger(__name__)
_POLL_TIMEOUT_MS = 200
_SEEK_TIMEOUT_MS = 5_000
_TELL_AFTER_S = 3.0


def subscribe(
    bootstrap_servers: str, topic: str, *, from_beginning: bool, stop: Callable[[], bool]
) -> Iterator[Alert | None]:
    """Yield alerts as they are committed, from all partitions, without a consumer group.

    Args:
        bootstrap_servers: comma-separated.
        topic: the alerts topic.
        from_beginning: start with the oldest alert kept, not with the next one.
        stop: asked between polls; true ends the subscription.

    Yields:
        an alert, or None whenever a poll brought no more, so that the caller can look after other things.

    Raises:
        KafkaError: the broker can't be reached or refuses.
    """
    consumer = _consumer(bootstrap_servers, topic, "earliest" if from_beginning else "latest")
    tell_at_s = time.monotonic() + _TELL_AFTER_S
    try:
        while not stop():
            yield from alerts_in(_poll(consumer))
            if time.monotonic() > tell_at_s and not consumer.assignment():
                _LOG.warning(
                    "no topic %r at %s yet: waiting for it. The detector creates it when it starts",
                    topic,
                    bootstrap_servers,
                )
                tell_at_s = float("inf")
            yield None
    finally:
        consumer.close()


class RecentAlerts:
    """A subscription that begins with the newest alerts, and can tell whether the brokers still answer.

    Args:
        bootstrap_servers: comma-separated.
        topic: the alerts topic; it may not exist yet.
        most: of each partition, begin at most about so many alerts before its end.
    """

    def __init__(self, bootstrap_servers: str, topic: str, *, most: int) -> None:
        # A partition that is added later, or cut by retention, is read from its start.
        self._consumer = _consumer(bootstrap_servers, topic, "earliest")
        self._most = most
        self._begun = False
        self._unread: dict[TopicPartition, int] = {}

    def poll(self) -> list[Alert]:
        """Return what was committed since, in the order of each partition; wait a moment if there is nothing.

        Raises:
            KafkaError: the brokers refuse.
        """
        records = _poll(self._consumer)
        if not self._begun and (sources := self._consumer.assignment()):
            ends = self._consumer.end_offsets(sources, timeout_ms=_SEEK_TIMEOUT_MS)
            starts = self._consumer.beginning_offsets(sources, timeout_ms=_SEEK_TIMEOUT_MS)
            for source in sources:
                # A transaction's marker takes an offset too, and there is at least one alert to each.
                self._consumer.seek(source, max(starts[source], ends[source] - 2 * self._most))
            self._unread = ends
            self._begun = True
            return []
        self._unread = {
            source: end for source, end in self._unread.items() if self._consumer.position(source) < end
        }
        return list(alerts_in(records))

    def check(self, timeout_ms: int) -> None:
        """Ask the brokers for something, as a poll says nothing of a connection that is lost.

        Raises:
            KafkaError: they did not answer in time.
        """
        if sources := self._consumer.assignment():
            self._consumer.end_offsets(sources, timeout_ms=timeout_ms)
        else:
            self._consumer.bootstrap(timeout_ms=timeout_ms, refresh=True)

    @property
    def caught_up(self) -> bool:
        """Whether everything was returned that was there at the beginning."""
        return self._begun and not self._unread

    @property
    def has_topic(self) -> bool:
        """Whether the topic was found."""
        return bool(self._consumer.assignment())

    def close(self) -> None:
        """End the subscription."""
        self._consumer.close()


def _consumer(bootstrap_servers: str, topic: str, offset_reset: str) -> KafkaConsumer:
    with access_explained():
        return KafkaConsumer(
            topic,
            **client_options(bootstrap_servers),
            group_id=None,
            isolation_level="read_committed",
            auto_offset_reset=offset_reset,
            fetch_max_wait_ms=_POLL_TIMEOUT_MS,
            allow_auto_create_topics=False,
        )


def _poll(consumer: KafkaConsumer) -> dict[Any, list[Any]]:
    """Return what came; kafka-python waits for a topic that it may not read as for one that is not there yet."""
    polled: dict[Any, list[Any]] = consumer.poll(timeout_ms=_POLL_TIMEOUT_MS)
    if refused := consumer._cluster.unauthorized_topics:  # noqa: SLF001  there is no public way
        raise AccessRefusedError(right_missing(f"to read topic {', '.join(refused)}", "subscriber"))
    return polled


def alerts_in(polled: Mapping[Any, Sequence[Any]]) -> Iterator[Alert]:
    """Decode what a poll returned; what is no alert is told and passed over."""
    for records in polled.values():
        for record in records:
            try:
                yield decode_alert(record.value or b"")
            except msgspec.DecodeError as error:
                where = f"{record.topic}[{record.partition}] at offset {record.offset}"
                _LOG.warning("%s holds no alert (%s): skipped", where, error)
