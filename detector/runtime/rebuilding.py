"""Rebuilding: a partition's live sessions come back from the input, where the state log is of no use.

The input is decided again by the same processing up to where it had been read, each part under the limits of its model
epoch: what was forgotten then is forgotten again, and nothing else. Which sessions were blocked is not decided again: the
model may be another one by now. It is taken from the alerts topic, which says who was, as what could not be processed or
published is from the dead letters.
"""

import itertools
import logging
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import msgspec
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec

from detector.client.consumer import Consumer
from detector.client.reading import log_reader, read
from detector.contract.alerts import Alert, Decision, decode_alert
from detector.contract.dead_letters import NoDeadLetterError, Reason, read_dead_letter
from detector.contract.epochs import ModelEpoch
from detector.core.alerted import key_of, model_of
from detector.core.decision import Policy, wanted_by
from detector.core.partition import Partition
from detector.core.ruling import UNRULED, acting
from detector.core.staging import Candidate
from detector.runtime.config import ConfigurationError, DetectorConfig
from detector.runtime.epochs import config_of, epochs_of_group
from detector.runtime.processing import Processor, Refused
from detector.runtime.recovery import Origin

_LOG = logging.getLogger(__name__)
_FOREVER_MS = 2**63
_FAILURES = {Reason.PROCESSING, Reason.PRODUCTION}
_VERDICTS: Mapping[Decision | None, float] = {
    Decision.BLOCK: 1.0,
    Decision.CHALLENGE: 0.75,
    Decision.REVIEW: 0.5,
}
"""Scores that lead to what was decided, under thresholds of the same."""

Tell = Callable[..., None]
"""Called with a text and its arguments as the work goes on; logs it now and then, and keeps the worker alive."""


@dataclass(slots=True)
class _Published:
    """What the alerts topic says of one input partition.

    Attributes:
        offsets: decisions by deciding offset, of those that the input still holds.
        events: by (account id, session id, event id) the alerts on an event, decisions by deciding offset: one that comes
            again may block without another alert.
        models: that the last alert of each session was of, by the session's key among those with alerts.
        earlier: of alerts whose deciding event retention deleted: of each session the last that no weightier one was
            before.
        next_offset: the input was read up to there at least.
        complete_from_ms: alerts older than that may have been deleted by retention; 0 if none was.
    """

    offsets: dict[int, Decision] = field(default_factory=dict)
    events: dict[tuple[str, str, str], dict[int, Decision]] = field(default_factory=lambda: defaultdict(dict))
    models: dict[bytes, str] = field(default_factory=dict)
    earlier: dict[tuple[str, str], Alert] = field(default_factory=dict)
    next_offset: int = 0
    complete_from_ms: int = 0

    def add(self, alert: Alert) -> None:
        """Take note of an alert on an event."""
        names = alert.account_id, alert.session_id, alert.event_id
        self.events[names][alert.source.offset] = alert.decision

    def is_unsure(self, candidate: Candidate) -> bool:
        """Tell whether what an event led to can't be read from the alerts: they were deleted, or not published again."""
        if candidate.offset in self.offsets:
            return False
        return self._may_be_deleted(candidate) or bool(self._before(candidate))

    def before_input(self, candidate: Candidate, idle_timeout_ms: int) -> Decision | None:
        """Return what the session that begins with an event in what is left of the input had led to before."""
        event = candidate.event
        earlier = self.earlier.get((event.account_id, event.session_id)) if candidate.begins else None
        if earlier is None or event.occurred_at_ms - earlier.occurred_at_ms > idle_timeout_ms:
            return None
        return earlier.decision

    def at_most(self, decision: Decision, candidate: Candidate) -> Decision:
        """Return what an event can have led to, by a decision of now: a graver one than its alerts had been published."""
        if self._may_be_deleted(candidate):
            return decision
        return min(
            decision, max(self._before(candidate), key=_VERDICTS.__getitem__), key=_VERDICTS.__getitem__
        )

    def _may_be_deleted(self, candidate: Candidate) -> bool:
        return candidate.received_at_ms < self.complete_from_ms

    def _before(self, candidate: Candidate) -> list[Decision]:
        """Return the alerts on an event that had been published when it came: later ones say nothing of it."""
        event = candidate.event
        alerts = self.events.get((event.account_id, event.session_id, event.event_id), {})
        return [decision for offset, decision in alerts.items() if offset < candidate.offset]


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
        published = _published(consumer, admin, source, begin, config, tell)
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
            len(published.offsets) + len(published.earlier),
        )
        failed = _failed(consumer, admin, source, config, tell)
        epochs = epochs_of_group(config).get(source, ())
        silent = [_silent(_of_epoch(epoch, processor, config), published) for epoch in (None, *epochs)]
        begins, partition = [epoch.from_offset for epoch in epochs], Partition(begin)
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
        partition.alerted[key] = alerted._replace(model=published.models.get(key, alerted.model))
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


def _silent(processor: Processor, published: _Published) -> Processor:
    """Return what decides as was decided: by what was published, whatever lists, thresholds and breaker said then.

    Where the alerts don't tell, the pipeline of now decides instead, and lists and failed second factors, which the log has.
    """
    pipeline = processor.pipeline

    def before(candidate: Candidate) -> Decision | None:
        return published.before_input(candidate, pipeline.limits.idle_timeout_ms)

    def scores(candidates: Sequence[Candidate]) -> list[float]:
        """Score what a score is asked of: all where evidence is carried over, else where the alerts don't tell."""
        asked = [one for one in candidates if pipeline.evidence or published.is_unsure(one)]
        found = {one.offset: score for one, score in zip(asked, pipeline.score(asked), strict=True)}
        return [found.get(one.offset, 0.0) for one in candidates]

    def verdicts(candidates: Sequence[Candidate], scores: Sequence[float]) -> list[float]:
        """Return for each event what it led to, as far as can be known, as a score that leads there again."""
        unsure = [each for each in zip(candidates, scores, strict=True) if published.is_unsure(each[0])]
        rules = acting(pipeline.rules(*zip(*unsure, strict=True)) if pipeline.rules and unsure else UNRULED)
        decided = {
            one.offset: published.at_most(wanted.decision, one)
            for one, score in unsure
            if (wanted := wanted_by(score, pipeline.policy, rules.get(one.offset)))
        }
        told = [
            (published.offsets.get(one.offset) or decided.get(one.offset), before(one)) for one in candidates
        ]
        return [max(_VERDICTS.get(one, 0.0) for one in each) for each in told]

    policy = Policy(
        _VERDICTS[Decision.BLOCK],
        pipeline.policy.model,
        _VERDICTS[Decision.REVIEW],
        challenge_threshold=_VERDICTS[Decision.CHALLENGE],
        step_ups=pipeline.policy.step_ups,
        is_overruled=lambda one: published.is_unsure(one) and before(one) is None,
    )
    silent = replace(pipeline, score=scores, verdicts=verdicts, policy=policy, explain=None, challenger=None, rules=None)  # fmt: skip
    return replace(processor, pipeline=silent)


def _published(
    consumer: Consumer,
    admin: KafkaAdminClient,
    source: TopicPartition,
    begin: int,
    config: DetectorConfig,
    tell: Tell,
) -> _Published:
    """Read the alerts topic for the alerts of one input partition."""
    topic = config.alerts_topic
    bounds = _bounds(
        admin, [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
    )
    cut = {target for target, (first, _) in bounds.items() if first > 0}
    published = _Published(complete_from_ms=_FOREVER_MS if cut else 0)
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
            published.next_offset = max(published.next_offset, alert.source.offset + 1)
            published.add(alert)
            if alert.source.offset >= begin:
                published.offsets[alert.source.offset] = alert.decision
                published.models[key_of(alert.account_id, alert.session_id)] = model_of(alert)
            elif _is_all_there_is(alert, published.earlier):
                published.earlier[alert.account_id, alert.session_id] = alert
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


def _is_all_there_is(alert: Alert, earlier: Mapping[tuple[str, str], Alert]) -> bool:
    """Tell whether no weightier alert of the session is known."""
    known = earlier.get((alert.account_id, alert.session_id))
    return known is None or _VERDICTS[known.decision] <= _VERDICTS[alert.decision]


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
