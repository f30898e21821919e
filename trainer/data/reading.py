"""Reading: JSON lines, CSV and Parquet become one table of events, whatever their columns are called.

A table is made piece by piece, of as few bytes an event as will do, so that what does not fit into memory as text is
read all the same.
"""

import gzip
import itertools
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import polars as pl

from trainer.data.description import FIELDS, UNITS_A_MS, Description, TimeUnit, resolve, unread
from trainer.data.sessions import PARTS, UNLABELLED, DataError

MAX_SESSION_ACTIONS: Final = 100_000
MAX_LINE_BYTES: Final = 64 * 1024 * 1024
KEPT_BAD_LINES: Final = 20
FIRST_LINES: Final = 20
CHUNK_LINES: Final = 50_000
EARLIEST_MS: Final = 946_684_800_000
"""The year 2000: what claims to be earlier is probably counted in another unit …"""
LATEST_MS: Final = 4_102_444_800_000
"""… as is what claims to be later than 2100."""
TEXTS: Final = ("session", "account", "action", "type", "customer_type")

_Each = Callable[[pl.Expr], pl.Expr]


class BadLine(NamedTuple):
    """A line or row that is none of what was expected, from 1, and why."""

    number: int
    reason: str


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
    bad: list[BadLine]
    told: list[str]
    is_log: bool
    one_a_row: bool


def read_table(
    path: Path,
    description: Description,
    fields: Collection[str] = FIELDS,
    *,
    elsewhere: Collection[str] = (),
    names: Mapping[str, pl.Categories] | None = None,
) -> Table:
    """Read a file: .csv, .csv.gz, .parquet, or JSON lines, gzip by the suffix .gz.

    Args:
        path: of the file.
        description: of its columns.
        fields: those to read.
        elsewhere: those whose column, though named, may be in another source.
        names: codes to go on with, for a table that is to be joined to another.

    Raises:
        DataError: the file cannot be read, or lacks a column.
    """
    try:
        if path.suffix == ".parquet":
            return _of_frame(pl.scan_parquet(path), path, description, fields, elsewhere, names)
        if path.name.endswith((".csv", ".csv.gz")):
            # As texts: an id of 007 is no 7.
            return _of_frame(
                pl.scan_csv(path, infer_schema=False), path, description, fields, elsewhere, names
            )
        lines = ((number, 0, line) for number, line in enumerate(lines_of(path), start=1))
        return read_lines(lines, str(path), description, fields, elsewhere=elsewhere, names=names)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}): expected a file of data"
        ) from error
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def read_lines(
    lines: Iterable[tuple[int, int, bytes]],
    name: str,
    description: Description,
    fields: Collection[str] = FIELDS,
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
        elsewhere: those whose column, though named, may be in another source.
        names: codes to go on with.

    Raises:
        DataError: no line is a JSON object, or all lack a field.
    """
    lines = iter(lines)
    first = list(itertools.islice((one for one in lines if one[2].strip()), FIRST_LINES))
    examples = [one for _, _, line in first if isinstance(one := _decoded(line), dict)]
    if first and not examples:
        shown = first[0][2][:60].decode(errors="replace").strip()
        said = "it looks like CSV: name it .csv" if "," in shown or ";" in shown else "mend it"
        raise DataError(
            f"{name} is no JSON lines, its first line is {shown!r}: expected a JSON object a line; {said}"
        )
    keys = list(dict.fromkeys(key for one in examples for key in one))
    found = resolve(description.columns, keys, fields, elsewhere)
    listed = any(isinstance(one.get(found.get("action", "")), list) for one in examples)
    decoder = msgspec.json.Decoder(_line_type(found, listed=listed))
    codes = names or _new_codes()
    attributes = {field: f"c{list(found.values()).index(column)}" for field, column in found.items()}
    pieces: list[pl.DataFrame] = []
    bad: list[BadLine] = []
    for chunk in _chunks(itertools.chain(first, lines)):
        good: list[Any] = []
        rows: list[tuple[int, int]] = []
        for number, partition, line in chunk:
            try:
                good.append(decoder.decode(line))
                rows.append((number, partition))
            except (msgspec.DecodeError, UnicodeError) as error:
                bad.append(BadLine(number, str(error)))
        columns = {
            field: _series([getattr(one, attribute) for one in good])
            for field, attribute in attributes.items()
        }
        raw = pl.DataFrame(
            {"row": [row for row, _ in rows], "partition": [partition for _, partition in rows]}
            | {field: column for field, column in columns.items() if column.dtype != pl.Null},
            schema_overrides={"row": pl.UInt32, "partition": pl.Int32},
        )
        if len(raw):
            piece, wrong = _compact(raw.lazy(), description, codes)
            pieces.append(piece)
            bad += wrong
    frame = pl.concat(pieces, how="diagonal") if pieces else pl.DataFrame()
    return _checked(Table(frame, codes, bad, unread(keys, found), not listed, listed))


def lines_of(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, gzip by the suffix .gz, each of at most MAX_LINE_BYTES.

    Raises:
        DataError: the file cannot be read.
    """
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                yield line
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(
            f"{path}, after line {number}: the gzip data is damaged or cut off ({error}): fetch the file again, or "
            "name it without .gz if it is not compressed"
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): expected a file of JSON lines") from error


def _new_codes() -> dict[str, pl.Categories]:
    return {field: pl.Categories.random("trainer", pl.UInt32) for field in TEXTS}


def _of_frame(
    frame: pl.LazyFrame,
    path: Path,
    description: Description,
    fields: Collection[str],
    elsewhere: Collection[str],
    names: Mapping[str, pl.Categories] | None,
) -> Table:
    schema = frame.collect_schema()
    found = resolve(description.columns, schema.names(), fields, elsewhere)
    if not found:
        raise DataError(f"{path} has none of the columns that are read: it has {', '.join(schema.names())}")
    codes = names or _new_codes()
    raw = frame.select(pl.col(column).alias(field) for field, column in found.items())
    compact, bad = _compact(raw.with_row_index("row", offset=1), description, codes)
    listed = "action" in found and isinstance(schema[found["action"]], pl.List)
    return _checked(Table(compact, codes, bad, unread(schema.names(), found), is_log=False, one_a_row=listed))


def _checked(table: Table) -> Table:
    """Leave out what only the whole table shows to be wrong: a row for a session that had one."""
    if not table.one_a_row or "session" not in table.frame.columns:
        return table
    sessions, rows = table.frame["session"].to_physical().to_numpy(), table.frame["row"].to_numpy()
    first = np.zeros(int(sessions.max()) + 1, rows.dtype)
    first[sessions[::-1]] = rows[::-1]  # of several the last written holds: the first row
    again = rows != first[sessions]
    wrong = table.frame.filter(pl.Series(again)).unique("row", maintain_order=True)
    bad = [
        BadLine(row, f"session_id {name[:64]!r} was on a line before: expected each once")
        for row, name in wrong.select("row", "session").rows()
    ]
    return table._replace(frame=table.frame.filter(pl.Series(~again)), bad=sorted([*table.bad, *bad]))


def _decoded(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeError):
        return None


def _chunks(lines: Iterable[tuple[int, int, bytes]]) -> Iterator[list[tuple[int, int, bytes]]]:
    filled = (one for one in lines if one[2].strip())
    while chunk := list(itertools.islice(filled, CHUNK_LINES)):
        yield chunk


def _line_type(found: Mapping[str, str], *, listed: bool) -> type[msgspec.Struct]:
    """Return the type of a line: the columns that are read, each of which may be missing."""
    number = int | float
    kinds: dict[str, Any] = {"time": number | str, "attack_from": number, "weight": number}
    lists = ("action", "time", "event_id") if listed else ()

    def kind(field: str) -> Any:
        one = kinds.get(field, str | int | float | bool)
        return list.__class_getitem__(one) | None if field in lists else one | None

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
    listed = any(isinstance(value, list) for value in values)
    for kind in (pl.Int64, pl.String, pl.Float64):
        try:
            return (
                pl.Series(values, dtype=pl.List(kind) if listed else kind)
                if any(value is not None for value in values)
                else pl.Series(values, dtype=pl.Null)
            )
        except (TypeError, pl.exceptions.PolarsError):
            continue
    plain = [[_plain(one) for one in value] if isinstance(value, list) else _plain(value) for value in values]
    return pl.Series(plain, dtype=pl.List(pl.String) if listed else pl.String)


def _plain(value: Any) -> str | None:
    if isinstance(value, bool) or value is None:
        return value if value is None else str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _compact(
    raw: pl.LazyFrame, description: Description, codes: Mapping[str, pl.Categories]
) -> tuple[pl.DataFrame, list[BadLine]]:
    """Check rows, and return the good ones' events in few bytes, and the others with what is wrong with them."""
    schema = raw.collect_schema()
    listed = {name for name, kind in schema.items() if isinstance(kind, pl.List)}
    cooked = raw.with_columns(
        _each(name, listed, _conversion(name, _inner(schema[name]), description))
        for name in schema.names()
        if name in FIELDS
    )
    checks = _checks(schema.names(), listed, description)
    wrong = pl.any_horizontal([condition for condition, _ in checks]).fill_null(value=False)
    reason = pl.coalesce([pl.when(condition).then(message) for condition, message in checks])
    at_ms = (
        pl.lit(0)
        if "time" not in schema
        else pl.col("time").list.first()
        if "time" in listed
        else pl.col("time")
    )
    good = cooked.filter(~wrong)
    if listed:
        good = good.explode(sorted(listed))
    made, bad = pl.collect_all(
        [
            good.with_columns(_stored(name, codes, description) for name in schema.names() if name in FIELDS),
            cooked.filter(wrong).select("row", reason.alias("reason"), at_ms.alias("at_ms")),
        ],
        engine="streaming",
    )
    _check_unit(bad, len(made), description)
    return made.rechunk(), [BadLine(*row) for row in bad.select("row", "reason").rows()]


def _inner(kind: pl.DataType) -> pl.DataType:
    return kind.inner if isinstance(kind, pl.List) else kind  # type: ignore[return-value]


def _each(name: str, listed: Collection[str], what: _Each) -> pl.Expr:
    """Apply what is asked to a column, or to each element of a column of lists."""
    return pl.col(name).list.eval(what(pl.element())) if name in listed else what(pl.col(name))


def _conversion(field: str, kind: pl.DataType, description: Description) -> _Each:
    """Return what makes of a column's values those of its field."""
    if field == "time":
        return lambda one: _time_ms(one, kind, description.time_unit)
    if field == "weight":
        return lambda one: one.cast(pl.Float64, strict=False)
    if field == "attack_from":
        return lambda one: one.cast(pl.Int64, strict=False)
    return lambda one: _text(one, kind)


def _text(one: pl.Expr, kind: pl.DataType) -> pl.Expr:
    if kind.is_float():
        return (
            pl.when(one == one.floor())
            .then(one.cast(pl.Int64, strict=False).cast(pl.String))
            .otherwise(one.cast(pl.String))
        )
    return one.cast(pl.String)


def _time_ms(one: pl.Expr, kind: pl.DataType, unit: TimeUnit | None) -> pl.Expr:
    units = UNITS_A_MS[unit or "ms"]
    if kind.is_temporal():
        return one.cast(pl.Datetime("ms")).dt.epoch("ms")
    if kind.is_integer():
        one = one.cast(pl.Int64)
        return one // round(units) if units >= 1 else one * round(1 / units)
    if kind == pl.String:
        number = (one.cast(pl.Float64, strict=False) / units).round().cast(pl.Int64, strict=False)
        if unit is not None:
            return number
        told = one.str.to_datetime(time_unit="ms", time_zone="UTC", strict=False).dt.epoch("ms")
        return pl.coalesce(number, told)
    return (one.cast(pl.Float64) / units).round().cast(pl.Int64, strict=False)


def _checks(
    names: Collection[str], listed: Collection[str], description: Description
) -> list[tuple[pl.Expr, pl.Expr]]:
    """Return what may be wrong with a row, and how it is told."""
    checks: list[tuple[pl.Expr, pl.Expr]] = []

    def check(name: str, condition: pl.Expr, message: str, *shown: pl.Expr) -> None:
        if name in names:
            checks.append((condition, pl.format(message, *shown) if shown else pl.lit(message)))

    def some(name: str, what: _Each) -> pl.Expr:
        found = _each(name, listed, what)
        return found.list.any() if name in listed else found

    for name in ("session", "account"):
        empty = pl.col(name).is_null() | (pl.col(name) == "")
        check(name, empty, f"{name}_id is empty: expected a name of its own")
    if "action" in listed:
        count = pl.col("action").list.len().fill_null(0)
        check("action", ~count.is_between(1, MAX_SESSION_ACTIONS),
              f"{{}} actions: expected 1 to {MAX_SESSION_ACTIONS:,}", count)  # fmt: skip
        for name, called in (("time", "timestamps_ms"), ("event_id", "event_ids")):
            its = pl.col(name).list.len().fill_null(0)
            check(name, its != count, f"{{}} {called} for {{}} actions: expected one each", its, count)
    check("action", some("action", lambda one: one.is_null() | (one == "")),
          "an action is empty: expected a name")  # fmt: skip
    check(
        "time",
        some("time", lambda one: one.is_null()),
        "a time is missing, or is no time: expected one for each event",
    )
    if description.time_unit != "count":
        low, high = (EARLIEST_MS, LATEST_MS)
        check("time", some("time", lambda one: ~one.is_between(low, high)), _NO_TIME)
    label = pl.col("label").str.to_lowercase()
    allowed = [*description.attack_values, *description.lawful_values, *description.unlabelled_values]
    check("label", ~label.is_in([*(one.lower() for one in allowed), ""]),
          f"label is {{}}: expected one of {', '.join(allowed)}", pl.col("label"))  # fmt: skip
    check(
        "split",
        ~pl.col("split").is_in(PARTS),
        f"split is {{}}: expected one of {', '.join(PARTS)}",
        pl.col("split"),
    )
    check(
        "weight",
        ~(pl.col("weight") >= 0) | pl.col("weight").is_infinite(),
        "weight is {}: expected 0 or more",
        pl.col("weight"),
    )
    if "label" in names and "action" in listed:
        attack = label.is_in([one.lower() for one in description.attack_values])
        inside = pl.col("attack_from").is_between(0, pl.col("action").list.len(), closed="left")
        check("attack_from", pl.col("attack_from").is_not_null() & ~(attack & inside),
              "attack_from is {}: expected the index of an attack's action", pl.col("attack_from"))  # fmt: skip
    return checks


_NO_TIME: Final = "a time lies before 2000 or after 2100: expected one of between, in the unit that was told"


def _check_unit(bad: pl.DataFrame, good: int, description: Description) -> None:
    """Refuse times that are mostly none, rather than row by row."""
    wrong = bad.filter(pl.col("reason") == _NO_TIME)
    if len(wrong) <= good:
        return
    unit, at_ms = description.time_unit or "ms", int(wrong["at_ms"].median())  # type: ignore[arg-type]  # numbers
    fitting = [
        other
        for other, units in UNITS_A_MS.items()
        if other != "count" and EARLIEST_MS <= at_ms * UNITS_A_MS[unit] / units < LATEST_MS
    ]
    probable = f"probably they are {fitting[0]}: --time-unit {fitting[0]}; " if fitting else ""
    raise DataError(
        f"{len(wrong):,} rows have times before 2000 or after 2100, read as {unit}: {probable}--time-unit is one of "
        f"{', '.join(UNITS_A_MS)}, of which count is for a counter that is no clock"
    )


def _stored(field: str, codes: Mapping[str, pl.Categories], description: Description) -> pl.Expr:
    """Return what is kept of a field's values: few bytes."""
    one = pl.col(field)
    if field in codes:
        return one.fill_null("").cast(pl.Categorical(codes[field]))
    if field == "event_id":
        return one.hash(0)
    if field == "split":
        return one.replace_strict(list(PARTS), range(len(PARTS)), default=None, return_dtype=pl.Int8)
    if field == "label":
        meant = (
            (description.attack_values, 1),
            (description.lawful_values, 0),
            (description.unlabelled_values, UNLABELLED),
        )
        values = {name.lower(): code for names, code in meant for name in names}
        return one.str.to_lowercase().replace_strict(values, default=None, return_dtype=pl.Int8)
    return one
