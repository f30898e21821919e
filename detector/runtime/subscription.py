"""Subscribing to the alerts topic, committed alerts only, and to the verdicts on them."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from kafka import TopicPartition

from detector.client.consumer import Consumer
from detector.connection import AccessRefusedError, access_explained, client_options, right_missing
from detector.contract.alerts import Alert, decode_alert
from detector.contract.verdicts import Verdict, decode_verdict

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
_Starts = Callable[
    [Consumer, set[TopicPartition], Mapping[TopicPartition, int]], Mapping[TopicPartition, int]
]
"""From the partitions and their ends to where reading begins."""
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
            yield from alerts_in(_poll(consumer, "subscriber"))
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


class Recent(Generic[_T]):
    """A subscription that begins near a topic's end, and can tell whether the brokers still answer.

    Args:
        consumer: of one topic, that may not exist yet. A partition that is added later is read from its start.
        decode: one record's value, given its time; what it refuses is told and passed over.
        starts: where to begin.
    """

    def __init__(self, consumer: Consumer, decode: Callable[[bytes, int], _T], starts: _Starts) -> None:
        self._consumer = consumer
        self._decode = decode
        self._starts = starts
        self._begun = False
        self._unread: Mapping[TopicPartition, int] = {}

    def poll(self) -> list[_T]:
        """Return what was committed since, in the order of each partition; wait a moment if there is nothing.

        Raises:
            KafkaError: the brokers refuse.
        """
        records = _poll(self._consumer, "console")
        if not self._begun and (sources := self._consumer.assignment()):
            ends = self._consumer.end_offsets(sources, timeout_ms=_SEEK_TIMEOUT_MS)
            for source, start in self._starts(self._consumer, sources, ends).items():
                self._consumer.seek(source, start)
            self._unread = ends
            self._begun = True
            return []
        self._unread = {
            source: end for source, end in self._unread.items() if self._consumer.position(source) < end
        }
        return list(_decoded(records, self._decode))

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


def recent_alerts(bootstrap_servers: str, topic: str, *, most: int) -> Recent[Alert]:
    """Subscribe to alerts, beginning at most about `most` before the end of each partition.

    Raises:
        KafkaError: the broker can't be reached or refuses.
    """

    def starts(
        consumer: Consumer, sources: set[TopicPartition], ends: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        first = consumer.beginning_offsets(sources, timeout_ms=_SEEK_TIMEOUT_MS)
        # A transaction's marker takes an offset too, and there is at least one alert to each.
        return {source: max(first[source], ends[source] - 2 * most) for source in sources}

    return Recent(
        _consumer(bootstrap_servers, topic, "earliest"), lambda value, _: decode_alert(value), starts
    )


def verdicts_since(bootstrap_servers: str, topic: str, since_ms: int) -> Recent[Verdict]:
    """Subscribe to verdicts, beginning with those published at a time or later.

    Raises:
        KafkaError: as `recent_alerts`.
    """

    def starts(
        consumer: Consumer, sources: set[TopicPartition], ends: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        found = consumer.offsets_for_times(dict.fromkeys(sources, since_ms), timeout_ms=_SEEK_TIMEOUT_MS)
        return {source: found[source].offset if found.get(source) else ends[source] for source in sources}

    return Recent(_consumer(bootstrap_servers, topic, "earliest"), decode_verdict, starts)


def _consumer(bootstrap_servers: str, topic: str, offset_reset: str) -> Consumer:
    with access_explained():
        return Consumer(
            topic,
            **client_options(bootstrap_servers),
            group_id=None,
            isolation_level="read_committed",
            auto_offset_reset=offset_reset,
            fetch_max_wait_ms=_POLL_TIMEOUT_MS,
            allow_auto_create_topics=False,
        )


def _poll(consumer: Consumer, role: str) -> dict[Any, list[Any]]:
    """Return what came; kafka-python waits for a topic that it may not read as for one that is not there yet."""
    polled: dict[Any, list[Any]] = consumer.poll(timeout_ms=_POLL_TIMEOUT_MS)
    if refused := consumer.refused_topics:
        raise AccessRefusedError(right_missing(f"to read topic {', '.join(refused)}", role))
    return polled


def alerts_in(polled: Mapping[Any, Sequence[Any]]) -> Iterator[Alert]:
    """Decode what a poll returned; what is no alert is told and passed over."""
    return _decoded(polled, lambda value, _: decode_alert(value))


def _decoded(polled: Mapping[Any, Sequence[Any]], decode: Callable[[bytes, int], _T]) -> Iterator[_T]:
    for records in polled.values():
        for record in records:
            try:
                yield decode(record.value or b"", record.timestamp)
            except (msgspec.DecodeError, ValueError, RecursionError) as error:
                where = f"{record.topic}[{record.partition}] at offset {record.offset}"
                why = type(error).__name__  # which alone holds no ids
                _LOG.warning("%s holds something else than expected (%s): skipped", where, why)
