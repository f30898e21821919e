"""The transactional producer: what kafka-python (3.0.12) has no public way for."""

import time
from collections.abc import Iterable, Mapping
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
    """A producer that asks for what a transaction needs ahead of its records, and that can be given up on."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(kafka_client=_PatientClient, **settings)

    def begin_with(
        self,
        partitions: Iterable[TopicPartition],
        offsets: Mapping[TopicPartition, int],
        member: ConsumerGroupMetadata | None,
    ) -> Any:
        """Begin a transaction that will write to `partitions`, and send `offsets` in it. Waits for nothing.

        `send_offsets_to_transaction` waits for the answer, and `send` adds a partition with the first record for it,
        wherefore the sender, awake at once, asks for the first partition alone and for the others after it.

        Returns:
            kafka-python's result of the offsets: `wait()` raises what they were refused for. None without offsets.
        """
        self.begin_transaction()
        manager, sent = self._transaction_manager, None
        with manager._lock:  # the sender takes it to see what there is to ask for: it sees all of it
            for partition in partitions:
                manager.maybe_add_partition_to_transaction(partition)
            if offsets:
                positions = {tp: OffsetAndMetadata(offset) for tp, offset in offsets.items()}
                sent = manager.send_offsets_to_transaction(positions, member)
        self._sender.wakeup()
        return sent

    def give_up(self, timeout_s: float) -> None:
        """Abort what is open, waiting no longer than that. `abort_transaction` waits without a limit.

        Raises:
            KafkaError: there is nothing to abort, or no way to.
        """
        aborted = self._transaction_manager.begin_abort()
        self._sender.wakeup()
        aborted.wait(timeout_s * 1_000)

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
