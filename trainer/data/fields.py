"""Fields of events that signals read: from lines of JSON and columns of any type to the values that serving reads.

In a table each is a column of numbers and one of texts, of which an event has one or none.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from detector.contract.fields import FieldReader, plain
from detector.core.signals import Signals
from trainer.data.description import Description, nearest
from trainer.data.sessions import DataError

_NUMBER, _TEXT = "number of ", "text of "


def columns_of(description: Description) -> dict[str, str]:
    """Return what the source calls each field that the signals read: a column, or a path with dots between names."""
    given = description.columns_of_fields
    return {field: given.get(field, field) for field in Signals(description.signals).fields}


def texts_of(columns: Mapping[str, str]) -> list[str]:
    """Return the names of the columns whose texts are kept as codes."""
    return [_TEXT + field for field in columns]


def of_lines(lines: Sequence[bytes], columns: Mapping[str, str], listed: str | None) -> list[pl.Series]:
    """Read the fields of lines of JSON, as the detector reads them of events.

    Args:
        lines: JSON objects.
        columns: what they call each field.
        listed: the name under which a line has the actions of a whole session; None if a line is an event. A field has a
            list as well then, or one value for them all.

    Raises:
        DataError: a field lies within another.
    """
    if not columns:
        return []
    if listed is None:
        try:
            reader = FieldReader(tuple(columns.values()))
        except ValueError as error:
            raise DataError(f"[fields] of the description: {error}") from error
        rows: list[Any] = [reader.read(line) for line in lines]
    else:
        rows = [_of_session(msgspec.json.decode(line), list(columns.values()), listed) for line in lines]
    made = []
    for field, values in zip(columns, zip(*rows, strict=True), strict=True):
        for prefix, kind, wanted in ((_NUMBER, pl.Float64, (int, float)), (_TEXT, pl.String, str)):
            kept = [
                [one if isinstance(one, wanted) else None for one in value]
                if isinstance(value, list)
                else (value if isinstance(value, wanted) else None)
                for value in values
            ]
            made.append(pl.Series(prefix + field, kept, pl.List(kind) if listed else kind, strict=False))
    return made


def _of_session(line: Mapping[str, Any], paths: Sequence[str], listed: str) -> list[list[Any]]:
    count, found = len(line.get(listed) or ()), []
    for path in paths:
        value: Any = line.get(path)
        if path not in line:
            value = line
            for name in path.split("."):
                value = value.get(name) if isinstance(value, dict) else None
        found.append([plain(one) for one in (value if isinstance(value, list) else [value] * count)])
    return found


def of_frame(schema: pl.Schema, columns: Mapping[str, str], description: Description) -> list[pl.Expr]:
    """Return the expressions that read the fields of a table's columns; those that it does not have read nothing.

    Raises:
        DataError: one that the description names is not there.
    """
    made = []
    for field, column in columns.items():
        found = _reached(schema, column)
        if found is None:
            if field in description.columns_of_fields:
                raise DataError(
                    f"there is no column {column} (for {field}): {nearest(column, schema.names())}there are "
                    f"{', '.join(schema.names())}"
                )
            continue
        one, kind = found
        inner = kind.inner if isinstance(kind, pl.List) else kind
        is_number = inner.is_numeric()
        wanted = pl.Float64 if is_number else pl.String
        cast = one.cast(pl.List(wanted) if isinstance(kind, pl.List) else wanted)
        made.append(cast.alias((_NUMBER if is_number else _TEXT) + field))
    return made


def _reached(schema: pl.Schema, column: str) -> tuple[pl.Expr, pl.DataType] | None:
    if column in schema:
        return pl.col(column), schema[column]
    name, *path = column.split(".")
    if name not in schema:
        return None
    one, kind = pl.col(name), schema[name]
    for step in path:
        below = {field.name: field.dtype for field in kind.fields} if isinstance(kind, pl.Struct) else {}
        if step not in below:
            return None
        one, kind = one.struct.field(step), below[step]  # type: ignore[assignment]  # an instance, of a schema
    return one, kind


def written(field: str, have: Collection[str]) -> list[pl.Expr]:
    """Return what reads the columns of a field, those of them that there are, as they are written into an event."""
    kinds = (_NUMBER, pl.col(_NUMBER + field).fill_nan(None)), (_TEXT, pl.col(_TEXT + field).cast(pl.String))
    return [one for prefix, one in kinds if prefix + field in have]


def values_of(
    frame: pl.DataFrame,
    names: Mapping[str, pl.Categories],
    columns: Mapping[str, str],
    order: NDArray[np.int64],
) -> dict[str, NDArray[np.object_]]:
    """Return the values of each field that an event has, in order: shape (events,), each a `Value`."""
    made = {}
    for field in columns:
        values = np.full(len(frame), None, object)
        if (text := _TEXT + field) in frame.columns:
            of_codes = np.array([*names[text].to_series(), None], object)
            values = of_codes[frame[text].to_physical().cast(pl.Int64).fill_null(-1).to_numpy()]
        if (number := _NUMBER + field) in frame.columns:
            there = frame[number].fill_nan(None).is_not_null().to_numpy()
            values[there] = frame[number].to_numpy()[there].tolist()
        if any(value is not None for value in values.tolist()):
            made[field] = values[order]
    return made


def told_of(values: Mapping[str, NDArray[np.object_]], columns: Mapping[str, str]) -> list[str]:
    """Say of each field how many events have it."""
    counts = [
        f"{field} ({column}): {sum(one is not None for one in values[field].tolist()):,} of {len(values[field]):,} events"
        for field, column in columns.items()
        if field in values
    ]
    missing = [f"{field} ({column})" for field, column in columns.items() if field not in values]
    told = (
        f"no event has {', '.join(missing)}: [fields] of the description says what the source calls a field"
    )
    return [*(["signals read " + "; ".join(counts)] if counts else []), *([told] if missing else [])]
