"""State logs without a broker: what a worker writes to one, kept in a list, with what is cut and who takes over."""

import itertools

from hypothesis import strategies as st

from detector.contract.alerts import Decision
from detector.contract.listings import Listing
from detector.core.alerted import Alerted
from detector.core.breaker import BreakerState
from detector.core.listed import Timed
from detector.core.partition import Delta, Partition
from detector.core.session import PROFILE, pack, profile_key
from detector.runtime.restored_state import LogEnd, RestoredState
from detector.runtime.state_writer import StateWriter

ENCODING = b"encoding"


def contents(partition: Partition) -> tuple[object, ...]:
    """Return all that a partition is, the order of its sessions and profiles included."""
    return (
        partition.next_offset, partition.stream_time_ms, partition.heard_at_ms, list(partition.sessions.items()), partition.listed,
        partition.breaker, list(partition.profiles.items()), list(partition.alerted.items()), partition.listed_bytes,
    )  # fmt: skip


def replayed(log: list[tuple[int, bytes]], encoding: bytes = ENCODING) -> tuple[Partition, LogEnd | None]:
    """Read a log of (offset, value)."""
    restored = RestoredState(encoding)
    for offset, value in log:
        restored.add(offset, value)
    end = restored.end()
    return restored.partition, end


def delta_values(delta: Delta, encoding: bytes = ENCODING, partition: Partition | None = None) -> list[bytes]:
    """Return the records of a log that begins with a partition, an empty one by default, and a batch on it."""
    partition = partition or Partition(delta.next_offset - 1)
    snapshot, changes = StateWriter(1, 1, encoding, partition, None).values(partition, delta)
    return [*snapshot, *changes]


def state_values(partition: Partition, encoding: bytes = ENCODING) -> list[bytes]:
    """Return the records of a log that leads to a partition."""
    unchanged = Delta(
        partition.next_offset + 1,
        partition.stream_time_ms,
        [],
        {},
        breaker=partition.breaker,
        heard_at_ms=partition.heard_at_ms,
    )
    return delta_values(unchanged, encoding, partition)


class LiveLog:
    """A partition in service and its log.

    Attributes:
        live: the partition.
        log: (offset, value) of its records, those that were cut left out.
    """

    def __init__(self, ratio: int, min_bytes: int, encoding: bytes = ENCODING) -> None:
        self._settings = ratio, min_bytes, encoding
        self.live = Partition()
        self.log: list[tuple[int, bytes]] = []
        self._next = 0
        self._cut: int | None = None
        self._writer = StateWriter(*self._settings, self.live, None)

    def batch(self, delta: Delta, *, aborted: bool = False, cuts: bool = True) -> None:
        """Commit what a batch changes, after an attempt that was aborted perhaps; the log is cut at once or never."""
        if aborted:
            self._writer.values(self.live, delta)
        values = list(itertools.chain(*self._writer.values(self.live, delta)))
        published = range(self._next, self._next + len(values))
        self.log += zip(published, values, strict=True)
        self._next = published.stop + 1  # the marker
        cut = self._writer.committed(published)
        if cut is not None and cuts:
            self.log = [one for one in self.log if one[0] >= cut]
        self.live.apply(delta)

    def hand_over(self) -> None:
        """Let another worker take the partition over."""
        self.live, end = replayed(self.log, self._settings[2])
        self._writer = StateWriter(*self._settings, self.live, end)

    def rebuild(self) -> None:
        """Let the log be of no use, and the partition one that was rebuilt: what retention deleted is not in it."""
        for table in (self.live.sessions, self.live.profiles):
            table.pop(next(iter(table), ""), None)
        self._writer = StateWriter(*self._settings, self.live, None)

    @property
    def log_bytes(self) -> int:
        """Size of the log."""
        return sum(len(value) for _, value in self.log)


def deltas(most_sessions: int = 6) -> st.SearchStrategy[list[tuple[object, ...]]]:
    """Return what batches do: steps of stream time, what is touched, how many of the longest idle go, accounts listed.

    An account is touched with its session, whose name has its number.
    """
    return st.lists(
        st.tuples(
            st.integers(0, 2),
            st.lists(st.integers(0, most_sessions), max_size=4),
            st.integers(0, 2),
            st.dictionaries(
                st.sampled_from("xyz"),
                st.sampled_from([Listing.ALLOW, Listing.DENY, Timed(Listing.DENY, 2, b"s", 1), None]),
                max_size=2,
            ),
        ),
        max_size=14,
    )


def delta_of(partition: Partition, number: int, batch: tuple[object, ...]) -> Delta:
    """Return what a batch changes in a partition."""
    step_ms, touched, gone, listed = batch
    stream_time_ms = partition.stream_time_ms + step_ms  # type: ignore[operator]
    changed: dict[str, bytes] = {}
    profiles: dict[str, bytes] = {}
    for at, one in enumerate(touched):  # type: ignore[arg-type, var-annotated]
        session_id, account = f"s{one}", profile_key(f"a{one // 2}")
        changed.pop(session_id, None)
        changed[session_id] = pack(0, stream_time_ms, 1, 0, bytes([number, at]), b"")
        profiles.pop(account, None)
        profiles[account] = pack(0, stream_time_ms, 1, PROFILE, b"", bytes([number, at]))
    removed = sorted(itertools.islice(partition.sessions, gone))  # type: ignore[call-overload]
    forgotten = sorted(itertools.islice(partition.profiles, gone // 2))  # type: ignore[operator]
    breaker = BreakerState(
        is_open=bool(number % 2), counts=((number, 1, 0),), epoch=b"of now", evidence=number / 7
    )
    next_offset = partition.next_offset + 3
    told_last = itertools.islice(partition.alerted, gone // 2)  # type: ignore[operator]
    alerted: dict[bytes, Alerted | None] = dict.fromkeys(told_last)
    for at, one in enumerate(touched[:2]):  # type: ignore[index]
        key = b"%d" % one
        alerted.pop(key, None)
        told = partition.next_offset + at
        alerted[key] = Alerted(
            told, stream_time_ms, stream_time_ms, Decision.BLOCK, "m", ((b"i", Decision.BLOCK),)
        )
    return Delta(
        next_offset, stream_time_ms, removed, changed, listed, breaker, forgotten, profiles, alerted, stream_time_ms  # type: ignore[arg-type]
    )  # fmt: skip
