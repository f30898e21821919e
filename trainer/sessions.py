"""Labelled sessions: one JSON line each, of any vocabulary, with or without times; read, checked and split."""

import gzip
import hashlib
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

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


class Splits(NamedTuple):
    """Sessions by what they are for: weights, threshold and calibration, figures."""

    train: tuple[Session, ...]
    valid: tuple[Session, ...]
    test: tuple[Session, ...]


class BadLine(NamedTuple):
    """A line that is no session, from 1, and why."""

    number: int
    reason: str


def read_sessions(path: Path, *, skip_bad_lines: bool = False) -> tuple[list[Session], list[BadLine]]:
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
    return sessions, bad


def simulated(sessions: Iterable[SimulatedSession]) -> list[Session]:
    """Return simulated sessions with their truth, as a data file holds them."""
    return [
        Session(
            session_id=session.session_id,
            actions=tuple(action.value for action in session.actions),
            label=session.label,
            timestamps_ms=tuple(session.timestamps_ms()),
            type=session.kind,
            customer_type=session.customer_type,
            attack_from=session.attack_from,
        )
        for session in sessions
    ]


def simulate(
    lawful: int, attacks: int, seed: int, behaviour: realistic.RealisticBehaviour | None = None
) -> list[Session]:
    """Simulate sessions of the realistic preset, so many of each side, in a random order.

    Args:
        lawful: sessions without an attack.
        attacks: sessions with one.
        seed: of the simulation.
        behaviour: customers and attack families; its rate is ignored. The preset's own if None.
    """
    if lawful + attacks == 0:
        return []
    given = behaviour or realistic.RealisticBehaviour()
    mixed = realistic.RealisticBehaviour(
        attack_rate=attacks / (lawful + attacks),
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


def split(sessions: Sequence[Session]) -> Splits:
    """Split sessions as they say; those that do not say, by a hash of their id, 70 : 15 : 15.

    A session falls into the same part in every run and whatever else is in the file. Where the file names train and
    test only, the part for threshold and calibration is taken out of train.

    Raises:
        DataError: only some say, or a part lacks attacks or lawful sessions.
    """
    told = sum(session.split is not None for session in sessions)
    if told not in {0, len(sessions)}:
        raise DataError(
            f"{told:,} of {len(sessions):,} sessions have a split: expected one for all of them, or for none"
        )
    parts: dict[str, list[Session]] = {"train": [], "valid": [], "test": []}
    for session in sessions:
        parts[session.split or _drawn_split(session.session_id)].append(session)
    if told and not parts["valid"]:
        whole, parts["train"] = parts["train"], []
        for session in whole:
            valid = _share(session.session_id) < VALID_SHARE
            parts["valid" if valid else "train"].append(session)
    for name, part in parts.items():
        count = Counter(session.label for session in part)
        if not count[0] or not count[1]:
            raise DataError(
                f"the {name} part has {count[1]:,} attacks and {count[0]:,} lawful sessions: expected some of both; "
                "give more sessions, or a split with each"
            )
    return Splits(*(tuple(parts[name]) for name in ("train", "valid", "test")))


def vocabulary_of(sessions: Iterable[Session]) -> tuple[str, ...]:
    """Return the actions of some sessions, the most frequent first.

    Raises:
        DataError: there are more than MAX_ACTIONS.
    """
    counts = Counter(action for session in sessions for action in session.actions)
    if len(counts) > MAX_ACTIONS:
        raise DataError(
            f"{len(counts):,} different actions: expected at most {MAX_ACTIONS:,}; name rare ones alike, as OTHER"
        )
    return tuple(sorted(counts, key=lambda action: (-counts[action], action)))


def have_times(sessions: Sequence[Session]) -> bool:
    """Tell whether the sessions have times.

    Raises:
        DataError: only some have.
    """
    timed = sum(session.timestamps_ms is not None for session in sessions)
    if timed not in {0, len(sessions)}:
        raise DataError(
            f"{timed:,} of {len(sessions):,} sessions have timestamps_ms: expected all of them or none; give them "
            "to all, or leave them unused with --no-time"
        )
    return timed > 0


def sha256_of(parts: Splits) -> str:
    """Return the hash of every session of every part, in order; hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        for session in part:
            digest.update(msgspec.json.encode(session))
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


def _drawn_split(session_id: str) -> str:
    share = _share(session_id)
    return "test" if share < TEST_SHARE else "valid" if share < TEST_SHARE + VALID_SHARE else "train"
