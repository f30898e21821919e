"""Data files: what is read, what is refused and where, how sessions are split, and where else they come from."""

import gzip
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.behaviour import realistic
from producer.recording import label_of
from trainer.data.sessions import (
    DataError,
    Session,
    Sessions,
    read_sessions,
    sha256_of,
    simulate,
    split,
    vocabulary_of,
    write_sessions,
)
from trainer.data.sources import events_of_file, labelled_sessions, read_labels, realistic_splits

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@st.composite
def sessions(draw: st.DrawFn) -> list[Session]:
    """Draw sessions of any vocabulary, with or without times."""
    timed, told = draw(st.booleans()), draw(st.booleans())
    drawn = []
    for number in range(draw(st.integers(1, 8))):
        actions = tuple(draw(st.lists(names, min_size=1, max_size=6)))
        label = draw(st.integers(0, 1))
        times = draw(st.lists(st.integers(0, 2**41), min_size=len(actions), max_size=len(actions)))
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
    read, bad = read_sessions(path)
    assert bad == []
    assert [(one.session_id, one.actions, one.label, one.type, one.attacked_from) for one in read.rows()] == [
        (one.session_id, one.actions, one.label, one.type, one.attacked_from) for one in drawn
    ]
    assert [one.timestamps_ms for one in read.rows()] == [one.timestamps_ms for one in drawn]


BAD = [
    ("{", "truncated"),
    ('{"session_id":"a","actions":[],"label":0}', "0 actions"),
    ('{"session_id":"","actions":["A"],"label":0}', "session_id is empty"),
    ('{"session_id":"a","actions":["A"],"label":2}', "label is 2"),
    ('{"session_id":"a","actions":["A",""],"label":0}', "an action is empty"),
    ('{"session_id":"a","actions":["A"],"label":0,"timestamps_ms":[1,2]}', "2 timestamps_ms for 1 actions"),
    ('{"session_id":"a","actions":["A"],"label":0,"split":"dev"}', "split"),
    ('{"session_id":"a","actions":["A"],"label":0,"attack_from":0}', "attack_from is 0"),
    ('{"session_id":"good","actions":["A"],"label":0}', "was on a line before"),
    ('{"session_id":"a","actions":' + json.dumps(["A"] * 100_001) + ',"label":0}', "100,001 actions"),
]


@pytest.mark.parametrize(("line", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: str, reason: str) -> None:
    """A bad line ends the reading with its number and reason, or is left out and told with skip_bad_lines."""
    path = tmp_path / "data.jsonl"
    path.write_text(f'{{"session_id":"good","actions":["A"],"label":0}}\n\n{line}\n')
    with pytest.raises(DataError, match="line 3: ") as raised:
        read_sessions(path)
    assert reason in str(raised.value)
    read, bad = read_sessions(path, skip_bad_lines=True)
    assert read.ids.tolist() == ["good"]
    assert [one.number for one in bad] == [3]


def test_the_longest_session_is_read(tmp_path: Path) -> None:
    """100,000 actions are a session."""
    path = tmp_path / "data.jsonl"
    write_sessions(path, [Session(session_id="s", actions=("A",) * 100_000, label=0)])
    assert read_sessions(path)[0].lengths.tolist() == [100_000]


@pytest.mark.parametrize("content", [b"", b"\n"])
def test_no_session_and_no_file_are_errors(tmp_path: Path, content: bytes) -> None:
    """An empty file, a missing one and damaged gzip data are errors that name the file."""
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    damaged = tmp_path / "data.jsonl.gz"
    damaged.write_bytes(b"no gzip")
    for wrong in (path, tmp_path / "nowhere", damaged):
        with pytest.raises(DataError, match=wrong.name):
            read_sessions(wrong)


def _plain(count: int, part: str | None = None) -> list[Session]:
    document = {"actions": ["A"], "split": part}
    return [
        msgspec.convert({**document, "session_id": f"{part}{n}", "label": n % 2}, Session)
        for n in range(count)
    ]


def test_a_split_depends_on_the_session_alone() -> None:
    """Sessions fall about 70 : 15 : 15, and into the same part whatever else is in the file."""
    whole = split(Sessions.of(_plain(2_000)))
    assert 1_300 < len(whole.train) < 1_500
    assert 240 < len(whole.valid) < 360
    half = split(Sessions.of(_plain(1_000)))
    assert set(half.test.ids) <= set(whole.test.ids)
    assert set(half.valid.ids) <= set(whole.valid.ids)


def test_a_told_split_holds() -> None:
    """Told parts are kept; a validation part that is missing is taken out of train, never out of test."""
    parts = split(Sessions.of([*_plain(400, "train"), *_plain(50, "test")]))
    assert set(parts.test.ids) == {f"test{n}" for n in range(50)}
    assert len(parts.train) + len(parts.valid) == 400
    assert 30 < len(parts.valid) < 100


def test_splits_that_cannot_be_used_are_refused() -> None:
    """Some sessions with a split and others without, or a part of one label only, are errors."""
    with pytest.raises(DataError, match="50 of 100 sessions have a split"):
        split(Sessions.of([*_plain(50), *_plain(50, "train")]))
    with pytest.raises(DataError, match="0 attacks"):
        split(Sessions.of([session for session in _plain(400) if not session.label]))


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


def test_events_and_labels_make_the_sessions_they_came_from(tmp_path: Path) -> None:
    """A recording with its labels gives back the simulated sessions; one without a label is an error."""
    simulated = list(realistic.sessions(40, 3, realistic.RealisticBehaviour(attack_rate=0.3)))
    events, labels = tmp_path / "events.jsonl", tmp_path / "labels.jsonl"
    lines = [event for session in simulated for event in session.events(1_000)]
    events.write_bytes(b"\n".join(msgspec.json.encode(event) for event in [*lines, lines[0]]))
    labels.write_bytes(b"\n".join(msgspec.json.encode(label_of(session)) for session in simulated))
    made = labelled_sessions(events_of_file(events), read_labels(labels))
    assert made.ids.tolist() == [one.session_id for one in simulated]
    for one, origin in zip(made.rows(), simulated, strict=True):
        assert one.actions == tuple(map(str, origin.actions))
        assert one.timestamps_ms == tuple(origin.timestamps_ms(1_000))
        assert (one.label, one.attack_from, one.type) == (origin.label, origin.attack_from, origin.kind)
    with pytest.raises(DataError, match="1 of 40 sessions have no label"):
        labelled_sessions(events_of_file(events), dict(list(read_labels(labels).items())[1:]))


def test_a_label_file_may_say_no_more_than_the_label(tmp_path: Path) -> None:
    """A session's id and its label are enough; gzip goes by the suffix; what is no label is told with its line."""
    least = b'{"session_id": "a", "label": 1}\n{"session_id": "b", "label": 0, "case": "4711"}\n'
    (tmp_path / "labels.jsonl.gz").write_bytes(gzip.compress(least))
    read = read_labels(tmp_path / "labels.jsonl.gz")
    assert {name: (one.label, one.type, one.attack_from) for name, one in read.items()} == {
        "a": (1, "", None),
        "b": (0, "", None),
    }
    (tmp_path / "labels.jsonl").write_bytes(least + b'{"session_id": "c", "label": 2}\n')
    with pytest.raises(DataError, match=r"line 3: Expected `int` <= 1 - at `\$.label`\. Expected a label"):
        read_labels(tmp_path / "labels.jsonl")


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
