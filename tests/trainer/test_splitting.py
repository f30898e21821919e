"""Splits: by id, account, time, event or as told; none refused that could be made, and what leaks is said."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.sessions import UNLABELLED, DataError, Session, Sessions, Split
from trainer.data.splitting import By, copies, folds, split, told_of_split

BEGIN_MS = 1_700_000_000_000


def plain(
    count: int, attacks: int, *, accounts: int | None = None, part: Split | None = None, seed: int = 0
) -> list[Session]:
    """Return sessions one after the other in time, attacks among them at random."""
    rng = np.random.RandomState(seed)
    attacked = set(rng.choice(count, attacks, replace=False).tolist())
    return [
        Session(
            session_id=f"{part}{number}",
            account_id=None if accounts is None else f"account{rng.randint(accounts)}",
            actions=("A", "B"),
            label=int(number in attacked),
            timestamps_ms=(
                BEGIN_MS + 1_000 * number,
                BEGIN_MS + 1_000 * number + 1 + int(rng.randint(10**6)),
            ),
            split=part,
        )
        for number in range(count)
    ]


def test_a_split_by_id_depends_on_the_session_alone() -> None:
    """Sessions fall about 70 : 15 : 15, and into the same part whatever else is in the data."""
    sessions = plain(2_000, 1_000)
    whole = split(Sessions.of(sessions))
    assert 1_300 < len(whole.train) < 1_500
    assert 240 < len(whole.valid) < 360
    lawful = [one for one in sessions if not one.label][:600]
    half = split(Sessions.of([*lawful, *[one for one in sessions if one.label][:600]]))
    assert set(half.test.ids) <= set(whole.test.ids)
    assert set(half.valid.ids) <= set(whole.valid.ids)
    assert set(split(Sessions.of(sessions), seed=1).test.ids) != set(whole.test.ids)


@settings(max_examples=150, deadline=None)
@given(
    count=st.integers(20, 200), attacks=st.integers(3, 10), accounts=st.sampled_from([None, 3, 40]),
    by=st.sampled_from([None, "id", "time"]), seed=st.integers(0, 100),
)  # fmt: skip
def test_three_attacks_are_enough(
    count: int, attacks: int, accounts: int | None, by: By | None, seed: int
) -> None:
    """However few the attacks, from three on each part has one: none is refused, and nothing is in two parts."""
    sessions = Sessions.of(plain(count, attacks, accounts=accounts, seed=seed))
    try:
        parts = split(sessions, by, seed)
    except DataError as error:  # attacks one after the other leave no lawful session between them
        if by != "time" or "0 lawful" not in str(error):
            raise
        return
    assert all((part.labels == 1).any() and (part.labels == 0).any() for part in parts)
    assert sorted(one for part in parts for one in part.ids) == sorted(sessions.ids)


def test_no_account_is_in_two_parts() -> None:
    """By account unless told, where there are accounts; else figures flatter, which is said."""
    sessions = Sessions.of(plain(3_000, 900, accounts=700))
    parts = split(sessions)
    owners = [{one.account_id for one in part.rows()} for part in parts]
    assert not owners[0] & owners[1]
    assert not owners[0] & owners[2]
    assert not owners[1] & owners[2]
    assert not [line for line in told_of_split(sessions, parts) if "accounts that were trained on" in line]
    by_id = split(sessions, "id")
    assert [line for line in told_of_split(sessions, by_id, "id") if "accounts that were trained on" in line]


def test_by_time_the_latest_are_tested_on() -> None:
    """No session of a part begins before one of the part before it."""
    sessions = Sessions.of(plain(1_000, 200))
    begins = [
        part.times_ms[part.starts[:-1]] for part in split(sessions, "time") if part.times_ms is not None
    ]
    assert begins[0].max() < begins[1].min()
    assert begins[1].max() < begins[2].min()
    assert [len(one) for one in begins] == [700, 150, 150]


@pytest.mark.parametrize("by", ["event", "time"])
def test_labels_of_events_are_split_as_events(by: By) -> None:
    """Each labelled event is a target in one part, with its session's history; by time the latest are tested on."""
    rng = np.random.RandomState(1)
    one = Sessions.of(plain(400, 0))
    targets = rng.choice([UNLABELLED, 0, 1], len(one.actions), p=[0.3, 0.4, 0.3]).astype(np.int8)
    sessions = Sessions(
        **{name: getattr(one, name) for name in one.__slots__} | {"targets": targets, "labels_of": "event"}
    )
    parts = split(sessions, by, test_share=0.4)
    known = [int((part.targets != UNLABELLED).sum()) for part in parts]
    assert sum(known) == int((targets != UNLABELLED).sum())
    assert 0.35 < known[2] / sum(known) < 0.45
    for part in parts:
        assert (part.labels != UNLABELLED).all()
        assert (part.lengths == 2).all()
    if by == "time":
        times = [part.times_ms[part.targets != UNLABELLED] for part in parts if part.times_ms is not None]
        assert times[0].max() <= times[1].min()
        assert times[1].max() <= times[2].min()


def test_a_told_split_holds() -> None:
    """Told parts are kept; a validation part that is missing is taken out of train, never out of test."""
    parts = split(Sessions.of([*plain(400, 200, part="train"), *plain(50, 25, part="test")]))
    assert set(parts.test.ids) == {f"test{n}" for n in range(50)}
    assert len(parts.train) + len(parts.valid) == 400
    assert 30 < len(parts.valid) < 100


def test_splits_that_cannot_be_used_are_refused() -> None:
    """Some sessions with a split and others without, one label only, or nothing to split by, are errors."""
    with pytest.raises(DataError, match="50 of 100 sessions have a split"):
        split(Sessions.of([*plain(50, 20), *plain(50, 20, part="train")]))
    with pytest.raises(DataError, match="0 attacks and"):
        split(Sessions.of(plain(400, 0)))
    with pytest.raises(DataError, match="name no account"):
        split(Sessions.of(plain(400, 40)), "account")
    with pytest.raises(DataError, match="name no part"):
        split(Sessions.of(plain(400, 40)), "told")


@settings(max_examples=60, deadline=None)
@given(accounts=st.sampled_from([None, 60]), count=st.integers(2, 5), seed=st.integers(0, 9))
def test_folds_judge_every_session_once(accounts: int | None, count: int, seed: int) -> None:
    """Each session is judged by in one fold, of which its account's others are too; every fold has both labels."""
    sessions = Sessions.of(plain(300, 60, accounts=accounts, seed=seed))
    judged = []
    for fitted_to, judged_by in folds(sessions, count, seed):
        assert sorted([*fitted_to, *judged_by]) == list(range(300))
        assert set(sessions.labels[judged_by].tolist()) == {0, 1}
        if sessions.accounts is not None:
            assert not np.isin(sessions.accounts.codes[judged_by], sessions.accounts.codes[fitted_to]).any()
        judged += judged_by.tolist()
    assert sorted(judged) == list(range(300))
    with pytest.raises(DataError, match="for 400 folds"):
        next(folds(sessions, 400))


def test_copies_of_training_sessions_are_counted() -> None:
    """The same actions with the same gaps, whenever they were; another gap or order is no copy."""

    def session(name: str, actions: str, *times_ms: int) -> Session:
        return Session(session_id=name, actions=tuple(actions), label=0, timestamps_ms=times_ms)

    train = Sessions.of([session("a", "AB", 10, 20), session("b", "C", 5)])
    test = Sessions.of(
        [
            session("c", "AB", 110, 120),
            session("d", "AB", 10, 21),
            session("e", "BA", 10, 20),
            session("f", "C", 9),
        ]
    )
    assert copies(train, test) == 2


def test_what_lacks_is_said() -> None:
    """Two lawful sessions among many attacks are as few as two attacks; sessions' labels are not split by event."""
    for attacks, lacking in ((2, "3 attacks"), (38, "3 lawful sessions")):
        with pytest.raises(DataError, match=f"with at least {lacking}"):
            split(Sessions.of(plain(40, attacks)))
    with pytest.raises(DataError, match=r"labels are of sessions: .*--labels-of event"):
        split(Sessions.of(plain(40, 10)), by="event")
