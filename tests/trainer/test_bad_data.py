"""What is wrong with data: each kind is told once, with what was seen, what was expected and what to do."""

import gzip
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from trainer.cli import main
from trainer.data.description import Description, described
from trainer.data.loading import load
from trainer.data.sessions import DataError

BEGIN_MS = 1_700_000_000_000


def test_bad_lines_are_told_by_their_kind(tmp_path: Path) -> None:
    """What is wrong with many lines is one line: how many, the first of them, and some of what was seen."""
    path = tmp_path / "data.csv"
    path.write_text("session_id,action,label\n" + "good,A,0\n" + "a,A,9\na,A,8\n" * 25 + "a,,1\n")
    kinds = [
        "50 lines, the first 3: label is 9, 8: expected one of 1, true (attack_values); 0, false (lawful_values)",
        "line 53: an action is empty",
    ]
    with pytest.raises(DataError, match=r"has 51 bad lines: mend them, or leave them out") as raised:
        load(path)
    told = load(path, skip_bad_lines=True).told
    for kind, line, left_out in zip(kinds, str(raised.value).splitlines()[1:], told[:2], strict=True):
        assert line.strip().startswith(kind)
        assert left_out.startswith(f"left out: {kind}")


def test_kinds_of_bad_lines_are_few(tmp_path: Path) -> None:
    """Whatever is wrong, the message has an end; and where nothing is right, nothing is there to be left out."""
    path = tmp_path / "data.jsonl"
    good = '{"session_id":"a","action":"A","label":0}'
    path.write_text(f"{good}\n" + "".join(f"{good[:at]}\n" for at in range(1, 40)))
    with pytest.raises(DataError, match="39 bad lines") as raised:
        load(path)
    assert len(str(raised.value).splitlines()) <= 22
    path.write_text('{"session_id":"a","action":"","label":0}\n')
    with pytest.raises(DataError, match="1 bad line: mend them\n"):
        load(path)


BAD = [
    ("{", "truncated"),
    ('{"session_id":"a","actions":[],"label":0}', "0 actions"),
    ('{"session_id":"","actions":["A"],"label":0}', "session_id is empty"),
    (
        '{"session_id":"a","actions":["A"],"label":2}',
        "label is 2: expected one of 1, true (attack_values); 0, false (lawful_values)",
    ),
    ('{"session_id":"a","actions":["A",""],"label":0}', "an action is empty"),
    (
        '{"session_id":"a","actions":["A"],"label":0,"timestamps_ms":[1700000000000,1700000000001]}',
        "2 of timestamps_ms for 1 actions",
    ),
    (
        '{"session_id":"a","actions":["A"],"label":0,"split":"val"}',
        "split is val: expected one of train, valid, test",
    ),
    ('{"session_id":"a","actions":["A"],"label":0,"attack_from":0}', "attack_from is 0"),
    ('{"session_id":"a","actions":["A"],"label":1,"attack_from":1}', "attack_from is 1"),
    ('{"session_id":"a","actions":["A"],"label":0,"weight":-1}', "weight is -1"),
    ('{"session_id":"good","actions":["A"],"label":0}', "was on a line before"),
    ('{"session_id":"a","actions":"A","label":0}', "$.actions"),
    (
        '{"session_id":"a","actions":["A"],"label":0,"x":' + "[" * 9_000 + "]" * 9_000 + "}",
        "recursion depth exceeded",
    ),
    ('{"session_id":"a","actions":' + json.dumps(["A"] * 100_001) + ',"label":0}', "100001 actions"),
]


@pytest.mark.parametrize(("line", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: str, reason: str) -> None:
    """A bad line ends the reading with its number and reason, or is left out and told with skip_bad_lines."""
    path = tmp_path / "data.jsonl"
    extra = ',"timestamps_ms":[1700000000000],"split":"test","weight":1,"attack_from":null'
    good = f'{{"session_id":"good","actions":["A"],"label":0{extra if "timestamps" in line else ""}}}'
    keys = '{"session_id":"keys","actions":["A"],"label":0,"split":null,"weight":null,"attack_from":null}'
    path.write_text(f"{good}\n\n{line}\n{'' if extra in good else keys}\n")
    with pytest.raises(DataError, match="line 3: ") as raised:
        load(path)
    assert reason in str(raised.value)
    loaded = load(path, skip_bad_lines=True)
    assert loaded.sessions.ids[0] == "good"
    assert [line for line in loaded.told if "left out: line 3: " in line]


@pytest.mark.parametrize("name", ["data.jsonl", "data.csv", "data.parquet"])
@pytest.mark.parametrize("content", [None, b"", b"\n", b"\x00\x01"])
def test_no_session_and_no_file_are_errors(tmp_path: Path, name: str, content: bytes | None) -> None:
    """An empty file, a missing one and damaged data are errors that name the file."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=name):
        load(path)
    damaged = tmp_path / f"{name}.gz"
    damaged.write_bytes(b"no gzip")
    with pytest.raises(DataError, match=f"{name}.gz"):
        load(damaged)


def test_a_csv_given_as_json_is_said_once(tmp_path: Path) -> None:
    """One message that says what it looks like, and not one a line."""
    path = tmp_path / "events.txt"
    path.write_text("session_id,action,label\n" + "a,A,0\n" * 50)
    with pytest.raises(
        DataError, match=r"its first line is 'session_id,action,label'.*looks like CSV: name it \.csv"
    ):
        load(path)


_CSV, _JSON = "session_id,action,label\na,Ü,0\n", '{"session_id":"a","action":"Ü","label":0}\n'
OF_ANOTHER_FORM = [
    ("data.jsonl", f"[{_JSON}]".encode(), "over several lines, or an array: write each object on a line"),
    ("data.jsonl", b"{\n}", "over several lines, or an array: write each object on a line"),
    ("data.jsonl", gzip.compress(_JSON.encode(), mtime=0), "is gzip: name it .gz"),
    ("data.csv", b"PAR1", "is Parquet: name it .parquet"),
    ("data.csv", _JSON.encode(), "it looks like JSON; write one object a line, and name it .jsonl"),
    ("data.csv", b"[\n{}\n]", "it looks like JSON; write one object a line, and name it .jsonl"),
    ("data.parquet", _CSV.encode(), "is no Parquet file: name it by what it is, .csv or .jsonl"),
    ("data.csv", b"PK\x03\x04", "a workbook: unpack it, or write it as CSV"),
    ("data.csv", _CSV.replace(",", ";").encode(), "it looks as if ';' were between fields; expected commas"),
    (
        "data.csv",
        _CSV.replace(",", "\t").encode(),
        r"it looks as if '\t' were between fields; expected commas",
    ),
    *(
        (f"data.{form}", text.encode("utf-16"), "is UTF-16: write it as UTF-8")
        for form, text in [("csv", _CSV), ("jsonl", _JSON)]
    ),
    ("data.csv", _CSV.encode("latin-1"), "write it as UTF-8"),
    ("data.csv", f"{_CSV}b,C,D,1\n".encode(), "line 3: it has 4 fields, the header 3: expected as many"),
    (
        "data.csv.gz",
        gzip.compress(f"{_CSV}b,C,D,1\n".encode(), mtime=0),
        "line 3: it has 4 fields, the header 3: expected as many",
    ),
    ("data.jsonl", _JSON.encode("latin-1"), "it is not UTF-8: write it as UTF-8"),
    (
        "data.jsonl",
        (_JSON.replace("Ü", "A") + _JSON).encode("latin-1"),
        "line 2: a text is not UTF-8: write the file as UTF-8",
    ),
]


@pytest.mark.parametrize(("name", "content", "wanted"), OF_ANOTHER_FORM)
def test_data_of_another_form_is_named_by_it(tmp_path: Path, name: str, content: bytes, wanted: str) -> None:
    """What it looks like is said, and what to do."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=re.escape(wanted)):
        load(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data.csv", b"\xef\xbb\xbf" + _CSV.encode()),
        ("data.jsonl", b"\xef\xbb\xbf" + _JSON.encode()),
        ("data.csv", _CSV.encode() + b"\n\n"),
        ("data.csv", _CSV.replace("\n", "\r\n").encode() + b"\r\n"),
        ("data.jsonl", _JSON.encode() + b"\n\n"),
    ],
)
def test_what_programs_put_around_data_is_passed_over(tmp_path: Path, name: str, content: bytes) -> None:
    """A mark of byte order, and blank lines: no bad lines."""
    (tmp_path / name).write_bytes(content)
    assert load(tmp_path / name).sessions.names == ("Ü",)


def test_advice_to_programs_is_not_handed_on(tmp_path: Path) -> None:
    """A quote that no other closes is said, without the arguments of the library that found it."""
    (tmp_path / "data.csv").write_text('session_id,action,label\na,"A,0\nb,A,1\n')
    with pytest.raises(DataError, match="cannot be read: could not parse") as raised:
        load(tmp_path / "data.csv")
    assert "ignore_errors" not in str(raised.value)


def test_what_is_not_read_is_told_with_what_is_missing(tmp_path: Path) -> None:
    """A column Label is no label, and the message that there is none names it."""
    (tmp_path / "data.csv").write_text("session_id,action,Label\na,A,0\n")
    with pytest.raises(DataError, match=r"1 of 1 sessions have no label[^$]*--column label=Label"):
        load(tmp_path / "data.csv")


UNREAD = [
    ("ts", "--column time=ts"),
    ("timestamp_ms", "--column time=timestamp_ms"),
    ("times_ms", "--column time=times_ms"),
    ("acount_id", "--column account=acount_id"),
    ("weights", "--column weight=weights"),
    ("amounts", "not read: amounts"),
]


@pytest.mark.parametrize(("name", "wanted"), UNREAD)
def test_what_is_not_read_is_told_with_what_it_may_mean(tmp_path: Path, name: str, wanted: str) -> None:
    """A column that nobody reads is named, with the field that it probably is."""
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"session_id": "a", "actions": ["A"], "label": 0, name: [1]}))
    assert wanted in "\n".join(load(path).told)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("attack_form", "'attack_form' is not read, and nothing is known of the attack_from of each event"),
        ("wieght", "--column weight=wieght"),
        ("amount", "not read: amount"),
        ("attack_from", ""),
    ],
)
@pytest.mark.parametrize("kind", ["sessions", "events"])
def test_keys_that_only_later_lines_have_are_told(tmp_path: Path, key: str, told: str, kind: str) -> None:
    """Wherever a key comes first, it is read or told, and never both."""
    path = tmp_path / "data.jsonl"
    actions = {"actions": ["A"]} if kind == "sessions" else {"action": "A"}
    lines: list[dict[str, Any]] = [{"session_id": f"s{n}", **actions, "label": n % 2} for n in range(100)]
    lines[61][key] = 0
    path.write_text("\n".join(map(json.dumps, lines)))
    said = "\n".join(load(path).told)
    assert told in said
    assert ("not read" in said) == bool(told)


def test_a_column_that_is_not_there_is_told_with_the_nearest(tmp_path: Path) -> None:
    """The message names the columns that there are."""
    path = tmp_path / "data.csv"
    path.write_text("visit,what,label\n1,A,0\n")
    with pytest.raises(
        DataError, match=r"no column visits \(for session\): visit was probably meant; there are visit, what"
    ):
        load(path, described({"columns": {"session": "visits"}}))
    with pytest.raises(
        DataError, match="nothing of the session and the action of each row: name the column with --column"
    ):
        load(path)


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (
            {"kind": "count", "of": "action", "bounds": [1]},
            "half_life_ms not given: expected .* as 86400000 for a day",
        ),
        ({"kind": "change", "of": "amount", "half_life_ms": 5}, "half_life_ms 5: expected none"),
        ({"kind": "since", "of": "action"}, "0 bounds: expected some"),
        ({"kind": "change", "of": "action", "bounds": [1]}, "1 bounds: expected none"),
    ],
)
def test_a_signal_that_lacks_what_its_kind_needs_is_told_what(signal: dict[str, Any], message: str) -> None:
    """And one that has what its kind knows nothing of, likewise."""
    with pytest.raises(DataError, match=message):
        described({"signals": [{"name": "one"} | signal]})


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        ("attack_from", ["-1", "2.5", "soon"], "attack_from is {}: expected 0 for the first action"),
        ("weight", ["-1", "1e308", "much", "inf"], "weight is {}: expected a number from 0 to 1,000,000"),
    ],
)
def test_numbers_out_of_bounds_are_bad_lines(
    tmp_path: Path, column: str, values: list[str], told: str
) -> None:
    """In rows of events as in rows of sessions, whatever the value is."""
    for value in values:
        path = tmp_path / "events.csv"
        path.write_text(f"session_id,action,label,{column}\na,X,1,{value}\nb,Y,0,\n")
        with pytest.raises(DataError, match=f"line 2: {told.format(value)}"):
            load(path, Description())


@pytest.mark.parametrize("field", ["session_id", "account_id", "event_id"])
def test_ids_that_are_floats_too_large_to_differ_are_bad_rows(tmp_path: Path, field: str) -> None:
    """As a table makes them of whole numbers beside empty cells: smaller ones are the numbers that they were."""
    path = tmp_path / "data.parquet"
    frame = pl.DataFrame({"session_id": [1.0, 2.0], "action": ["A", "A"], "label": [0, 1]})
    frame.with_columns(pl.Series(field, [7.0, 2.0])).write_parquet(path)
    assert len(load(path).sessions) == len(frame)
    frame.with_columns(pl.Series(field, [7.0, 2.0**53])).write_parquet(path)
    with pytest.raises(
        DataError, match=rf"{field.removesuffix('_id')}\w* is 9007199254740992.0, a float from 2\^53 on"
    ):
        load(path)


@pytest.mark.parametrize("field", ["session_id", "account_id", "event_id"])
def test_ids_are_the_whole_numbers_that_they_are(tmp_path: Path, field: str) -> None:
    """Those of 64 bits without a sign too, as hashes are: no two are one, and none is lost."""
    path, ids = tmp_path / "data.jsonl", [2**63, 2**64 - 1, 2**64 - 2]
    rows = [{"session_id": str(at), "action": "A", "label": 0, field: one} for at, one in enumerate(ids)]
    path.write_text("\n".join(map(json.dumps, rows)))
    sessions = load(path).sessions
    assert len(sessions) == len(ids)
    if field == "session_id":
        assert sessions.ids.tolist() == list(map(str, ids))
    if field == "account_id":
        assert sessions.accounts is not None
        assert sessions.accounts.names == tuple(sorted(map(str, ids)))


def test_an_event_id_that_is_empty_is_none(tmp_path: Path) -> None:
    """Else all such events of a session would be one, and passed over."""
    path = tmp_path / "data.jsonl"
    path.write_text('{"session_id":"a","action":"A","label":0,"event_id":""}\n' * 3)
    assert load(path).sessions.event_hashes is None


@pytest.mark.parametrize("field", ["session_id", "account_id", "attack_from", "weight", "split", "type"])
def test_a_list_of_what_a_session_has_one_of_is_said(tmp_path: Path, field: str) -> None:
    """By the field's name and what may be a list, before anything is computed of it."""
    path = tmp_path / "data.jsonl"
    row = {"session_id": "a", "actions": ["A", "B"], "label": 1} | {field: ["train", "train"]}
    path.write_text(json.dumps(row))
    with pytest.raises(DataError, match=f"{field.removesuffix('_id')} has lists: expected one value"):
        load(path)


ODD_TYPES = [
    ({"action": [["A"]] * 2, "label": [[0]] * 2}, None),
    ({"action": pl.Series([["A"]] * 2, dtype=pl.Array(pl.String, 1))}, None),
    ({"action": [["A", "B"]] * 2, "occurred_at_ms": [BEGIN_MS] * 2}, None),
    ({"occurred_at_ms": [[BEGIN_MS]] * 2}, "the column for time has lists, and the one for action has none"),
    ({"action": [{"name": "A"}] * 2}, "the column for action is of type Struct"),
    ({"occurred_at_ms": [datetime.now(UTC).time()] * 2}, "the column for time is of type Time"),
    ({"occurred_at_ms": [b"now"] * 2}, "the column for time is of type Binary"),
]


@pytest.mark.parametrize(("columns", "wanted"), ODD_TYPES)
def test_types_that_no_field_has_are_named(
    tmp_path: Path, columns: dict[str, Any], wanted: str | None
) -> None:
    """Lists of any kind are read where there is one for the actions; what can be no field is said by its type."""
    path = tmp_path / "data.parquet"
    pl.DataFrame({"session_id": ["a", "b"], "action": ["A", "A"], "label": [0, 0], **columns}).write_parquet(
        path
    )
    if wanted is None:
        assert len(load(path).sessions) == len(("a", "b"))
        return
    with pytest.raises(DataError, match=wanted):
        load(path)


def test_the_case_of_a_name_is_hinted_at(tmp_path: Path) -> None:
    """Session_ID is not session_id, and probably means it; the whole option is told."""
    path = tmp_path / "data.csv"
    path.write_text("Session_ID,Action,label\na,A,0\n")
    with pytest.raises(
        DataError, match="--column session=Session_ID, --column action=Action; it has Session_ID"
    ):
        load(path)


def test_words_that_no_event_has_are_told(tmp_path: Path) -> None:
    """A misspelt action of the description ends no session and moves no money: it is said, with the nearest."""
    path = tmp_path / "data.csv"
    path.write_text("session_id,action,label\na,SIGN_IN,0\na,SIGN_OUT,0\n")
    told = load(path, described({"ends_session": ["SIGNOUT"], "moves_money": ["SIGN_IN"]})).told
    assert told[0].startswith(
        "ends_session names SIGNOUT, which no event has as its action: SIGN_OUT was probably meant"
    )
    assert not any("names" in line for line in told[1:])
    assert not any("names" in line for line in load(path).told), "of the built-in words none need be there"


def test_words_of_a_signal_that_no_event_has_are_told(tmp_path: Path) -> None:
    """A signal of an action that nobody does is always the same: it is said, with the signal's name."""
    path = tmp_path / "data.csv"
    path.write_text(
        "session_id,action,occurred_at_ms,label\na,PAY,1767571200000,0\na,SIGN_OUT,1767571260000,0\n"
    )
    count = {"name": "payments", "kind": "count", "of": "action", "bounds": [1], "half_life_ms": 60_000}
    told = load(path, described({"signals": [count | {"values": ["PAY", "PAYS"]}]})).told
    assert [line for line in told if "which no event has" in line] == [
        "signal 'payments' names PAYS, which no event has as its action: PAY was probably meant; it means nothing here"
    ]


def test_data_that_a_delay_leaves_nothing_of_is_told_the_delay(tmp_path: Path) -> None:
    """All sessions are younger than what labels take: the error says what was left out, and why."""
    path = tmp_path / "data.csv"
    path.write_text("session_id,action,occurred_at_ms,label\na,PAY,1767571200000,0\nb,PAY,1767657600000,1\n")
    with pytest.raises(
        DataError, match=r"no session with a label.*\n.*younger than 30d before the data's end"
    ):
        load(path, described({"label_delay": "30d"}))


@pytest.mark.parametrize(
    "command", [["train", "--out", "model.onnx"], ["evaluate", "--model", "seed"], ["compare"]]
)
def test_every_command_tells_a_description_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """One message with the nearest key, and exit code 1: no traceback."""
    monkeypatch.chdir(tmp_path)
    Path("data.csv").write_text("session_id,action,label\na,A,0\n")
    Path("shop.toml").write_text('end_session = ["A"]\n')
    done = CliRunner().invoke(main, [*command, "--data", "data.csv", "--description", "shop.toml"])
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    assert "shop.toml says end_session: ends_session was probably meant" in done.output
