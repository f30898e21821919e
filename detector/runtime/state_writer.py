"""Writing the state log of one partition: the changes, and snapshots in slices beside them."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from detector.core.alerted import Alerted
from detector.core.listed import Listed
from detector.core.partition import Delta, Partition
from detector.core.session import touched_ms
from detector.runtime.restored_state import LogEnd, Snapshot
from detector.runtime.state_log import Chain, Part, delta_parts, encode_records, snapshot_parts

SLICE_RATIO = 2
"""Bytes of a slice by those of the changes that it goes with: while a snapshot is written, half as much changes."""

_ALERTED_BYTES = 100
"""About what an alerted session takes in a record."""


class _Staged(NamedTuple):
    """What is so once the transaction is committed: the log's end, the snapshot it went on with, and how far."""

    log: LogEnd
    snapshot: Snapshot | None
    position: int


class StateWriter:
    """What to write with the next transaction.

    A snapshot begins once the log is about `ratio` times the live state, and goes with the changes in slices of
    SLICE_RATIO times their size: no transaction grows by more, and the log never holds much more than `ratio` + 1.5
    times the live state. Whoever takes the partition over goes on with it.

    Args:
        ratio: as above.
        min_bytes: no snapshot begins in a smaller log.
        encoding: fingerprint of the model's encoding.
        partition: as it was restored.
        log: what its log ends with; None if it has none of use. The next transaction then carries the whole partition,
            and needs nothing before it.
    """

    def __init__(
        self, ratio: int, min_bytes: int, encoding: bytes, partition: Partition, log: LogEnd | None
    ) -> None:
        self._ratio = ratio
        self._min_bytes = min_bytes
        self._encoding = encoding
        self._log = log
        self._staged: _Staged | None = None
        self._ids: list[str | bytes] = []
        self._sessions = self._position = 0
        if log is not None and log.snapshot is not None:
            self._go_through(partition, log.snapshot.carried)
            self._log = log._replace(snapshot=log.snapshot._replace(carried=[]))  # the ids take memory

    def values(self, partition: Partition, delta: Delta) -> tuple[list[bytes], list[bytes]]:
        """Encode what the next transaction writes, in this order.

        Args:
            partition: as it is before the batch.
            delta: what the batch changes.

        Returns:
            a slice of the snapshot under way, empty if none is, or nothing of it is left to carry; and the batch's delta.
        """
        changes = delta_parts(delta)
        budget_bytes: float = SLICE_RATIO * sum(part.size_bytes for part in changes)
        log = self._log
        if log is None:
            log, budget_bytes = LogEnd(partition.next_offset, partition.next_offset, 0, 0, None), math.inf
        snapshot, carried, position = log.snapshot, list[Part](), 0
        if snapshot is None and (
            self._log is None or log.log_bytes > max(self._min_bytes, self._ratio * _state_bytes(log))
        ):
            snapshot = Snapshot(log.next_offset, None, log.log_bytes, partition.stream_time_ms, [])
            self._go_through(partition, [])
        if snapshot is not None:
            carried, position = self._slice(partition, delta, snapshot.stream_time_ms, budget_bytes)
        whole = snapshot is not None and position == len(self._ids)
        chain = Chain(
            self._encoding,
            log.next_offset,
            delta.next_offset,
            None if snapshot is None else snapshot.begun_at,
            snapshot.begun_at if snapshot is not None and whole else log.complete_from,
            delta.stream_time_ms,
            delta.breaker,
            delta.heard_at_ms,
        )
        values = encode_records(chain, [*carried, *changes])
        log_bytes = log.log_bytes + sum(map(len, values))
        end = LogEnd(
            chain.next_offset, chain.complete_from, log_bytes, log.whole_bytes, None if whole else snapshot
        )
        self._staged = _Staged(end, snapshot, position)
        return values[: len(carried)], values[len(carried) :]

    def committed(self, published: Sequence[int]) -> int | None:
        """Take note that what `values` returned last was committed.

        Args:
            published: offsets in the log, of the slice and the delta.

        Returns:
            the offset that the log can be cut before, if a snapshot became whole; None otherwise.
        """
        if self._staged is None:
            return None
        log, snapshot, self._position = self._staged
        self._staged, self._log = None, log
        if snapshot is None:
            return None
        if snapshot.log_offset is None:
            snapshot = snapshot._replace(log_offset=published[0])
        if log.snapshot is not None:
            self._log = log._replace(snapshot=snapshot)
            return None
        whole_bytes = log.log_bytes - snapshot.bytes_before
        self._log, self._ids = log._replace(log_bytes=whole_bytes, whole_bytes=whole_bytes), []
        return snapshot.log_offset or None  # nothing lies before 0

    def _go_through(self, partition: Partition, carried: Sequence[Sequence[str]]) -> None:
        """List what a snapshot is still to carry: sessions and profiles, the longest untouched first, then listed accounts and alerted sessions."""
        self._ids = [*partition.sessions, *partition.profiles]
        done = set(itertools.chain.from_iterable(carried))
        if done:  # else no look-up: of millions they would take 0.2 s
            self._ids = [one for one in self._ids if one not in done]
        self._sessions, self._position = len(self._ids), 0
        self._ids += [*partition.listed, *partition.alerted]

    def _slice(
        self, partition: Partition, delta: Delta, begun_ms: int, budget_bytes: float
    ) -> tuple[list[Part], int]:
        """Return the next parts of the snapshot, and how far they take it."""
        sessions: dict[str, bytes] = {}
        listed: dict[str, Listed | None] = {}
        alerted: dict[bytes, Alerted | None] = {}
        size_bytes, position, end = 0, self._position, len(self._ids)
        while position < end and size_bytes < budget_bytes:
            one = self._ids[position]
            size_bytes += len(one)  # if it is left out, too: going on to the next takes time
            if isinstance(one, bytes):
                if one in partition.alerted:
                    alerted[one] = partition.alerted[one]
                    size_bytes += _ALERTED_BYTES
            elif position >= self._sessions:
                if one in partition.listed:
                    listed[one] = partition.listed[one]
            else:
                packed = partition.sessions.get(one) or partition.profiles.get(one)
                if (
                    packed is not None
                    and touched_ms(packed) <= begun_ms
                    and one not in delta.touched
                    and one not in delta.profiles
                ):
                    sessions[one] = packed
                    size_bytes += len(packed)
            position += 1
        return snapshot_parts(sessions, listed, alerted), position


def _state_bytes(log: LogEnd) -> int:
    """Return about how large the live state is: a log that just suffices holds what changed meanwhile as well."""
    return log.whole_bytes * SLICE_RATIO // (SLICE_RATIO + 1)
