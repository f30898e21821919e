"""Data as it comes: the same sessions from every form, and what is wrong, missing or misspelt is said once."""

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.formats.options import NAMES
from trainer.commands.options import description_of, own_data, splits_of
from trainer.data.description import Description, described, read_description
from trainer.data.loading import load
from trainer.data.sessions import DataError, Session, Sessions, write_sessions

BEGIN_MS = 1_700_000_000_000
ODD = {
    "session": "user_sess", "account": "cust", "action": "event_type", "time": "when", "event_id": "uid", "label": "fraud",
}  # fmt: skip


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw rows of events, one account a session, in the order of time; a session is an attack or is not."""
    kinds = {name: draw(st.integers(0, 1)) for name in ("7", "08", "x")}
    count = draw(st.integers(1, 20))
    times = sorted(draw(st.lists(st.integers(0, 10**7), min_size=count, max_size=count, unique=True)))
    rows = []
    for number, at_ms in enumerate(times):
        session = draw(st.sampled_from(sorted(kinds)))
        action = draw(st.sampled_from(["A", "B", "ü, \"'"]))
        rows.append(
            dict(zip(ODD.values(), [session, f"of {session}", action, BEGIN_MS + at_ms, f"e{number}", kinds[session]], strict=True))
        )  # fmt: skip
    return rows


def as_json(path: Path, frame: pl.DataFrame) -> Path:
    """Write events as JSON lines."""
    path = path.with_suffix(".jsonl")
    frame.write_ndjson(path)
    return path


def as_csv(path: Path, frame: pl.DataFrame) -> Path:
    """Write events as CSV, compressed."""
    path = path.with_suffix(".csv.gz")
    path.write_bytes(gzip.compress(frame.write_csv().encode()))
    return path


def as_parquet(path: Path, frame: pl.DataFrame) -> Path:
    """Write events as Parquet, in no order, their times as times and their labels as booleans."""
    path = path.with_suffix(".parquet")
    frame.sample(fraction=1.0, shuffle=True, seed=3).with_columns(
        pl.from_epoch("when", "ms"), pl.col("fraud").cast(pl.Boolean)
    ).write_parquet(path)
    return path


def as_sessions(path: Path, frame: pl.DataFrame) -> Path:
    """Write one session a row, of lists, as Parquet."""
    path = path.with_suffix(".parquet")
    lists = ["event_type", "when", "uid"]
    frame.group_by("user_sess", maintain_order=True).agg(
        pl.col(lists), pl.col("cust", "fraud").first()
    ).write_parquet(path)
    return path


def rows_of(sessions: Sessions) -> dict[str, Session]:
    """Return the sessions by their id."""
    return {one.session_id: one for one in sessions.rows()}


@settings(max_examples=25, deadline=None)
@given(rows=histories())
@pytest.mark.parametrize("write", [as_json, as_csv, as_parquet, as_sessions])
def test_every_form_gives_the_same_sessions(
    tmp_path_factory: pytest.TempPathFactory,
    write: Callable[[Path, pl.DataFrame], Path],
    rows: list[dict[str, Any]],
) -> None:
    """JSON lines, CSV and Parquet, events or sessions a row, with odd names of columns: ids as they are, all facts."""
    path = write(tmp_path_factory.mktemp("data") / "odd", pl.DataFrame(rows))
    loaded = load(path, described({"columns": ODD}))
    expected = {}
    for session in {row["user_sess"] for row in rows}:
        own = [row for row in rows if row["user_sess"] == session]
        expected[session] = Session(
            session_id=session,
            account_id=own[0]["cust"],
            actions=tuple(row["event_type"] for row in own),
            timestamps_ms=tuple(row["when"] for row in own),
            label=own[0]["fraud"],
            attack_from=0 if own[0]["fraud"] else None,
        )
    assert rows_of(loaded.sessions) == expected


TIMES: list[tuple[list[Any], dict[str, str]]] = [
    ([1_700_000_000, 1_700_000_001], {"time_unit": "s"}),
    ([1_700_000_000.0, 1_700_000_001.0], {"time_unit": "s"}),
    ([1_700_000_000_000, 1_700_000_001_000], {}),
    ([1_700_000_000_000.0, 1_700_000_001_000.2], {}),
    (["1700000000000", "1700000001000"], {}),
    (["1700000000", "1700000001"], {"time_unit": "s"}),
    (["2023-11-14T22:13:20Z", "2023-11-14T22:13:21Z"], {}),
    (["2023-11-14 23:13:20+01:00", "2023-11-14 23:13:21+01:00"], {}),
    ([datetime.fromtimestamp(1_700_000_000, UTC), datetime.fromtimestamp(1_700_000_001, UTC)], {}),
]


@pytest.mark.parametrize(
    ("values", "said", "suffix"),
    [
        (values, said, suffix)
        for values, said in TIMES
        for suffix in (".csv", ".parquet", ".jsonl")
        if suffix != ".jsonl" or not isinstance(values[0], datetime)  # which JSON has none of
    ],
)
def test_times_are_read_in_any_unit(
    tmp_path: Path, values: list[Any], said: dict[str, str], suffix: str
) -> None:
    """Numbers in the unit that is told, integers or not, texts as ISO 8601, columns of times."""
    frame = pl.DataFrame(
        {"session_id": [1, 1], "action": ["A", "B"], "when": values, "label": [0, 0]}, strict=False
    )
    path = tmp_path / f"times{suffix}"
    match suffix:
        case ".csv":
            frame.write_csv(path)
        case ".parquet":
            frame.write_parquet(path)
        case _:
            frame.write_ndjson(path)
    sessions = load(path, described({"columns": {"time": "when"}, **said})).sessions
    assert sessions.times_ms is not None
    assert sessions.times_ms.tolist() == [1_700_000_000_000, 1_700_000_001_000]
    assert sessions.ids.tolist() == ["1"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_times_with_a_zone_and_without_are_read_side_by_side(tmp_path: Path, suffix: str) -> None:
    """Without one they are in UTC, as where none has one."""
    path, day = tmp_path / f"data{suffix}", "2026-01-02"
    times = [f"{day}T03:04:05Z", f"{day} 03:04:05", f"{day}T03:04:05.5", f"{day}T05:04:05+02:00", day]
    frame = pl.DataFrame({"session_id": list("abcde"), "action": "A", "label": 0, "occurred_at_ms": times})
    frame.write_csv(path) if suffix == ".csv" else frame.write_ndjson(path)
    read = load(path).sessions.times_ms
    assert read is not None
    assert (read - read[0]).tolist() == [0, 0, 500, 0, -(3 * 3_600 + 4 * 60 + 5) * 1_000]


def test_numbers_written_as_texts_are_numbers(tmp_path: Path) -> None:
    """In JSON lines as in CSV: a weight, and where an attack begins."""
    path = tmp_path / "data.jsonl"
    path.write_text('{"session_id":"a","actions":["A","B"],"label":1,"weight":"3","attack_from":"1"}')
    sessions = load(path).sessions
    assert sessions.targets.tolist() == [0, 1]
    assert sessions.weights is not None
    assert sessions.weights.tolist() == [3]


def test_times_of_another_zone_are_moments_all_the_same(tmp_path: Path) -> None:
    """A column of times that has a zone is read by the moments that it means."""
    when = pl.Series([1_700_000_000_000]).cast(pl.Datetime("ms", "UTC")).dt.convert_time_zone("Asia/Tokyo")
    path = tmp_path / "data.parquet"
    pl.DataFrame({"session_id": ["a"], "action": ["A"], "label": [0], "when": when}).write_parquet(path)
    assert load(path, described({"columns": {"time": "when"}})).sessions.times_ms == [1_700_000_000_000]


@pytest.mark.parametrize(
    ("document", "wanted"),
    [
        ({"sessions": "s"}, "says sessions: "),
        ({"label_of": "event"}, "says label_of: labels_of was probably meant"),
        ({"columns": {"acount": "user"}}, "says columns.acount: account was probably meant"),
        ({"labels_of": "row"}, "Invalid enum value 'row' - at `$.labels_of`"),
        ({"label_delay": "a month"}, "label_delay = 'a month': expected a number with one of"),
    ],
)
def test_a_description_is_checked(document: dict[str, Any], wanted: str) -> None:
    """A key or value that no description has is refused by its name, with the one that was probably meant."""
    with pytest.raises(DataError) as raised:
        described(document)
    assert wanted in str(raised.value)


def test_a_description_is_a_file_of_toml(tmp_path: Path) -> None:
    """What the file says is what is read; what is no TOML is said."""
    path = tmp_path / "shop.toml"
    path.write_text('time_unit = "s"\nends_session = ["BYE"]\n[columns]\nsession = "visit"\n')
    told = read_description(path)
    assert (told.time_unit, told.ends_session, told.columns.session) == ("s", ("BYE",), "visit")
    path.write_text("time_unit: s")
    with pytest.raises(DataError, match=r"shop.toml is no TOML"):
        read_description(path)


def test_the_longest_session_is_read(tmp_path: Path) -> None:
    """100,000 actions are a session."""
    path = tmp_path / "data.jsonl"
    write_sessions(path, [Session(session_id="s", actions=("A",) * 100_000, label=0)])
    assert load(path).sessions.lengths.tolist() == [100_000]


def test_keys_that_only_later_lines_have_are_read(tmp_path: Path) -> None:
    """Only attacks say where they begin, and the first of them may come late."""
    path = tmp_path / "data.jsonl"
    lawful = [{"session_id": f"l{number}", "actions": ["A", "B"], "label": 0} for number in range(60_000)]
    attack = {"session_id": "a", "actions": ["A", "B"], "label": 1, "attack_from": 1, "type": "slow"}
    path.write_text("\n".join(map(json.dumps, [*lawful, attack])))
    sessions = load(path).sessions
    assert sessions.targets[-2:].tolist() == [0, 1]
    assert sessions.take(np.array([60_000])).types.names[-1] == "slow"
    path.write_text(
        "\n".join(map(json.dumps, [*lawful[:50], {**attack, "timestamps_ms": [BEGIN_MS, BEGIN_MS]}]))
    )
    with pytest.raises(DataError, match="50 lines, the first 1: 0 of timestamps_ms for 2 actions"):
        load(path)


def test_weights_and_parts_are_read(tmp_path: Path) -> None:
    """Each session has its own; all or none."""
    path = tmp_path / "data.csv"
    path.write_text("session_id,action,label,split,weight\na,A,0,train,0.5\na,B,0,train,0.5\nb,A,1,test,2\n")
    sessions = load(path).sessions
    assert sessions.weights is not None
    assert sessions.weights.tolist() == [0.5, 2.0]
    assert [one.split for one in sessions.rows()] == ["train", "test"]
    path.write_text("session_id,action,label,event_id\na,A,0,e1\na,A,0,\na,A,0,\n")
    with pytest.raises(DataError, match="1 of 3 events say their event_id"):
        load(path)
    path.write_text("session_id,action,label,split\na,A,0,train\nb,A,1,\n")
    with pytest.raises(DataError, match="1 of 2 events say their split"):
        load(path)


def test_the_plain_description_is_that_of_the_built_in_words() -> None:
    """What ends a session, and what moves money, is of the description, and is the simulator's unless told."""
    assert Description().ends_session == ("LOGOUT",)
    assert Description().large_money == ("TRANSFER_LARGE",)


def test_options_win_over_the_description(tmp_path: Path) -> None:
    """What a command's options say holds; what they do not say is the file's."""
    path = tmp_path / "shop.toml"
    path.write_text('time_unit = "s"\nunlabelled = "lawful"\n[columns]\nsession = "visit"\naction = "what"\n')
    options: dict[str, Any] = {
        "description": path,
        "columns": ("action=event=type",),
        "time_unit": "us",
        "labels_of": None,
        "unlabelled": None,
        "label_delay": "7d",
    }
    told = description_of(options)
    assert (told.columns.session, told.columns.action) == ("visit", "event=type")
    assert (told.time_unit, told.unlabelled, told.label_delay_ms) == ("us", "lawful", 7 * 86_400_000)
    with pytest.raises(click.UsageError, match="expected FIELD=COLUMN"):
        description_of({**options, "columns": ("action",)})


def test_data_is_split_as_the_model_recorded_unless_told(tmp_path: Path) -> None:
    """What was held out in training is what is evaluated on, by default; an option wins."""
    path = tmp_path / "data.csv"
    rows = "".join(f"s{n},A,{BEGIN_MS + n},{n % 2}\n" for n in range(100))
    path.write_text(f"session_id,action,occurred_at_ms,label\n{rows}")
    options: dict[str, Any] = {
        **dict.fromkeys(
            ["description", "time_unit", "labels_of", "unlabelled", "label_delay", "labels", "verdicts"]
        ),
        **dict.fromkeys(["preset", "topic", "bootstrap_servers", "split_by", "split_seed", "test_share"]),
        **dict(zip(NAMES, ("auto", ()), strict=True)),
        "data": path,
        "columns": (),
        "skip_bad_lines": False,
    }
    own = own_data(options)
    trained, recorded = splits_of({**options, "split_by": "time", "test_share": 0.3}, own)
    assert recorded == {"split_by": "time", "split_seed": 0, "test_share": 0.3}
    assert splits_of(options, own, recorded)[0].test.ids.tolist() == trained.test.ids.tolist()
    assert splits_of(options, own)[1]["split_by"] == "id"
    assert splits_of({**options, "split_by": "id"}, own, recorded)[1]["split_by"] == "id"


@pytest.mark.parametrize("write", [as_json, as_csv, as_parquet])
def test_booleans_are_read_alike(tmp_path: Path, write: Callable[[Path, pl.DataFrame], Path]) -> None:
    """JSON's true is the true of a CSV and of Parquet, as an action too."""
    rows = {
        "user_sess": ["a", "a"],
        "event_type": [True, False],
        "when": [BEGIN_MS, BEGIN_MS + 1],
        "fraud": [True, True],
    }
    loaded = load(
        write(tmp_path / "odd", pl.DataFrame(rows)),
        described({"columns": ODD | {"account": None, "event_id": None}}),
    )
    assert loaded.sessions.actions_of(0) == ["true", "false"]
    assert loaded.sessions.labels.tolist() == [1]
