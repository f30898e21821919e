"""Processing: from the records of a batch to what they come to, decoding and the core's pipeline in one.

The detector in service, the oracle of a log at rest, a backtest and a rebuild all process with this, so that none can
come to anything else than the others.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from kafka import TopicPartition

from detector.client.reading import Batch
from detector.contract.dead_letters import DeadLetter, Reason
from detector.contract.events import MAX_TIME_MS, SessionEvent, decode_event
from detector.contract.fields import Value
from detector.core.drift import Watched
from detector.core.memo import ScoreMemo
from detector.core.partition import Partition
from detector.core.pipeline import Outcome, Pipeline, ProcessingError, Share
from detector.core.reasons import with_reasons
from detector.core.shadowing import Challenger
from detector.core.staging import Entry
from detector.formats.registry import RegistryError
from detector.formats.wire import AS_IT_COMES, WireFormat
from detector.model.artifact import Model
from detector.model.rules import Rules
from detector.runtime.config import DetectorConfig
from detector.runtime.decoding import CREATE_TIME, EventLimits, dead_letter, decode
from detector.runtime.keys import Miskeyed
from detector.runtime.recovery import Origin
from detector.runtime.validating import DEAD_LETTER

Refused = Mapping[Origin, str]
"""Why what came of a record of the input could not be published, by where it lies."""
_NONE: Refused = MappingProxyType({})


class Processed(NamedTuple):
    """What the records of one partition come to.

    Attributes:
        source: of the input.
        records: how many there were.
        outcome: of the core.
        letters: dead letters, in the order of the log.
        keyed_otherwise: events under another key than the id that is to partition them.
        events: that were decoded, if the model's signals read fields of them.
        absent: how many of them lack each field that the model's signals read.
        miskeyed: the first of those that are keyed otherwise.
    """

    source: TopicPartition
    records: int
    outcome: Outcome
    letters: list[DeadLetter]
    keyed_otherwise: int = 0
    events: int = 0
    absent: Mapping[str, int] = MappingProxyType({})
    miskeyed: Miskeyed | None = None

    def then(self, later: "Processed") -> "Processed":
        """Return both as one; the later one was processed after this one."""
        return Processed(
            self.source,
            self.records + later.records,
            self.outcome.then(later.outcome),
            self.letters + later.letters,
            self.keyed_otherwise + later.keyed_otherwise,
            self.events + later.events,
            {field: count + later.absent.get(field, 0) for field, count in self.absent.items()},
            self.miskeyed or later.miskeyed,
        )


class Decoded(NamedTuple):
    """The records of one partition, decoded.

    Attributes:
        entries: those that are events or control records, in the order of the log.
        letters: dead letters of the others, likewise.
        keyed_otherwise: events under another key than the id that is to partition them.
        miskeyed: the first of those.
    """

    entries: list[Entry]
    letters: list[DeadLetter]
    keyed_otherwise: int
    miskeyed: Miskeyed | None


@dataclass(frozen=True, slots=True)
class Processor:
    """Processes records under one model and one set of rules.

    Attributes:
        pipeline: of the core.
        limits: of events.
        rules: that the pipeline asks, if any.
        wire: how records carry events.
    """

    pipeline: Pipeline
    limits: EventLimits
    rules: Rules | None = None
    wire: WireFormat = AS_IT_COMES

    def process(
        self,
        batch: Batch,
        partitions: Mapping[TopicPartition, Partition],
        refused: Refused = _NONE,
        after: Processed | None = None,
    ) -> list[Processed]:
        """Process the next records of some partitions, which are not changed.

        Args:
            batch: the records, at least one of each.
            partitions: as committed.
            refused: records to be dead-lettered because what came of them could not be published.
            after: what earlier records of the same partition come to, of a batch of one.

        Raises:
            ProcessingError: a record can't be processed, and is not to fail alone.
            RegistryError: the registry of schemas can't be asked.
        """
        shares, decoded = [], []
        pending = after and after.outcome.delta
        with self.pipeline.timed("decode"):
            for source, records in batch.items():
                one = self.decode(source, records, refused)
                shares.append(Share(source, partitions[source], one.entries, records[-1].offset + 1, pending))
                decoded.append((one, self._absent(one.entries)))
        outcomes = self.pipeline.run(shares)
        return [
            Processed(
                source,
                len(records),
                outcome,
                self._letters(records, one.letters, outcome),
                one.keyed_otherwise,
                *fields,
                one.miskeyed,
            )
            for (source, records), (one, fields), outcome in zip(
                batch.items(), decoded, outcomes, strict=True
            )
        ]

    def decode(self, source: TopicPartition, records: Sequence[Any], refused: Refused = _NONE) -> Decoded:
        """Decode the next records of a partition.

        Args:
            source: the partition.
            records: of it.
            refused: as of `process`.

        Raises:
            ProcessingError, RegistryError: as of `process`.
        """
        entries, letters, knows = [], [], self.pipeline.encoding.knows
        signals, otherwise, miskeyed = self.pipeline.encoding.signals, 0, None
        of_history = signals.of_history
        step_ups = self.pipeline.policy.step_ups
        reader = self.rules.reader if self.rules else signals.reader if signals.fields else None
        json, event_of = self.wire.json, self.wire.event_of(reader.event if reader else decode_event)
        for record in records:
            try:
                decoded = decode(record, knows, self.limits, step_ups, event_of)
            except RegistryError:
                raise  # which is no fault of the record
            except Exception as error:
                detail = f"{type(error).__name__}: {error}"
                if not self.pipeline.isolates:
                    raise ProcessingError(
                        f"{source.topic}[{source.partition}] at offset {record.offset} can't be decoded: {detail}"
                    ) from error
                decoded = dead_letter(record, Reason.PROCESSING, detail, self.limits)
            if refused and (why := refused.get((source, record.offset))) is not None:
                decoded = _unpublished(record, decoded, why, self.limits)
            if isinstance(decoded, DeadLetter):
                letters.append(decoded)
            else:
                vouched = record.timestamp_type != CREATE_TIME
                received_at_ms = min(max(0, record.timestamp), MAX_TIME_MS)  # a producer may claim any
                fields: tuple[Value, ...] = ()
                if isinstance(decoded, SessionEvent):
                    if reader is not None:
                        fields = reader.of(decoded, record.value, json)
                    if record.key != decoded.account_id.encode() and (
                        of_history or record.key != decoded.session_id.encode()
                    ):
                        otherwise += 1
                        miskeyed = miskeyed or Miskeyed(record.offset, record.key, decoded, of_history)
                entries.append(Entry(record.offset, received_at_ms, decoded, vouched, fields))
        return Decoded(entries, letters, otherwise, miskeyed)

    def _absent(self, entries: Sequence[Entry]) -> tuple[int, dict[str, int]]:
        """Count the events, and how many of them lack each field that signals read."""
        names = self.pipeline.encoding.signals.fields
        if not names:
            return 0, {}
        rows = [one.fields for one in entries if isinstance(one.event, SessionEvent)]
        columns = zip(*rows, strict=True) if rows else ((),) * len(names)
        # Behind the fields of signals may come those of rules.
        return len(rows), {name: column.count(None) for name, column in zip(names, columns, strict=False)}

    def _letters(
        self, records: Sequence[Any], undecoded: list[DeadLetter], outcome: Outcome
    ) -> list[DeadLetter]:
        if not outcome.failures:
            return undecoded
        failures = {failure.offset: failure for failure in outcome.failures}
        failed = [
            dead_letter(record, failure.reason, failure.detail, self.limits)
            for record in records
            if (failure := failures.get(record.offset))
        ]
        return sorted([*undecoded, *failed], key=lambda letter: letter.offset)


def _unpublished(record: Any, decoded: object, why: str, limits: EventLimits) -> DeadLetter:
    """Return the letter of a record that nothing could be published of: a dead letter is published without its value."""
    letter = (
        decoded if isinstance(decoded, DeadLetter) else dead_letter(record, Reason.PRODUCTION, why, limits)
    )
    return letter.without_content()


def challenger_of(model: Model, config: DetectorConfig) -> Challenger:
    """Return a model as one that scores in shadow, under the settings for that."""
    policy = config.challenger(model.threshold, model.reference)
    return Challenger(policy, ScoreMemo(model.encoding, model.score), model.evidence)


def processor_of(
    model: Model,
    config: DetectorConfig,
    *,
    rules: Rules | None = None,
    challenger: Challenger | None = None,
    watched: Watched | None = None,
    explains: bool = True,
    now_ms: Callable[[], int] = lambda: 0,
    timed: Callable[[str], AbstractContextManager[object]] = lambda _: nullcontext(),
) -> Processor:
    """Return what processes under a model and the settings that decide.

    Args:
        model: scores.
        config: all settings.
        rules: are asked beside it; compiled for its encoding.
        challenger: scores the same windows in shadow.
        watched: what traffic is held against for drift; nothing is counted without.
        explains: whether alerts are given their explanations.
        now_ms: the clock, for `detected_at_ms` alone; by default it is 0.
        timed: measures each stage, by its name.
    """
    config, memo = config.served_with(model.idle_timeout_ms), ScoreMemo(model.encoding, model.score)
    pipeline = Pipeline(
        encoding=model.encoding,
        score=memo.of,
        policy=config.policy(
            model.threshold, model.reference, model.challenge_threshold, rules.blocking if rules else ()
        ),
        limits=config.session_limits,
        evidence=model.evidence,
        explain=partial(with_reasons, encoding=model.encoding, score=memo, evidence=model.evidence)
        if explains
        else None,
        challenger=challenger,
        rules=rules.of if rules else None,
        watched=watched,
        isolates=config.on_processing_failure == DEAD_LETTER,
        now_ms=now_ms,
        timed=timed,
    )
    return Processor(pipeline, config.event_limits, rules, config.wire_format)


def needless(model: Model, config: DetectorConfig) -> list[str]:
    """Return what is to be said of thresholds that do nothing under a model: a weightier decision begins below them."""
    policy, said = config.policy(model.threshold, model.reference, model.challenge_threshold), []
    if config.challenge_threshold < 0 and model.challenge_threshold is None:
        said.append(
            f"--challenge-threshold is {config.challenge_threshold:g}, and model {model.reference.name} has none of its own: "
            "expected one trained with --challenge-fpr, or a score; nothing would be challenged"
        )
    above = policy.threshold
    for name, decided, threshold in (
        ("challenge", "challenged", policy.challenge_threshold),
        ("review", "reviewed", policy.review_threshold),
    ):
        if threshold is not None and threshold >= above:
            said.append(
                f"--{name}-threshold is {threshold:g}: expected less than {above:g}, where a weightier decision begins, or "
                f"0; nothing would be {decided}"
            )
        above = min(above, threshold or above)
    return said
