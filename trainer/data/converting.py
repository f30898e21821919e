"""Rows of any types become events of few bytes: ids as codes, times in milliseconds, labels as numbers, or bad lines."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, NamedTuple

import polars as pl

from trainer.data.description import FIELDS, UNITS_A_MS, USUAL_NAMES, Description, TimeUnit
from trainer.data.sessions import PARTS, UNLABELLED, DataError

MAX_SESSION_ACTIONS: Final = 100_000
KEPT_BAD_LINES: Final = 20
MAX_WEIGHT: Final = 1_000_000
_NO_NUMBER: Final = -1.0
EARLIEST_MS: Final = 946_684_800_000
"""The year 2000: what claims to be earlier is probably counted in another unit …"""
LATEST_MS: Final = 4_102_444_800_000
"""… as is what claims to be later than 2100."""

_Each = Callable[[pl.Expr], pl.Expr]


class BadLine(NamedTuple):
    """A line or row that is none of what was expected, from 1, and why."""

    number: int
    reason: str


class Bad:
    """Bad lines: how many, and the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[BadLine] = []

    def add(self, lines: Iterable[BadLine], count: int = 1) -> None:
        """Count some more; `lines` are the first of them."""
        self.count += count
        self.first = sorted([*self.first, *lines])[:KEPT_BAD_LINES]


def compacted(
    raw: pl.LazyFrame, description: Description, codes: Mapping[str, pl.Categories], bad: Bad
) -> pl.DataFrame:
    """Check rows, and return the good ones' events in few bytes; the others are added to `bad`."""
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
    made, others = pl.collect_all(
        [
            good.with_columns(_stored(name, codes, description) for name in schema.names() if name in FIELDS),
            cooked.filter(wrong).select("row", reason.alias("reason"), at_ms.alias("at_ms")),
        ],
        engine="streaming",
    )
    _check_unit(others, len(made), description)
    if len(others):
        bad.add(map(BadLine._make, others.select("row", "reason").head(KEPT_BAD_LINES).rows()), len(others))
    return made.rechunk()


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
        return _number
    if field == "attack_from":
        return lambda one: _whole(_number(one))
    if field == "label":
        return lambda one: _text(one, kind).str.to_lowercase().str.replace(r"^(\d+)\.0+$", "$1")
    return lambda one: _text(one, kind)


def _number(one: pl.Expr) -> pl.Expr:
    """Return numbers as they are, and _NO_NUMBER for what is none; both are null where nothing is said."""
    number = one.cast(pl.Float64, strict=False)
    is_one = number.is_finite()
    return pl.when(is_one).then(number).otherwise(pl.when(one.is_not_null()).then(_NO_NUMBER))


def _whole(number: pl.Expr) -> pl.Expr:
    is_whole = number.is_null() | (number == number.floor())
    return pl.when(is_whole).then(number).otherwise(_NO_NUMBER).cast(pl.Int64)


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
        return (one.cast(pl.Datetime("ms")) if kind == pl.Date else one).dt.epoch("ms")
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
        for name in sorted({*listed} - {"action"}):
            its = pl.col(name).list.len().fill_null(0)
            check(
                name,
                its != count,
                f"{{}} of {USUAL_NAMES[name][-1]} for {{}} actions: expected one each",
                its,
                count,
            )
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
    allowed = [*description.attack_values, *description.lawful_values, *description.unlabelled_values]
    lowered = [*(one.lower() for one in allowed), ""]
    check("label", some("label", lambda one: ~one.is_in(lowered)),
          f"label is {{}}: expected one of {', '.join(allowed)}", pl.col("label"))  # fmt: skip
    check(
        "split",
        ~pl.col("split").is_in(PARTS),
        f"split is {{}}: expected one of {', '.join(PARTS)}",
        pl.col("split"),
    )
    check(
        "weight",
        ~pl.col("weight").is_between(0, MAX_WEIGHT),
        f"weight is no number, or out of bounds: expected one from 0 to {MAX_WEIGHT:,}",
    )
    check(
        "attack_from",
        pl.col("attack_from") < 0,
        "attack_from is no index: expected 0 for the first action of the session, or more",
    )
    if "label" in names and "action" in listed and "label" not in listed:
        attack = pl.col("label").is_in([one.lower() for one in description.attack_values])
        inside = pl.col("attack_from").is_between(0, pl.col("action").list.len(), closed="left")
        check("attack_from", pl.col("attack_from").is_not_null() & ~(attack & inside),
              "attack_from is {}: expected the index of an attack's action", pl.col("attack_from"))  # fmt: skip
    return checks


_NO_TIME: Final = "a time lies before 2000 or after 2100: expected one of between, in the unit that was told"


def _check_unit(others: pl.DataFrame, good: int, description: Description) -> None:
    """Refuse times that are mostly none, rather than row by row."""
    wrong = others.filter(pl.col("reason") == _NO_TIME)
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
        return pl.when(one.is_not_null()).then(one.hash(0))  # which has a value for null, too
    if field == "split":
        return one.replace_strict(list(PARTS), range(len(PARTS)), default=None, return_dtype=pl.Int8)
    if field == "label":
        meant = (
            (description.attack_values, 1),
            (description.lawful_values, 0),
            (description.unlabelled_values, UNLABELLED),
        )
        values = {name.lower(): code for names, code in meant for name in names}
        return one.replace_strict(values, default=None, return_dtype=pl.Int8)
    return one
