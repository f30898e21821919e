"""Verdicts as labels: of each session what was decided last, from the topic that they lie on or from a file."""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import polars as pl
from kafka.errors import KafkaError

from detector.client.reading import committed_span, log_reader, opened, read
from detector.contract.verdicts import Finding, MalformedVerdictError, Verdict, decode_verdict
from trainer.data.description import Description
from trainer.data.labelling import KEYS, LABEL_FIELDS
from trainer.data.reading import Table, read_lines
from trainer.data.sessions import DataError
from trainer.data.topic import Topic

_Session = tuple[str, str]
"""Account and session."""


class Verdicts(NamedTuple):
    """Where verdicts are: a file of JSON lines (.gz too), or a topic. One is on a session of an account, whose id may be another's."""

    source: Path | Topic

    def beside(self, events: Table) -> tuple[Table, list[str]]:
        """Return the labels of sessions that the verdicts come to, and what is to be said of them.

        Where a fraud begins is looked up in the events: the first fraudulent one by its id, or the first that is not
        before its time.

        Raises:
            DataError: they can't be read, or are none.
        """
        last, malformed = dict[_Session, Verdict](), 0
        for value, published_at_ms in self._values():
            try:
                verdict = decode_verdict(value, published_at_ms)
            except MalformedVerdictError:
                malformed += 1
                continue
            of = verdict.account_id, verdict.session_id
            before = last.get(of)
            if before is None or verdict.decided_at_ms >= before.decided_at_ms:
                last[of] = verdict
        if not last:
            raise DataError(
                f"{self.source} has no verdict: expected some, as `python -m detector verdict` writes them"
            )
        begins = _begins(last, events)
        # Where the events name no accounts, the last in the file holds of two on an id.
        in_order = sorted(last.items(), key=lambda one: one[1].decided_at_ms)
        lines = (
            (number, 0, msgspec.json.encode(_label(verdict, begins.get(of))))
            for number, (of, verdict) in enumerate(in_order, start=1)
        )
        fields = (KEYS["session"], "account", *LABEL_FIELDS)
        table = read_lines(
            lines, str(self.source), Description(), fields, (fields[0], "label"), names=events.names
        )
        frauds = sum(one.verdict is Finding.FRAUD for one in last.values())
        told = [f"{len(last):,} sessions have verdicts: {frauds:,} frauds, {len(last) - frauds:,} lawful"]
        return table, [
            *told,
            *([f"{malformed:,} records of {self.source} are no verdicts"] if malformed else []),
        ]

    def _values(self) -> Iterator[tuple[bytes, int]]:
        """Yield values and when they were published, -1 where that is not known."""
        source = self.source
        if isinstance(source, Path):
            try:
                with opened(source) as lines:
                    yield from ((line, -1) for line in lines if not line.isspace())
            except OSError as error:
                raise DataError(f"{source} cannot be read ({error.strerror or error})") from error
            return
        try:
            with closing(log_reader(source.bootstrap_servers)) as consumer:
                if not (spans := committed_span(consumer, source.name)):
                    raise DataError(f"{source} is not there: expected the topic of the verdicts")
                for batch in read(consumer, spans):
                    records = itertools.chain.from_iterable(batch.values())
                    yield from ((one.value or b"", one.timestamp) for one in records)
        except KafkaError as error:
            raise DataError(
                f"{source} cannot be read: {error}; expected a topic that can be read, on the broker "
                "that --bootstrap-servers or KAFKA_BOOTSTRAP_SERVERS names"
            ) from error


def _label(verdict: Verdict, attack_from: int | None) -> dict[str, Any]:
    label: dict[str, Any] = {
        "session_id": verdict.session_id,
        "account_id": verdict.account_id,
        "label": int(verdict.verdict is Finding.FRAUD),
    }
    if label["label"]:
        label |= {"type": verdict.fraud_type or "", "attack_from": attack_from}
    return label


def _begins(verdicts: Mapping[_Session, Verdict], events: Table) -> dict[_Session, int]:
    """Return the index of the first fraudulent event in its session, where a verdict says something of it."""
    there = [name for name in ("account", "time", "event_id") if name in events.frame.columns]
    key = ["session", "account"] if "account" in there else ["session"]
    said = {
        of[-len(key) :][::-1]: (of, verdict)
        for of, verdict in verdicts.items()
        if verdict.verdict is Finding.FRAUD
        and (verdict.first_event_id is not None or verdict.first_event_at_ms is not None)
    }
    if not said:
        return {}
    frame = events.frame.select("session", *there).with_columns(pl.col(key).cast(pl.String))
    frame = frame.filter(pl.col("session").is_in([session_id for session_id, *_ in said]))
    if "time" in there and not events.is_log and not events.one_a_row:
        frame = frame.sort("time", maintain_order=True)
    if "event_id" in there and not frame["event_id"].null_count():  # a repeat is no further action
        frame = frame.unique(["session", "event_id"], keep="first", maintain_order=True)
    found = {}
    for names, of_session in frame.group_by(key, maintain_order=True):
        if names not in said:
            continue
        of, verdict = said[names]
        hashed = pl.Series([verdict.first_event_id]).hash(0)[0] if verdict.first_event_id else None
        for number, row in enumerate(of_session.iter_rows(named=True)):
            by_time = (
                verdict.first_event_at_ms is not None and (row.get("time") or 0) >= verdict.first_event_at_ms
            )
            if row.get("event_id") == hashed if hashed is not None else by_time:
                found[of] = number
                break
    return found
