"""Restoring from a state log: the partition that its records lead to, or why they lead to none."""

from typing import NamedTuple

import msgspec

from detector.core.partition import Delta, Partition
from detector.core.session import is_profile
from detector.runtime.recovery import StateRefusedError
from detector.runtime.state_log import OldRecord, StateRecord, decode_state

BELIEVED = -1
"""Where a log of the old formats is complete from: it can't tell, so wherever it begins."""


class Snapshot(NamedTuple):
    """A snapshot under way.

    Attributes:
        begun_at: the partition's input offset when it began.
        log_offset: of its first record; what lies before is needless once the snapshot is whole. None until that is
            committed.
        bytes_before: size of the log before it.
        stream_time_ms: the partition's when it began: sessions of a later one were written since.
        carried: ids of the sessions that the log was seen to hold of it, by record.
    """

    begun_at: int
    log_offset: int | None
    bytes_before: int
    stream_time_ms: int
    carried: list[list[str]]


class LogEnd(NamedTuple):
    """What the next record of a log has to know of those before.

    Attributes:
        next_offset: input offset that the last one leads to.
        complete_from: as it says.
        log_bytes: size of the log.
        whole_bytes: the least that suffices: from the last whole snapshot's first record to its last.
        snapshot: the one under way, if any.
    """

    next_offset: int
    complete_from: int
    log_bytes: int
    whole_bytes: int
    snapshot: Snapshot | None


class RestoredState:
    """Takes the records of one partition's log, from its beginning, and brings a partition to where they lead.

    Until the log is known to be complete, what was changed and what a snapshot carried are kept apart: the carried
    sessions come first in the partition's order, whenever they were written. Where a record is missing or damaged,
    all before it is void, and only a snapshot that begins later can be made good use of.

    Args:
        encoding: fingerprint of the encoding that the steps must have been made with.

    Attributes:
        partition: what the records so far lead to; of use once `end` has returned.
        log_bytes: their size.
        read_up_to: highest input offset that they name.
    """

    def __init__(self, encoding: bytes) -> None:
        self._encoding = encoding
        self.partition = Partition()
        self.log_bytes = 0
        self.read_up_to = 0
        self._records = 0
        self._whole_bytes = 0
        self._carried: dict[str, bytes] = {}
        self._begun_at: int | None = None  # the snapshot that what was gathered begins with
        self._complete = False  # whether that is all there is
        self._complete_from = BELIEVED
        self._expected: tuple[int, int] | None = None  # what the next record follows, and its part
        self._loss = ""
        self._snapshot: Snapshot | None = None

    @property
    def sessions(self) -> int:
        """How many sessions were gathered so far."""
        return len(self.partition.sessions) + len(self._carried)

    def add(self, log_offset: int, value: bytes) -> None:
        """Take the next record."""
        self._records += 1
        self.log_bytes += len(value)
        try:
            record = decode_state(value, self._encoding)
        except StateRefusedError as error:
            self._lose(f"at log offset {log_offset}: {error}")
            self.read_up_to = max(self.read_up_to, error.next_offset)
            return
        self.read_up_to = max(self.read_up_to, record.next_offset)
        if isinstance(record, OldRecord):
            self._add_old(record)
        else:
            self._add(record, log_offset, len(value))

    def end(self) -> LogEnd | None:
        """Return what the log ends with; None if there was no record.

        Raises:
            StateRefusedError: a record that is needed is missing or damaged.
        """
        if self._expected is not None and self._expected[1]:
            self._lose(f"ends within a transaction: its record {self._expected[1]} is missing")
        if not self._records:
            return None
        if not self._complete:
            gathered = f"begins with a snapshot of input offset {self._begun_at} that is not whole: what was before is missing"
            raise StateRefusedError(self._loss or gathered, self.read_up_to)
        sessions, profiles = self.partition.sessions, self.partition.profiles
        for key in [key for key, packed in sessions.items() if is_profile(packed)]:
            profiles[key] = sessions.pop(key)
        in_order = sorted(self.partition.alerted.items(), key=lambda one: one[1].offset)
        self.partition.alerted = dict(in_order)  # what a snapshot carried came later than it was told of
        return LogEnd(
            self.partition.next_offset, self._complete_from, self.log_bytes, self._whole_bytes, self._snapshot
        )

    def _add(self, record: StateRecord, log_offset: int, size_bytes: int) -> None:
        follows, part = record.follows, record.part
        if self._expected is not None and self._expected != (follows, part):
            self._lose(
                f"at log offset {log_offset}: the record follows input offset {follows} (part {part}), expected one "
                f"that follows {self._expected[0]} (part {self._expected[1]}): records before it are missing"
            )
        if part == 0 and record.snapshot_from == follows:
            if not self._complete or record.complete_from == follows:  # the latter needs nothing before it
                self._restart(follows)
            before, stream_time_ms = self.log_bytes - size_bytes, self.partition.stream_time_ms
            self._snapshot = Snapshot(follows, log_offset, before, stream_time_ms, [])
        if self._begun_at is None:
            self._lose(
                f"at log offset {log_offset}: the record follows input offset {follows}, and the log suffices from "
                f"{record.complete_from} on only: its beginning is missing"
            )
            return
        self._take(record)
        if part + 1 < record.parts:
            self._expected = follows, part + 1
        else:
            self._end_transaction(record)

    def _take(self, record: StateRecord) -> None:
        partition, sessions = self.partition, self.partition.sessions
        if not record.is_carried:
            for session_id in record.removed:
                sessions.pop(session_id, None)
                self._carried.pop(session_id, None)
            for session_id in record.sessions:
                sessions.pop(session_id, None)  # to the end
            sessions.update(record.sessions)
        elif not self._complete:
            self._carried.update(record.sessions)
        elif self._snapshot is not None:
            self._snapshot.carried.append(list(record.sessions))
        for account_id, listing in record.listed.items():
            partition.list(account_id, listing)
        for key, alerted in record.alerted.items():
            partition.tell(key, alerted)

    def _end_transaction(self, record: StateRecord) -> None:
        partition = self.partition
        partition.next_offset, partition.stream_time_ms = record.next_offset, record.stream_time_ms
        partition.breaker, partition.heard_at_ms = record.breaker, record.heard_at_ms
        self._expected = record.next_offset, 0
        self._complete_from = record.complete_from
        if self._snapshot is not None and self._snapshot.begun_at == record.complete_from:
            self._whole_bytes, self._snapshot = self.log_bytes - self._snapshot.bytes_before, None
        if not self._complete and self._begun_at is not None and self._begun_at <= record.complete_from:
            for session_id in partition.sessions:
                self._carried.pop(session_id, None)
            self._carried.update(partition.sessions)
            partition.sessions, self._carried = self._carried, {}
            self._complete, self._loss = True, ""

    def _add_old(self, record: OldRecord) -> None:
        if record.chunk == 0 or self._records == 1:
            self._restart(BELIEVED)
            self._complete, self._complete_from, self._loss = True, BELIEVED, ""
        if self._complete:
            self.partition.apply(Delta(*msgspec.structs.astuple(record)[2:]))
            self._expected = record.next_offset, 0

    def _restart(self, begun_at: int) -> None:
        self.partition, self._carried = Partition(), {}
        self._begun_at, self._complete = begun_at, False

    def _lose(self, what: str) -> None:
        """Begin anew: nothing so far is of use, unless a snapshot makes up for it."""
        self._loss = self._loss or what
        self._begun_at = self._expected = self._snapshot = None
        self._complete = False
