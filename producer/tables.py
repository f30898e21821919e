"""Exports as tables, CSV or Parquet: each row one action, whose columns a map assigns to the fields of an event."""

import csv
import gzip
import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from detector.contract.events import MalformedEventError, SessionEvent, encode_event, event_of
from producer.publisher import Record
from producer.recording import RecordingError

FIELDS: Final = ("session_id", "account_id", "action", "occurred_at_ms", "event_id", "amount")
"""The fields that a column may be mapped to; the last two may be left out."""
_REQUIRED: Final = FIELDS[:4]
_SUFFIXES: Final = (".csv", ".csv.gz", ".parquet")


class TimeUnit(StrEnum):
    """What the numbers of a column of times count since the Unix epoch."""

    SECONDS = "s"
    MILLISECONDS = "ms"
    MICROSECONDS = "us"
    NANOSECONDS = "ns"


_PER_MS: Final = {
    TimeUnit.SECONDS: 1e-3,
    TimeUnit.MILLISECONDS: 1.0,
    TimeUnit.MICROSECONDS: 1e3,
    TimeUnit.NANOSECONDS: 1e6,
}


def is_table(path: Path) -> bool:
    """Tell by its name whether a file is a table."""
    return path.name.endswith(_SUFFIXES)


class Table:
    """The events of a table, read lazily, in its order, which must be that of time.

    Without a column for it, an event's id is the file's name and the row's number: the same file again is a repeat.

    Args:
        path: of the file; its suffix says what it is: .csv, .csv.gz, .parquet.
        columns: of the table, by field of the event. A field without an entry is taken from the column of its name.
        renames: what an action is called in events, by what the table calls it; others keep their names.
        time_unit: of times that are numbers. Texts are ISO 8601, UTC where they don't say.
        skip_bad_lines: leave out rows that are no event and count them, instead of raising.

    Raises:
        RecordingError: a column is missing, the map names no field of an event, or pyarrow is not installed.
        OSError: the file can't be opened.
    """

    KEPT_LINE_NUMBERS = 20

    def __init__(
        self,
        path: Path,
        columns: Mapping[str, str],
        *,
        renames: Mapping[str, str] | None = None,
        time_unit: TimeUnit = TimeUnit.MILLISECONDS,
        skip_bad_lines: bool = False,
    ) -> None:
        if unknown := sorted(set(columns) - set(FIELDS)):
            raise RecordingError(
                f"{', '.join(unknown)}: no field of an event; expected one of {', '.join(FIELDS)}"
            )
        self.size_bytes = path.stat().st_size
        self.skipped: list[int] = []
        self.skipped_count = 0
        self.position_bytes = 0
        self._path = path
        self._renames = dict(renames or {})
        self._time_unit = time_unit
        self._skip_bad_lines = skip_bad_lines
        names, self._rows, self._close = _parquet(path) if path.suffix == ".parquet" else _csv(path)
        self._columns = {field: columns.get(field, field) for field in FIELDS}
        missing = [
            f"{column} (for {field})"
            for field, column in self._columns.items()
            if column not in names and (field in _REQUIRED or field in columns)
        ]
        if missing:
            self._close()
            raise RecordingError(
                f"{path} has no column {', '.join(missing)}: it has {', '.join(names)}. Say which column is meant with "
                "--column FIELD=COLUMN."
            )
        self._columns = {field: column for field, column in self._columns.items() if column in names}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def records(self) -> Iterator[Record]:
        """Yield the event of each row.

        Raises:
            RecordingError: a row is no event (unless skipped), is earlier than the one before it, or can't be read.
        """
        number, before_ms = 0, 0
        try:
            for number, (share, row) in enumerate(self._rows, start=1):
                self.position_bytes = round(share * self.size_bytes)
                try:
                    event = self._event(number, row)
                except (MalformedEventError, ValueError, TypeError, OverflowError) as error:
                    if not self._skip_bad_lines:
                        raise RecordingError(
                            f"{self._path}, row {number}: {error}. Nothing from this row on was published; mend the "
                            "row, or leave such rows out with --skip-bad-lines."
                        ) from error
                    self.skipped_count += 1
                    if len(self.skipped) < self.KEPT_LINE_NUMBERS:
                        self.skipped.append(number)
                    continue
                if event.occurred_at_ms < before_ms:
                    raise RecordingError(
                        f"{self._path}, row {number}: its time, {event.occurred_at_ms} ms, is before that of the row "
                        f"before, {before_ms} ms. Nothing from this row on was published; expected rows in the order "
                        "of time: `python -m trainer events` writes them so, under the ids that they have here; an "
                        "export that is sorted anew numbers them otherwise, unless a column has their event_id."
                    )
                before_ms = event.occurred_at_ms
                yield Record(event, encode_event(event))
        except (OSError, EOFError, ValueError, csv.Error) as error:
            raise RecordingError(
                f"{self._path}, after row {number}: can't be read on ({error}). Nothing after that row was published; "
                "expected a whole file, as its suffix says, in UTF-8 if it is CSV."
            ) from error

    def _event(self, number: int, row: Mapping[str, Any]) -> SessionEvent:
        if not row:
            raise ValueError("it has more or fewer cells than the header")
        said = {field: row[column] for field, column in self._columns.items()}
        document: dict[str, Any] = {
            field: str(said[field]) for field in ("session_id", "account_id") if said[field] is not None
        }
        action = str(said["action"] or "")
        document["action"] = self._renames.get(action, action)
        document["occurred_at_ms"] = self._time_ms(said["occurred_at_ms"])
        document["event_id"] = str(said.get("event_id") or f"{self._path.name}-{number}")
        if (amount := said.get("amount")) is not None and amount != "":
            document["amount"] = float(amount)
        return event_of(document)

    def _time_ms(self, said: Any) -> int:
        if isinstance(said, str):
            try:
                said = float(said)
            except ValueError:
                said = datetime.fromisoformat(said)
        if isinstance(said, datetime):
            aware = said if said.tzinfo else said.replace(tzinfo=UTC)
            return round(aware.timestamp() * 1_000)
        if isinstance(said, bool | date) or said is None or not math.isfinite(said):
            raise ValueError(
                f"{said!r} is no time: expected a number, or date and time as in 2026-03-01T12:00:00Z"
            )
        at_ms: int = round(said / _PER_MS[self._time_unit])
        return at_ms


class _Opened(NamedTuple):
    """A table: its columns; how much of it is read, from 0 to 1, and a row, empty if it can't be told apart; its end."""

    names: list[str]
    rows: Iterator[tuple[float, Mapping[str, Any]]]
    close: Callable[[], object]


def _csv(path: Path) -> _Opened:
    raw = path.open("rb")
    size_bytes = max(1, path.stat().st_size)
    packed = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
    # A generator of lines, for one that iterates a file can't be asked where it is.
    reader = csv.DictReader((line.decode("utf-8-sig") for line in iter(packed.readline, b"")), strict=True)
    try:
        names = list(reader.fieldnames or ())
    except BaseException:
        raw.close()
        raise

    def rows() -> Iterator[tuple[float, Mapping[str, Any]]]:
        for row in reader:
            whole = None not in row and None not in row.values()
            yield raw.tell() / size_bytes, row if whole else {}

    return _Opened(names, rows(), raw.close)


def _parquet(path: Path) -> _Opened:
    if importlib.util.find_spec("pyarrow") is None:
        raise RecordingError(
            f"{path} is Parquet, and pyarrow is not installed: expected it, as `pip install pyarrow`, or a CSV export"
        )
    from pyarrow import ArrowException  # noqa: PLC0415  optional, and slow
    from pyarrow.parquet import ParquetFile  # noqa: PLC0415  as above

    try:
        file = ParquetFile(path)
    except ArrowException as error:
        raise RecordingError(f"{path} can't be read as Parquet: {error}") from error
    total = max(1, file.metadata.num_rows)

    def rows() -> Iterator[tuple[float, Mapping[str, Any]]]:
        read = 0
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                read += 1
                yield read / total, row

    return _Opened(file.schema_arrow.names, rows(), file.close)
