"""The transactional producer: what kafka-python (3.0.12) has no public way for."""

import time
from collections.abc import Mapping
from typing import Any

from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaConnectionError, KafkaError
from kafka.net.compat import KafkaNetClient
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

_AWAY_BACKOFF_S = 0.05


class _PatientClient(KafkaNetClient):  # type: ignore[misc]  # kafka-python is untyped
    """Waits where kafka-python says that it backs off and does not: a sender whose coordinator is away would spin."""

    def await_ready(self, node_id: Any, timeout_ms: float = 30_000) -> Any:
        try:
            return super().await_ready(node_id, timeout_ms=timeout_ms)
        except KafkaConnectionError:
            time.sleep(_AWAY_BACKOFF_S)  # on the sender's own thread
            raise


class TransactionalProducer(KafkaProducer):  # type: ignore[misc]
    """A producer whose calls for a transaction go out together, and that can be given up on."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(kafka_client=_PatientClient, **settings)

    def send_offsets(self, offsets: Mapping[TopicPartition, int], member: ConsumerGroupMetadata) -> Any:
        """Send offsets as part of the transaction, and go on: `send_offsets_to_transaction` waits for the answer.

        Returns:
            kafka-python's result: `wait()` raises what they were refused for, `exception` is that or None.
        """
        positions = {source: OffsetAndMetadata(offset) for source, offset in offsets.items()}
        sent = self._transaction_manager.send_offsets_to_transaction(positions, member)
        self._sender.wakeup()
        return sent

    def forget_partitions(self) -> None:
        """Ask for the topics' partitions anew: kafka-python asks for topics that it does not know, not for partitions."""
        self._metadata.request_update()

    def close(self, timeout: float | None = None, **more: Any) -> None:
        """Close, and end the sender's thread even if it has not ended by itself in that time.

        kafka-python gives up before, and leaves the thread, which would go on retrying for a transaction long gone.
        """
        try:
            super().close(timeout=timeout, **more)
        except KafkaError:
            self._sender.force_close()
            raise
