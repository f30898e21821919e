"""A consumer beside its group: what kafka-python (3.0.12) has no public way for."""

import time
from typing import Any

from kafka import KafkaConsumer, TopicPartition

_IDLE_S = 0.05


def read_on(consumer: KafkaConsumer, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]:
    """Fetch as `KafkaConsumer.poll` does, without looking after the group: nothing joins.

    Raises:
        KafkaError: as `poll`.
    """
    records, idle = consumer._fetcher.fetch_records(max_records, timeout_ms=timeout_ms)  # noqa: SLF001
    if idle and not records:
        time.sleep(
            min(_IDLE_S, timeout_ms / 1_000)
        )  # no leader is known or reachable: nothing was waited for
    return dict(records)


def wants_join(consumer: KafkaConsumer) -> bool:
    """Tell whether the next poll would join: a heartbeat told of a rebalance, say."""
    return bool(consumer._coordinator.need_rejoin())  # noqa: SLF001


def rejoin(consumer: KafkaConsumer) -> None:
    """Say that a join is wanted, or that one under way still is."""
    consumer._coordinator.request_rejoin()  # noqa: SLF001
