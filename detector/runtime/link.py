"""The link to Kafka: every client of a worker, opened and closed together."""

import logging
from concurrent.futures import ThreadPoolExecutor

from kafka import TopicPartition
from kafka.errors import KafkaError

from detector.client.admin import Admin
from detector.connection import access_explained, client_options
from detector.runtime.config import DetectorConfig
from detector.runtime.membership import Membership
from detector.runtime.partition_owners import Owners
from detector.runtime.restoring import StateReader
from detector.runtime.topics import ensure_topics, inspect
from detector.runtime.transaction import Transactor

_LOG = logging.getLogger(__name__)
_BOOTSTRAP_TIMEOUT_MS = 10_000
"""After which a refusal is told, or the broker's absence; the loop tries again."""
_DELETE_TIMEOUT_MS = 10_000


class KafkaLink:
    """The clients of one worker. After a failure whose outcome is unknown it is closed and opened anew.

    Raises:
        AccessRefusedError: the brokers don't let this client in.
        KafkaError: the broker can't be reached, or refuses something.
        TopicsUnfitError: a topic is missing and may not be created.
    """

    def __init__(self, config: DetectorConfig, encoding: bytes) -> None:
        # A stable name lets a restarted worker end its predecessor's transaction; without one, each link has
        # its own, and the broker's transaction timeout ends what a dead worker left.
        name = config.worker_name
        self._config, self._name = config, name
        self._cutter = ThreadPoolExecutor(1, "cut-state-log")
        with access_explained():
            self.admin = Admin(
                **client_options(config.bootstrap_servers),
                client_id=name,
                bootstrap_timeout_ms=_BOOTSTRAP_TIMEOUT_MS,
            )
        try:
            ensure_topics(self.admin, config)
            self.findings = inspect(self.admin, config)
            self._transactor: Transactor | None = Transactor(config, name)
            self.state_reader = StateReader(config, name, encoding)
            self.membership = Membership(config, name)
            self.owners = Owners(self.admin, config)
        except BaseException:
            self.close()
            raise

    @property
    def transactor(self) -> Transactor:
        """That publishes and commits."""
        if self._transactor is None:
            self._transactor = Transactor(self._config, self._name)
        return self._transactor

    def produce_anew(self) -> None:
        """Close the producer, and open another when it is asked for: one that was refused a record is of no more use.

        kafka-python counts the refused batch among those that the broker has.
        """
        if self._transactor is not None:
            self._transactor.close()
            self._transactor = None

    def cut_state_log(self, partition: int, before_offset: int) -> None:
        """Let the records of a state log that a whole snapshot replaced be deleted; nothing waits for it."""
        self._cutter.submit(self._cut, TopicPartition(self._config.state_topic, partition), before_offset)

    def _cut(self, target: TopicPartition, before_offset: int) -> None:
        try:
            self.admin.delete_records({target: before_offset}, timeout_ms=_DELETE_TIMEOUT_MS)
        except KafkaError as error:
            _LOG.warning(
                "%s[%d] could not be cut before %d, the next snapshot will: %s", *target, before_offset, error
            )

    def close(self) -> None:
        """Leave the group and close what was opened, whatever state it is in."""
        self._cutter.shutdown(wait=False, cancel_futures=True)
        for name in ("membership", "_transactor", "state_reader", "admin"):
            client = getattr(self, name, None)
            if client is None:
                continue
            try:
                client.close()
            except Exception as error:  # noqa: BLE001  nothing may keep the others from being closed
                _LOG.warning("%s did not close cleanly: %s", name, error)
