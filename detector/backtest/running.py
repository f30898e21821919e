"""Running a backtest: one pass over the log, scored by both models through the detector's own core."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec
from kafka import TopicPartition

from detector.backtest.comparing import Blocked, Comparison, compare, first_blocks
from detector.client.reading import Batch, opened
from detector.contract.alerts import Alert, Decision
from detector.contract.control import MalformedControlError, decode_control, is_control
from detector.contract.events import MalformedEventError, decode_event
from detector.contract.labels import SessionLabel, labels_of
from detector.contract.verdicts import Finding, Verdict
from detector.core.encoding import Encoding
from detector.core.partition import Partition
from detector.core.reasons import Case, case_of, reasons_of, window_of
from detector.core.session import session_key
from detector.formats.wire import WireFormat
from detector.model.artifact import Model
from detector.model.rules import Rules
from detector.runtime.config import DetectorConfig
from detector.runtime.notices import Absences
from detector.runtime.processing import Processed, processor_of
from detector.runtime.replaying import replay

EXPLAINED: Final = 10
"""Sessions, newly blocked and no longer, that are told with what weighed most: the first of each."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: a model, the threshold that it blocks at, and rules beside it."""

    model: Model
    threshold: float
    rules: Rules | None = None

    @property
    def name(self) -> str:
        """Model, threshold and how many rules."""
        rules = f", {len(self.rules.rules)} rules" if self.rules else ""
        return f"{self.model.reference} at {self.threshold:g}{rules}"


@dataclass(frozen=True, slots=True)
class Backtest:
    """The outcome.

    Attributes:
        comparison: of the two.
        events: records of the log, each scored by both.
        span_ms: event time that the log covers.
        elapsed_s: wall-clock time of the whole pass.
        verdicts: sessions that the log has verdicts on.
        told: what is to be said of fields that signals read, and no event has; empty if there are none.
        matches: how often each rule of the other side held.
    """

    comparison: Comparison
    events: int
    verdicts: int
    span_ms: int
    elapsed_s: float
    told: str = ""
    matches: Mapping[str, int] = field(default_factory=dict)

    @property
    def times_real(self) -> float:
        """How many times faster than the log's own time."""
        return self.span_ms / 1000 / self.elapsed_s


@dataclass(slots=True)
class _Found:
    """What a side has come to so far, by the keys of sessions."""

    key: Callable[[Alert], str]
    partitions: dict[TopicPartition, Partition] = field(default_factory=dict)
    blocks: dict[str, Blocked] = field(default_factory=dict)
    challenged: set[str] = field(default_factory=set)
    cases: dict[str, Case] = field(default_factory=dict)
    absences: Absences = field(default_factory=Absences)
    matches: Counter[str] = field(default_factory=Counter)

    def add(self, processed: Processed, encoding: Encoding) -> None:
        """Take in what came of a partition's share of a batch."""
        alerts = processed.outcome.alerts
        self.absences.add(processed)
        for rule, count in processed.outcome.matches.items():
            self.matches[rule.reference.name] += count
        self.challenged |= {self.key(one) for one in alerts if one.decision is Decision.CHALLENGE}
        for session, block in first_blocks(alerts, self.key).items():
            self.blocks.setdefault(session, block)
        for alert in alerts:
            if alert.decision is Decision.BLOCK and self.key(alert) not in self.cases:
                self.cases[self.key(alert)] = case_of(alert, window_of(alert, encoding))


def read_labels(path: Path) -> dict[str, SessionLabel]:
    """Read a label file (JSON lines, .gz is unpacked), by session.

    Raises:
        LabelsRefusedError: a line is no label.
        OSError: the file can't be read.
    """
    with opened(path) as lines:
        return labels_of(lines, str(path))


def backtest(
    batches: Iterable[Batch],
    sides: tuple[Side, Side],
    config: DetectorConfig,
    labels: dict[str, SessionLabel],
    *,
    advance: Callable[[int], None] = lambda _: None,
    clock_s: Callable[[], float] = time.monotonic,
) -> Backtest:
    """Replay a log through both sides.

    Args:
        batches: of the log, as `replaying.batches_of_file` or `batches_of_topic` yields them.
        sides: the one in service, and the other.
        config: limits of sessions and events, and who is challenged, for both.
        labels: the truth by session, as far as it is known. Without any, what the verdicts in the log say.
        advance: told of each batch's number of records.
        clock_s: a monotonic clock, in seconds.

    Raises:
        ConfigurationError: a side's threshold is not above the one that challenges.
        KafkaError, OSError: the log can't be read on.
    """
    began_s, events = clock_s(), 0
    begin_ms: int | None = None

    def key(of: Alert | Blocked | Verdict) -> str:
        """Return the key of a session: its id, as labels of a file have it, or its account's as well."""
        return of.session_id if labels else session_key(of.account_id, of.session_id)

    verdicts, found = dict[str, Verdict](), [_Found(key) for _ in sides]
    # What each model wants is compared, not what the circuit breaker would leave of it.
    processors = [
        processor_of(
            side.model,
            replace(config, threshold=side.threshold, breaker_max_block_share=0.0),
            rules=side.rules,
            explains=False,
        )
        for side in sides
    ]
    for batch in batches:
        for processor, of_side in zip(processors, found, strict=True):
            for processed in replay([batch], processor, of_side.partitions):
                of_side.add(processed, processor.pipeline.encoding)
        for verdict in _verdicts(batch):
            known = verdicts.get(key(verdict))
            if known is None or verdict.decided_at_ms >= known.decided_at_ms:
                verdicts[key(verdict)] = verdict
        if begin_ms is None:
            begin_ms = min(_times_ms(batch, config.wire_format), default=None)
        count = sum(map(len, batch.values()))
        events += count
        advance(count)
    first, second = found
    rules = sides[1].rules.rules if sides[1].rules else ()
    end_ms = max((partition.stream_time_ms for partition in first.partitions.values()), default=0)
    comparison = compare(
        first.blocks,
        second.blocks,
        labels or {session: _label(verdict) for session, verdict in verdicts.items()},
        (first.challenged, second.challenged),
    )
    newly, no_longer = (
        _explained(blocks, [of_side.cases[key(one)] for one in blocks[:EXPLAINED]], side.model)
        for blocks, of_side, side in (
            (comparison.newly, second, sides[1]),
            (comparison.no_longer, first, sides[0]),
        )
    )
    return Backtest(
        comparison=replace(comparison, newly=newly, no_longer=no_longer),
        events=events,
        verdicts=len(verdicts),
        span_ms=0 if begin_ms is None else end_ms - begin_ms,
        elapsed_s=clock_s() - began_s,
        matches={rule.reference.name: second.matches[rule.reference.name] for rule in rules},
        told="; ".join(dict.fromkeys(told for one in found if (told := one.absences.told()))),
    )


def _explained(blocks: list[Blocked], cases: Sequence[Case], model: Model) -> list[Blocked]:
    """Return blocks, the first of them, those with a case, with what weighed most."""
    found = reasons_of(cases, model.encoding, model.score, model.evidence)
    told = [
        msgspec.structs.replace(one, explanation=words)
        for one, (_, words) in zip(blocks, found, strict=False)
    ]
    return told + blocks[len(told) :]


def _verdicts(batch: Batch) -> Iterator[Verdict]:
    """Yield the verdicts in a batch; each lies in every partition."""
    for record in itertools.chain.from_iterable(batch.values()):
        if isinstance(record.value, bytes) and is_control(record.value):
            with suppress(MalformedControlError):
                if isinstance(control := decode_control(record.value), Verdict):
                    yield control


def _label(verdict: Verdict) -> SessionLabel:
    label = int(verdict.verdict is Finding.FRAUD)
    return SessionLabel(session_id=verdict.session_id, label=label, type=(label and verdict.fraud_type) or "")


def _times_ms(batch: Batch, wire: WireFormat) -> Iterator[int]:
    """Yield the event times of a batch, of what is an event."""
    event_of = wire.event_of(decode_event)
    for record in itertools.chain.from_iterable(batch.values()):
        with suppress(MalformedEventError, TypeError):  # no event, or a null value
            yield event_of(record.value).occurred_at_ms
