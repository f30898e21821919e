"""Running a backtest: one pass over the log, scored by both models through the detector's own core."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec
from kafka import TopicPartition

from detector.backtest.comparing import Blocked, Comparison, compare, first_blocks
from detector.client.reading import Batch, opened
from detector.contract.alerts import Decision
from detector.contract.events import MalformedEventError, decode_event
from detector.contract.labels import SessionLabel, labels_of
from detector.core.partition import Partition
from detector.core.reasons import Case, case_of, reasons_of, window_of
from detector.model.artifact import Model
from detector.model.rules import Rules
from detector.runtime.config import DetectorConfig
from detector.runtime.processing import Absences, processor_of
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
        """Name, version and threshold."""
        reference = self.model.reference
        rules = f", {len(self.rules.rules)} rules" if self.rules else ""
        return f"{reference.name} {reference.version} at {self.threshold:g}{rules}"


@dataclass(frozen=True, slots=True)
class Backtest:
    """The outcome.

    Attributes:
        comparison: of the two.
        events: records of the log, each scored by both.
        span_ms: event time that the log covers.
        elapsed_s: wall-clock time of the whole pass.
        told: what is to be said of fields that signals read, and no event has; empty if there are none.
        matches: how often each rule of the other side held.
    """

    comparison: Comparison
    events: int
    span_ms: int
    elapsed_s: float
    told: str = ""
    matches: Mapping[str, int] = field(default_factory=dict)

    @property
    def times_real(self) -> float:
        """How many times faster than the log's own time."""
        return self.span_ms / 1000 / self.elapsed_s


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
        labels: the truth by session, as far as it is known.
        advance: told of each batch's number of records.
        clock_s: a monotonic clock, in seconds.

    Raises:
        ConfigurationError: a side's threshold is not above the one that challenges.
        KafkaError, OSError: the log can't be read on.
    """
    began_s, events = clock_s(), 0
    begin_ms: int | None = None
    partitions: tuple[dict[TopicPartition, Partition], ...] = ({}, {})
    blocks: tuple[dict[str, Blocked], ...] = ({}, {})
    challenged: tuple[set[str], set[str]] = (set(), set())
    cases: tuple[dict[str, Case], ...] = ({}, {})
    absences, matches = (Absences(), Absences()), Counter[str]()
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
        for processor, live, found, asked, kept, absent in zip(
            processors, partitions, blocks, challenged, cases, absences, strict=True
        ):
            for processed in replay([batch], processor, live):
                absent.add(processed)
                if processor is processors[1]:
                    for rule, count in processed.outcome.matches.items():
                        matches[rule.reference.name] += count
                alerts = processed.outcome.alerts
                for session, block in first_blocks(alerts).items():
                    found.setdefault(session, block)
                asked |= {one.session_id for one in alerts if one.decision is Decision.CHALLENGE}
                for alert in alerts:
                    if alert.decision is Decision.BLOCK and alert.session_id not in kept:
                        kept[alert.session_id] = case_of(alert, window_of(alert, processor.pipeline.encoding))
        if begin_ms is None:
            begin_ms = min(_times_ms(batch), default=None)
        count = sum(map(len, batch.values()))
        events += count
        advance(count)
    end_ms = max((partition.stream_time_ms for partition in partitions[0].values()), default=0)
    comparison = compare(blocks[0], blocks[1], labels, challenged)
    return Backtest(
        comparison=replace(
            comparison,
            newly=_explained(comparison.newly, cases[1], sides[1].model),
            no_longer=_explained(comparison.no_longer, cases[0], sides[0].model),
        ),
        events=events,
        span_ms=0 if begin_ms is None else end_ms - begin_ms,
        elapsed_s=clock_s() - began_s,
        matches=matches,
        told="; ".join(dict.fromkeys(told for one in absences if (told := one.told()))),
    )


def _explained(blocks: list[Blocked], cases: Mapping[str, Case], model: Model) -> list[Blocked]:
    """Return blocks, the first EXPLAINED of them with what weighed most."""
    shown = blocks[:EXPLAINED]
    found = reasons_of([cases[one.session_id] for one in shown], model.encoding, model.score, model.evidence)
    told = [
        msgspec.structs.replace(one, explanation=words) for one, (_, words) in zip(shown, found, strict=True)
    ]
    return told + blocks[EXPLAINED:]


def _times_ms(batch: Batch) -> Iterator[int]:
    """Yield the event times of a batch, of what is an event."""
    for record in itertools.chain.from_iterable(batch.values()):
        with suppress(MalformedEventError, TypeError):  # no event, or a null value
            yield decode_event(record.value).occurred_at_ms
