"""Events and labels as the detector reads them, of data that is described."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import polars as pl

from detector.contract.events import MalformedEventError, decode_event
from trainer.data.fields import written
from trainer.data.reading import Table
from trainer.data.sessions import UNLABELLED, DataError, Sessions

CHUNK_EVENTS: Final = 100_000
_ID: Final = "id"


def lines_of_events(table: Table, fields: Mapping[str, str], name: str) -> Iterator[bytes]:
    """Yield a line of JSON for each event: of a log in its order, of a table in the order of time.

    An event without an id is named by the source and its row, as `producer replay` names those of a table. A session
    whose account is not said has one of its own.

    Args:
        table: the events; ids in the column `id`, if they have some.
        fields: those that signals read.
        name: of the source.

    Raises:
        DataError: events have no times, or one is none that the detector takes.
    """
    frame = table.frame
    if "time" not in frame.columns or frame["time"].null_count():
        raise DataError(
            "some events have no time: expected one of each; name the column with --column time=..."
        )
    # A CSV's rows are told by their lines, and the first of these is the header.
    place = pl.col("row") - (1 if name.endswith((".csv", ".csv.gz")) else 0)
    number = place.cast(pl.String)
    if table.one_a_row:
        number = pl.format("{}-{}", place, pl.int_range(1, pl.len() + 1).over("row"))
    made = pl.format("{}-{}", pl.lit(name), number)
    columns = {
        "event_id": pl.coalesce(_ID, made) if _ID in frame.columns else made,
        "session_id": pl.col("session").cast(pl.String),
        "account_id": pl.col("account" if "account" in frame.columns else "session").cast(pl.String),
        "action": pl.col("action").cast(pl.String),
        "occurred_at_ms": pl.col("time"),
    }
    of_events = {
        f"{field} {at}": (field.split("."), one)
        for field in fields
        for at, one in enumerate(written(field, frame.columns))
    }
    events = frame.with_columns(event_id=columns["event_id"]).drop(_ID, strict=False)
    if not table.is_log:
        events = events.sort("time", maintain_order=True)
    columns["event_id"] = pl.col("event_id")
    for chunk in events.iter_slices(CHUNK_EVENTS):
        told = chunk.select(**columns).iter_rows(named=True)
        more = chunk.select(**{key: one for key, (_, one) in of_events.items()}).rows() or [()] * len(chunk)
        for event, values in zip(told, more, strict=True):
            for (path, _), value in zip(of_events.values(), values, strict=True):
                if value is not None:
                    _put(event, path, value)
            line = msgspec.json.encode(event)
            try:
                decode_event(line)
            except MalformedEventError as error:
                raise DataError(f"{name}, the event {event['event_id']}: {error}") from error
            yield line


def _put(event: dict[str, Any], path: list[str], value: str | float) -> None:
    *names, last = path
    for one in names:
        event = event.setdefault(one, {})
    event[last] = value


def labels_of_sessions(sessions: Sessions) -> Iterator[bytes]:
    """Yield a line of JSON for each session of which something is known, as `--labels` of any command reads it."""
    begins = sessions.attacked_from.tolist()
    names = {
        "type": sessions.types, "customer_type": sessions.customer_types, "attack_id": sessions.attack_ids,
    }  # fmt: skip
    for at, (session, label) in enumerate(zip(sessions.ids, sessions.labels.tolist(), strict=True)):
        if label == UNLABELLED:
            continue
        told = {field: one.names[one.codes[at]] for field, one in names.items() if one is not None}
        begin = {"attack_from": begins[at]} if label else {}
        yield msgspec.json.encode(
            {"session_id": session, "label": label}
            | {field: one for field, one in told.items() if one}
            | begin
        )
