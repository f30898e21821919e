"""Loading: from a source and its description to sessions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from detector.core.encoding import MAX_ACTIONS
from detector.core.signals import Signals
from trainer.data.description import FIELDS, Description, strange_words
from trainer.data.fields import columns_of, told_of, values_of
from trainer.data.labelling import KEYS, LABEL_FIELDS, Events, labelled
from trainer.data.reading import Table, read_table
from trainer.data.sessions import UNLABELLED, Categories, DataError, Sessions
from trainer.data.topic import Topic, read_topic
from trainer.data.verdicts import Verdicts

_PLAIN: Final = Description()
_MANY_NAMES: Final = 20
DAY_MS: Final = 86_400_000


class Loaded(NamedTuple):
    """Sessions, and what is to be said of how they came to be."""

    sessions: Sessions
    told: list[str]


def load(
    source: Path | Topic,
    description: Description = _PLAIN,
    labels: Path | Verdicts | None = None,
    *,
    skip_bad_lines: bool = False,
) -> Loaded:
    """Read labelled sessions, one a row or one event a row.

    Events of a topic and of JSON lines are a log: their order is that in which serving reads them. Those of a table
    (CSV, Parquet) have no order but their times.

    Args:
        source: a file, or a topic.
        description: of its columns, and of what its labels mean.
        labels: a file that has the labels, or verdicts.
        skip_bad_lines: leave out lines and rows that are none, and tell them, instead of refusing the source.

    Raises:
        DataError: the source cannot be read, lacks something, or has bad lines that are not to be skipped.
    """
    table, beside, told = tables_of(source, description, labels, skip_bad_lines=skip_bad_lines)
    try:
        sessions, more = assembled(str(source), table, beside, description)
    except DataError as error:
        raise DataError("\n  ".join([str(error), *table.told])) from error
    return Loaded(sessions, [*told, *more])


def tables_of(
    source: Path | Topic,
    description: Description,
    labels: Path | Verdicts | None,
    *,
    skip_bad_lines: bool,
    names: Mapping[str, pl.Categories] | None = None,
) -> tuple[Table, Table | None, list[str]]:
    """Read a source and the file of its labels, for `assembled`; see `load`, and for names `read_table`.

    Returns:
        events, labels, and what is to be said of both.

    Raises:
        DataError: one can't be read, or has bad lines that are not to be skipped.
    """
    key = KEYS[description.labels_of]
    if isinstance(
        source, Topic
    ):  # its keys are those of the contract: all columns that are named are the labels'
        table = read_topic(source, description, FIELDS if labels is not None else ())
    else:
        elsewhere = (key, *LABEL_FIELDS) if labels is not None else ()
        table = read_table(source, description, elsewhere=elsewhere, names=names)
    if names and "event_id" in names:
        table = _with_ids(table)
    told = [*table.told, *_bad(source, table, skip_bad_lines=skip_bad_lines)]
    beside = None
    if isinstance(labels, Verdicts):
        if description.labels_of != "session":
            raise DataError(f"verdicts are on sessions, and --labels-of is {description.labels_of}")
        beside, more = labels.beside(table)
        told += more
    elif labels is not None:
        beside = read_table(
            labels, description, (key, *LABEL_FIELDS), (key, "label"), elsewhere=FIELDS, names=table.names
        )
        _bad(labels, beside, skip_bad_lines=False)
        for field in (key, *LABEL_FIELDS):
            named = getattr(description.columns, field)
            if named is not None and named not in {*table.columns, *beside.columns}:
                raise DataError(
                    f"there is no column {named} (for {field}), neither in {source} nor in {labels}"
                )
    return table, beside, told


def _with_ids(table: Table) -> Table:
    """Put what was kept of events' ids as texts into a column `id`, and their hashes where they always are."""
    names = {field: codes for field, codes in table.names.items() if field != "event_id"}
    frame = table.frame
    if "event_id" in frame.columns:
        text = pl.col("event_id").cast(pl.String)
        text = pl.when(text != "").then(text)
        frame = frame.with_columns(
            text.alias("id"), pl.when(text.is_not_null()).then(text.hash(0)).alias("event_id")
        )
    return table._replace(frame=frame, names=names)


def _bad(source: Path | Topic, table: Table, *, skip_bad_lines: bool) -> list[str]:
    """Say which rows were left out.

    Raises:
        DataError: some were bad, and are not to be skipped.
    """
    kinds, count = list(table.bad.told()), table.bad.count
    if count and not skip_bad_lines:
        lines = "1 bad line" if count == 1 else f"{count:,} bad lines"
        leave = ", or leave them out with --skip-bad-lines" if len(table.frame) else ""
        raise DataError("\n  ".join([f"{source} has {lines}: mend them{leave}", *kinds]))
    return [f"left out: {one}" for one in kinds]


def assembled(
    source: str, table: Table, labels: Table | None, description: Description
) -> tuple[Sessions, list[str]]:
    """Put events together into sessions, in the order in which these begin in the source.

    Args:
        source: its name, for messages.
        table: its events.
        labels: a file of labels, whose codes are those of the table.
        description: of both.

    Returns:
        the sessions of which something is known, and what is to be said of the others.

    Raises:
        DataError: the source lacks something.
    """
    frame = table.frame
    if not len(frame):
        raise DataError(f"{source} has no session: expected one, or an event, a line")
    for field in ("time", "account", "event_id", "split", "weight"):
        if field in frame.columns and 0 < (count := frame[field].null_count()) < len(frame):
            raise DataError(
                f"{len(frame) - count:,} of {len(frame):,} events say their {field}: expected all of them or none"
            )
    times_ms = _numbers(frame, "time")
    signals = Signals(description.signals)
    if signals.of_history and times_ms is None:
        raise DataError(
            f"{source} has no times, and signals of what an account did before rest on them: name their column with "
            "--column time=..., or declare other signals"
        )
    order, starts = _by_session(table, times_ms, of_accounts=bool(signals))
    if times_ms is not None:
        times_ms = times_ms[order]
    of_a_log = _of_a_log(table, order, of_accounts=bool(signals))
    again = of_a_log.pop("again", None)
    events = Events(table, order, starts, times_ms, None if table.one_a_row else again)
    contradictions = list(events.contradictions())
    found = labelled(events, labels, description)
    ids = table.names["session"].to_series()
    actions = _categories(events.of_events("action"), table.names["action"], len(order))
    if len(actions.names) > MAX_ACTIONS:
        raise DataError(
            f"{len(actions.names):,} different actions: expected at most {MAX_ACTIONS:,}; name rare ones alike, as OTHER"
        )
    is_part = events.of_sessions("split")
    of_signals = columns_of(description)
    whole = Sessions(
        ids=ids.gather(frame["session"].to_physical().to_numpy()[order[starts[:-1]]]).to_numpy(),
        starts=starts,
        names=actions.names,
        actions=actions.codes.astype(np.uint16),
        times_ms=times_ms,
        targets=found.targets,
        types=_categories(found.types, table.names["type"], len(starts) - 1),
        customer_types=_categories(found.customer_types, table.names["customer_type"], len(starts) - 1),
        accounts=None
        if (accounts := events.of_sessions("account")) is None
        else _categories(accounts, table.names["account"], len(accounts)),
        attack_ids=None
        if found.attack_ids is None
        else _categories(found.attack_ids, table.names["attack_id"], len(starts) - 1),
        parts=None if is_part is None else is_part.astype(np.int8),
        weights=None if (weights := _numbers(frame, "weight")) is None else weights[order[starts[:-1]]],
        labels_of=description.labels_of,
        fields=(values := values_of(frame, table.names, of_signals, order)),
        log_places=order if signals and table.is_log else None,
        **of_a_log,
    )
    # What nobody knows anything of is history all the same.
    sessions = whole if found.keep.all() or signals else whole.take(np.flatnonzero(found.keep))
    if not found.keep.any():
        raise DataError("\n  ".join([f"{source} has no session with a label: expected some", *found.told]))
    return sessions, [
        *found.told,
        *contradictions,
        *_told_of_shared_ids(whole),
        *strange_words(description, actions.names),
        *_told_of_repeats(table, events, actions),
        *_told_of_days(events, description),
        *_told_of_names(actions),
        *told_of(values, of_signals),
        *(
            ["no account is named: each session is one of its own, without history (--column account=...)"]
            if signals.of_history and whole.accounts is None
            else []
        ),
        _summary(sessions),
    ]


def _numbers(frame: pl.DataFrame, field: str) -> NDArray[Any] | None:
    return frame[field].to_numpy() if field in frame.columns and not frame[field].null_count() else None


def _by_session(
    table: Table, times_ms: NDArray[np.int64] | None, *, of_accounts: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows in the order of their sessions, and where each session begins, and the end.

    Where accounts matter, the same id of two accounts is of two sessions, as in `session_key`.
    """
    codes = table.frame["session"].to_physical().to_numpy()
    if of_accounts and "account" in table.frame.columns:
        accounts = table.frame["account"].to_physical().to_numpy().astype(np.int64)
        codes = np.unique(codes * (accounts.max() + 1) + accounts, return_inverse=True)[1]
    count = len(codes)
    first = np.full(int(codes.max()) + 1, count)
    first[codes[::-1]] = np.arange(count)[::-1]  # of several the last written holds: the first row
    used = np.flatnonzero(first < count)
    rank = np.empty(len(first), np.int32)
    rank[used[np.argsort(first[used])]] = np.arange(len(used), dtype=np.int32)
    number = rank[codes]
    if times_ms is not None and not table.is_log and not table.one_a_row:
        order = np.lexsort((times_ms, number))
    else:
        order = np.argsort(number, kind="stable")
    return order, np.concatenate([[0], np.cumsum(np.bincount(number))]).astype(np.int64)


def _of_a_log(table: Table, order: NDArray[np.int64], *, of_accounts: bool) -> dict[str, Any]:
    """Return what only a log knows: stream time at each event, and ids and which come again, where one does."""
    frame, made = table.frame, dict[str, Any]()
    session = ["session", *(["account"] if of_accounts and "account" in frame.columns else [])]
    times_ms = _numbers(frame, "time")
    again = None
    if _numbers(frame, "event_id") is not None:
        first = frame.select(pl.struct(*session, "event_id").is_first_distinct()).to_series()
        if not first.all():
            again = ~first.to_numpy()
            made["again"] = again[order]
            made["event_hashes"] = frame["event_id"].to_numpy()[order]
    if table.is_log and times_ms is not None:
        partitions = frame["partition"].to_numpy()
        # A repeat does not move time. Which repeats a model knows again is up to its window, but an event that comes
        # again has the time that it had, and so nothing is up to that.
        moving = times_ms if again is None else np.where(again, 0, times_ms)
        stream_ms = np.empty(len(frame), np.int64)
        for partition in np.unique(partitions):
            at = np.flatnonzero(partitions == partition)
            stream_ms[at] = np.maximum.accumulate(moving[at])
        made["stream_ms"] = np.maximum(stream_ms, times_ms)[order]
    return made


def _categories(codes: NDArray[np.int64] | None, names: pl.Categories, count: int) -> Categories:
    """Return names by their codes, in the order of the alphabet; all without a name if there are no codes."""
    if codes is None:
        return Categories(("",), np.zeros(count, np.int32))
    text = ["", "", *(name or "" for name in names.to_series())]
    used = np.flatnonzero(np.bincount(codes + 2))  # from -2, which stands for none
    different = sorted({text[code] for code in used.tolist()})
    place = {name: at for at, name in enumerate(different)}
    rank = np.zeros(int(used.max()) + 1, np.int32)
    rank[used] = [place[text[code]] for code in used.tolist()]
    return Categories(tuple(different), rank[codes + 2])


def _told_of_repeats(table: Table, events: Events, actions: Categories) -> list[str]:
    """Say how many events are like the one before, where nothing else says whether they are one."""
    times_ms = events.times_ms
    if times_ms is None or table.one_a_row or "event_id" in table.frame.columns:
        return []
    again = (actions.codes[1:] == actions.codes[:-1]) & (times_ms[1:] == times_ms[:-1])
    again[events.starts[1:-1] - 1] = False
    count = int(again.sum())
    if not count:
        return []
    return [
        (
            f"{count:,} of {len(times_ms):,} events have session, action and time of the one before: take out rows that are "
            "there twice, or name the events' ids (--column event_id=...), by which a repeat counts once"
        )
    ]


def _told_of_shared_ids(sessions: Sessions) -> list[str]:
    """Say how many ids several accounts have, of a session each."""
    again = len(sessions) - len(np.unique(sessions.ids.astype(str)))
    return [f"{again:,} sessions have the id of another account's: each is one of its own"] if again else []


def _told_of_days(events: Events, description: Description) -> list[str]:
    """Say that times are days alone: what happened on one has no gaps and, in a table, no order but that of its rows."""
    if events.times_ms is None or description.time_unit == "count" or (events.times_ms % DAY_MS).any():
        return []
    return ["all times are days alone, without an hour: gaps within a day are 0; name a column that has more"]


def _told_of_names(actions: Categories) -> list[str]:
    """Say that actions do not look like names of kinds: a text that holds a list, a free text, an id."""
    if len(actions.names) < _MANY_NAMES or 2 * len(actions.names) < len(actions.codes):
        return []
    return [
        (
            f"{len(actions.names):,} different actions among {len(actions.codes):,}, as {actions.names[-1][:60]!r}: expected "
            "few that come often; is it the right column, and a list of actions given as a list?"
        )
    ]


def _summary(sessions: Sessions) -> str:
    attacks = int((sessions.labels == 1).sum())
    what = f"{len(sessions):,} sessions of {len(sessions.actions):,} actions"
    if sessions.labels_of == "event":
        count, known = int((sessions.targets == 1).sum()), int((sessions.targets >= 0).sum())
        return f"{what}: {count:,} of {known:,} labelled events are attacks"
    history = int((sessions.labels == UNLABELLED).sum())  # which only signals have a use for
    alone = f", {history:,} without a label are history alone" if history else ""
    return f"{what}: {attacks:,} are attacks{alone}"
