"""Labels: of sessions, events and accounts, beside the data or in it, and what has none."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from detector.core.encoding import Encoding
from producer.behaviour import realistic
from producer.recording import label_of
from tests.trainer.test_reading import BEGIN_MS
from trainer.data.description import Description, described
from trainer.data.loading import load
from trainer.data.sessions import DataError, Sessions
from trainer.data.windows import pack


def labelled_by(tmp_path: Path, labels: str, **said: Any) -> Sessions:
    """Return three sessions of two accounts, some of them labelled."""
    path = tmp_path / "data.csv"
    day_ms = 86_400_000
    rows = [("a", "x", 0), ("a", "x", 1), ("b", "x", 2), ("b", "x", 3), ("c", "y", 60 * day_ms)]
    lines = [
        f"{session},{account},A,{BEGIN_MS + at_ms},e{number},{label}"
        for number, ((session, account, at_ms), label) in enumerate(zip(rows, labels.split("|"), strict=True))
    ]
    path.write_text("session_id,account_id,action,occurred_at_ms,event_id,label\n" + "\n".join(lines))
    return load(path, described(said)).sessions


def test_labels_of_sessions_events_and_accounts(tmp_path: Path) -> None:
    """A session is attacked from its first fraudulent event on; an event's label is its own; an account's is of all."""
    assert labelled_by(tmp_path, "0|1|0|0|0").targets.tolist() == [0, 1, 0, 0, 0]
    assert labelled_by(tmp_path, "1|0|0|0|0").targets.tolist() == [1, 1, 0, 0, 0]
    assert labelled_by(tmp_path, "1|0|0|1|0", labels_of="event").targets.tolist() == [1, 0, 0, 1, 0]
    assert labelled_by(tmp_path, "0|1|0|0|0", labels_of="account").targets.tolist() == [1, 1, 1, 1, 0]
    unknown = labelled_by(tmp_path, "2|1|2|0|2", labels_of="event", unlabelled_values=["2"])
    assert unknown.targets.tolist() == [-1, 1, -1, 0]
    assert unknown.labels_of == "event"


@pytest.mark.parametrize("written", ["1", "1.0", "true", "TRUE", "True"])
def test_labels_are_read_as_they_are_written(tmp_path: Path, written: str) -> None:
    """Numbers, truth values, and what a table makes of whole numbers beside empty cells."""
    path = tmp_path / "data.csv"
    path.write_text(f"session_id,action,label\na,A,{written}\nb,A,0\n")
    assert load(path).sessions.labels.tolist() == [1, 0]


def test_columns_may_be_those_of_the_label_file_alone(tmp_path: Path) -> None:
    """The data keeps the usual names, as a topic does; what neither has is refused."""
    data, labels = tmp_path / "data.csv", tmp_path / "labels.csv"
    data.write_text("session_id,action\na,A\nb,A\n")
    labels.write_text("SID,bad\na,1\nb,0\n")
    columns = {"session": "SID", "label": "bad"}
    assert load(data, described({"columns": columns}), labels).sessions.labels.tolist() == [1, 0]
    misspelt = described({"columns": columns | {"label": "evil"}})
    labels.write_text("SID,label\na,1\nb,0\n")
    with pytest.raises(
        DataError, match=r"no column evil \(for label\), neither in .*data.csv nor in .*labels.csv"
    ):
        load(data, misspelt, labels)


@pytest.mark.parametrize("meant", ["1.0", "1", 1, 1.0])
@pytest.mark.parametrize("written", ["1", "1.0"])
def test_a_description_names_labels_as_it_likes(tmp_path: Path, meant: float | str, written: str) -> None:
    """A number of TOML, a text of one, with a fraction of 0 or without: the same label."""
    path = tmp_path / "data.csv"
    path.write_text(f"session_id,action,label\na,A,{written}\nb,A,2\n")
    told = described({"attack_values": [meant], "lawful_values": [2]})
    assert load(path, told).sessions.labels.tolist() == [1, 0]


@pytest.mark.parametrize("values", [{"attack_values": ["Y"], "lawful_values": ["y"]}, {"attack_values": [0]}])
def test_a_label_that_means_two_things_is_refused(values: dict[str, Any]) -> None:
    """However it is written, and also if one meaning is the default."""
    with pytest.raises(DataError, match=r"label (y|0) means two things by attack_values, lawful_values"):
        described(values)


def test_a_session_a_row_may_have_a_label_for_each_event(tmp_path: Path) -> None:
    """A list of labels, as of actions; null where nobody knows."""
    path = tmp_path / "data.jsonl"
    path.write_text('{"session_id":"a","actions":["A","B","C"],"label":[0,true,null]}')
    told = described({"labels_of": "event", "unlabelled": "leave-out"})
    assert load(path, told).sessions.targets.tolist() == [0, 1, -1]


def test_what_has_no_label_is_what_the_description_says(tmp_path: Path) -> None:
    """Refused by default, lawful or left out on demand; what is too young for its label is no lawful session."""
    with pytest.raises(DataError, match=r"1 of 3 sessions have no label \(c\).*--unlabelled lawful"):
        labelled_by(tmp_path, "1|1|0|0|")
    assert labelled_by(tmp_path, "1|1||||"[:-1], unlabelled="lawful").labels.tolist() == [1, 0, 0]
    assert labelled_by(tmp_path, "1|1|||0", unlabelled="leave-out").ids.tolist() == ["a", "c"]
    young = labelled_by(tmp_path, "1|1||||"[:-1], unlabelled="lawful", label_delay="30d")
    assert young.ids.tolist() == ["a", "b"]
    assert young.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("label", "counts"),
    [
        ("1", "1 attacks, 0 lawful, 0 without"),
        ("0", "0 attacks, 1 lawful, 0 without"),
        ("", "0 attacks, 0 lawful, 1 without"),
    ],
)
def test_what_is_too_young_is_no_example_whatever_its_label(tmp_path: Path, label: str, counts: str) -> None:
    """Fraud is often known before the delay is over, and lawfulness never: to keep the former alone would bias."""
    assert labelled_by(tmp_path, f"1|1|0|0|{label}", label_delay="30d").ids.tolist() == ["a", "b"]
    told = load(tmp_path / "data.csv", described({"label_delay": "30d"})).told
    assert f"1 sessions younger than 30d before the data's end left out: {counts} a label" in told


@pytest.mark.parametrize(
    ("labels_of", "key", "targets"),
    [
        ("session", "session_id", [0, 1, 0, 0, 0]),
        ("event", "event_id", [0, 1, 0, 0, 0]),
        ("account", "account_id", [1, 1, 1, 1, 0]),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_labels_may_lie_in_a_file_of_their_own(
    tmp_path: Path, labels_of: str, key: str, targets: list[int], suffix: str
) -> None:
    """Of any form, for sessions, events or accounts; of two on one thing the later holds."""
    said = {
        "session_id": [("a", 0, 0), ("a", 1, 1), ("nobody", 1, 0)],
        "event_id": [("e1", 1, 0), ("nobody", 1, 0)],
        "account_id": [("x", 1, 0), ("nobody", 1, 0)],
    }[key]
    frame = pl.DataFrame(
        [{key: one, "is_fraud": label, "attack_from": begins} for one, label, begins in said]
    )
    path = tmp_path / f"labels{suffix}"
    getattr(frame, {".csv": "write_csv", ".jsonl": "write_ndjson", ".parquet": "write_parquet"}[suffix])(path)
    labelled_by(tmp_path, "||||", unlabelled="lawful")
    told = described({"labels_of": labels_of, "unlabelled": "lawful", "columns": {"label": "is_fraud"}})
    data = tmp_path / "data.csv"
    data.write_text(data.read_text().replace(",label", ",note"))
    loaded = load(data, told, path)
    assert loaded.sessions.targets.tolist() == targets
    shown = "" if labels_of == "event" else ", as nobody"
    assert f"1 labels are of {labels_of}s that the data does not have{shown}" in loaded.told


def test_labels_of_other_sessions_are_told_where_labels_lack(tmp_path: Path) -> None:
    """Ids that are written otherwise in the file of labels: both are shown, and not only what to say of those without."""
    data, labels = tmp_path / "data.csv", tmp_path / "labels.csv"
    data.write_text("session_id,action\n7,A\n")
    labels.write_text("session_id,label\n007,1\n")
    with pytest.raises(
        DataError, match=r"1 sessions have no label \(7\)[^$]*\n  1 labels are of sessions .*, as 007"
    ):
        load(data, labels=labels)


def test_events_and_labels_make_the_sessions_they_came_from(tmp_path: Path) -> None:
    """A recording with its labels gives back the simulated sessions; one without a label is an error."""
    simulated = list(realistic.sessions(40, 3, realistic.RealisticBehaviour(attack_rate=0.3)))
    events, labels = tmp_path / "events.jsonl.gz", tmp_path / "labels.jsonl"
    lines = [event for session in simulated for event in session.events(BEGIN_MS)]
    events.write_bytes(gzip.compress(b"\n".join(msgspec.json.encode(event) for event in [*lines, lines[0]])))
    written = [msgspec.json.encode(label_of(session)) for session in simulated]
    labels.write_bytes(b"\n".join(written))
    made = load(events, labels=labels).sessions
    assert made.ids.tolist() == [one.session_id for one in simulated]
    assert made.event_hashes is not None
    for one, origin in zip(made.rows(), simulated, strict=True):
        repeats = int(one.session_id == lines[0].session_id)
        assert one.actions[: len(one.actions) - repeats] == tuple(map(str, origin.actions))
        assert (one.timestamps_ms or ())[: len(origin.actions)] == tuple(origin.timestamps_ms(BEGIN_MS))
        assert (one.label, one.attack_from, one.type) == (origin.label, origin.attack_from, origin.kind)
        assert one.customer_type == origin.customer_type
    labels.write_bytes(b"\n".join(written[1:]))
    with pytest.raises(DataError, match="1 of 40 sessions have no label"):
        load(events, labels=labels)
    labels.write_bytes(b'{"session_id": "c", "label": 2}')
    with pytest.raises(DataError, match="line 1: label is 2"):
        load(events, labels=labels)


@pytest.mark.parametrize("key", ["session_id", "event_id", "account_id"])
def test_a_label_file_without_a_label_labels_nothing(tmp_path: Path, key: str) -> None:
    """As that of a quiet week has only a header: what has no label is then up to the description."""
    data, labels = tmp_path / "data.csv", tmp_path / "labels.csv"
    data.write_text("session_id,event_id,account_id,action\na,1,x,X\nb,2,y,X\n")
    labels.write_text(f"{key},label\n")
    told = {"labels_of": key.removesuffix("_id"), "unlabelled": "lawful"}
    assert load(data, described(told), labels).sessions.labels.tolist() == [0, 0]


@pytest.mark.parametrize("begin", ["attack_from", "label"])
def test_a_repeated_event_moves_no_beginning(tmp_path: Path, begin: str) -> None:
    """An attack begins with the action that its label means, however often the ones before came again."""
    data, labels = tmp_path / "data.jsonl", tmp_path / "labels.jsonl"
    names = ["e0", "e1", "e0", "e1", "e1", "e2", "e0", "e3", "e3"]
    rows: list[dict[str, Any]] = [{"session_id": "a", "event_id": one, "action": one} for one in names]
    if begin == "label":
        rows = [row | {"label": int(row["event_id"] in {"e2", "e3"})} for row in rows]
    data.write_text("\n".join(map(json.dumps, rows)))
    labels.write_text('{"session_id": "a", "label": 1, "attack_from": 2}')
    made = pack(
        load(data, labels=labels if begin == "attack_from" else None).sessions,
        Encoding(names[:2], 8, unknown_token=True),
        1,
    )
    assert made.sessions.actions_of(0) == ["e0", "e1", "e2", "e3"]
    assert made.sessions.targets.tolist() == [0, 0, 1, 1]


def test_an_attack_that_begins_beyond_its_session_is_told(tmp_path: Path) -> None:
    """It is taken to begin with the last action; of a lawful session a beginning is refused."""
    path = tmp_path / "events.csv"
    rows = "a,X,1,99\na,Y,1,99\nb,X,0,{}\n"
    path.write_text("session_id,action,label,attack_from\n" + rows.format(""))
    loaded = load(path, Description())
    assert loaded.sessions.targets.tolist() == [0, 1, 0]
    assert any("1 attacks begin behind their session's last action" in line for line in loaded.told)
    path.write_text("session_id,action,label,attack_from\n" + rows.format("0"))
    with pytest.raises(DataError, match="1 lawful sessions have an attack_from"):
        load(path, Description())


def test_labels_that_contradict_are_told(tmp_path: Path) -> None:
    """Events labelled one by one and taken for their session's, and a label file that says two things of one."""
    data, labels = tmp_path / "data.csv", tmp_path / "labels.csv"
    data.write_text("session_id,action,label\na,X,1\na,Y,0\nb,X,0\nb,X,1\n")
    told = load(data).told
    assert "1 sessions have lawful events after an attack's" in told[0]
    assert not any(
        "lawful events after" in line for line in load(data, described({"labels_of": "event"})).told
    )
    labels.write_text("session_id,label\na,1\nb,0\na,0\nb,0\n")
    assert "1 sessions have labels that differ: the last of each holds" in load(data, labels=labels).told
    with pytest.raises(
        DataError, match=r"--column event_id=\.\.\.; it has session_id, label; --labels-of says"
    ):
        load(data, described({"labels_of": "event"}), labels)


@pytest.mark.parametrize(
    ("field", "first", "second", "told"),
    [
        (
            "weight",
            "0.5",
            "2",
            "1 sessions have events whose weight differs, as a (0.5, 2): the first in each holds",
        ),
        ("type", "shop", "till", "1 sessions have events whose type differs, as a (shop, till): the first"),
        (
            "account_id",
            "x",
            "y",
            "account differs, as a (x, y): expected one in a session; sessions of several accounts",
        ),
        (
            "split",
            "train",
            "test",
            "1 sessions have events whose split differs, as a (train, test): expected one",
        ),
        (
            "attack_from",
            "0",
            "1",
            "1 sessions have events whose attack_from differs, as a (0, 1): expected one",
        ),
    ],
)
def test_events_that_contradict_are_told_or_refused(
    tmp_path: Path, field: str, first: str, second: str, told: str
) -> None:
    """Of what a session has one, two are told with an example, and refused where they decide of split or targets."""
    path = tmp_path / "data.csv"
    head = f"session_id,action,label,{field}\n"
    path.write_text(f"{head}b,A,1,{first}\na,A,1,{first}\na,A,1,{second}\n")
    if "expected" in told:
        with pytest.raises(DataError, match=re.escape(told)):
            load(path)
    else:
        assert any(told in line for line in load(path).told)
    path.write_text(f"{head}b,A,1,{first}\na,A,1,{first}\na,A,1,{first}\n")
    assert not any("differs" in line for line in load(path).told)


def test_what_any_event_says_of_its_session_holds(tmp_path: Path) -> None:
    """A marker on the second row alone is as good as on the first, or on all."""
    path = tmp_path / "data.csv"
    for begins in (("1", "", ""), ("", "1", ""), ("", "", "1"), ("1", "1", "1")):
        rows = "".join(f"a,A,1,{one},{one and 'slow'}\n" for one in begins)
        path.write_text(f"session_id,action,label,attack_from,type\n{rows}b,A,0,,\n")
        sessions = load(path).sessions
        assert sessions.targets.tolist() == [0, 1, 1, 0]
        assert sessions.types.names[sessions.types.codes[0]] == "slow"


def test_ids_that_several_accounts_have_are_of_several_sessions(tmp_path: Path) -> None:
    """Under signals, as in the detector; and it is told."""
    path = tmp_path / "data.csv"
    path.write_text(
        "session_id,account_id,action,label,occurred_at_ms\n"
        + "".join(
            f"a,{account},A,{label},{BEGIN_MS + at}\n"
            for at, (account, label) in enumerate([("x", 0), ("y", 1), ("x", 0)])
        )
    )
    signal = {"name": "pace", "kind": "count", "of": "session_begin", "bounds": [0.5], "half_life_ms": 1_000}
    loaded = load(path, described({"signals": [signal]}))
    assert loaded.sessions.lengths.tolist() == [2, 1]
    assert "1 sessions have the id of another account's: each is one of its own" in loaded.told


def test_nothing_is_said_of_nothing(tmp_path: Path) -> None:
    """A delay that leaves out none has no line."""
    labelled_by(tmp_path, "1|1|0|0|0")
    told = load(tmp_path / "data.csv", described({"label_delay": "0d"})).told
    assert not any("left out" in line for line in told)


def test_rows_that_are_there_twice_are_told(tmp_path: Path) -> None:
    """Where no ids say which events are one; with ids a repeat is known, and a session of lists is a row."""
    path = tmp_path / "data.parquet"
    frame = pl.DataFrame({"session_id": ["a", "a", "b"], "action": ["X", "X", "X"], "label": [0, 0, 1]})
    timed = frame.with_columns(occurred_at_ms=pl.Series([BEGIN_MS, BEGIN_MS + 1, BEGIN_MS]))
    for rows, said in ((pl.concat([timed, timed]), True), (timed, False), (pl.concat([frame, frame]), False)):
        rows.write_parquet(path)
        assert (
            any("of 6 events have session, action and time of the one" in one for one in load(path).told)
            == said
        )
    named = timed.with_columns(event_id=pl.Series(["e", "f", "g"]))
    pl.concat([named, named]).write_parquet(path)
    assert not any("of the one before" in line for line in load(path).told)


def test_actions_that_are_no_names_are_told(tmp_path: Path) -> None:
    """A column of free texts, or lists written as texts, makes a vocabulary that nothing is learned from."""
    path = tmp_path / "data.csv"
    path.write_text("session_id,action,label\n" + "".join(f's{n},"A,B,{n}",{n % 2}\n' for n in range(30)))
    assert any("30 different actions among 30, as 'A,B," in line for line in load(path).told)
