"""The producer: kafka-python's, with what it lacks mended from outside."""

import time
from collections.abc import Mapping
from typing import Any, Final

from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaConnectionError, KafkaError, MessageSizeTooLargeError
from kafka.net.compat import KafkaNetClient
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

_AWAY_BACKOFF_S: Final = 0.05


class Producer(KafkaProducer):  # type: ignore[misc]  # kafka-python is untyped
    """A KafkaProducer whose thread neither spins while a broker is away nor outlives `close`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, kafka_client=_PatientClient)

    def send_offsets(self, offsets: Mapping[TopicPartition, int], member: ConsumerGroupMetadata) -> Any:
        """Send offsets as part of the transaction, and go on: `send_offsets_to_transaction` waits for the answer.

        Returns:
            kafka-python's result: `wait()` raises what they were refused for, `exception` is that or None.
        """
        positions = {source: OffsetAndMetadata(offset) for source, offset in offsets.items()}
        sent = self._transaction_manager.send_offsets_to_transaction(positions, member)
        self._sender.wakeup()
        return sent

    def refresh_metadata(self) -> None:
        """Ask for the metadata again, for it lacks a partition that was just added.

        KafkaProducer asks for topics that it does not know, and not for partitions: it would refuse one until its
        metadata is five minutes old.
        """
        self._metadata.request_update()

    def close(self, timeout: float | None = None, **settings: Any) -> None:
        """Close, and end the thread in any case.

        KafkaProducer.close flushes first, and where that fails it gives up before it ends its thread, which would go
        on retrying for what nobody waits for.

        Raises:
            KafkaError: something was not acknowledged.
        """
        try:
            super().close(timeout, **settings)
        except KafkaError:
            self._sender.force_close()
            raise


def is_refused_for_its_size(future: Any) -> bool:
    """Tell whether a broker refused the very record that a future of `send` is of, because it is too large.

    The first refusal of a transaction also fails whatever is still to be sent, with the same exception. Those batches
    have the base offset -1, and one that a broker refused has none.
    """
    if not isinstance(future.exception, MessageSizeTooLargeError):
        return False
    base_offset = future._produce_future.value[0]  # noqa: SLF001  no other way
    return base_offset is None


class _PatientClient(KafkaNetClient):  # type: ignore[misc]  # as above
    """Waits where kafka-python says that it backs off and does not: a sender whose coordinator is away would spin."""

    def await_ready(self, node_id: Any, timeout_ms: float = 30_000) -> Any:
        try:
            return super().await_ready(node_id, timeout_ms=timeout_ms)
        except KafkaConnectionError:
            time.sleep(_AWAY_BACKOFF_S)  # on the sender's own thread
            raise
