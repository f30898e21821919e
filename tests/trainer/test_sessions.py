"""Sessions as columns: what is written is read, and what is simulated is what was asked for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.loading import load
from trainer.data.sessions import (
    DataError,
    Session,
    Sessions,
    sha256_of,
    vocabulary_of,
    write_sessions,
)
from trainer.data.simulated import realistic_splits, simulate

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@st.composite
def sessions(draw: st.DrawFn) -> list[Session]:
    """Draw sessions of any vocabulary, with or without times."""
    timed, told = draw(st.booleans()), draw(st.booleans())
    drawn = []
    for number in range(draw(st.integers(1, 8))):
        actions = tuple(draw(st.lists(names, min_size=1, max_size=6)))
        label = draw(st.integers(0, 1))
        times = draw(st.lists(st.integers(10**12, 2**41), min_size=len(actions), max_size=len(actions)))
        drawn.append(
            Session(
                session_id=f"{number}",
                actions=actions,
                label=label,
                timestamps_ms=tuple(times) if timed else None,
                split=draw(st.sampled_from(["train", "valid", "test"])) if told else None,
                type=draw(st.text(max_size=5)),
                attack_from=draw(st.integers(0, len(actions) - 1)) if label else None,
            )
        )
    return drawn


@settings(max_examples=40, deadline=None)
@given(drawn=sessions(), packed=st.booleans())
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[Session], *, packed: bool
) -> None:
    """Sessions of any vocabulary come back equal, gzipped or not."""
    path = tmp_path_factory.mktemp("data") / ("sessions.jsonl.gz" if packed else "sessions.jsonl")
    assert write_sessions(path, drawn) == len(drawn)
    read = load(path).sessions
    assert [(one.session_id, one.actions, one.label, one.type, one.attacked_from) for one in read.rows()] == [
        (one.session_id, one.actions, one.label, one.type, one.attacked_from) for one in drawn
    ]
    assert [one.timestamps_ms for one in read.rows()] == [one.timestamps_ms for one in drawn]


def test_vocabulary_and_times_come_from_the_data() -> None:
    """The most frequent action comes first; times are used if all sessions have them, and mixed data is refused."""
    some = [
        Session(session_id="a", actions=("B", "A", "B"), label=0),
        Session(session_id="b", actions=("A", "B", "C"), label=1, timestamps_ms=(1, 2, 3)),
    ]
    assert vocabulary_of(Sessions.of([*some[:1], *some[:1]])) == ("B", "A")
    assert Sessions.of(some[:1]).times_ms is None
    assert Sessions.of(some[1:]).times_ms is not None
    with pytest.raises(DataError, match="1 of 2 sessions have timestamps_ms"):
        Sessions.of(some)
    with pytest.raises(DataError, match="65,535 different actions"):
        Sessions.of([Session(session_id="a", actions=tuple(map(str, range(65_535))), label=0)])


def test_a_left_out_family_is_tested_on_alone() -> None:
    """It is in the test part and in no other; parts share no session; the same call gives the same data."""
    parts = realistic_splits(1_500, 4, ["slow"])
    kinds = [{session.type for session in part.rows() if session.label} for part in parts]
    assert "slow" not in kinds[0] | kinds[1]
    assert "slow" in kinds[2]
    ids = [set(part.ids) for part in parts]
    assert not ids[0] & ids[2]
    assert not ids[0] & ids[1]
    assert sha256_of(parts) == sha256_of(realistic_splits(1_500, 4, ["slow"]))
    with pytest.raises(DataError, match="sloow"):
        realistic_splits(1_500, 4, ["sloow"])


def test_simulated_numbers_are_exact() -> None:
    """So many lawful sessions and attacks as asked."""
    drawn = simulate(90, 10, 3)
    assert (len(drawn), int(drawn.labels.sum())) == (100, 10)
