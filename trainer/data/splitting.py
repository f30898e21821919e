"""Splits: which sessions weights are fitted to, which set threshold and calibration, and which the figures are of.

Everything is decided by ids and a seed: whatever else runs, the same data is split alike.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.data.sessions import PARTS, UNLABELLED, DataError, Sessions, Splits, mixed

VALID_SHARE: Final = 0.15
TEST_SHARE: Final = 0.15
STRATIFIED_BELOW: Final = 300
"""Attacks or lawful ones: with fewer, each part gets its share of both exactly, whatever the ids' hashes say."""
FEWEST: Final = 3

By = Literal["told", "time", "account", "event", "id"]


def split(sessions: Sessions, by: By | None = None, seed: int = 0, test_share: float = TEST_SHARE) -> Splits:
    """Split sessions: as they say, by account where there are some, else by id; or as is asked.

    - `told`: by the part that the data names. Where it names none for threshold and calibration, that is taken out of
      train.
    - `time`: the latest are the test part, those before them valid. Of labels of events it is the events that are
      split: a session is in the test part whole, and what came before has no target there.
    - `account`: no account is in two parts.
    - `event`: labelled events at random, each with its session's history; what is not of the part has no target.
    - `id`: at random.

    Random parts go by a hash of the id and the seed: a session falls into the same part whatever else is in the data,
    if there is enough of it; else the parts are stratified.

    Raises:
        DataError: a part lacks attacks or lawful ones, or the data does not have what it is to be split by.
    """
    by = by or default_by(sessions)
    if by == "told":
        parts = _told(sessions, seed)
    elif by == "event" and sessions.labels_of != "event":
        raise DataError(
            f"the labels are of {sessions.labels_of}s: expected those of events (--labels-of event), or another --split-by"
        )
    elif by == "event" or (by == "time" and sessions.labels_of == "event"):
        return _checked(_of_events(sessions, by, seed, test_share))
    elif by == "time":
        parts = _latest(_times_ms(sessions)[sessions.starts[:-1]], sessions.labels, test_share)
    elif by == "account" and sessions.accounts is None:
        raise DataError("the sessions name no account: expected one in each, or another --split-by")
    else:
        parts = _by_hash(sessions if by == "account" else replace(sessions, accounts=None), seed, test_share)
    return _checked(Splits(*(sessions.take(np.flatnonzero(parts == part)) for part in range(len(PARTS)))))


def default_by(sessions: Sessions) -> By:
    """Return what sessions are split by unless told: no account may be in two parts, if that can be had."""
    if sessions.parts is not None:
        return "told"
    if sessions.accounts is None:
        return "id"
    return "account" if fewest(sessions) >= FEWEST else "id"


def told_of_split(sessions: Sessions, parts: Splits, by: By | None = None) -> list[str]:
    """Return the lines that say how sessions were split, and what of the training the test part holds."""
    by = by or default_by(sessions)
    sizes = ", ".join(f"{name} {len(part):,}" for name, part in zip(PARTS, parts, strict=True))
    lines = [f"split by {by}: {sizes} sessions"]
    if by != "account" and parts.train.accounts is not None and parts.test.accounts is not None:
        seen = np.isin(parts.test.accounts.codes, parts.train.accounts.codes)
        if seen.any():
            lines.append(
                f"{int(seen.sum()):,} of {len(seen):,} test sessions are of accounts that were trained on: figures flatter "
                "if a model can know customers again; --split-by account keeps them apart"
            )
    if by not in {"time", "told"} and sessions.times_ms is not None:
        lines.append("the test part is no later than what is trained on; --split-by time tests on the latest")
    of_events = sessions.labels_of == "event" and by in {"event", "time"}
    if not of_events and (count := copies(parts.train, parts.test)):
        lines.append(
            f"{count:,} of {len(parts.test):,} test sessions are copies of sessions trained on: the same actions with the "
            "same gaps"
        )
    return lines


def fewest(sessions: Sessions) -> int:
    """Return how many accounts (sessions, without accounts) of the rarer kind there are, attacked or lawful."""
    labels = _units(sessions)[1]
    return min(int((labels == label).sum()) for label in (0, 1))


def fold_of(sessions: Sessions, count: int, seed: int = 0) -> NDArray[np.int64]:
    """Return which of `count` folds each session is in, attacks spread over all; an account's are in one.

    Returns:
        shape (sessions,).
    """
    owners = np.arange(len(sessions)) if sessions.accounts is None else sessions.accounts.codes
    _, owner_of = np.unique(owners, return_inverse=True)
    attacked = np.zeros(owner_of.max() + 1, np.bool_)
    attacked[owner_of[sessions.labels == 1]] = True
    order = np.random.default_rng([seed, 3]).permutation(len(attacked))
    order = order[np.argsort(attacked[order], kind="stable")]
    fold = np.empty(len(attacked), np.int64)
    fold[order] = np.arange(len(attacked)) % count
    return fold[owner_of]


def folds(
    sessions: Sessions, count: int, seed: int = 0
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield for each fold the sessions to fit to and those to judge by; stratified, and by account where there are.

    Raises:
        DataError: there are fewer attacks or lawful sessions (accounts) than folds.
    """
    if (rarer := fewest(sessions)) < count:
        raise DataError(
            f"{rarer:,} of the rarer kind, attacks or lawful, for {count} folds: expected at least one a fold; give more data, "
            "or ask for fewer"
        )
    of_session = fold_of(sessions, count, seed)
    for number in range(count):
        yield np.flatnonzero(of_session != number), np.flatnonzero(of_session == number)


def copies(train: Sessions, test: Sessions) -> int:
    """Count the test sessions that have the actions and gaps of a training session."""
    return int(np.isin(_contents(test), _contents(train)).sum())


def _contents(sessions: Sessions) -> NDArray[np.uint64]:
    """Return a hash of each session's actions and gaps."""
    lengths, starts = sessions.lengths, sessions.starts[:-1]
    names = np.array([_hash(name) for name in sessions.names], np.uint64)
    step = names[sessions.actions]
    if sessions.times_ms is not None:
        gaps_ms = np.diff(sessions.times_ms, prepend=0)
        gaps_ms[starts] = 0
        step = mixed(step ^ mixed(gaps_ms.astype(np.uint64)))
    position = np.arange(len(step)) - np.repeat(starts, lengths)
    placed = mixed(step + mixed(position.astype(np.uint64)))
    hashed: NDArray[np.uint64] = np.add.reduceat(placed, starts)
    return hashed


def _told(sessions: Sessions, seed: int) -> NDArray[np.int64]:
    if sessions.parts is None:
        raise DataError("the sessions name no part: expected a split in each, or another --split-by")
    parts = sessions.parts.astype(np.int64)
    if not (parts == 1).any():
        train = np.flatnonzero(parts == 0)
        some = replace(sessions.take(train), parts=None)
        by_account = default_by(some) == "account"
        parts[train] = _by_hash(some if by_account else replace(some, accounts=None), seed, 0.0)
    return parts


def _times_ms(sessions: Sessions) -> NDArray[np.int64]:
    if sessions.times_ms is None:
        raise DataError("the sessions have no times: expected some to split by, or another --split-by")
    return sessions.times_ms


def _latest(times_ms: NDArray[np.int64], labels: NDArray[np.int8], test_share: float) -> NDArray[np.int64]:
    """Cut a time line in three, so that each part has some of both labels if that can be."""
    order = np.argsort(times_ms, kind="stable")
    known = labels[order]
    parts = np.empty(len(order), np.int64)
    ends = [1 - VALID_SHARE - test_share, 1 - test_share]
    cuts = [round(end * len(order)) for end in ends]
    if any(not (piece == label).any() for piece in np.split(known, cuts) for label in (0, 1)):
        rarer = int((known == 1).sum() <= (known == 0).sum())
        at = np.flatnonzero(known == rarer)
        if len(at) >= FEWEST:
            train, valid, _ = _quotas(len(at), test_share)
            cuts = [int(at[train]), int(at[train + valid])]
    parts[order] = np.repeat(np.arange(3), np.diff([0, *cuts, len(order)]))
    return parts


def _of_events(sessions: Sessions, by: By, seed: int, test_share: float) -> Splits:
    """Split the labelled events: each part has the sessions with the targets that are of it, and no others."""
    labelled = np.flatnonzero(sessions.targets != UNLABELLED)
    targets = sessions.targets[labelled]
    if by == "time":
        parts = _latest(_times_ms(sessions)[labelled], targets, test_share)
    else:
        keys = np.array([_hash(one, seed) for one in sessions.ids], np.uint64)
        number = np.repeat(np.arange(len(sessions)), sessions.lengths)[labelled]
        position = (labelled - sessions.starts[number]).astype(np.uint64)
        parts = _random(mixed(keys[number] + position) / 2**64, targets, test_share)
    made = []
    for part in range(len(PARTS)):
        of_part = np.full_like(sessions.targets, UNLABELLED)
        of_part[labelled[parts == part]] = targets[parts == part]
        some = replace(sessions, targets=of_part)
        made.append(some.take(np.flatnonzero(some.labels != UNLABELLED)))
    return Splits(*made)


def _by_hash(sessions: Sessions, seed: int, test_share: float) -> NDArray[np.int64]:
    """Return the part of each session, by its account's name if there are accounts, else by its id."""
    codes, labels = _units(sessions)
    names = sessions.ids if sessions.accounts is None else np.array(sessions.accounts.names, object)
    shares = np.array([_hash(name, seed) for name in names], np.uint64) / 2**64
    return _random(shares, labels, test_share)[codes]


def _units(sessions: Sessions) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Return for each session the number of what is not to be torn apart, account or session, and each one's label."""
    if sessions.accounts is None:
        return np.arange(len(sessions)), sessions.labels
    labels = np.full(len(sessions.accounts.names), UNLABELLED, np.int8)
    np.maximum.at(labels, sessions.accounts.codes, sessions.labels)
    return sessions.accounts.codes.astype(np.int64), labels


def _random(shares: NDArray[np.float64], labels: NDArray[np.int8], test_share: float) -> NDArray[np.int64]:
    """Return the part of each: by its share, a number from 0 to 1, or by the order of shares where there are few."""
    if min(int((labels == label).sum()) for label in (0, 1)) >= STRATIFIED_BELOW:
        return np.where(shares < test_share, 2, np.where(shares < test_share + VALID_SHARE, 1, 0))
    parts = np.empty(len(labels), np.int64)
    for label in np.unique(labels).tolist():
        of = np.flatnonzero(labels == label)
        train, valid, test = _quotas(len(of), test_share)
        parts[of[np.argsort(shares[of], kind="stable")]] = np.repeat([2, 1, 0], [test, valid, train])
    return parts


def _quotas(count: int, test_share: float) -> tuple[int, int, int]:
    """Return how many of `count` go to train, valid and test: at least one each, if there are three."""
    least = int(count >= FEWEST)
    test = max(least, round(test_share * count)) if test_share else 0
    valid = max(least, round(VALID_SHARE * count))
    return count - valid - test, valid, test


def _hash(name: str, seed: int = 0) -> int:
    salt = seed.to_bytes(8, "little") if seed else b""
    return int.from_bytes(
        hashlib.blake2b(name.encode(), digest_size=8, person=b"split", salt=salt).digest(), "big"
    )


def _checked(made: Splits) -> Splits:
    for name, part in zip(PARTS, made, strict=True):
        targets = part.labels if part.labels_of != "event" else part.targets
        lawful, attacks = (int((targets == label).sum()) if len(part) else 0 for label in (0, 1))
        if not lawful or not attacks:
            lacking = f"lawful {part.labels_of}s" if attacks else "attacks"
            raise DataError(
                f"the {name} part has {attacks:,} attacks and {lawful:,} lawful {part.labels_of}s: expected some of both; split "
                f"otherwise (--split-by), or give more data, with at least {FEWEST} {lacking}"
            )
    return made
