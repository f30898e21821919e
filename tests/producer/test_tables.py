"""CSV and Parquet exports become the events that their map says, or an error that names the row."""

import csv
import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from broker import Broker
from detector.contract.events import SessionAction, decode_event
from detector.contract.topics import topic_specifications
from detector.runtime.config import DetectorConfig
from producer.cli import main
from producer.recording import RecordingError
from producer.tables import Table, TimeUnit
from tests.conftest import CreateTopic
from tests.runtime.stack import read_committed

COLUMNS = {"session_id": "sid", "account_id": "user", "action": "what", "occurred_at_ms": "at"}
START_MS = 1_772_323_200_000
ROWS: list[dict[str, Any]] = [
    {"sid": "s1", "user": 7, "what": "sign in", "at": START_MS, "eur": None, "note": "é"},
    {
        "sid": "s1",
        "user": 7,
        "what": "TRANSFER_LARGE",
        "at": START_MS + 4_000,
        "eur": 250.5,
        "note": 'a "quote"',
    },
    {"sid": "s2", "user": 8, "what": "sign in", "at": START_MS + 4_000, "eur": None, "note": "two\nlines"},
]
EXPECTED = [
    SessionAction(event_id="1", session_id="s1", account_id="7", action="LOGIN", occurred_at_ms=START_MS),
    SessionAction(
        event_id="2",
        session_id="s1",
        account_id="7",
        action="TRANSFER_LARGE",
        occurred_at_ms=START_MS + 4_000,
        amount=250.5,
    ),
    SessionAction(
        event_id="3", session_id="s2", account_id="8", action="LOGIN", occurred_at_ms=START_MS + 4_000
    ),
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as the suffix says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    with (
        gzip.open(path, "wt")
        if path.suffix == ".gz"
        else path.open("w", encoding="utf-8", newline="") as file
    ):
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def events(path: Path, **settings: Any) -> list[SessionAction]:
    """Read a table by the map above."""
    columns = settings.pop("columns", COLUMNS)
    with Table(path, columns, **settings) as table:
        found = [msgspec.json.decode(record.value, type=SessionAction) for record in table.records()]
        assert table.position_bytes == table.size_bytes
        return found


@pytest.mark.parametrize("name", ["export.csv", "export.csv.gz", "export.parquet"])
def test_a_table_becomes_the_events_of_its_map(name: str, tmp_path: Path) -> None:
    """Columns are found by the map, actions renamed, ids made of the file's name and the row; other columns ignored."""
    path = write(tmp_path / name, ROWS)
    found = events(path, columns=COLUMNS | {"amount": "eur"}, renames={"sign in": "LOGIN"})
    assert [one.event_id for one in found] == [f"{name}-1", f"{name}-2", f"{name}-3"]
    assert [
        (one.session_id, one.account_id, one.action, one.occurred_at_ms, one.amount) for one in found
    ] == [(one.session_id, one.account_id, one.action, one.occurred_at_ms, one.amount) for one in EXPECTED]


@given(
    at_ms=st.integers(0, 4_102_444_800_000),
    form=st.sampled_from(["s", "ms", "us", "ns", "iso", "offset", "naive"]),
)
def test_a_time_is_the_same_in_every_form(
    at_ms: int, form: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Seconds to nanoseconds, and ISO 8601 with an offset, with Z or without (UTC), to the millisecond."""
    moment = datetime.fromtimestamp(at_ms // 1_000, UTC).replace(microsecond=at_ms % 1_000 * 1_000)
    said: dict[str, Any] = {
        "s": f"{at_ms // 1_000}.{at_ms % 1_000:03}",
        "ms": at_ms,
        "us": at_ms * 1_000,
        "ns": at_ms * 1_000_000,
        "iso": moment.isoformat().replace("+00:00", "Z"),
        "offset": moment.isoformat(),
        "naive": moment.replace(tzinfo=None).isoformat(),
    }
    unit = TimeUnit(form) if form in set(TimeUnit) else TimeUnit.MILLISECONDS
    path = write(tmp_path_factory.mktemp("times") / "t.csv", [ROWS[0] | {"at": said[form]}])
    (event,) = events(path, time_unit=unit)
    assert event.occurred_at_ms == at_ms


def test_parquets_own_times_are_read(tmp_path: Path) -> None:
    """A column of timestamps needs no unit."""
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    (event,) = events(write(tmp_path / "t.parquet", [ROWS[0] | {"at": moment}]))
    assert event.occurred_at_ms == START_MS


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"at": "yesterday"}, "row 2.*Invalid isoformat"),
        ({"at": ""}, "row 2"),
        ({"sid": ""}, "row 2.*session_id"),
        ({"what": ""}, "row 2.*action"),
    ],
    ids=["time", "no time", "no session", "no action"],
)
def test_a_row_that_is_no_event_is_named(spoil: dict[str, Any], message: str, tmp_path: Path) -> None:
    """The error has the row's number and what is wrong; with --skip-bad-lines such rows are counted and left out."""
    path = write(tmp_path / "t.csv", [ROWS[0], ROWS[1] | spoil, ROWS[2]])
    with pytest.raises(RecordingError, match=message):
        events(path)
    with Table(path, COLUMNS, skip_bad_lines=True) as table:
        assert len([*table.records()]) == 2
        assert (table.skipped, table.skipped_count) == ([2], 1)


def test_rows_out_of_order_are_refused(tmp_path: Path) -> None:
    """A row that is earlier than the one before would be scored as if it came after: the export has to be sorted."""
    path = write(tmp_path / "t.csv", [ROWS[1], ROWS[0]])
    with pytest.raises(RecordingError, match=r"row 2: .* before that of the row before, .* trainer events"):
        events(path)


def test_a_column_that_is_missing_is_named(tmp_path: Path) -> None:
    """The error says which column of which field is missing, which there are, and what to do."""
    path = write(tmp_path / "t.csv", ROWS)
    with pytest.raises(
        RecordingError, match=r"no column session_id \(for session_id\).*it has sid, user.*--column"
    ):
        Table(path, {})
    with pytest.raises(RecordingError, match="device: no field of an event"):
        Table(path, COLUMNS | {"device": "x"})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"sid,user,what,at\ns,u,LOGIN\n", "row 1.*cells"),
        ("t.csv", b"sid,user,what,at\ns,u,LOGIN,1,2\n", "row 1.*cells"),
        ("t.csv", b"sid,user,what,at\n\xff,u,LOGIN,1\n", "after row 0.*UTF-8"),
        ("t.csv.gz", gzip.compress(b"sid,user,what,at\n" + b"s,u,LOGIN,1\n" * 9_000, mtime=0)[:-20], "after row"),
        ("t.parquet", b"PAR1 and nothing else", "Parquet"),
    ],
    ids=["too few cells", "too many cells", "not UTF-8", "cut off", "no Parquet"],
)
def test_a_damaged_file_is_an_error_and_no_traceback(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    """Where the file stops making sense, the error says so, and how far it was read."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=message):
        events(path)


def test_an_export_is_replayed_from_the_command_line(
    kafka: Broker, create_topic: CreateTopic, tmp_path: Path
) -> None:
    """`replay` publishes an export's events, and where it stops says which; a map for none, or half a one, is refused."""
    topic = create_topic("export", configs=topic_specifications("a", "b", 1)[0].configs)
    path = write(tmp_path / "export.csv", ROWS)
    maps = [f"--column={field}={column}" for field, column in COLUMNS.items()]
    arguments = ["replay", str(path), "--speed", "max", "--topic", topic, *maps, "--rename", "sign in=LOGIN"]
    done = CliRunner().invoke(main, [*arguments, "--bootstrap-servers", kafka.bootstrap_servers])
    assert done.exit_code == 0, done.output
    config = DetectorConfig(bootstrap_servers=kafka.bootstrap_servers)
    published = [decode_event(record.value) for record in read_committed(config, topic)]
    assert sorted(one.event_id for one in published) == ["export.csv-1", "export.csv-2", "export.csv-3"]
    assert {one.action for one in published} == {"LOGIN", "TRANSFER_LARGE"}
    write(path, [ROWS[1], ROWS[2], ROWS[0]])
    stopped = CliRunner().invoke(main, [*arguments, "--bootstrap-servers", kafka.bootstrap_servers])
    assert stopped.exit_code == 1
    assert (
        "Published were the 2 events before it, with ids from 'export.csv-1' to 'export.csv-2'"
        in stopped.output
    )
    lines = tmp_path / "e.jsonl"
    lines.write_bytes(b"")
    assert "by their suffix" in CliRunner().invoke(main, ["replay", str(lines), *maps]).output
    assert "two names" in CliRunner().invoke(main, ["replay", str(path), "--column", "action"]).output
