"""Data as it comes, as events that carry what signals read and labels beside them."""

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from producer.tables import Table
from trainer.cli import main
from trainer.data.description import read_description
from trainer.data.loading import load

START_S = 1_772_323_200
DESCRIPTION = """
time_unit = "s"
attack_values = ["Y"]
lawful_values = ["N"]
[columns]
session = "visit"
account = "customer"
action = "event_type"
time = "created"
label = "fraud"
[fields]
amount = "amt"
"attributes.device.id" = "dev"
[[signals]]
name = "amount"
kind = "magnitude"
of = "amount"
bounds = [10, 100]
[[signals]]
name = "device"
kind = "novelty"
of = "attributes.device.id"
bounds = [86400000]
"""
ROWS = [
    {"visit": "v2", "customer": "c1", "event_type": "PAY", "created": START_S + 9, "amt": 250.5, "dev": "d9", "fraud": "Y"},
    {"visit": "v1", "customer": "c1", "event_type": "LOGIN", "created": START_S, "amt": None, "dev": "d1", "fraud": "N"},
    {"visit": "v2", "customer": "c1", "event_type": "LOGIN", "created": START_S + 5, "amt": None, "dev": None, "fraud": "N"},
]  # fmt: skip


@pytest.fixture
def described(tmp_path: Path) -> list[str]:
    """Options that name an export out of order, with seconds, labels of letters and fields of names of its own."""
    pl.DataFrame(ROWS).write_parquet(tmp_path / "history.parquet")
    (tmp_path / "shop.toml").write_text(DESCRIPTION)
    return ["--data", str(tmp_path / "history.parquet"), "--description", str(tmp_path / "shop.toml")]


def _run(*arguments: str) -> str:
    done = CliRunner().invoke(main, ["events", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def _lines(path: Path) -> list[dict[str, object]]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in text.splitlines()]


def test_a_table_becomes_events_in_the_order_of_time_with_their_fields(
    described: list[str], tmp_path: Path
) -> None:
    """Times are milliseconds, fields have the contract's names, and labels say where an attack begins."""
    out, labels = tmp_path / "events.jsonl.gz", tmp_path / "labels.jsonl"
    assert "wrote 3 events, 2 labels" in _run(*described, "--out", str(out), "--labels-out", str(labels))
    common = {"account_id": "c1"}
    assert _lines(out) == [
        {"event_id": "history.parquet-2", "session_id": "v1", "action": "LOGIN", "occurred_at_ms": START_S * 1000,
         "attributes": {"device": {"id": "d1"}}} | common,
        {"event_id": "history.parquet-3", "session_id": "v2", "action": "LOGIN",
         "occurred_at_ms": (START_S + 5) * 1000} | common,
        {"event_id": "history.parquet-1", "session_id": "v2", "action": "PAY", "occurred_at_ms": (START_S + 9) * 1000,
         "amount": 250.5, "attributes": {"device": {"id": "d9"}}} | common,
    ]  # fmt: skip
    told = {line["session_id"]: line for line in _lines(labels)}
    assert told == {
        "v1": {"session_id": "v1", "label": 0},
        "v2": {"session_id": "v2", "label": 1, "attack_from": 1},
    }


def test_the_events_train_as_the_table_does(described: list[str], tmp_path: Path) -> None:
    """Read again by the contract's names, sessions have the actions, times, targets and fields that the table has."""
    out, labels = tmp_path / "events.jsonl", tmp_path / "labels.jsonl"
    _run(*described, "--out", str(out), "--labels-out", str(labels))
    (tmp_path / "plain.toml").write_text("[[signals]]" + DESCRIPTION.partition("[[signals]]")[2])
    first = load(tmp_path / "history.parquet", read_description(tmp_path / "shop.toml")).sessions
    again = load(out, read_description(tmp_path / "plain.toml"), labels).sessions
    assert {one.session_id: one for one in first.rows()} == {one.session_id: one for one in again.rows()}
    order = np.argsort(first.ids), np.argsort(again.ids)
    for field in ("amount", "attributes.device.id"):
        assert sorted(map(str, first.fields[field])) == sorted(map(str, again.fields[field]))
    assert first.labels[order[0]].tolist() == again.labels[order[1]].tolist()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_events_are_named_as_a_replay_of_the_table_names_them(suffix: str, tmp_path: Path) -> None:
    """So that publishing what a replay of the table began repeats those events, and scores none of them twice."""
    path = tmp_path / f"export{suffix}"
    frame = pl.DataFrame(
        {"session_id": ["a", "b"], "account_id": ["x", "y"], "action": ["LOGIN", "LOGIN"], "occurred_at_ms": [START_S * 1000] * 2}
    )  # fmt: skip
    frame.write_csv(path) if suffix == ".csv" else frame.write_parquet(path)
    _run("--data", str(path), "--out", str(tmp_path / "events.jsonl"))
    with Table(path, {}) as table:
        replayed = [record.event.event_id for record in table.records()]
    assert [line["event_id"] for line in _lines(tmp_path / "events.jsonl")] == replayed


def test_ids_of_ones_own_and_labels_of_events_hold(tmp_path: Path) -> None:
    """An event keeps its id, and a label file that names events by them labels their sessions."""
    pl.DataFrame(
        {"event_id": ["e1", "e2"], "session_id": ["a", "b"], "action": ["PAY", "PAY"], "occurred_at_ms": [START_S * 1000] * 2}
    ).write_csv(tmp_path / "export.csv")  # fmt: skip
    pl.DataFrame({"event_id": ["e2", "e1"], "label": [1, 0]}).write_csv(tmp_path / "truth.csv")
    out, labels = tmp_path / "events.jsonl", tmp_path / "labels.jsonl"
    _run("--data", str(tmp_path / "export.csv"), "--labels", str(tmp_path / "truth.csv"), "--labels-of", "event",
         "--out", str(out), "--labels-out", str(labels))  # fmt: skip
    assert [(line["event_id"], line["account_id"]) for line in _lines(out)] == [("e1", "a"), ("e2", "b")]
    assert [(line["session_id"], line["label"]) for line in _lines(labels)] == [("a", 0), ("b", 1)]


def test_a_session_a_row_becomes_its_events(tmp_path: Path) -> None:
    """Each action of a list is an event, named by the row and its place."""
    line = {
        "session_id": "a",
        "actions": ["LOGIN", "PAY"],
        "timestamps_ms": [START_S * 1000, START_S * 1000 + 1],
        "label": 1,
    }
    (tmp_path / "s.jsonl").write_text(json.dumps(line))
    _run("--data", str(tmp_path / "s.jsonl"), "--out", str(tmp_path / "events.jsonl"))
    assert [(one["event_id"], one["action"]) for one in _lines(tmp_path / "events.jsonl")] == [
        ("s.jsonl-1-1", "LOGIN"),
        ("s.jsonl-1-2", "PAY"),
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"session_id": "a", "action": "PAY"}], "--column time=..."),
        ([{"session_id": "a" * 300, "action": "PAY", "occurred_at_ms": START_S * 1000}], "length <= 256"),
    ],
)
def test_what_is_no_event_is_refused(rows: list[dict[str, object]], message: str, tmp_path: Path) -> None:
    """Without a time, or with an id that the detector would not take."""
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = CliRunner().invoke(
        main, ["events", "--data", str(tmp_path / "s.jsonl"), "--out", str(tmp_path / "out.jsonl")]
    )
    assert done.exit_code == 1
    assert message in done.output
