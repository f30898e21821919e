"""The detector: the loop that is the heart of the product, and its recoveries.

    poll → settle → decode → stage → score → decide → explain → commit → apply

Everything a batch changes is staged beside the state, committed to Kafka in one transaction (alerts, dead
letters, state, input offsets), and applied only then.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from kafka import TopicPartition
from kafka.errors import KafkaError, RetriableError, SaslAuthenticationFailedError
from kafka.structs import ConsumerGroupMetadata

from detector.contract.dead_letters import DeadLetter
from detector.core.decision import Decided, Policy, decide
from detector.core.explaining import explained
from detector.core.memo import ScoreMemo
from detector.core.partition import Partition
from detector.core.shadowing import Challenger, shadowed
from detector.core.staging import Entry, SessionLimits, Staged, stage
from detector.model.artifact import Model
from detector.runtime.config import DetectorConfig
from detector.runtime.decoding import EventLimits, decode
from detector.runtime.health import Heartbeat
from detector.runtime.link import KafkaLink
from detector.runtime.membership import Records
from detector.runtime.metrics import DetectorMetrics
from detector.runtime.outputs import alert_records, dead_letter_record, epoch_record, state_record
from detector.runtime.rebuilding import rebuild
from detector.runtime.recovery import (
    BatchAbortedError,
    MemberFencedError,
    OutcomeUnknownError,
    StateRefusedError,
    StoppedError,
)
from detector.runtime.restoring import Progress, skip_lost
from detector.runtime.state_writer import StateWriter
from detector.runtime.topics import grow_state_topic

_LOG = logging.getLogger(__name__)
_MIN_BACKOFF_S = 0.05
_MAX_BACKOFF_S = 5.0


@dataclass(slots=True)
class _Held:
    """A partition of this worker's, and the policy last committed as the one that decides it."""

    partition: Partition
    state: StateWriter
    policy: Policy | None = None


@dataclass(frozen=True, slots=True)
class _Decoded:
    """One partition's share of a batch."""

    source: TopicPartition
    next_offset: int
    entries: list[Entry]
    letters: list[DeadLetter]


class Detector:
    """One worker.

    Args:
        config: all settings.
        model: scores and names itself on the alerts.
        metrics: counted into after each commit.
        challenger: scores the same windows in shadow; it reads the same steps.
        heartbeat: beaten whenever a turn of the loop succeeds, and while a partition is restored.
        fresh_model: asked in each turn, before its batch, for the model to go on with; None keeps the one in service.
            It reads the same steps.
        pseudonym: of an id, for the log.
        now_ms: wall clock, for `detected_at_ms` and latencies only. No decision depends on it.
    """

    def __init__(
        self,
        config: DetectorConfig,
        model: Model,
        metrics: DetectorMetrics,
        heartbeat: Heartbeat,
        fresh_model: Callable[[], Model | None] = lambda: None,
        challenger: Challenger | None = None,
        pseudonym: Callable[[str], str] = lambda _: "…",
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._heartbeat = heartbeat
        self._fresh_model = fresh_model
        self._pseudonym = pseudonym
        self._now_ms = now_ms
        self._session_limits = SessionLimits(config.idle_timeout_ms, config.max_sessions)
        self._event_limits = EventLimits(
            config.max_event_bytes, config.max_dead_letter_bytes, config.max_future_ms
        )
        self._held: dict[TopicPartition, _Held] = {}
        self._link: KafkaLink | None = None
        self._stop = threading.Event()
        self._challenger = challenger
        self._use(model)

    def _use(self, model: Model) -> None:
        """Let a model decide from here on."""
        self._model = model
        self._memo = ScoreMemo(model.encoding, model.score)
        self._policy = policy = self._config.policy(model.threshold, model.reference)
        if policy.review_threshold is not None and policy.review_threshold >= policy.threshold:
            _LOG.warning(
                "scores from %s on block, so the review threshold of %s reviews nothing: expected less",
                policy.threshold,
                policy.review_threshold,
            )
        self._metrics.model.info(msgspec.structs.asdict(model.reference))

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, then leave the group.

        Raises:
            StateRefusedError: the stored state can't be used; an operator is needed.
            TopicsUnfitError: the topics can't be used; an operator is needed.
            KafkaError: the broker refuses this client for good.
        """
        failures = 0
        self._stop = stop
        try:
            while not stop.is_set():
                try:
                    if self._turn() or not failures or self._caught_up():
                        self._heartbeat.beat()  # else nothing was committed since a failure: no progress
                        failures = 0
                    continue
                except BatchAbortedError as error:
                    self._recover("retry", error, self._rewind)
                except MemberFencedError as error:
                    self._recover("rejoin", error, self._disconnect)
                except (OutcomeUnknownError, RetriableError, SaslAuthenticationFailedError) as error:
                    # A password that was rotated: new clients read its file anew, or are told why they are refused.
                    self._recover("restore", error, self._disconnect)
                except StoppedError:
                    break
                failures += 1
                stop.wait(min(_MAX_BACKOFF_S, _MIN_BACKOFF_S * 2**failures))
        finally:
            self._disconnect()

    def _turn(self) -> bool:
        """Take one batch from the input to the outputs, all of it or nothing; tell whether there was one."""
        link, timed = self._connect(), self._metrics.timed
        with timed("poll"):
            records = link.membership.poll()
        with timed("settle"):
            records = self._settle(link, records)
        if (fresh := self._fresh_model()) is not None:
            self._use(fresh)
        if not records:
            return False
        for source in records:
            self._expose(link, source)  # before the commit: if that fails, the lag must be seen
        member = link.membership.identity()
        with timed("decode"):
            decoded = [self._decode(source, records[source]) for source in records]
        with timed("stage"):
            staged = [self._stage(one) for one in decoded]
        with timed("score"):
            scores = self._score(staged)
        with timed("decide"):
            decided = [self._decide(*each) for each in zip(decoded, staged, scores, strict=True)]
        with timed("shadow"):
            decided = [self._shadow(*each) for each in zip(decided, decoded, staged, scores, strict=True)]
        with timed("explain"):
            decided = [self._explain(outcome) for outcome in decided]
        with timed("commit"):
            self._commit(link, decoded, decided, member)
        with timed("apply"):
            for one, outcome in zip(decoded, decided, strict=True):
                self._apply(one.source, outcome)
        self._count(link, records, decoded, staged, decided)
        return True

    # The phases, in their order.

    def _settle(self, link: KafkaLink, records: Records) -> Records:
        """Drop the partitions that went, restore those that came; return the records if nothing changed."""
        dropped, gained = link.membership.settle(set(self._held))
        if dropped or gained:
            for source in dropped:
                del self._held[source]
                self._metrics.forget(source.partition)
            if gained:
                grow_state_topic(link.admin, self._config)
            for source in sorted(gained):
                self._held[source] = self._restore(link, source)
                self._expose(link, source)
                self._heartbeat.beat()
            self._metrics.assigned_partitions.set(len(self._held))
            _LOG.info("holding partitions %s", sorted(source.partition for source in self._held))
            self._rewind()  # restoring takes time, in which the group may have moved on: what was read is read again
            records = {}
        link.owners.check()
        self._heartbeat.ready = self._heartbeat.ready or link.membership.joined
        return records

    def _restore(self, link: KafkaLink, source: TopicPartition) -> _Held:
        config, consumer = self._config, link.membership.consumer
        tell = Progress(link.membership, self._go_on)
        log_bytes: int | None
        with self._metrics.restore_seconds.time():
            try:
                partition, log_bytes = link.state_reader.restore(link.membership, source, tell)
            except StateRefusedError as refusal:
                if not config.rebuild_from_input:
                    raise
                _LOG.warning("%s[%d] is rebuilt from the input: %s", *source, refusal)
                partition = rebuild(
                    source, refusal.next_offset, model=self._model, config=config, admin=link.admin, tell=tell
                )
                log_bytes = None
        self._metrics.lost_offsets.inc(skip_lost(consumer, source, partition))
        link.membership.seek(source, partition.next_offset)
        state = StateWriter(
            config.snapshot_ratio, config.snapshot_min_bytes, self._model.encoding.fingerprint, log_bytes
        )
        return _Held(partition, state)

    def _go_on(self) -> None:
        """Tell the watchdog that a restore goes on, and hear a stop in the middle of it."""
        self._heartbeat.beat()
        if self._stop.is_set():
            raise StoppedError

    def _decode(self, source: TopicPartition, records: Sequence[Any]) -> _Decoded:
        expected = self._held[source].partition.next_offset
        if records[0].offset < expected:
            raise BatchAbortedError(f"offset {records[0].offset} came again, expected {expected} or later")
        entries: list[Entry] = []
        letters: list[DeadLetter] = []
        knows, limits = self._model.encoding.knows, self._event_limits
        for record in records:
            decoded = decode(record, knows, limits)
            if isinstance(decoded, DeadLetter):
                letters.append(decoded)
            else:
                entries.append(Entry(record.offset, max(0, record.timestamp), decoded))
        return _Decoded(source, records[-1].offset + 1, entries, letters)

    def _stage(self, decoded: _Decoded) -> Staged:
        partition = self._held[decoded.source].partition
        return stage(partition, decoded.entries, self._model.encoding, self._session_limits)

    def _score(self, staged: Sequence[Staged]) -> list[list[float]]:
        """Score the windows of all partitions in one call."""
        scores = self._memo.scores([candidate.steps for one in staged for candidate in one.candidates])
        self._metrics.score.observe(scores)
        flat = iter(scores)
        return [list(itertools.islice(flat, len(one.candidates))) for one in staged]

    def _decide(self, decoded: _Decoded, staged: Staged, scores: Sequence[float]) -> Decided:
        return decide(
            self._held[decoded.source].partition,
            staged,
            scores,
            policy=self._policy,
            encoding=self._model.encoding,
            source=decoded.source,
            next_offset=decoded.next_offset,
            now_ms=self._now_ms,
        )

    def _shadow(
        self, decided: Decided, decoded: _Decoded, staged: Staged, scores: Sequence[float]
    ) -> Decided:
        if self._challenger is None:
            return decided
        return shadowed(
            decided,
            self._held[decoded.source].partition,
            staged,
            self._challenger,
            champion_scores=scores,
            champion=self._policy,
            encoding=self._model.encoding,
            source=decoded.source,
            now_ms=self._now_ms,
        )

    def _explain(self, decided: Decided) -> Decided:
        return explained(decided, self._model.encoding, self._memo)

    def _commit(
        self,
        link: KafkaLink,
        decoded: Sequence[_Decoded],
        decided: Sequence[Decided],
        member: ConsumerGroupMetadata,
    ) -> None:
        """Publish everything the batch comes to and commit its offsets, in one transaction."""
        config = self._config
        records = [record for outcome in decided for record in alert_records(outcome, config)]
        records += [dead_letter_record(letter, config) for one in decoded for letter in one.letters]
        begun = [one.source for one in decoded if self._held[one.source].policy is not self._policy]
        for source in begun:
            records.append(
                epoch_record(source, self._held[source].partition.next_offset, self._policy, config)
            )
        written = []
        for one, outcome in zip(decoded, decided, strict=True):
            held = self._held[one.source]
            snapshot, delta = held.state.values(held.partition, outcome.delta)
            written.append((one.source, held.state, snapshot, delta, len(records)))
            records += [state_record(one.source, value, config) for value in (*snapshot, *delta)]
        try:
            published = link.transactor.commit(
                records, {one.source: one.next_offset for one in decoded}, member
            )
        except Exception as error:
            self._metrics.transactions.labels(type(error).__name__).inc()
            raise
        self._metrics.transactions.labels("committed").inc()
        for source in begun:
            self._held[source].policy = self._policy
        for source, state, snapshot, delta, first in written:
            state.committed(snapshot, delta)
            self._metrics.state_bytes.labels("delta").inc(sum(map(len, delta)))
            if snapshot:
                self._metrics.state_bytes.labels("snapshot").inc(sum(map(len, snapshot)))
                link.cut_state_log(source.partition, published[first])

    def _apply(self, source: TopicPartition, decided: Decided) -> None:
        partition = self._held[source].partition
        was_open = partition.breaker.is_open
        partition.apply(decided.delta)
        if decided.trips:
            _LOG.error(
                "%s[%d]: the circuit breaker opened: too many sessions reach the threshold of model %s. Until it "
                "closes they are published for review and not blocked; see 'Circuit breaker' in docs/operations.md",
                *source,
                self._model.reference.name,
            )
        if (was_open or decided.trips) and not partition.breaker.is_open:
            _LOG.warning("%s[%d]: the circuit breaker closed: sessions are blocked again", *source)

    def _count(
        self,
        link: KafkaLink,
        records: Records,
        decoded: Sequence[_Decoded],
        staged: Sequence[Staged],
        decided: Sequence[Decided],
    ) -> None:
        """Count a committed batch."""
        metrics, now_ms = self._metrics, self._now_ms()
        metrics.batch(sum(len(records[source]) for source in records))
        for one, stage_of_one, outcome in zip(decoded, staged, decided, strict=True):
            metrics.partition_batch(stage_of_one, outcome, one.letters)
            self._expose(link, one.source)
            for alert in outcome.alerts:
                metrics.alert_latency_seconds.observe(max(0, now_ms - alert.received_at_ms) / 1000)
                if _LOG.isEnabledFor(logging.DEBUG):
                    session, account = self._pseudonym(alert.session_id), self._pseudonym(alert.account_id)
                    _LOG.debug(
                        "%s session %s of account %s: %s", alert.decision, session, account, alert.cause
                    )

    def _expose(self, link: KafkaLink, source: TopicPartition) -> None:
        """Expose a partition's state, and its lag as far as the last answer of the broker told."""
        partition = self._held[source].partition
        highwater = link.membership.consumer.highwater(source) or partition.next_offset
        self._metrics.partition(source.partition, partition, lag=max(0, highwater - partition.next_offset))

    # The recoveries.

    def _recover(self, kind: str, error: Exception, action: Callable[[], None]) -> None:
        self._metrics.recoveries.labels(kind).inc()
        _LOG.warning("%s: %s: %s", kind, type(error).__name__, error)
        action()

    def _rewind(self) -> None:
        """Read again from where the state is: nothing of the batch was committed or applied."""
        if self._link is not None:
            for source, held in self._held.items():
                self._link.membership.seek(source, held.partition.next_offset)

    def _caught_up(self) -> bool:
        """Tell whether everything held was read to its end; so if nothing is held."""
        link = self._link
        return link is not None and all(link.membership.at_end(source) for source in self._held)

    def _connect(self) -> KafkaLink:
        if self._link is None:
            try:
                self._link = KafkaLink(self._config, self._model.encoding.fingerprint)
            except KafkaError:
                self._heartbeat.beat()  # a broker that is away is no reason to end: nothing here would mend it
                raise
        return self._link

    def _disconnect(self) -> None:
        """Drop everything held and leave the group; the next turn joins it anew and restores."""
        self._heartbeat.ready = False
        for source in self._held:
            self._metrics.forget(source.partition)
        self._held.clear()
        self._metrics.assigned_partitions.set(0)
        if self._link is not None:
            self._link.close()
            self._link = None
