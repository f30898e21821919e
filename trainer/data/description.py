"""The description of data: which column is which field, how labels are meant, and what its actions do."""

import difflib
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from detector.contract.actions import ENDS_SESSION, LARGE_MONEY, MOVES_MONEY
from detector.core.encoding import Encoding
from detector.core.signals import Kind, Signal
from trainer.data.sessions import UNLABELLED, DataError, LabelsOf

TimeUnit = Literal["s", "ms", "us", "ns", "count"]
UNITS_A_MS: Final[dict[TimeUnit, float]] = {"s": 1e-3, "ms": 1.0, "us": 1e3, "ns": 1e6, "count": 1.0}
_DURATION_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


class Columns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the source calls each field; those that are not named are looked for under their usual names."""

    session: str | None = None
    account: str | None = None
    action: str | None = None
    """Of one event a row its action; of one session a row the list of its actions."""
    time: str | None = None
    """When it happened: a number, a text as ISO 8601, or a column of times; a list, where actions are one."""
    event_id: str | None = None
    label: str | None = None
    attack_from: str | None = None
    """Index of the attacker's first action in its session."""
    type: str | None = None
    """Kind of lawful session, or family of attack."""
    customer_type: str | None = None
    attack_id: str | None = None
    """The same for all sessions of one attack."""
    split: str | None = None
    weight: str | None = None
    """What the session counts for in training; not below 0."""


USUAL_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "session": ("session_id",),
    "account": ("account_id",),
    "action": ("action", "actions"),
    "time": ("occurred_at_ms", "timestamps_ms"),
    "event_id": ("event_id", "event_ids"),
    **{
        name: (name,)
        for name in ("label", "attack_from", "type", "customer_type", "attack_id", "split", "weight")
    },
}
FIELDS: Final = tuple(USUAL_NAMES)
_PROBABLE: Final = {
    "session": ("sid", "session", "sessionid", "session_key", "visit_id"),
    "account": ("account", "user", "user_id", "userid", "customer", "customer_id", "card", "source"),
    "action": ("event", "events", "event_type", "event_name", "activity", "page", "operation", "steps"),
    "time": (
        *("ts", "time", "times", "timestamp", "timestamps", "timestamp_ms", "date", "datetime", "created_at"),
        *("event_time", "occurred_at", "times_ms"),
    ),
    "label": ("labels", "is_fraud", "fraud", "isfraud", "target", "class", "y", "is_attack"),
    "attack_from": ("attack_start", "attacked_from"),
    "split": ("part", "fold", "set"),
    "weight": ("weights", "sample_weight"),
}
"""Names under which others keep a field: a column that has one and is not read was probably meant."""


_SHOWN_COLUMNS: Final = 50


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to read some data."""

    columns: Columns = Columns()
    time_unit: TimeUnit | None = None
    """Of times that are numbers, milliseconds if None; "count" for a counter, which is no clock and expires nothing."""
    labels_of: LabelsOf = "session"
    """What a label is given to. A label for each event, of sessions: a session is attacked from its first 1 on."""
    attack_values: tuple[str | float | bool, ...] = ("1", "true")
    lawful_values: tuple[str | float | bool, ...] = ("0", "false")
    unlabelled_values: tuple[str | float | bool, ...] = ()
    """Labels that say that nobody knows."""
    unlabelled: Literal["refuse", "lawful", "leave-out"] = "refuse"
    """What has no label at all: an error, lawful since only attacks are labelled, or no example."""
    label_delay: str | None = None
    """How long a label takes to come, as 30d: what is younger is no example, whatever label it has by now."""
    ends_session: tuple[str, ...] = ENDS_SESSION
    """Actions after which a session begins anew."""
    moves_money: tuple[str, ...] = MOVES_MONEY
    large_money: tuple[str, ...] = LARGE_MONEY
    signals: tuple[Signal, ...] = ()
    """What the model reads beside action and gap."""
    fields: dict[str, Any] = {}
    """What the source calls the fields that signals read, `amount` and `attributes.` with a path, if otherwise."""

    @property
    def columns_of_fields(self) -> dict[str, str]:
        """`fields` by their whole names: in TOML a name with a dot and no quotes is of a table in a table."""
        return dict(_flat(self.fields))

    @property
    def meanings(self) -> dict[str, int]:
        """What each value of a label means, as `label_text` writes it.

        Raises:
            ValueError: one means two things.
        """
        made = dict[str, int]()
        for values, code in (
            (self.attack_values, 1),
            (self.lawful_values, 0),
            (self.unlabelled_values, UNLABELLED),
        ):
            for one in map(label_text, values):
                if made.setdefault(one, code) != code:
                    raise ValueError(
                        f"label {one} means two things by attack_values, lawful_values and unlabelled_values: expected it in one"
                    )
        return made

    @property
    def label_delay_ms(self) -> int:
        """`label_delay` in milliseconds; 0 without one."""
        if self.label_delay is None:
            return 0
        number, unit = _DURATION.fullmatch(self.label_delay).groups()  # type: ignore[union-attr]  # checked before
        return round(float(number) * _DURATION_MS[unit])


def label_text(value: str | float | bool) -> str:  # noqa: FBT001  # a value of a label
    """Return a label as it is compared: TRUE is true, and 1.0, as a table has it beside empty cells, is 1."""
    return re.sub(r"^(\d+)\.0+$", r"\1", str(value).lower())


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif isinstance(value, str):
            yield before + name, value
        else:
            raise DataError(
                f"the description says fields.{before}{name} = {value!r}: expected a column's name"
            )


WORDS: Final = ("ends_session", "moves_money", "large_money")
"""Fields of a description that name actions."""
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d+)?)(ms|s|m|h|d|w)")


def read_description(path: Path) -> Description:
    """Read a description, TOML.

    Raises:
        DataError: it cannot be read, or says something that no description has.
    """
    try:
        return described(tomllib.loads(path.read_text()), str(path))
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}): expected a description in TOML"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeError) as error:
        raise DataError(f"{path} is no TOML: {error}") from error


def described(document: Mapping[str, Any], name: str = "the description") -> Description:
    """Make a description of plain values.

    Raises:
        DataError: a key that no description has, or a value that it does not take; told with the nearest.
    """
    signals = document.get("signals", ())
    for struct, given, where in (
        (Description, document, ""),
        (Columns, document.get("columns", {}), "columns."),
        *((Signal, one, "signals.") for one in (signals if isinstance(signals, list | tuple) else ())),
    ):
        for key in given if isinstance(given, Mapping) else ():
            if key not in struct.__struct_fields__:
                raise DataError(
                    f"{name} says {where}{key}: {nearest(key, struct.__struct_fields__)}expected one of "
                    f"{', '.join(where + one for one in struct.__struct_fields__)}"
                )
        if (
            struct is Signal
            and isinstance(given, Mapping)
            and (kind := str(given.get("kind"))) not in set(Kind)
        ):
            raise DataError(
                f"{name} says signals.kind = {kind!r}: {nearest(kind, Kind)}expected one of {', '.join(Kind)}"
            )
    try:
        made = msgspec.convert(document, Description)
        read = Encoding(["any"], 1, signals=made.signals).signals.fields
        _ = made.meanings
    except ValueError as error:  # of which ValidationError is one
        raise DataError(f"{name}: {error}") from error
    for field in made.columns_of_fields:
        if field not in read:
            raise DataError(
                f"{name} says fields.{field}, which no signal reads: {nearest(field, read)}expected one of "
                f"{', '.join(read) or 'none, since there is no table [[signals]]'}"
            )
    if made.label_delay is not None and not _DURATION.fullmatch(made.label_delay):
        raise DataError(
            f"{name} says label_delay = {made.label_delay!r}: expected a number with one of {', '.join(_DURATION_MS)}, as 30d"
        )
    return made


def nearest(given: str, allowed: Iterable[str]) -> str:
    """Say which of the allowed names was probably meant, if one is near."""
    near = difflib.get_close_matches(given, list(allowed), 1)
    return f"{near[0]} was probably meant; " if near else ""


def strange_words(description: Description, names: Collection[str]) -> Iterator[str]:
    """Yield what is to be said of actions that a description names, and no event has; the built-in words may lack."""
    named = {field: set(getattr(description, field)) - set(getattr(Description(), field)) for field in WORDS}
    named |= {
        f"signal {one.name!r}": set(one.values or ()) for one in description.signals if one.of == "action"
    }
    for what, words in named.items():
        for word in sorted(words - set(names)):
            yield f"{what} names {word}, which no event has as its action: {nearest(word, names)}it means nothing here"


def resolve(
    columns: Columns, have: Iterable[str], fields: Iterable[str] = FIELDS, elsewhere: Collection[str] = ()
) -> dict[str, str]:
    """Find the column of each field that there is.

    Args:
        columns: as they are named.
        have: those that there are.
        fields: to find.
        elsewhere: fields whose column, though named, may be in another source.

    Raises:
        DataError: a column that was named is not there.
    """
    names, found = list(have), {}
    for field in fields:
        named: str | None = getattr(columns, field)
        if named not in names and field in elsewhere:
            named = None
        if named is not None and named not in names:
            raise DataError(
                f"there is no column {named} (for {field}): {nearest(named, names)}there are {', '.join(names)}"
            )
        usual = next((one for one in USUAL_NAMES[field] if one in names), None)
        if named or usual:
            found[field] = named or usual or ""
    return found


def require(needed: Collection[str], found: Mapping[str, str], have: Collection[str], source: str) -> None:
    """Check that there is a column for each of the fields that are needed.

    Raises:
        DataError: there is none, told with the one that it probably is.
    """
    if not (lacking := [field for field in needed if field not in found]):
        return
    probable = {_probable_field(name): name for name in have if name not in found.values()}
    labels = "; --labels-of says what labels are of" if "label" in needed else ""
    raise DataError(
        f"{source} says nothing of the {' and the '.join(lacking)} of each row: name the column with "
        + ", ".join(f"--column {field}={probable.get(field, '...')}" for field in lacking)
        + f"; it has {', '.join(have)}{labels}"
    )


def unread(have: Iterable[str], found: Mapping[str, str]) -> list[str]:
    """Return what is to be said of columns that are not read, above all of those that probably should be."""
    lines, others = [], []
    for name in have:
        if name in found.values():
            continue
        probable = _probable_field(name)
        if probable and probable not in found:
            lines.append(
                f"{name!r} is not read, and nothing is known of the {probable} of each event: probably it says so; "
                f"name it with --column {probable}={name}"
            )
        else:
            others.append(name)
    more = ", …" if len(others) > _SHOWN_COLUMNS else ""
    return [*lines, *([f"not read: {', '.join(others[:_SHOWN_COLUMNS])}{more}"] if others else [])]


def _probable_field(column: str) -> str | None:
    """Return the field that a column of such a name probably has, however it is written."""
    usual = {name: field for field, names in (*_PROBABLE.items(), *USUAL_NAMES.items()) for name in names}
    near = difflib.get_close_matches(
        column.lower(), [one for names in USUAL_NAMES.values() for one in names], 1, 0.8
    )
    return usual.get(column.lower()) or (usual[near[0]] if near else None)
