"""The admin client: kafka-python's, that leaves nothing behind where no broker answers."""

from typing import Any

from kafka import KafkaAdminClient


class Admin(KafkaAdminClient):  # type: ignore[misc]  # kafka-python is untyped
    """A KafkaAdminClient whose thread and sockets are gone if it could not be opened.

    KafkaAdminClient (3.0.12) starts its thread and only then looks for a broker: each attempt at one that is away
    leaves a thread and some descriptors, and a worker that tries again and again runs out of them.

    Raises:
        KafkaError: the broker can't be reached or refuses.
    """

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except BaseException:
            if hasattr(self, "_net"):
                self._closed = False  # what `close` looks for, and is set last
                self.close()
            raise
