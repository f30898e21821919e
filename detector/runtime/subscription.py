"""Subscribing to the alerts topic: committed alerts only."""

import logging
from collections.abc import Callable, Iterator

import msgspec
from kafka import KafkaConsumer

from detector.contract.alerts import Alert, decode_alert

_LOG = logging.getLogger(__name__)
_POLL_TIMEOUT_MS = 200


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
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=bootstrap_servers.split(","),
        group_id=None,
        isolation_level="read_committed",
        auto_offset_reset="earliest" if from_beginning else "latest",
        fetch_max_wait_ms=_POLL_TIMEOUT_MS,
        allow_auto_create_topics=False,
    )
    try:
        while not stop():
            for records in consumer.poll(timeout_ms=_POLL_TIMEOUT_MS).values():
                for record in records:
                    try:
                        yield decode_alert(record.value or b"")
                    except msgspec.DecodeError as error:
                        where = f"{record.topic}[{record.partition}] at offset {record.offset}"
                        _LOG.warning("%s holds no alert (%s): skipped", where, error)
            yield None
    finally:
        consumer.close()
