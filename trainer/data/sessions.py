"""Labelled sessions as columns, of any vocabulary, with or without times."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from detector.contract.fields import Value
from detector.core.encoding import MAX_ACTIONS
from producer.recording import create

Split = Literal["train", "valid", "test"]
LabelsOf = Literal["session", "event", "account"]


class DataError(ValueError):
    """The data cannot be trained or evaluated on. The message says where, what was seen, and what to do."""


class Session(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One labelled session; as JSON, a line of a data file."""

    session_id: str
    actions: tuple[str, ...]
    label: int
    """1 for an attack, 0 otherwise."""
    timestamps_ms: tuple[int, ...] | None = None
    """When each action happened, Unix milliseconds."""
    split: Split | None = None
    type: str = ""
    """Kind of lawful session, or family of attack; figures are also given by it."""
    customer_type: str = ""
    attack_from: int | None = None
    """Index of the first action that is the attacker's; 0 is assumed where an attack does not say."""
    account_id: str | None = None
    attack_id: str = ""
    """Of an attack that may span sessions: the same for all of them."""
    fields: dict[str, tuple[Value, ...]] = {}
    """What signals read of each action beside these: by the name of the field, `amount` or `attributes.` and a path."""

    @property
    def attacked_from(self) -> int:
        """Index of the first action that is the attacker's; the number of actions in a lawful session."""
        return (self.attack_from or 0) if self.label else len(self.actions)


PARTS: Final[tuple[Split, ...]] = ("train", "valid", "test")
UNLABELLED: Final = -1
OF_ACTIONS: Final = ("actions", "times_ms", "targets", "stream_ms", "event_hashes", "log_places", "signals")
"""The columns of Sessions that have a value for each action."""


@dataclass(frozen=True, slots=True, eq=False)
class Categories:
    """A name for each session, as codes.

    Attributes:
        names: the different ones.
        codes: shape (sessions,), int32; index of each session's name.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int32]

    @classmethod
    def of(cls, values: Sequence[str]) -> Self:
        """Count names, in the order of the alphabet."""
        names, codes = np.unique(np.array(values, object), return_inverse=True)
        return cls(tuple(names.tolist()), codes.astype(np.int32))

    @classmethod
    def joined(cls, parts: "Sequence[Categories]") -> Self:
        """Return all names of some, one after the other."""
        names = sorted({name for part in parts for name in part.names})
        place = {name: code for code, name in enumerate(names)}
        codes = [np.array([place[name] for name in part.names], np.int32)[part.codes] for part in parts]
        return cls(tuple(names), np.concatenate(codes))

    def take(self, index: NDArray[np.int64]) -> "Categories":
        """Return those of some sessions."""
        return Categories(self.names, self.codes[index])


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Sessions:
    """Labelled sessions as columns, their actions one after the other: millions of them fit into memory.

    A target belongs to an action: 1 where what was done so far is an attack, 0 where it is lawful, UNLABELLED where
    nobody knows. A session's label and the first action of its attacker follow from them.

    Attributes:
        ids: shape (sessions,), str.
        starts: shape (sessions + 1,), int64; where each session begins, and the end.
        names: the different actions.
        actions: shape (actions of all sessions,), uint16; index of each action's name.
        times_ms: shape (actions,), int64, Unix milliseconds; None where sessions have no times.
        targets: shape (actions,), int8.
        types: kind of lawful session, or family of attack; figures are also given by it.
        customer_types: figures of lawful sessions are also given by it.
        accounts: whose session it is; None where the data does not say.
        attack_ids: the same for all sessions of one attack, empty for others; None where the data does not say.
        parts: shape (sessions,), int8, indices of PARTS, where the data says; None where it does not.
        weights: shape (sessions,), float64, what each counts for; None where all count alike.
        labels_of: what a label was given to, and so what figures are of.
        stream_ms: shape (actions,), int64; of a log, the partition's stream time once the event is read. Without, a
            session is a log of its own, and its own times are all that ends it.
        event_hashes: shape (actions,), uint64; of the events' ids. None where no event is repeated.
        log_places: shape (actions,), int64; of a log, in which order its events lie. None where no signal asks.
        fields: what signals read beside these, by the field's name: shape (actions,), object, each a `Value`.
        signals: shape (actions, signals), uint8; as they were where all of the data was at hand, since what an account
            did before may be in another part. None where they are still to be computed, or there are none.
    """

    ids: NDArray[np.object_]
    starts: NDArray[np.int64]
    names: tuple[str, ...]
    actions: NDArray[np.uint16]
    times_ms: NDArray[np.int64] | None
    targets: NDArray[np.int8]
    types: Categories
    customer_types: Categories
    accounts: Categories | None = None
    attack_ids: Categories | None = None
    parts: NDArray[np.int8] | None = None
    weights: NDArray[np.float64] | None = None
    labels_of: LabelsOf = "session"
    stream_ms: NDArray[np.int64] | None = None
    event_hashes: NDArray[np.uint64] | None = None
    log_places: NDArray[np.int64] | None = None
    fields: Mapping[str, NDArray[np.object_]] = field(default_factory=dict)
    signals: NDArray[np.uint8] | None = None
    signals_window: int | None = None

    @classmethod
    def of(cls, sessions: Sequence[Session]) -> Self:
        """Make columns of sessions.

        Raises:
            DataError: only some have times, a split or an account, or there are more than MAX_ACTIONS different actions.
        """
        timed = _all_or_none([one.timestamps_ms is not None for one in sessions], "timestamps_ms")
        told = _all_or_none([one.split is not None for one in sessions], "a split")
        owned = _all_or_none([one.account_id is not None for one in sessions], "an account_id")
        lengths = np.array([len(one.actions) for one in sessions], np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        codes: dict[str, int] = {}
        for session in sessions:
            for action in session.actions:
                codes.setdefault(action, len(codes))
        if len(codes) > MAX_ACTIONS:
            raise DataError(
                f"{len(codes):,} different actions: expected at most {MAX_ACTIONS:,}; name rare ones alike, as OTHER"
            )
        count = int(starts[-1])
        position = np.arange(count) - np.repeat(starts[:-1], lengths)
        attacked_from = np.array([one.attacked_from for one in sessions], np.int64)
        return cls(
            ids=np.array([one.session_id for one in sessions], object),
            starts=starts,
            names=tuple(codes),
            actions=np.fromiter(
                (codes[action] for one in sessions for action in one.actions), np.uint16, count
            ),
            times_ms=np.fromiter(
                itertools.chain.from_iterable(one.timestamps_ms or () for one in sessions), np.int64, count
            )
            if timed
            else None,
            targets=(position >= np.repeat(attacked_from, lengths)).astype(np.int8),
            types=Categories.of([one.type for one in sessions]),
            customer_types=Categories.of([one.customer_type for one in sessions]),
            accounts=Categories.of([one.account_id or "" for one in sessions]) if owned else None,
            attack_ids=Categories.of([one.attack_id for one in sessions])
            if any(one.attack_id for one in sessions)
            else None,
            parts=np.array([PARTS.index(one.split) for one in sessions if one.split], np.int8)
            if told
            else None,
            fields=_fields_of(sessions, count),
        )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Actions of each session."""
        return np.diff(self.starts)

    @property
    def labels(self) -> NDArray[np.int8]:
        """1 for an attack, 0 for a lawful session, UNLABELLED where no action has a target; shape (sessions,)."""
        highest: NDArray[np.int8] = np.maximum.reduceat(self.targets, self.starts[:-1])
        return highest

    @property
    def attacked_from(self) -> NDArray[np.int64]:
        """Index in its session of the first action with target 1; the session's length where none has."""
        position = np.where(self.targets == 1, np.arange(len(self.targets)), np.iinfo(np.int64).max)
        first: NDArray[np.int64] = np.minimum.reduceat(position, self.starts[:-1]) - self.starts[:-1]
        return np.minimum(first, self.lengths)

    def take(self, index: NDArray[np.int64]) -> "Sessions":
        """Return some of the sessions, in the order of `index`."""
        lengths = self.lengths[index]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        at = np.arange(int(starts[-1])) + np.repeat(self.starts[index] - starts[:-1], lengths)
        return replace(
            self,
            ids=self.ids[index],
            starts=starts,
            types=self.types.take(index),
            customer_types=self.customer_types.take(index),
            accounts=None if self.accounts is None else self.accounts.take(index),
            attack_ids=None if self.attack_ids is None else self.attack_ids.take(index),
            parts=None if self.parts is None else self.parts[index],
            weights=None if self.weights is None else self.weights[index],
            **self._at(at),
        )

    def with_actions(self, keep: NDArray[np.bool_]) -> "Sessions":
        """Return the sessions with some of their actions, at least one each."""
        starts = np.concatenate([[0], np.cumsum(keep)])[self.starts]
        return replace(self, starts=starts, **self._at(keep))

    def _at(self, which: NDArray[np.int64] | NDArray[np.bool_]) -> dict[str, Any]:
        """Return the columns that have a value for each action, of some actions."""
        columns = {name: getattr(self, name) for name in OF_ACTIONS}
        taken = {name: None if column is None else column[which] for name, column in columns.items()}
        return {**taken, "fields": {name: column[which] for name, column in self.fields.items()}}

    def rows(self) -> "Iterator[Session]":
        """Yield each session by itself, as a line of a data file."""
        labels, attacked_from, times_ms = self.labels, self.attacked_from, self.times_ms
        for number in range(len(self)):
            start, end = self.starts[number : number + 2].tolist()
            yield Session(
                session_id=self.ids[number],
                actions=tuple(self.actions_of(number)),
                label=int(labels[number]),
                timestamps_ms=None if times_ms is None else tuple(times_ms[start:end].tolist()),
                split=None if self.parts is None else PARTS[self.parts[number]],
                type=self.types.names[self.types.codes[number]],
                customer_type=self.customer_types.names[self.customer_types.codes[number]],
                attack_from=int(attacked_from[number]) if labels[number] == 1 else None,
                account_id=None
                if self.accounts is None
                else self.accounts.names[self.accounts.codes[number]],
                attack_id=""
                if self.attack_ids is None
                else self.attack_ids.names[self.attack_ids.codes[number]],
                fields={name: tuple(column[start:end].tolist()) for name, column in self.fields.items()},
            )

    def actions_of(self, number: int) -> list[str]:
        """Return the names of one session's actions."""
        codes = self.actions[self.starts[number] : self.starts[number + 1]].tolist()
        return [self.names[code] for code in codes]


def _fields_of(sessions: Sequence[Session], count: int) -> dict[str, NDArray[np.object_]]:
    columns = {}
    for name in dict.fromkeys(name for one in sessions for name in one.fields):
        values = (one.fields.get(name) or (None,) * len(one.actions) for one in sessions)
        columns[name] = np.fromiter(itertools.chain.from_iterable(values), object, count)
    return columns


def _all_or_none(have: Sequence[bool], what: str) -> bool:
    if any(have) and not all(have):
        raise DataError(
            f"{sum(have):,} of {len(have):,} sessions have {what}: expected all of them or none; give it to all, or "
            "leave it out"
        )
    return any(have)


def mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a hash of each number (the finaliser of SplitMix64, Steele et al. 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


class Splits(NamedTuple):
    """Sessions by what they are for: weights, threshold and calibration, figures."""

    train: Sessions
    valid: Sessions
    test: Sessions


def write_sessions(path: Path, sessions: Iterable[Session]) -> int:
    """Write a data file, compressed if it ends in .gz; return how many sessions it has."""
    count = 0
    with create(path) as file:
        for session in sessions:
            file.write(msgspec.json.encode(session) + b"\n")
            count += 1
    return count


def together_in(*parts: Sessions) -> Sessions:
    """Return the sessions of all parts, one part after the other.

    The parts have the same columns, but for names that only some need, as those of attacks: empty in the others.
    """
    names = tuple(dict.fromkeys(name for part in parts for name in part.names))
    code = {name: number for number, name in enumerate(names)}
    lengths = np.concatenate([part.lengths for part in parts])
    columns: dict[str, Any] = {
        "starts": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        "names": names,
        "actions": np.concatenate(
            [np.array([code[name] for name in part.names], np.uint16)[part.actions] for part in parts]
        ),
    }
    for name in {one.name for one in fields(Sessions)} - columns.keys():
        values = [getattr(part, name) for part in parts]
        columns[name] = values[0]
        if any(isinstance(value, Categories) for value in values):
            pairs = zip(values, parts, strict=True)
            columns[name] = Categories.joined(
                [value or Categories.of([""] * len(part)) for value, part in pairs]
            )
        elif isinstance(values[0], Mapping):
            columns[name] = {key: np.concatenate([value[key] for value in values]) for key in values[0]}
        elif isinstance(values[0], np.ndarray):
            columns[name] = np.concatenate(values)
    return Sessions(**columns)


def vocabulary_of(sessions: Sessions) -> tuple[str, ...]:
    """Return the actions of some sessions, the most frequent first."""
    counts = np.bincount(sessions.actions, minlength=len(sessions.names))
    used = [(-int(count), name) for count, name in zip(counts, sessions.names, strict=True) if count]
    return tuple(name for _, name in sorted(used))


def sha256_of(parts: Splits) -> str:
    """Return the hash of every session of every part, in order; hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(msgspec.json.encode([part.ids.tolist(), part.names]))
        for column in (part.starts, part.weights, *(getattr(part, name) for name in OF_ACTIONS)):
            digest.update(b"" if column is None else np.ascontiguousarray(column).tobytes())
        for name, values in sorted(part.fields.items()):
            digest.update(msgspec.json.encode([name, values.tolist()]))
        digest.update(b"\n")
    return digest.hexdigest()
