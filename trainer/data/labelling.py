"""Labels: of sessions, events or accounts, from a column or a file beside the data, become a target for each event."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trainer.data.description import Description
from trainer.data.reading import Table
from trainer.data.sessions import PARTS, UNLABELLED, DataError, LabelsOf

LABEL_FIELDS: Final = ("label", "attack_from", "type", "customer_type", "attack_id")
KEYS: Final = {"session": "session", "event": "event_id", "account": "account"}
"""The field by which a label file says what it labels."""
_OF_A_SESSION: Final = ("account", "split", "attack_from", "weight", *LABEL_FIELDS[2:])
"""Fields of which a session has one; of the first three two are refused."""
_OWN_ID: Final = "; sessions of several accounts need ids of their own"
NONE: Final = -2
"""No label at all; UNLABELLED is what the data itself calls unknown."""

_Codes = NDArray[np.int64]


class Events(NamedTuple):
    """Events in the order of their sessions, as far as labels need them.

    Attributes:
        table: they came from.
        order: shape (events,), int64; the row of each in the table.
        starts: shape (sessions + 1,), int64; where each session begins, and the end.
        times_ms: shape (events,), int64, or None.
        again: shape (events,), bool; whether its id was there before in its session. None where none was, and of a session a row, whose
            lists are as they are.
    """

    table: Table
    order: _Codes
    starts: _Codes
    times_ms: NDArray[np.int64] | None
    again: NDArray[np.bool_] | None = None

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The index of each event in its session, which a repeat shares with the event before."""
        count = np.arange(len(self.order)) if self.again is None else np.cumsum(~self.again)
        return count - np.repeat(count[self.starts[:-1]], np.diff(self.starts))

    def of_events(self, field: str) -> NDArray[np.int64] | None:
        """Return a column's values or codes, in order, NONE where there is none; None if there is no column."""
        frame = self.table.frame
        if field not in frame.columns or frame[field].null_count() == len(frame):
            return None
        return _numbers(self.table, field)[self.order]

    def of_sessions(self, field: str) -> NDArray[np.int64] | None:
        """Return a column's values or codes of each session: those of the first of its events that has one."""
        values = self.of_events(field)
        if values is None:
            return None
        first = np.where(values == NONE, len(values), np.arange(len(values)))
        return np.append(values, NONE)[np.minimum.reduceat(first, self.starts[:-1])]

    def contradictions(self) -> Iterator[str]:
        """Yield what is to be said of sessions whose events say different things of them.

        Raises:
            DataError: they differ in what decides of how sessions are split, or of where an attack begins.
        """
        frame, names = self.table.frame, self.table.names
        for field in (one for one in _OF_A_SESSION if one in frame.columns and not self.table.one_a_row):
            values = frame[field].to_physical().cast(pl.Float64)
            low, high = (
                reduced.reduceat(values.fill_null(none).to_numpy()[self.order], self.starts[:-1])
                for reduced, none in ((np.minimum, np.inf), (np.maximum, -np.inf))
            )
            if not len(differ := np.flatnonzero(low < high)):
                continue
            one = differ[0]
            two = f"{low[one]:g}, {high[one]:g}"
            meant = names[field].to_series() if field in names else PARTS if field == "split" else None
            if meant is not None:
                either = [meant[int(low[one])], meant[int(high[one])]]
                two = ", ".join(either if meant is PARTS else sorted(either))  # codes come in any order
            name = frame["session"][int(self.order[self.starts[one]])]
            said = f"{len(differ):,} sessions have events whose {field} differs, as {name} ({two})"
            if field in _OF_A_SESSION[:3]:
                raise DataError(f"{said}: expected one in a session{_OWN_ID if field == 'account' else ''}")
            yield f"{said}: the first in each holds"


def _numbers(table: Table, field: str) -> NDArray[np.int64]:
    """Return a column's values, or its codes, NONE where it has none."""
    series = table.frame[field].to_physical() if field in table.names else table.frame[field]
    return series.cast(pl.Int64).fill_null(NONE).to_numpy()


class Labelled(NamedTuple):
    """What labels come to.

    Attributes:
        targets: shape (events,), int8.
        keep: shape (sessions,), bool; whether anything is known of the session.
        types: shape (sessions,), codes of the kind, or None.
        customer_types: … of the customer's type.
        attack_ids: … of the attack.
        told: what is to be said of sessions that were left out.
    """

    targets: NDArray[np.int8]
    keep: NDArray[np.bool_]
    types: _Codes | None
    customer_types: _Codes | None
    attack_ids: _Codes | None
    told: list[str]


def labelled(events: Events, labels: Table | None, description: Description) -> Labelled:
    """Give every event its target.

    Args:
        events: in the order of their sessions.
        labels: a label file, whose codes are those of the events; of two labels on one thing the later holds.
        description: of what a label is given to, and of what has none.

    Raises:
        DataError: there is no label, or there are some without, and the description does not say what they are.
    """
    columns = {field: events.of_sessions(field) for field in LABEL_FIELDS[1:]}
    if labels is not None and description.labels_of != "event":
        columns |= {
            field: found
            for field in LABEL_FIELDS[1:]
            if (found := _joined(events, labels, description, field)) is not None
        }
    of_file = [] if labels is None else list(_told_of_file(events, labels, description.labels_of))
    of_events = events.of_events("label")
    if of_events is None:
        of_events = np.full(len(events.order), NONE)
    if description.labels_of == "event":
        if labels is not None and (joined := _of_event_file(events, labels)) is not None:
            of_events = np.where(joined == NONE, of_events, joined)
        targets, told = _with_policy(of_events, events, description, "events", of_file)
        keep = np.maximum.reduceat(targets, events.starts[:-1]) >= 0
    else:
        of_sessions = np.maximum.reduceat(of_events, events.starts[:-1])
        if labels is not None and (joined := _joined(events, labels, description, "label")) is not None:
            of_sessions = np.where(joined == NONE, of_sessions, joined)
        if description.labels_of == "account":
            of_sessions = _of_accounts(events, of_sessions)
            of_events = np.full_like(of_events, NONE)  # which event had it says nothing of where it begins
        known, told = _with_policy(of_sessions, events, description, "sessions", of_file)
        keep = known >= 0
        targets = _from_first(events, known, of_events, columns["attack_from"])
        told += _told_of_beginnings(events, known, columns["attack_from"])
        if description.labels_of == "session":
            told += _told_of_rows(events, of_events)
    told += of_file
    kinds = columns["type"], columns["customer_type"], columns["attack_id"]
    return Labelled(targets.astype(np.int8), keep, *kinds, told)


def _joined(events: Events, labels: Table, description: Description, field: str) -> _Codes | None:
    """Return what the label file says of each session, NONE where it says nothing; None without the column."""
    keys = _keys(events, labels, description.labels_of)
    of = events.of_sessions(keys[0])
    if field not in labels.frame.columns or of is None:
        return None
    if not len(labels.frame):
        return np.full(len(of), NONE)
    named = _numbers(labels, keys[0])
    for key in keys[1:]:
        more, more_named = events.of_sessions(key), _numbers(labels, key)
        if more is not None:
            base = int(max(more.max(initial=0), more_named.max(initial=0))) + 1
            of, named = of * base + more, named * base + more_named
    in_order = np.argsort(named, kind="stable")  # of two on one the later comes last
    found = in_order[np.searchsorted(named[in_order], of, side="right") - 1]
    return np.where(named[found] == of, _numbers(labels, field)[found], NONE)


def _keys(events: Events, labels: Table, labels_of: LabelsOf) -> list[str]:
    """Return the fields by which labels say what they label: of sessions the account, too, where both name it."""
    both = all("account" in one.frame.columns for one in (events.table, labels))
    return [KEYS[labels_of], *(["account"] if both and labels_of == "session" else [])]


def _told_of_file(events: Events, labels: Table, labels_of: LabelsOf) -> Iterator[str]:
    """Say what is labelled twice otherwise, and what is labelled and is not in the data."""
    keys = [pl.col(key).to_physical() for key in _keys(events, labels, labels_of)]
    several = labels.frame.group_by(keys).agg(pl.col("label").n_unique() > 1)["label"].sum()
    if several:
        yield f"{several:,} {labels_of}s have labels that differ: the last of each holds"
    there, named = (
        table.frame.select(*keys, name=pl.col(KEYS[labels_of]).cast(pl.String))
        for table in (events.table, labels)
    )
    strange = named.join(there, on=[key for key in named.columns if key != "name"], how="anti")[
        "name"
    ].unique()
    if len(strange):
        some = (
            "" if labels_of == "event" else f", as {', '.join(strange.bottom_k(3).sort())}"
        )  # read as hashes
        yield f"{len(strange):,} labels are of {labels_of}s that the data does not have{some}"


def _of_event_file(events: Events, labels: Table) -> _Codes | None:
    if "event_id" not in events.table.frame.columns:
        raise DataError(
            "the labels are of events, and the events have no id: name its column with --column event_id=..."
        )
    wanted = events.table.frame["event_id"].to_numpy()[events.order]
    latest = labels.frame.unique("event_id", keep="last").sort("event_id")
    known, values = latest["event_id"].to_numpy(), latest["label"].fill_null(NONE).to_numpy()
    if not len(known):
        return np.full(len(wanted), NONE)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == wanted, values[at], NONE)


def _of_accounts(events: Events, of_sessions: _Codes) -> _Codes:
    accounts = events.of_sessions("account")
    if accounts is None:
        raise DataError(
            "the labels are of accounts, and the data names none: name its column with --column account=..."
        )
    highest = np.full(int(accounts.max()) + 1, NONE)
    np.maximum.at(highest, accounts, of_sessions)
    return highest[accounts]


def _from_first(
    events: Events, of_sessions: _Codes, of_events: _Codes, attack_from: _Codes | None
) -> NDArray[np.int64]:
    """Return the targets of sessions' labels: an attack is one from the attacker's first action on."""
    numbers, starts = events.numbers, events.starts
    beyond = np.iinfo(np.int64).max
    first = np.minimum.reduceat(np.where(of_events == 1, numbers, beyond), starts[:-1])
    first = np.where(first < beyond, first, 0)
    if attack_from is not None:
        # An attacked session that was cut short may end before the attack.
        first = np.where(attack_from == NONE, first, np.minimum(attack_from, numbers[starts[1:] - 1]))
    begun = numbers >= np.repeat(first, np.diff(starts))
    of = np.repeat(of_sessions, np.diff(starts))
    return np.where(of == 1, begun, of)


def _told_of_beginnings(events: Events, of_sessions: _Codes, attack_from: _Codes | None) -> list[str]:
    """Say what was made of attacks that begin where their session has no action.

    Raises:
        DataError: a lawful session is said to be attacked.
    """
    if attack_from is None:
        return []
    lawful = int(((of_sessions == 0) & (attack_from != NONE)).sum())
    if lawful:
        raise DataError(
            f"{lawful:,} lawful sessions have an attack_from: expected one of attacks alone; leave it empty for the others"
        )
    beyond = int(((of_sessions == 1) & (attack_from > events.numbers[events.starts[1:] - 1])).sum())
    if not beyond:
        return []
    return [
        f"{beyond:,} attacks begin behind their session's last action, as if cut short: taken to begin with it"
    ]


def _told_of_rows(events: Events, of_events: _Codes) -> list[str]:
    """Say of how many sessions the rows go back to lawful after an attack, as if each stood for itself."""
    back = np.flatnonzero((of_events[:-1] == 1) & (of_events[1:] == 0))
    number = np.searchsorted(events.starts, [back, back + 1], side="right")
    count = len(np.unique(number[0][number[0] == number[1]]))
    if not count:
        return []
    return [
        (
            f"{count:,} sessions have lawful events after an attack's: attacks from their first one on; if each event is labelled "
            "for itself, say --labels-of event"
        )
    ]


def _with_policy(
    labels: _Codes, events: Events, description: Description, what: str, of_file: Sequence[str]
) -> tuple[_Codes, list[str]]:
    """Decide what those without a label are; of_file is said of the file of labels, if they are refused."""
    told, missing, made = [], labels == NONE, labels
    if description.label_delay is not None:
        if events.times_ms is None or description.time_unit == "count":
            raise DataError(
                "a label delay, and the data has no times: expected times, to know what is too young"
            )
        at_ms = (
            events.times_ms if what == "events" else np.maximum.reduceat(events.times_ms, events.starts[:-1])
        )
        young = at_ms > events.times_ms.max() - description.label_delay_ms
        made, missing = np.where(young, UNLABELLED, made), missing & ~young
        if young.any():
            attacks, lawful = (int((labels[young] == label).sum()) for label in (1, 0))
            # Attacks whose labels came sooner than others' would be too many among those that are known.
            told.append(
                f"{int(young.sum()):,} {what} younger than {description.label_delay} before the data's end left out: {attacks:,} "
                f"attacks, {lawful:,} lawful, {int(young.sum()) - attacks - lawful:,} without a label"
            )
    count = int(missing.sum())
    if count and description.unlabelled == "refuse":
        names, codes = events.table.names["session"].to_series(), events.of_sessions("session")
        some = codes[missing][:3].tolist() if what == "sessions" and codes is not None else []
        shown = f" ({', '.join(names[code] for code in some)})" if some else ""
        refused = (
            f"{count:,} of {len(labels):,} {what} have no label{shown}: expected one each, of a column (--column label=...) or "
            "a file (--labels); say --unlabelled lawful if attacks alone are labelled, --unlabelled leave-out if nobody "
            "knows"
        )
        raise DataError("\n  ".join([refused, *of_file]))
    if count:
        means = "taken for lawful" if description.unlabelled == "lawful" else "left out"
        told.append(f"{count:,} {what} without a label {means}")
    unknown = int((labels == UNLABELLED).sum())
    if unknown:
        told.append(f"{unknown:,} {what} are labelled as unknown: no examples")
    return np.where(missing, 0 if description.unlabelled == "lawful" else UNLABELLED, made), told
