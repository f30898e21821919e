"""Membership in the consumer group: which partitions are this worker's, and the records read from them."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from kafka import ConsumerRebalanceListener, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError
from kafka.structs import ConsumerGroupMetadata, MemberState

from detector.client.consumer import Consumer
from detector.connection import client_options
from detector.contract.topics import MAX_RECORD_BYTES
from detector.runtime.config import DetectorConfig
from detector.runtime.recovery import MemberFencedError

_HEARTBEAT_INTERVAL_MS = 250
"""Members learn of a rebalance from a heartbeat's answer, and a cooperative hand-over takes two (KIP-429): while
one waits for it, the partitions on their way stand still."""
_FRESH_MS = 20
"""How long to wait for what came since the last fetch, with records in hand: a fetch is answered at once where there
is anything, and only a quiet topic makes it wait."""

Records = dict[TopicPartition, list[Any]]


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]
    """Records what the group decided. It is called on the client's I/O thread, where nothing may be awaited."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[tuple[bool, frozenset[TopicPartition]]] = []

    def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        with self._lock:
            self._events.append((True, frozenset(assigned)))

    def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        with self._lock:
            self._events.append((False, frozenset(revoked)))

    def on_partitions_lost(self, lost: Sequence[TopicPartition]) -> None:
        self.on_partitions_revoked(lost)

    def drain(self) -> list[tuple[bool, frozenset[TopicPartition]]]:
        with self._lock:
            events, self._events = self._events, []
        return events


class Membership:
    """This worker's place in the consumer group."""

    def __init__(self, config: DetectorConfig, client_id: str) -> None:
        self._rebalances = _Rebalances()
        self._member_id = ""
        self._poll_timeout_ms = config.poll_timeout_ms
        self._max_records = config.batch_max_events
        self.consumer = Consumer(
            **client_options(config.bootstrap_servers),
            client_id=client_id,
            group_id=config.group,
            group_instance_id=config.instance_id or None,
            enable_auto_commit=False,
            max_poll_bytes=config.batch_max_bytes,
            # Positions are set from the state log. A broker's own reset would skip events without a word.
            auto_offset_reset="none",
            isolation_level="read_committed",
            partition_assignment_strategy=[CooperativeStickyAssignor],
            session_timeout_ms=config.session_timeout_ms,
            heartbeat_interval_ms=min(_HEARTBEAT_INTERVAL_MS, config.session_timeout_ms // 4),
            max_poll_interval_ms=config.max_poll_interval_ms,
            max_partition_fetch_bytes=2 * 1024 * 1024,
            fetch_max_bytes=MAX_RECORD_BYTES + 1024 * 1024,
            allow_auto_create_topics=False,
            metadata_max_age_ms=30_000,
            reconnect_backoff_max_ms=1_000,
        )
        self.consumer.subscribe([config.input_topic], listener=self._rebalances)

    def poll(self) -> Records:
        """Read the next records, at most a batch; empty when there are none yet or positions are missing.

        What was fetched behind the last call comes at once, and is as old as that call; so what has come since is asked
        for and added, past the group: a join begun now would raise the generation under the records in hand, and their
        commit would be refused.
        """
        records = {} if self._joins() else self._poll(0)
        if not records:
            return self._poll(self._poll_timeout_ms)
        if room := self._max_records - sum(map(len, records.values())):
            for source, more in self._read(lambda: self.consumer.read_on(_FRESH_MS, room)).items():
                records.setdefault(source, []).extend(more)
        return records

    def stay(self) -> None:
        """Stay in the group in the middle of something that takes longer than the group waits; reads nothing.

        What the group decides meanwhile is settled later. Until then nothing that was read before may be
        committed: `identity` could be that of a newer generation.
        """
        consumer = self.consumer
        consumer.pause(*consumer.assignment())
        # What it brings is of partitions just assigned, whose positions are yet to be set.
        self._poll(self._poll_timeout_ms if self._joins() else 0)
        consumer.resume(*consumer.paused())

    def _joins(self) -> bool:
        """Whether a join is due or under way: a poll must wait for its outcome, or the next begins another."""
        return not self.joined or self.consumer.wants_join

    def _poll(self, timeout_ms: int) -> Records:
        if self.consumer.group_metadata().state == MemberState.REBALANCING:
            # A rejoin that other metadata began and that outlasts a poll is forgotten: its outcome is never taken,
            # no heartbeat is sent any more, and the group goes on without this worker (KAFKA-9815, ADR 0002).
            self.consumer.rejoin()
        return self._read(lambda: self.consumer.poll(timeout_ms=timeout_ms, max_records=self._max_records))

    def _read(self, how: Callable[[], Records]) -> Records:
        try:
            return how()
        except NoOffsetForPartitionError:
            return {}  # partitions just assigned: restoring sets their positions
        except OffsetOutOfRangeError as error:  # retention overtook the reading
            self._rebalances.on_partitions_assigned(list(error.args[0]))
            return {}

    def settle(self, owned: set[TopicPartition]) -> tuple[set[TopicPartition], set[TopicPartition]]:
        """Work out what the rebalances since the last call come to.

        Args:
            owned: the partitions held so far.

        Returns:
            the partitions to drop and those to restore. One that went and came back is in both: somebody else
            may have written its state in between.

        A worker that is thrown out in the middle of joining rejoins as another member without a call of
        `on_partitions_lost`, and kafka-python counts what it is given back as never gone. So the member's id
        tells: under another one, everything went and came back.
        """
        dropped: set[TopicPartition] = set()
        gained: set[TopicPartition] = set()
        for assigned, partitions in self._rebalances.drain():
            if assigned:
                gained |= partitions
            else:
                dropped |= partitions & owned
                gained -= partitions
        member = self.consumer.group_metadata()
        if member.state == MemberState.STABLE and member.member_id != self._member_id:
            self._member_id = member.member_id
            dropped |= owned
            gained |= self.consumer.assignment()
        return dropped, gained

    def identity(self) -> ConsumerGroupMetadata:
        """Return the membership under which records are being read, to fence the commit with (KIP-447).

        Raises:
            MemberFencedError: this worker is not in the group, or not the member that the partitions were
                restored for. A commit in the name of nobody would not be fenced at all.
        """
        metadata = self.consumer.group_metadata()
        if metadata.generation_id < 0 or metadata.member_id != self._member_id:
            raise MemberFencedError("not a member of the group any more")
        return metadata

    @property
    def joined(self) -> bool:
        """Whether the group knows this worker and has settled."""
        return bool(self.consumer.group_metadata().state == MemberState.STABLE)

    def seek(self, source: TopicPartition, offset: int) -> None:
        """Read `source` from `offset` on, unless it was taken away meanwhile."""
        if source in self.consumer.assignment():
            self.consumer.seek(source, offset)

    def position(self, source: TopicPartition) -> int | None:
        """Return the offset that is read next, None if `source` was taken away meanwhile."""
        return self.consumer.known_position(source)

    def at_end(self, source: TopicPartition) -> bool:
        """Tell whether `source` was read to its end, as far as the last answer of the broker told."""
        position, highwater = self.position(source), self.consumer.highwater(source)
        return position is None or (highwater is not None and position >= highwater)

    def close(self) -> None:
        """Leave the group."""
        self.consumer.close(autocommit=False, timeout_ms=5_000)
