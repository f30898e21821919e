"""The publisher: events to a Kafka topic, each acknowledged by all in-sync replicas or reported."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, Self

from kafka.errors import (
    KafkaConfigurationError,
    KafkaError,
    KafkaTimeoutError,
    TopicAuthorizationFailedError,
)

from detector.client.producer import Producer
from detector.connection import (
    AccessRefusedError,
    access_explained,
    client_options,
    right_missing,
)
from detector.contract.events import SessionEvent
from detector.contract.headers import ACTION_TYPE, PRODUCER_SOURCE, cloud_event_headers
from detector.contract.topics import MAX_RECORD_BYTES

MAX_UNACKNOWLEDGED = 20_000
"""Events sent ahead of their acknowledgement. kafka-python 3 has no `buffer_memory`: `send` never waits, so
without a bound a slow broker would cost memory first and expired batches (lost events) after."""
BOOTSTRAP_TIMEOUT_MS = 15_000
METADATA_TIMEOUT_MS = 15_000
REQUEST_TIMEOUT_MS = 30_000
DELIVERY_TIMEOUT_MS = 120_000
"""How long an event may take, retries included, before it counts as lost (KIP-91): a broker's restart fits in."""
PROGRESS_INTERVAL_S = 0.2


class PublishError(Exception):
    """Publishing can't begin or go on. The message says what was seen, what was expected and what to do."""


class Record(NamedTuple):
    """An event and the bytes that stand for it: for a replay, exactly those of the file."""

    event: SessionEvent
    value: bytes


class RecordKey(StrEnum):
    """What the records' keys are: all of one key lie in one partition, in order."""

    ACCOUNT = "account"
    """All events of an account together, those of each of its sessions among them."""
    SESSION = "session"

    def of(self, event: SessionEvent) -> bytes:
        """Return the key of an event's record."""
        return (event.account_id if self is RecordKey.ACCOUNT else event.session_id).encode()


class Stop(Protocol):
    """True once publishing should end; sleeps until a moment or until then."""

    def __bool__(self) -> bool:
        """Return whether to stop."""

    def sleep_until(self, due_s: float) -> None:
        """Sleep until `time.monotonic()` reaches `due_s`, or until stopped."""


Pace = Callable[[int, SessionEvent], float]
"""From an event's index and the event, when it is due, in seconds after publishing began."""


def at_rate(events_per_s: float) -> Pace:
    """Return the pace of so many events a second. Due times follow from the index, so delays don't add up."""
    return lambda index, _event: index / events_per_s


def at_speed(speed: float, origin_ms: int | None = None) -> Pace:
    """Return the pace of the events' own times, `speed` times as fast; an event out of order is due at once.

    Args:
        speed: event time per real time, above 0.
        origin_ms: the event time that is due at once; None for the first event's.
    """

    def due_s(_index: int, event: SessionEvent) -> float:
        nonlocal origin_ms
        if origin_ms is None:
            origin_ms = event.occurred_at_ms
        return (event.occurred_at_ms - origin_ms) / (1_000 * speed)

    return due_s


class Publisher:
    """An idempotent Kafka producer (KIP-98) of session events.

    `sent` counts what was handed to the client, `acknowledged` what the broker confirmed. After `publish` returns
    they are equal; where they can't be, it raises.
    """

    def __init__(self, bootstrap_servers: str, topic: str, key: RecordKey = RecordKey.ACCOUNT) -> None:
        """Connect, to publish to `topic` under a `key`.

        Raises:
            PublishError: no broker answers, or the topic does not exist.
        """
        self.sent = 0
        self.acknowledged = 0
        self._gave_up = False
        self._topic, self._key = topic, key
        self._unacknowledged: deque[Any] = deque()
        try:
            with access_explained():
                self._producer = Producer(
                    **client_options(bootstrap_servers),
                    client_id="session-producer",
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=20,
                    batch_size=128 * 1024,
                    max_request_size=MAX_RECORD_BYTES,
                    allow_auto_create_topics=False,
                    request_timeout_ms=REQUEST_TIMEOUT_MS,
                    delivery_timeout_ms=DELIVERY_TIMEOUT_MS,
                    bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS,
                    max_block_ms=METADATA_TIMEOUT_MS,
                )
        except (KafkaConfigurationError, AccessRefusedError) as error:
            raise PublishError(str(error)) from error
        except KafkaError as error:
            raise PublishError(
                f"no Kafka broker answered at {bootstrap_servers} within {BOOTSTRAP_TIMEOUT_MS // 1000} s "
                f"({error}). Start one (`python -m broker up`), or name it with --bootstrap-servers or "
                "KAFKA_BOOTSTRAP_SERVERS."
            ) from error
        try:
            self._producer.partitions_for(topic)
        except KafkaError as error:
            self._producer.close(timeout=0)
            told = (
                right_missing(f"to write to topic {topic!r} at {bootstrap_servers}", "producer")
                if isinstance(error, TopicAuthorizationFailedError)
                else f"topic {topic!r} was not found at {bootstrap_servers} ({error}). The detector creates its "
                "topics when it starts; create the topic, or name another with --topic."
            )
            raise PublishError(told) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # All that can be acknowledged has been, as publish() flushes; a second signal may have cut that short.
        with suppress(KafkaTimeoutError):
            self._producer.close(timeout=0)

    def publish(
        self,
        records: Iterable[Record],
        *,
        stop: Stop,
        pace: Pace | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Publish `records` in order until they end or `stop` is true, then wait for every acknowledgement.

        Args:
            records: consumed lazily; an exception raised by it is passed on, after what was sent is flushed.
            stop: looked at before each event and while waiting.
            pace: when each event is due; None for as fast as the broker takes them.
            progress: called now and then, and at the end, with the number of events sent.

        Raises:
            PublishError: an event was refused or could not be delivered; the message counts the acknowledged.
        """
        report_at_s = started_s = time.monotonic()
        try:
            for index, record in enumerate(records):
                if pace is not None:
                    stop.sleep_until(started_s + pace(index, record.event))
                if stop:
                    break
                self._send(record)
                if (now_s := time.monotonic()) >= report_at_s:
                    progress(self.sent)
                    report_at_s = now_s + PROGRESS_INTERVAL_S
        finally:
            if not self._gave_up:
                self._flush()
            progress(self.sent)

    def _send(self, record: Record) -> None:
        event, value = record
        try:
            future = self._producer.send(
                self._topic,
                key=self._key.of(event),
                value=value,
                headers=cloud_event_headers(
                    event_type=ACTION_TYPE,
                    event_id=event.event_id,
                    source=PRODUCER_SOURCE,
                    subject=event.session_id,
                    time_ms=event.occurred_at_ms,
                ),
            )
        except KafkaError as error:  # too large for a request, or the topic's metadata is gone
            raise PublishError(f"event {event.event_id!r} can't be published: {error}") from error
        self.sent += 1
        self._unacknowledged.append(future)
        while self._unacknowledged[0].is_done or len(self._unacknowledged) > MAX_UNACKNOWLEDGED:
            self._acknowledge()
            if not self._unacknowledged:
                break

    def _acknowledge(self) -> None:
        """Settle the oldest event."""
        future = self._unacknowledged.popleft()
        try:
            future.get(timeout=_settled_within_s())
        except KafkaError as error:
            self._give_up(error)
        self.acknowledged += 1

    def _flush(self) -> None:
        try:
            self._producer.flush(timeout=_settled_within_s())
        except KafkaTimeoutError as error:
            self._give_up(error)
        while self._unacknowledged:
            self._acknowledge()

    def _give_up(self, error: KafkaError) -> None:
        """Let what can still be acknowledged be so, then report the first failure with exact counts."""
        self._gave_up = True
        with suppress(KafkaTimeoutError):
            self._producer.flush(timeout=REQUEST_TIMEOUT_MS / 1_000)
        self.acknowledged += sum(future.succeeded() for future in self._unacknowledged)
        self._unacknowledged.clear()
        raise PublishError(
            f"{self.sent - self.acknowledged:,} of {self.sent:,} events sent to {self._topic!r} were not acknowledged: "
            f"{type(error).__name__}: {error}. Check the broker, then publish again: the detector ignores repeats."
        ) from error


def _settled_within_s() -> float:
    """Return how long any event may stay undecided.

    The client should decide by its delivery timeout, but does not when it has lost its producer id to an expired
    batch and no broker is there to give another: nothing expires then (kafka-python 3.0.12, `Sender.run_once`).
    """
    return (DELIVERY_TIMEOUT_MS + REQUEST_TIMEOUT_MS) / 1_000
