"""Rebuilding: a partition's live sessions come back from the input, where the state log is of no use.

The input is decided again by the same processing up to where it had been read, each part under the limits of its model
epoch: what was forgotten then is forgotten again, and nothing else. Which sessions were blocked is not decided again: the
model may be another one by now. It is taken from the alerts topic, which says who was, as what could not be processed or
published is from the dead letters.
"""

import itertools
import logging
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

import msgspec
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec

from detector.client.consumer import Consumer
from detector.client.reading import log_reader, read
from detector.contract.alerts import decode_alert
from detector.contract.dead_letters import NoDeadLetterError, Reason, read_dead_letter
from detector.contract.epochs import ModelEpoch
from detector.core.encoding import Encoding
from detector.core.partition import Partition
from detector.core.ruling import UNRULED, Ruled
from detector.core.staging import Candidate
from detector.runtime.config import ConfigurationError, DetectorConfig
from detector.runtime.epochs import config_of, epochs_of_group
from detector.runtime.processing import Processor, Refused
from detector.runtime.published import Published
from detector.runtime.recovery import Origin

_LOG = logging.getLogger(__name__)
_FOREVER_MS = 2**63
_FAILURES = {Reason.PROCESSING, Reason.PRODUCTION}
Tell = Callable[..., None]
"""Called with a text and its arguments as the work goes on; logs it now and then, and keeps the worker alive."""


def rebuild(
    source: TopicPartition,
    read_up_to: int,
    *,
    processor: Processor,
    config: DetectorConfig,
    admin: KafkaAdminClient,
    tell: Tell,
) -> Partition:
    """Rebuild one partition from the input, as far back as its retention allows.

    The group's epochs tell of each part under which limits it was decided, and whether by the model in service, whose
    sessions carry over what they had.

    Args:
        source: of the input.
        read_up_to: the offset that the group committed or the state names; more is read if alerts say so.
        processor: the detector's own. It decides where alerts may have been deleted.
        config: names the topics; its settings are those that epochs of before they were recorded don't have.
        admin: to ask for offsets with.
        tell: told of the progress; what it raises ends the work.

    Raises:
        TopicsUnfitError: there is no topic of model epochs, or something else is in it.
        KafkaError: the broker can't be reached or refuses.
    """
    begin, input_end = _bounds(admin, [source])[source]
    with closing(_consumer(config)) as consumer:
        published = _published(consumer, admin, source, begin, processor.pipeline.encoding, config, tell)
        end = max(read_up_to, published.next_offset, begin)
        if end > input_end:
            _LOG.error(
                "%s[%d] ends at %d, but had been read up to %d: it was made anew or lost records. Beginning at %d, "
                "without the sessions of before",
                *source,
                input_end,
                end,
                begin,
            )
            return Partition(begin)
        _LOG.warning(
            "rebuilding %s[%d] from offset %d, where retention left its start, up to %d; %d of its alerts are known",
            *source,
            begin,
            end,
            len(published.offsets),
        )
        failed = _failed(consumer, admin, source, config, tell)
        epochs = epochs_of_group(config).get(source, ())
        of_epochs = [_of_epoch(epoch, processor, config) for epoch in (None, *epochs)]
        silent = [_silent(one, published) for one in of_epochs]
        begins, partition = [epoch.from_offset for epoch in epochs], Partition(begin)
        partition.alerted = published.alerted_before(of_epochs[bisect_right(begins, begin)].pipeline.limits)
        if not begins or begin < begins[0]:
            told = config.models_topic, begins[0] if begins else end
            _LOG.warning(
                "%s[%d]: topic %s tells of no settings before offset %d: those of now are taken",
                *source,
                *told,
            )
        for batch in read(consumer, {source: (begin, end)}):
            parts = itertools.groupby(batch.get(source, ()), lambda one: bisect_right(begins, one.offset))
            for number, records in parts:
                for processed in silent[number].process({source: list(records)}, {source: partition}, failed):
                    partition.apply(processed.outcome.delta)
            tell(
                "rebuilding %s[%d]: at offset %d of %d, %d sessions and %d accounts",
                *source,
                partition.next_offset,
                end,
                len(partition.sessions),
                len(partition.profiles),
            )
    partition.next_offset = end
    for key, alerted in partition.alerted.items():
        partition.alerted[key] = alerted._replace(model=published.models.get(key, (0, alerted.model))[1])
    _LOG.warning(
        "rebuilt %s[%d] from offsets %d to %d: %d sessions and %d accounts; the next transaction on it replaces its state log",
        *source,
        begin,
        end,
        len(partition.sessions),
        len(partition.profiles),
    )
    return partition


def _of_epoch(epoch: ModelEpoch | None, processor: Processor, config: DetectorConfig) -> Processor:
    """Return what processes the part of an epoch: under its limits and step-ups, the model's evidence where that one decided.

    What no epoch tells of is under the limits of now, and carries nothing over.
    """
    pipeline, config = processor.pipeline, config.served_with(processor.pipeline.limits.idle_timeout_ms)
    if epoch is None:
        return replace(processor, pipeline=replace(pipeline, evidence=None))
    try:
        of_then = config_of(epoch, config)
    except ConfigurationError as error:  # of before such settings were refused
        told = epoch.topic, epoch.partition, epoch.from_offset, error
        _LOG.warning("%s[%d] from offset %d on is rebuilt under the limits of now: %s", *told)
        of_then = config
    evidence = pipeline.evidence if epoch.model.sha256 == pipeline.policy.model.sha256 else None
    policy = replace(pipeline.policy, step_ups=of_then.step_ups)
    return replace(
        processor,
        pipeline=replace(pipeline, limits=of_then.session_limits, evidence=evidence, policy=policy),
        limits=of_then.event_limits,
        wire=of_then.wire_format,
    )


def _silent(processor: Processor, published: Published) -> Processor:
    """Return what decides as was decided: by what was published, whatever lists, thresholds and breaker said then.

    Where the alerts don't tell, the pipeline of now decides; of what they do tell, nothing is scored needlessly.
    """
    pipeline = processor.pipeline

    def score(candidates: Sequence[Candidate]) -> list[float]:
        asked = [one for one in candidates if pipeline.evidence or published.is_unsure(one)]
        found = {one.offset: score for one, score in zip(asked, pipeline.score(asked), strict=True)}
        return [found.get(one.offset, 0.0) for one in candidates]

    def rules(candidates: Sequence[Candidate], scores: Sequence[float]) -> Ruled:
        unsure = [each for each in zip(candidates, scores, strict=True) if published.is_unsure(each[0])]
        return pipeline.rules(*zip(*unsure, strict=True)) if pipeline.rules and unsure else UNRULED

    silent = replace(
        pipeline,
        score=score,
        policy=replace(pipeline.policy, breaker=None),
        past=partial(published.led_to, idle_timeout_ms=pipeline.limits.idle_timeout_ms),
        explain=None,
        challenger=None,
        rules=rules,
    )
    return replace(processor, pipeline=silent)


def _published(
    consumer: Consumer,
    admin: KafkaAdminClient,
    source: TopicPartition,
    begin: int,
    encoding: Encoding,
    config: DetectorConfig,
    tell: Tell,
) -> Published:
    """Read the alerts topic for the alerts of one input partition."""
    topic = config.alerts_topic
    bounds = _bounds(
        admin, [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
    )
    cut = {target for target, (first, _) in bounds.items() if first > 0}
    published = Published(encoding, begin, complete_from_ms=_FOREVER_MS if cut else 0)
    oldest_ms: dict[int, int] = {}
    count = 0
    for batch in read(consumer, bounds):
        for record in itertools.chain.from_iterable(batch.values()):
            count += 1
            oldest_ms.setdefault(record.partition, record.timestamp)
            try:
                alert = decode_alert(record.value or b"")
            except msgspec.DecodeError as error:
                _LOG.warning("%s[%d] at offset %d: %s", topic, record.partition, record.offset, error)
                continue
            if (alert.source.topic, alert.source.partition) != source:
                continue
            published.add(alert)
        tell("rebuilding %s[%d]: %d alerts read", *source, count)
    if cut and all(target.partition in oldest_ms for target in cut):
        published.complete_from_ms = max(oldest_ms[target.partition] for target in cut)
    return published


def _failed(
    consumer: Consumer, admin: KafkaAdminClient, source: TopicPartition, config: DetectorConfig, tell: Tell
) -> Refused:
    """Read the dead-letter topic for the events that left no trace in the state, for no fault of theirs."""
    topic, count = config.dead_letter_topic, 0
    numbers = consumer.partitions_for_topic(topic) or ()
    failed: dict[Origin, str] = {}
    for batch in read(consumer, _bounds(admin, [TopicPartition(topic, number) for number in numbers])):
        for record in itertools.chain.from_iterable(batch.values()):
            count += 1
            try:
                letter = read_dead_letter(record.key, record.value, record.headers)
            except NoDeadLetterError:
                continue  # of a later version, or no letter
            if (letter.topic, letter.partition) == source and letter.reason in _FAILURES:
                failed[source, letter.offset] = letter.detail
        tell("rebuilding %s[%d]: %d dead letters read", *source, count)
    return failed


def _bounds(
    admin: KafkaAdminClient, targets: Sequence[TopicPartition]
) -> dict[TopicPartition, tuple[int, int]]:
    """Return first offset and high watermark. Not the last stable offset: see `StateReader`."""
    first = admin.list_partition_offsets(dict.fromkeys(targets, OffsetSpec.EARLIEST))
    end = admin.list_partition_offsets(dict.fromkeys(targets, OffsetSpec.LATEST))
    return {target: (first[target].offset, end[target].offset) for target in targets}


def _consumer(config: DetectorConfig) -> Consumer:
    return log_reader(
        config.bootstrap_servers,
        client_id=f"{config.group}-rebuild",
        max_poll_records=config.batch_max_events,
    )
