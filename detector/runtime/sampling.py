"""A sample of the input topic, counted: its keys, where accounts and sessions lie, and what is no event."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from detector.client.reading import Batch
from detector.contract.dead_letters import DeadLetter, Reason
from detector.contract.events import SessionEvent
from detector.runtime.partitioners import PARTITIONERS
from detector.runtime.processing import Processor

_MANY: Final = 20
"""Keys that tell of a partitioner: fewer may lie by chance where they do."""
_NEARLY_ALL: Final = 0.95


class Places:
    """In which partitions some things lie."""

    def __init__(self) -> None:
        self._first: dict[Hashable, int] = {}
        self._split: set[Hashable] = set()

    def add(self, one: Hashable, partition: int) -> None:
        """Take in where one lies."""
        if self._first.setdefault(one, partition) != partition:
            self._split.add(one)

    def __len__(self) -> int:
        return len(self._first)

    @property
    def split(self) -> int:
        """How many lie in several partitions."""
        return len(self._split)


@dataclass(slots=True)
class Sample:
    """What some records of a topic come to. Memory is bounded by how many are added.

    Attributes:
        partitions: how many the topic has.
        records: how many were added.
        events: among them; the others are control records and dead letters.
        keys: events by what their key is: account, session, other, none.
        letters: how many records are none but dead letters, by their reason.
        firsts: the first letter of each reason.
        accounts: where they lie.
        sessions: where they lie.
    """

    partitions: int
    records: int = 0
    events: int = 0
    keys: Counter[str] = field(default_factory=Counter)
    letters: Counter[Reason] = field(default_factory=Counter)
    firsts: dict[Reason, DeadLetter] = field(default_factory=dict)
    accounts: Places = field(default_factory=Places)
    sessions: Places = field(default_factory=Places)
    _placed: set[tuple[bytes, int]] = field(default_factory=set)

    def add(self, batch: Batch, processor: Processor) -> None:
        """Take in some records, decoded as in service."""
        for source, records in batch.items():
            decoded = processor.decode(source, records)
            self.records += len(records)
            for letter in decoded.letters:
                self.letters[letter.reason] += 1
                self.firsts.setdefault(letter.reason, letter)
            keys = {one.offset: one.key for one in records}
            for entry in decoded.entries:
                if isinstance(entry.event, SessionEvent):
                    self._add(source.partition, keys[entry.offset], entry.event)

    def _add(self, partition: int, key: bytes | None, event: SessionEvent) -> None:
        self.events += 1
        account, session = event.account_id.encode(), event.session_id.encode()
        self.keys[{None: "none", session: "session", account: "account"}.get(key, "other")] += 1
        self.accounts.add(account, partition)
        self.sessions.add((account, session), partition)
        if key is not None:
            self._placed.add((key, partition))

    def partitioners(self) -> dict[str, float]:
        """Return the share of the keys that each partitioner puts where they lie; none if that can't be told."""
        if self.partitions == 1 or len(self._placed) < _MANY:
            return {}
        return self._shares(list(self._placed))

    def mixed(self) -> str:
        """Return how writers differ in their partitioners; empty if they don't, or that can't be told."""
        shares, count = self.partitioners(), len(self._placed)
        best = max(shares, key=shares.__getitem__, default="")
        rest = [one for one in self._placed if best and not self._fits(best, *one)]
        if not rest:
            return ""
        told = f"{shares[best]:.1%} of {count:,} keys lie where {best} puts them"
        of_rest = self._shares(rest)
        second = max(of_rest, key=of_rest.__getitem__)
        if len(rest) >= _MANY and of_rest[second] >= _NEARLY_ALL:
            return f"{told}, and the others where {second} does"
        if shares[best] > (1 + 1 / self.partitions) / 2:  # most of them do, and not by chance
            return f"{told}, and the others where none of the known partitioners does"
        return ""

    def _shares(self, placed: Sequence[tuple[bytes, int]]) -> dict[str, float]:
        return {name: sum(self._fits(name, *one) for one in placed) / len(placed) for name in PARTITIONERS}

    def _fits(self, name: str, key: bytes, partition: int) -> bool:
        return PARTITIONERS[name](key, self.partitions) == partition


def keyed_otherwise(keys: Mapping[str, int], *, of_history: bool) -> dict[str, int]:
    """Return those of the keys, by what they are, that are not to be so."""
    good = {"account"} if of_history else {"account", "session"}
    return {name: count for name, count in keys.items() if name not in good}
