"""Rows of any types become events of few bytes: ids as codes, times in milliseconds, labels as numbers, or bad lines."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import polars as pl

from trainer.data.description import FIELDS, UNITS_A_MS, USUAL_NAMES, Description, TimeUnit, label_text
from trainer.data.sessions import PARTS, DataError

MAX_SESSION_ACTIONS: Final = 100_000
KEPT_KINDS: Final = 20
SHOWN_VALUES: Final = 3
_SHOWN_CHARACTERS: Final = 60
MAX_WEIGHT: Final = 1_000_000
_NO_NUMBER: Final = -1.0
EARLIEST_MS: Final = 946_684_800_000
"""The year 2000: what claims to be earlier is probably counted in another unit …"""
LATEST_MS: Final = 4_102_444_800_000
"""… as is what claims to be later than 2100."""

_LISTED: Final = ("action", "time", "event_id", "label")
"""Fields that each action of a session has for itself."""
_Each = Callable[[pl.Expr], pl.Expr]


class Kind(NamedTuple):
    """Bad lines or rows with one thing wrong: how many, the first of them, from 1, and some values that were seen."""

    lines: int
    first: int
    seen: tuple[str, ...]


class Bad:
    """Bad lines by what is wrong with them."""

    def __init__(self) -> None:
        self.kinds: dict[str, Kind] = {}

    @property
    def count(self) -> int:
        """Of all kinds."""
        return sum(kind.lines for kind in self.kinds.values())

    def add(self, reason: str, first: int, count: int = 1, seen: Iterable[str] = ()) -> None:
        """Count some more; what was seen takes the place of {} in the reason."""
        if reason not in self.kinds and len(self.kinds) >= KEPT_KINDS:
            reason = "something else"
        known = self.kinds.get(reason, Kind(0, first, ()))
        values = dict.fromkeys([*known.seen, *seen])
        self.kinds[reason] = Kind(
            known.lines + count, min(known.first, first), tuple(values)[: SHOWN_VALUES + 1]
        )

    def told(self) -> Iterator[str]:
        """Yield a line for each kind, by the first of it."""
        for reason, kind in sorted(self.kinds.items(), key=lambda one: one[1].first):
            where = (
                f"{kind.lines:,} lines, the first {kind.first}" if kind.lines > 1 else f"line {kind.first}"
            )
            more = ", …" if len(kind.seen) > SHOWN_VALUES else ""
            yield f"{where}: {reason.replace('{}', ', '.join(kind.seen[:SHOWN_VALUES]) + more)}"


def compacted(
    raw: pl.LazyFrame, description: Description, codes: Mapping[str, pl.Categories], bad: Bad
) -> pl.DataFrame:
    """Check rows, and return the good ones' events in few bytes; the others are added to `bad`."""
    schema = raw.collect_schema()
    listed = {name for name, kind in schema.items() if isinstance(kind, pl.List)}
    _check_types(schema, listed)
    floats = [
        name
        for name in ("session", "account", "event_id")
        if name in schema and name not in listed and schema[name].is_float()
    ]
    checks = _checks(schema.names(), listed, description)
    for name in floats:
        given = pl.col(f"raw {name}")
        checks.append(
            (given.is_finite() & (given.abs() >= _MERGING), _MERGED.format(name), given.cast(pl.String))
        )
    kind = pl.coalesce([pl.when(condition).then(at) for at, (condition, _, _) in enumerate(checks)])
    shown = pl.coalesce([pl.when(kind == at).then(seen) for at, (_, _, seen) in enumerate(checks)])
    cooked = raw.with_columns(
        *(pl.col(name).alias(f"raw {name}") for name in (*_SHOWN_RAW, *floats) if name in schema),
        *(
            _each(name, listed, _conversion(name, _inner(schema[name]), description))
            for name in schema.names()
            if name in FIELDS
        ),
    ).with_columns(kind.alias("kind"))
    good = cooked.filter(pl.col("kind").is_null()).select(schema.names())
    if listed:
        good = good.explode(sorted(listed))
    seen = pl.col("seen").drop_nulls().unique(maintain_order=True).head(SHOWN_VALUES + 1)
    made, others = pl.collect_all(
        [
            good.with_columns(_stored(name, codes, description) for name in schema.names()),
            cooked.filter(pl.col("kind").is_not_null())
            .select("row", "kind", shown.str.head(_SHOWN_CHARACTERS).alias("seen"))
            .group_by("kind")
            .agg(pl.len(), pl.col("row").min(), seen),
        ],
        engine="streaming",
    )
    for at, count, first, values in others.rows():
        reason = checks[at][1]
        if reason is _NO_TIME:
            reason = _of_another_unit(values[0], count, len(made), description)
        bad.add(reason, first, count, values)
    return made.rechunk()


def _inner(kind: pl.DataType) -> pl.DataType:
    return kind.inner if isinstance(kind, pl.List) else kind  # type: ignore[return-value]


def _each(name: str, listed: Collection[str], what: _Each) -> pl.Expr:
    """Apply what is asked to a column, or to each element of a column of lists."""
    return pl.col(name).list.eval(what(pl.element())) if name in listed else what(pl.col(name))


def _check_types(schema: pl.Schema, listed: Collection[str]) -> None:
    """Refuse columns of types that no field has, and lists beside actions that are none."""
    for name in (name for name in schema.names() if name in FIELDS):
        kind = _inner(schema[name])
        is_time = kind.is_numeric() or isinstance(kind, pl.String | pl.Date | pl.Datetime | pl.Null)
        if (
            kind.is_nested()
            or isinstance(kind, pl.Time | pl.Duration | pl.Object)
            or (name == "time" and not is_time)
        ):
            raise DataError(
                f"the column for {name} is of type {schema[name]}: expected texts, numbers, or of times such with a date; "
                "convert it"
            )
        if name in listed and name not in _LISTED:
            raise DataError(
                f"the column for {name} has lists: expected one value for each session; a list has what actions have, "
                f"{', '.join(_LISTED)}"
            )
        if listed and name in listed and "action" not in listed:
            raise DataError(
                f"the column for {name} has lists, and the one for action has none: expected a list of actions for each "
                "session, or one event a row"
            )


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
    text = one.cast(pl.String)
    return text.str.replace(r"\.0+$", "") if kind.is_decimal() else text


def _time_ms(one: pl.Expr, kind: pl.DataType, unit: TimeUnit | None) -> pl.Expr:
    units = UNITS_A_MS[unit or "ms"]
    if kind.is_temporal():
        return (one.cast(pl.Datetime("ms")) if kind == pl.Date else one).dt.epoch("ms")
    if kind.is_integer():
        one = one.cast(pl.Int64, strict=False)
        return one // round(units) if units >= 1 else one * round(1 / units)
    if kind == pl.String:
        number = (one.cast(pl.Float64, strict=False) / units).round().cast(pl.Int64, strict=False)
        if unit is not None:
            return number
        # Others are ambiguous: 10/09/2025 is a day of October, or of September.
        dated, has_zone = one.str.contains(r"^\s*\d{4}\D"), one.str.contains(r"([Zz]|[+-]\d\d:?\d\d)\s*$")
        told = (
            pl.when(dated & form)
            .then(one)
            .str.to_datetime(time_unit="ms", time_zone="UTC", strict=False)
            .dt.epoch("ms")
            for form in (has_zone, ~has_zone)  # of which a column is taken to have one
        )
        return pl.coalesce(number, *told)
    return (one.cast(pl.Float64) / units).round().cast(pl.Int64, strict=False)


def _checks(
    names: Collection[str], listed: Collection[str], description: Description
) -> list[tuple[pl.Expr, str, pl.Expr]]:
    """Return what may be wrong with a row, how it is told, and what was seen, to be shown in the place of {}."""
    checks: list[tuple[pl.Expr, str, pl.Expr]] = []

    def check(name: str, condition: pl.Expr, reason: str, seen: pl.Expr | None = None) -> None:
        if name in names:
            checks.append(
                (condition, reason, pl.lit(None, pl.String) if seen is None else seen.cast(pl.String))
            )

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
            seen = pl.format(f"{{}} of {USUAL_NAMES.get(name, (name,))[-1]} for {{}} actions", its, count)
            check(name, its != count, "{}: expected one each", seen)
    check("action", some("action", lambda one: one.is_null() | (one == "")),
          "an action is empty: expected a name")  # fmt: skip
    said = pl.col("raw time")
    missing = said.list.eval(pl.element().is_null()).list.any() if "time" in listed else said.is_null()
    said = said.cast(pl.List(pl.String)).list.join(", ") if "time" in listed else said
    check("time", missing, "a time is missing: expected one for each event")
    check(
        "time",
        some("time", lambda one: one.is_null()),
        "time is {}: expected numbers, or texts as ISO 8601 has them, 2026-01-31T23:59:59Z"
        if description.time_unit is None
        else f"time is {{}}: expected numbers, since a unit is said, {description.time_unit}; leave it out for texts as of ISO 8601",
        said,
    )
    if description.time_unit != "count":
        check("time", some("time", lambda one: ~one.is_between(EARLIEST_MS, LATEST_MS)), _NO_TIME, said)
    meant = (
        (description.attack_values, "attack_values"),
        (description.lawful_values, "lawful_values"),
        (description.unlabelled_values, "unlabelled_values"),
    )
    allowed = [*description.meanings, ""]
    told = "; ".join(f"{', '.join(map(str, values))} ({key})" for values, key in meant if values)
    check("label", some("label", lambda one: ~one.is_in(allowed)),
          f"label is {{}}: expected one of {told}; a description says what others mean, by these keys",
          pl.col("label").list.join(", ") if "label" in listed else pl.col("label"))  # fmt: skip
    check(
        "split",
        ~pl.col("split").is_in(PARTS),
        f"split is {{}}: expected one of {', '.join(PARTS)}",
        pl.col("split"),
    )
    check("weight", ~pl.col("weight").is_between(0, MAX_WEIGHT),
          f"weight is {{}}: expected a number from 0 to {MAX_WEIGHT:,}", pl.col("raw weight"))  # fmt: skip
    check("attack_from", pl.col("attack_from") < 0,
          "attack_from is {}: expected 0 for the first action of the session, or more", pl.col("raw attack_from"))  # fmt: skip
    if "label" in names and "action" in listed and "label" not in listed:
        attack = pl.col("label").is_in([label_text(one) for one in description.attack_values])
        inside = pl.col("attack_from").is_between(0, pl.col("action").list.len(), closed="left")
        check("attack_from", pl.col("attack_from").is_not_null() & ~(attack & inside),
              "attack_from is {}: expected the index of an attack's action", pl.col("attack_from"))  # fmt: skip
    return checks


_MERGING: Final = 2.0**53
_MERGED: Final = (
    "{} is {{}}, a float from 2^53 on, of which several ids may be one: expected texts or whole numbers"
)
_NO_TIME: Final = "time is {}: before 2000 or after 2100"
_SHOWN_RAW: Final = ("time", "weight", "attack_from")
"""Fields whose checks show what was there before it was converted."""


def _of_another_unit(seen: str, wrong: int, right: int, description: Description) -> str:
    """Say which unit times that are none probably have.

    Raises:
        DataError: they are most of the times.
    """
    unit = description.time_unit or "ms"
    try:
        number = float(seen.partition(",")[0])
    except ValueError:
        number = 0.0
    fits = [
        one for one, a_ms in UNITS_A_MS.items() if one != "count" and EARLIEST_MS <= number / a_ms < LATEST_MS
    ]
    probable = f"; probably {fits[0]}" if fits else ""
    if wrong <= right:
        return f"{_NO_TIME}, read as {unit}{probable}, and {right:,} are right: expected one unit in a column"
    mixed = f", and the other {right:,} are not: expected one unit in a column" if right else ""
    told = f"probably they are {fits[0]}: --time-unit {fits[0]}{mixed}; " if fits else ""
    raise DataError(
        f"{wrong:,} rows have times before 2000 or after 2100, read as {unit}, as {seen}: {told}--time-unit is one of "
        f"{', '.join(UNITS_A_MS)}, of which count is for a counter that is no clock"
    )


def _stored(field: str, codes: Mapping[str, pl.Categories], description: Description) -> pl.Expr:
    """Return what is kept of a field's values: few bytes."""
    one = pl.col(field)
    if field in codes and field not in FIELDS:
        return one.cast(pl.Categorical(codes[field]))
    if field in codes:
        return pl.when(one != "").then(one).cast(pl.Categorical(codes[field]))
    if field == "event_id":
        return pl.when(one != "").then(one.hash(0))  # which has a value for null, too
    if field == "split":
        return one.replace_strict(list(PARTS), range(len(PARTS)), default=None, return_dtype=pl.Int8)
    if field == "label":
        return one.replace_strict(description.meanings, default=None, return_dtype=pl.Int8)
    return one
