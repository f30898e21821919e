"""Reading: JSON lines, CSV and Parquet become one table of events, whatever their columns are called.

A table is made piece by piece, of as few bytes an event as will do, so that what does not fit into memory as text is
read all the same.
"""

import csv
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from io import TextIOWrapper
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import polars as pl
from polars import selectors

from detector.client.reading import DamagedFileError, opened
from trainer.data.converting import SHOWN_VALUES, Bad, compacted
from trainer.data.description import FIELDS, USUAL_NAMES, Description, require, resolve, unread
from trainer.data.fields import columns_of, of_frame, of_lines, texts_of
from trainer.data.sessions import DataError

MAX_LINE_BYTES: Final = 64 * 1024 * 1024
FIRST_LINES: Final = 20
CHUNK_LINES: Final = 50_000
MOST_KEYS: Final = 1_000
"""Of all lines: with more, keys are values, and those of further lines are not looked at."""
_Keys = dict[str, msgspec.Raw]
TEXTS: Final = ("session", "account", "action", "type", "customer_type", "attack_id")
OF_EVENTS: Final = ("session", "action")
"""Fields that every event has."""


EXPECTED: Final = "expected an event, or a session, a row; write it again"


class Table(NamedTuple):
    """Events, one a row, in the order they were read.

    Attributes:
        frame: `row`, and a column for each field that there is: texts as codes, `time` in milliseconds, `label` 1, 0,
            UNLABELLED or null, `event_id` hashed, `split` an index of PARTS.
        names: what the codes of a field mean.
        bad: rows that were left out.
        told: what is to be said of the source.
        is_log: whether the order is that of a log; else it is of no meaning.
        one_a_row: whether a row was a whole session.
    """

    frame: pl.DataFrame
    names: Mapping[str, pl.Categories]
    bad: Bad
    told: list[str]
    is_log: bool
    one_a_row: bool
    columns: Collection[str]
    """That were read."""


_BOM: Final = b"\xef\xbb\xbf"
_MAGIC: Final = {
    b"\x1f\x8b": "gzip: name it .gz",
    b"PAR1": "Parquet: name it .parquet",
    b"PK\x03\x04": "a ZIP archive, or a workbook: unpack it, or write it as CSV",
    b"\xff\xfe": "UTF-16: write it as UTF-8",
    b"\xfe\xff": "UTF-16: write it as UTF-8",
}
"""What the first bytes of a file tell, where its name says otherwise."""


def _check_form(path: Path) -> None:
    if path.suffix == ".gz":
        return
    with path.open("rb") as file:
        begin = file.read(4)
    if path.suffix == ".parquet":
        if begin != b"PAR1":
            raise DataError(
                f"{path} begins with {begin!r} and is no Parquet file: name it by what it is, .csv or .jsonl"
            )
        return
    for magic, what in _MAGIC.items():
        if begin.startswith(magic):
            raise DataError(f"{path} is {what}")


def read_table(
    path: Path,
    description: Description,
    fields: Collection[str] = FIELDS,
    needed: Collection[str] = OF_EVENTS,
    *,
    elsewhere: Collection[str] = (),
    names: Mapping[str, pl.Categories] | None = None,
) -> Table:
    """Read a file: .csv, .csv.gz, .parquet, or JSON lines, gzip by the suffix .gz.

    Args:
        path: of the file.
        description: of its columns.
        fields: those to read.
        needed: those of them that must be there.
        elsewhere: those whose column, though named, may be in another source.
        names: codes to go on with, for a table that is to be joined to another.

    Raises:
        DataError: the file cannot be read, or lacks a column.
    """
    try:
        if not path.stat().st_size:
            raise DataError(f"{path} is empty: {EXPECTED}")
        _check_form(path)
        if path.suffix == ".parquet":
            return _of_frame(pl.scan_parquet(path), path, description, fields, needed, elsewhere, names)
        if path.name.endswith((".csv", ".csv.gz")):
            # As texts: an id of 007 is no 7.
            scanned = pl.scan_csv(path, infer_schema=False)
            return _of_frame(scanned, path, description, fields, needed, elsewhere, names)
        lines = ((number, 0, line) for number, line in enumerate(lines_of(path), start=1))
        return read_lines(lines, str(path), description, fields, needed, elsewhere=elsewhere, names=names)
    except pl.exceptions.NoDataError as error:
        raise DataError(f"{path} is empty: {EXPECTED}") from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}): expected a file of data"
        ) from error
    except pl.exceptions.PolarsError as error:
        if told := _told_of_long_row(path):
            raise DataError(told) from error
        seen = str(error).partition("\n\n")[0]  # what follows is advice to programs
        encoding = "; write it as UTF-8" if "utf-8" in seen.lower() else ""
        raise DataError(f"{path} cannot be read: {seen}{encoding}") from error


def _told_of_long_row(path: Path) -> str:
    """Return what is to be said of the first row of a CSV file that is longer than its header; empty if none is."""
    if not path.name.endswith((".csv", ".csv.gz")):
        return ""
    with opened(path) as file:
        rows = csv.reader(TextIOWrapper(file, "utf-8-sig", "replace", newline=""))
        many = len(next(rows, ()))
        for row in rows:
            if len(row) > many:
                return (
                    f"{path}, line {rows.line_num}: it has {len(row)} fields, the header {many}: expected as many, and what has a "
                    "comma in it between quotes"
                )
    return ""


def read_lines(
    lines: Iterable[tuple[int, int, bytes]],
    name: str,
    description: Description,
    fields: Collection[str] = FIELDS,
    needed: Collection[str] = OF_EVENTS,
    *,
    elsewhere: Collection[str] = (),
    names: Mapping[str, pl.Categories] | None = None,
) -> Table:
    """Read lines of JSON, one session or one event each.

    Args:
        lines: with their number, from 1, and the partition of the log they are of.
        name: of where they come from, for messages.
        description: of their keys.
        fields: those to read.
        needed: those of them that must be there.
        elsewhere: those whose column, though named, may be in another source.
        names: codes to go on with.

    Raises:
        DataError: no line is a JSON object, or all lack a field.
    """
    lines = iter(lines)
    first = list(itertools.islice((one for one in lines if one[2].strip()), FIRST_LINES))
    examples = [one for _, _, line in first if isinstance(one := _decoded(line), dict)]
    if not examples:
        raise _no_lines(name, [line for _, _, line in first])
    keys = list(dict.fromkeys(key for one in examples for key in one))
    found = resolve(description.columns, keys, fields, elsewhere)
    require(needed, found, keys, name)
    lists = {
        field for field, column in found.items() if any(isinstance(one.get(column), list) for one in examples)
    }
    of_signals = columns_of(description) if "action" in fields else {}
    there = found | {field: path.partition(".")[0] for field, path in of_signals.items()}
    listed = "action" in lists
    if listed:
        lists |= {"time", "event_id"} - found.keys()
    for field in [
        one for one in fields if one not in found
    ]:  # later lines may have it: few say where attacks begin
        found[field] = USUAL_NAMES[field][-1 if listed else 0]
    decoder, decoder_of_keys = msgspec.json.Decoder(_line_type(found, lists)), msgspec.json.Decoder(_Keys)
    seen: dict[str, Any] = dict.fromkeys(keys)
    codes = names or new_codes(of_signals)
    attributes = {field: f"c{list(found.values()).index(column)}" for field, column in found.items()}
    pieces: list[pl.DataFrame] = []
    bad = Bad()
    for chunk in _chunks(iter(itertools.chain(first, lines))):
        good: list[Any] = []
        rows: list[tuple[int, int]] = []
        texts: list[bytes] = []
        for number, partition, line in chunk:
            try:
                one = decoder.decode(line)
                if len(seen) < MOST_KEYS:
                    seen |= decoder_of_keys.decode(line)
                good.append(one)
                rows.append((number, partition))
                texts.append(line)
            except (msgspec.DecodeError, RecursionError) as error:
                bad.add(str(error), number)
            except UnicodeError:
                bad.add("a text is not UTF-8: write the file as UTF-8", number)
        columns = {
            field: _series(list(map(attrgetter(attribute), good))) for field, attribute in attributes.items()
        }
        raw = pl.DataFrame(
            {"row": [row for row, _ in rows], "partition": [partition for _, partition in rows]}
            | {field: one for field, one in columns.items() if one.dtype != pl.Null or field in needed},
            schema_overrides={"row": pl.UInt32, "partition": pl.Int32},
        ).with_columns(of_lines(texts, of_signals, found["action"] if listed else None))
        if len(raw):
            pieces.append(compacted(raw.lazy(), description, codes, bad))
    frame = pl.concat(pieces, how="diagonal") if pieces else pl.DataFrame()
    there |= {field: column for field, column in found.items() if column in seen}
    return _checked(Table(frame, codes, bad, unread(seen, there), not listed, listed, there.values()))


def _no_lines(name: str, first: Sequence[bytes]) -> DataError:
    """Return what is to be said of lines none of which is a JSON object."""
    if not first:
        return DataError(f"{name} is empty: {EXPECTED}")
    shown = first[0][:60].decode(errors="replace").strip()
    said = "it looks like CSV: name it .csv" if "," in shown or ";" in shown else "mend it"
    if "\ufffd" in shown:
        said = "it is not UTF-8: write it as UTF-8"
    elif shown[:1] == "[" or (shown[:1] == "{" and not first[0].strip().endswith(b"}")):
        said = "it looks like JSON over several lines, or an array: write each object on a line of its own"
    return DataError(
        f"{name} is no JSON lines, its first line is {shown!r}: expected a JSON object a line; {said}"
    )


def lines_of(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, gzip by the suffix .gz, each of at most MAX_LINE_BYTES.

    Raises:
        DataError: the file cannot be read.
    """
    number = 0
    try:
        with opened(path) as file:
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                yield line if number > 1 else line.removeprefix(_BOM)
    except DamagedFileError as error:
        raise DataError(f"after line {number} of {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): expected a file of JSON lines") from error


def new_codes(of_signals: Mapping[str, str], *more: str) -> dict[str, pl.Categories]:
    """Return codes for the fields whose texts are kept: those of sessions, of signals, and more."""
    texts = (*TEXTS, *texts_of(of_signals), *more)
    return {field: pl.Categories.random("trainer", pl.UInt32) for field in texts}


def _of_frame(
    frame: pl.LazyFrame,
    path: Path,
    description: Description,
    fields: Collection[str],
    needed: Collection[str],
    elsewhere: Collection[str],
    names: Mapping[str, pl.Categories] | None,
) -> Table:
    schema = frame.collect_schema()
    columns = schema.names()
    if columns and columns[0].startswith(("{", "[")) and path.suffix != ".parquet":
        raise DataError(
            f"{path} begins with {columns[0]!r}: it looks like JSON; write one object a line, and name it .jsonl"
        )
    if len(columns) == 1 and (separator := next((one for one in ";\t|" if one in columns[0]), None)):
        raise DataError(
            f"{path} has one column, {columns[0]!r}: it looks as if {separator!r} were between fields; expected commas"
        )
    found = resolve(description.columns, columns, fields, elsewhere)
    require(needed, found, columns, str(path))
    of_signals = columns_of(description) if "action" in fields else {}
    codes = names or new_codes(of_signals)
    raw = frame.select(
        *(pl.col(column).alias(field) for field, column in found.items()),
        *of_frame(schema, of_signals, description),
    )
    raw = raw.with_columns(selectors.array().arr.to_list())
    bad = Bad()
    numbered = raw.with_row_index("row", offset=1 if path.suffix == ".parquet" else 2)
    if path.suffix != ".parquet":  # blank lines, as at the end
        numbered = numbered.filter(~pl.all_horizontal(pl.exclude("row").is_null()))
    compact = compacted(numbered, description, codes, bad)
    listed = isinstance(raw.collect_schema().get("action"), pl.List)
    read = found | {
        field: path if path in schema else path.partition(".")[0] for field, path in of_signals.items()
    }
    return _checked(
        Table(
            compact, codes, bad, unread(columns, read), is_log=False, one_a_row=listed, columns=read.values()
        )
    )


def _checked(table: Table) -> Table:
    """Leave out what only the whole table shows to be wrong: a row for a session that had one."""
    if not table.one_a_row or "session" not in table.frame.columns or not len(table.frame):
        return table
    sessions, rows = table.frame["session"].to_physical().to_numpy(), table.frame["row"].to_numpy()
    first_row = np.zeros(int(sessions.max()) + 1, rows.dtype)
    first_row[sessions[::-1]] = rows[::-1]  # of several the last written holds: the first row
    again = rows != first_row[sessions]
    wrong = table.frame.filter(pl.Series(again)).unique("row", maintain_order=True)
    if len(wrong):
        names = wrong["session"].cast(pl.String).head(SHOWN_VALUES + 1)
        reason = "session_id {} was on a line before: expected each once"
        table.bad.add(reason, wrong["row"].min(), len(wrong), names)  # type: ignore[arg-type]  # numbers
    return table._replace(frame=table.frame.filter(pl.Series(~again)))


def _decoded(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _chunks(lines: Iterator[tuple[int, int, bytes]]) -> Iterator[list[tuple[int, int, bytes]]]:
    while chunk := list(itertools.islice(lines, CHUNK_LINES)):
        yield [one for one in chunk if not one[2].isspace()]


def _line_type(found: Mapping[str, str], lists: Collection[str]) -> type[msgspec.Struct]:
    """Return the type of a line: the columns that are read, each of which may be missing."""
    number = int | float
    kinds: dict[str, Any] = dict.fromkeys(("time", "attack_from", "weight"), number | str)

    def kind(field: str) -> Any:
        one = kinds.get(field, str | int | float | bool)
        return list.__class_getitem__(one | None) | None if field in lists else one | None

    columns = list(found.values())
    parts = [
        (f"c{columns.index(column)}", kind(field), None)
        for field, column in found.items()
        if list(found).index(field) == columns.index(column)
    ]
    renames = {f"c{columns.index(column)}": column for column in columns}
    return msgspec.defstruct("Line", parts, rename=renames, gc=False)


def _series(values: Sequence[Any]) -> pl.Series:
    """Return a column of values or lists of them, of the narrowest type that takes them all."""
    example = next((value for value in values if value is not None), None)
    if example is None:
        return pl.Series(values, dtype=pl.Null)
    listed = isinstance(example, list)
    for kind in (pl.String, pl.Boolean, pl.Int64, pl.Int128, pl.Float64):
        try:
            return pl.Series(values, dtype=pl.List(kind) if listed else kind)
        except (TypeError, OverflowError, pl.exceptions.PolarsError):
            continue
    plain = [[_plain(one) for one in value] if isinstance(value, list) else _plain(value) for value in values]
    return pl.Series(plain, dtype=pl.List(pl.String) if listed else pl.String)


def _plain(value: Any) -> str | None:
    if isinstance(value, bool) or value is None:
        return value if value is None else str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
