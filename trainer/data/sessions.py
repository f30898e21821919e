"""Labelled sessions: one JSON line each, of any vocabulary, with or without times; read, checked and split."""

import gzip
import hashlib
import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from detector.core.encoding import MAX_ACTIONS
from producer.behaviour import realistic
from producer.behaviour.session import SimulatedSession

MAX_SESSION_ACTIONS: Final = 100_000
MAX_LINE_BYTES: Final = 64 * 1024 * 1024
KEPT_BAD_LINES: Final = 20
VALID_SHARE: Final = 0.15
TEST_SHARE: Final = 0.15

Split = Literal["train", "valid", "test"]


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

    @property
    def attacked_from(self) -> int:
        """Index of the first action that is the attacker's; the number of actions in a lawful session."""
        return (self.attack_from or 0) if self.label else len(self.actions)


PARTS: Final[tuple[Split, ...]] = ("train", "valid", "test")
UNLABELLED: Final = -1


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
        parts: shape (sessions,), int8, indices of PARTS, where the data says; None where it does not.
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
    parts: NDArray[np.int8] | None = None

    @classmethod
    def of(cls, sessions: Sequence[Session]) -> Self:
        """Make columns of sessions.

        Raises:
            DataError: only some of them have times, or a split, or there are more than MAX_ACTIONS different actions.
        """
        timed = _all_or_none([one.timestamps_ms is not None for one in sessions], "timestamps_ms")
        told = _all_or_none([one.split is not None for one in sessions], "a split")
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
            parts=np.array([PARTS.index(one.split) for one in sessions if one.split], np.int8)
            if told
            else None,
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
        return Sessions(
            ids=self.ids[index],
            starts=starts,
            names=self.names,
            actions=self.actions[at],
            times_ms=None if self.times_ms is None else self.times_ms[at],
            targets=self.targets[at],
            types=self.types.take(index),
            customer_types=self.customer_types.take(index),
            accounts=None if self.accounts is None else self.accounts.take(index),
            parts=None if self.parts is None else self.parts[index],
        )

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
            )

    def actions_of(self, number: int) -> list[str]:
        """Return the names of one session's actions."""
        codes = self.actions[self.starts[number] : self.starts[number + 1]].tolist()
        return [self.names[code] for code in codes]


def _all_or_none(have: Sequence[bool], what: str) -> bool:
    if any(have) and not all(have):
        raise DataError(
            f"{sum(have):,} of {len(have):,} sessions have {what}: expected all of them or none; give it to all, or "
            "leave it out"
        )
    return any(have)


class Splits(NamedTuple):
    """Sessions by what they are for: weights, threshold and calibration, figures."""

    train: Sessions
    valid: Sessions
    test: Sessions


class BadLine(NamedTuple):
    """A line that is no session, from 1, and why."""

    number: int
    reason: str


def read_sessions(path: Path, *, skip_bad_lines: bool = False) -> tuple[Sessions, list[BadLine]]:
    """Read a data file, gzip by the suffix .gz.

    Returns:
        the sessions, and the bad lines that were left out.

    Raises:
        DataError: the file cannot be read, has bad lines (unless skipped), or has no session.
    """
    sessions: list[Session] = []
    bad: list[BadLine] = []
    seen: set[str] = set()
    for number, line in enumerate(lines_of(path), start=1):
        if not line.strip():
            continue
        try:
            session = msgspec.json.decode(line, type=Session)
            _check(session, seen)
        except (msgspec.DecodeError, ValueError) as error:
            bad.append(BadLine(number, str(error)))
            continue
        seen.add(session.session_id)
        sessions.append(session)
    if bad and not skip_bad_lines:
        shown = "\n".join(f"  line {number}: {reason}" for number, reason in bad[:KEPT_BAD_LINES])
        more = f"\n  and {len(bad) - KEPT_BAD_LINES:,} more" if len(bad) > KEPT_BAD_LINES else ""
        raise DataError(
            f"{path} has {len(bad):,} bad lines: expected one session in JSON a line; mend them, or leave them out "
            f"with --skip-bad-lines\n{shown}{more}"
        )
    if not sessions:
        raise DataError(f"{path} has no session: expected one in JSON a line")
    return Sessions.of(sessions), bad


def simulated(sessions: Iterable[SimulatedSession]) -> Sessions:
    """Return simulated sessions with their truth."""
    return Sessions.of(list(lines_of_simulated(sessions)))


def lines_of_simulated(sessions: Iterable[SimulatedSession]) -> Iterator[Session]:
    """Yield simulated sessions with their truth, as lines of a data file."""
    for session in sessions:
        yield Session(
            session_id=session.session_id,
            actions=tuple(action.value for action in session.actions),
            label=session.label,
            timestamps_ms=tuple(session.timestamps_ms()),
            type=session.kind,
            customer_type=session.customer_type,
            attack_from=session.attack_from,
        )


def simulate(
    lawful: int, attacks: int, seed: int, behaviour: realistic.RealisticBehaviour | None = None
) -> Sessions:
    """Simulate sessions of the realistic preset, so many of each side, in a random order.

    Args:
        lawful: sessions without an attack.
        attacks: sessions with one.
        seed: of the simulation.
        behaviour: customers and attack families; its rate is ignored. The preset's own if None.
    """
    given = behaviour or realistic.RealisticBehaviour()
    mixed = realistic.RealisticBehaviour(
        attack_rate=attacks / max(1, lawful + attacks),
        customers=given.customers,
        customer_types=given.customer_types,
        attack_families=given.attack_families,
        attacker_has_own_device=given.attacker_has_own_device,
    )
    return simulated(realistic.sessions(lawful + attacks, seed, mixed))


def write_sessions(path: Path, sessions: Iterable[Session]) -> int:
    """Write a data file, compressed if it ends in .gz; return how many sessions it has."""
    count = 0
    with path.open("wb") as raw:
        file = gzip.GzipFile("", "wb", 6, raw, mtime=0) if path.suffix == ".gz" else raw
        for session in sessions:
            file.write(msgspec.json.encode(session) + b"\n")
            count += 1
        if file is not raw:
            file.close()
    return count


def split(sessions: Sessions) -> Splits:
    """Split sessions as they say; those that do not say, by a hash of their id, 70 : 15 : 15.

    A session falls into the same part in every run and whatever else is in the file. Where the file names train and
    test only, the part for threshold and calibration is taken out of train.

    Raises:
        DataError: a part lacks attacks or lawful sessions.
    """
    shares = np.array([_share(session_id) for session_id in sessions.ids])
    if sessions.parts is None:
        parts = np.where(shares < TEST_SHARE, 2, np.where(shares < TEST_SHARE + VALID_SHARE, 1, 0))
    elif (sessions.parts == 1).any():
        parts = sessions.parts.astype(np.int64)
    else:
        parts = np.where((sessions.parts == 0) & (shares < VALID_SHARE), 1, sessions.parts)
    made = Splits(*(sessions.take(np.flatnonzero(parts == part)) for part in range(len(PARTS))))
    for name, part in zip(PARTS, made, strict=True):
        lawful, attacks = (int((part.labels == label).sum()) if len(part) else 0 for label in (0, 1))
        if not lawful or not attacks:
            raise DataError(
                f"the {name} part has {attacks:,} attacks and {lawful:,} lawful sessions: expected some of both; "
                "give more sessions, or a split with each"
            )
    return made


def together_in(*parts: Sessions) -> Sessions:
    """Return the sessions of all parts, one part after the other.

    The parts have the same columns.
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
    for one in fields(Sessions):
        values = [getattr(part, one.name) for part in parts]
        if one.name in columns:
            continue
        if values[0] is None:
            columns[one.name] = None
        elif isinstance(values[0], Categories):
            columns[one.name] = Categories.of([each.names[code] for each in values for code in each.codes])
        else:
            columns[one.name] = np.concatenate(values)
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
        for column in (part.starts, part.actions, part.times_ms, part.targets):
            digest.update(b"" if column is None else np.ascontiguousarray(column).tobytes())
        digest.update(b"\n")
    return digest.hexdigest()


def lines_of(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, gzip by the suffix .gz, each of at most MAX_LINE_BYTES.

    Raises:
        DataError: the file cannot be read.
    """
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                yield line
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(
            f"{path}, after line {number}: the gzip data is damaged or cut off ({error}): fetch the file again, or "
            "name it without .gz if it is not compressed"
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): expected a file of JSON lines") from error


def _check(session: Session, seen: set[str]) -> None:
    if not session.session_id:
        raise ValueError("session_id is empty: expected a name of its own")
    if session.session_id in seen:
        raise ValueError(f"session_id {session.session_id[:64]!r} was on a line before: expected each once")
    count = len(session.actions)
    if not 1 <= count <= MAX_SESSION_ACTIONS:
        raise ValueError(f"{count:,} actions: expected 1 to {MAX_SESSION_ACTIONS:,}")
    if "" in session.actions:
        raise ValueError("an action is empty: expected a name")
    if session.label not in {0, 1}:
        raise ValueError(f"label is {session.label}: expected 0 or 1")
    if session.timestamps_ms is not None and len(session.timestamps_ms) != count:
        raise ValueError(
            f"{len(session.timestamps_ms):,} timestamps_ms for {count:,} actions: expected one each"
        )
    if session.attack_from is not None and not (session.label and 0 <= session.attack_from < count):
        raise ValueError(f"attack_from is {session.attack_from}: expected the index of an attack's action")


def _share(session_id: str) -> float:
    digest = hashlib.blake2b(session_id.encode(), digest_size=8, person=b"split").digest()
    return int.from_bytes(digest, "big") / 2**64
