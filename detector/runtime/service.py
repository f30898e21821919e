"""The detector: the loop that is the heart of the product, and its recoveries.

    poll → settle → process (decode → stage → score → decide → shadow → reason) → commit → apply

Everything a batch changes is staged beside the state, committed to Kafka in one transaction (alerts, dead
letters, state, input offsets), and applied only then.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from kafka import TopicPartition
from kafka.errors import KafkaError, RetriableError, SaslAuthenticationFailedError
from kafka.structs import ConsumerGroupMetadata

from detector.contract.headers import utc
from detector.core.breaker import told_of_opening
from detector.core.partition import Partition
from detector.core.shadowing import Challenger
from detector.model.artifact import Model
from detector.model.rules import Rules
from detector.runtime.config import DetectorConfig
from detector.runtime.epochs import epoch_of
from detector.runtime.health import Heartbeat
from detector.runtime.lag import EndsOfBrokers, LagMeter
from detector.runtime.link import KafkaLink
from detector.runtime.membership import Records
from detector.runtime.metrics import DetectorMetrics
from detector.runtime.notices import Notices
from detector.runtime.outputs import epoch_record, output_records, state_record
from detector.runtime.processing import Processed, Processor, needless, processor_of
from detector.runtime.rebuilding import rebuild
from detector.runtime.recovery import (
    BatchAbortedError,
    MemberFencedError,
    OutcomeUnknownError,
    RecordRefusedError,
    StateRefusedError,
    StoppedError,
)
from detector.runtime.refusals import Refusals
from detector.runtime.restored_state import LogEnd
from detector.runtime.restoring import Progress, skip_lost
from detector.runtime.state_writer import StateWriter
from detector.runtime.topics import grow_state_topic

_LOG = logging.getLogger(__name__)
_MIN_BACKOFF_S = 0.05
_MAX_BACKOFF_S = 5.0


@dataclass(slots=True)
class _Held:
    """A partition of this worker's, and what was last committed as that which decides it."""

    partition: Partition
    state: StateWriter
    processor: Processor | None = None


class Detector:
    """One worker.

    Args:
        config: all settings.
        model: scores and names itself on the alerts.
        metrics: counted into after each commit.
        challenger: scores the same windows in shadow; it reads the same steps.
        rules: are asked beside the model.
        heartbeat: beaten whenever a turn of the loop succeeds, and while a partition is restored.
        fresh_model: asked in each turn, before its batch, for the model to go on with; None keeps the one in service.
            It reads the same steps.
        fresh_rules: likewise, for the rules.
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
        rules: Rules | None = None,
        fresh_rules: Callable[[], Rules | None] = lambda: None,
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._heartbeat = heartbeat
        self._fresh_model, self._fresh_rules = fresh_model, fresh_rules
        self._pseudonym = pseudonym
        self._now_ms = now_ms
        self._held: dict[TopicPartition, _Held] = {}
        self._refusals = Refusals(config)
        self._notices = Notices(pseudonym)
        self._link: KafkaLink | None = None
        self._lag = LagMeter(EndsOfBrokers(config.bootstrap_servers, config.group), metrics.lags)
        self._stop = threading.Event()
        self._challenger = challenger
        self._use(model, rules)

    def _use(self, model: Model, rules: Rules | None) -> None:
        """Let a model decide from here on, and rules beside it."""
        self._model, self._rules = model, rules
        self._processor = self._processor_of(model)
        for wrong in needless(model, self._config):
            _LOG.warning(wrong)
        self._metrics.drift.watch(model.watched, self._config.drift_window_ms)
        self._metrics.rules(rules.rules if rules else ())
        self._metrics.model.info(msgspec.structs.asdict(model.reference))
        for field in model.encoding.signals.fields:
            self._metrics.absent_fields.labels(field)  # at 0 from the start

    def _processor_of(self, model: Model) -> Processor:
        return processor_of(
            model,
            self._config,
            rules=self._rules,
            challenger=self._challenger,
            watched=model.watched,
            now_ms=self._now_ms,
            timed=self._metrics.timed,
        )

    def _fit(self, partitions: int) -> None:
        """Share out what is this worker's among as many partitions as the input has."""
        if partitions != self._config.partitions:
            self._config = replace(self._config, partitions=partitions)
            self._processor = self._processor_of(self._model)

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, then leave the group.

        Raises:
            ProcessingError: a record can't be processed, and the settings say to stop.
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
                except RecordRefusedError as error:
                    learned = self._refusals.learn(error)
                    self._recover("retry", error, self._produce_anew)
                    if learned:  # less is refused at the next attempt, which has nothing to wait for
                        self._heartbeat.beat()
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
            self._lag.close()

    def _turn(self) -> bool:
        """Take one batch from the input to the outputs, all of it or nothing; tell whether there was one."""
        link, timed = self._connect(), self._metrics.timed
        self._lag.heed(self._held.keys(), link.membership.position)
        with timed("poll"):
            records = link.membership.poll()
        with timed("settle"):
            records = self._settle(link, records)
        fresh, fresh_rules = self._fresh_model(), self._fresh_rules()
        if fresh is not None or fresh_rules is not None:
            self._use(fresh or self._model, fresh_rules or self._rules)
        if not records:
            return False
        for source, read in records.items():
            self._check(source, read)
        member = link.membership.identity()
        processed = self._refusals.process(self._processor, records, self._partitions())
        with timed("commit"):
            self._commit(link, processed, member)
        with timed("apply"):
            for one in processed:
                self._apply(one)
        self._count(processed)
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
                self._fit(grow_state_topic(link.admin, self._config))
            for source in sorted(gained):
                self._held[source] = self._restore(link, source)
                self._expose(source)
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
        log: LogEnd | None
        with self._metrics.restore_seconds.time():
            try:
                partition, log = link.state_reader.restore(link.membership, source, tell)
            except StateRefusedError as refusal:
                if not config.rebuild_from_input:
                    raise
                _LOG.warning("%s[%d] is rebuilt from the input: %s", *source, refusal)
                partition = rebuild(
                    source,
                    refusal.next_offset,
                    processor=self._processor,
                    config=config,
                    admin=link.admin,
                    tell=tell,
                )
                log = None
        self._metrics.lost_offsets.inc(skip_lost(consumer, source, partition))
        link.membership.seek(source, partition.next_offset)
        encoding = self._model.encoding.fingerprint
        state = StateWriter(config.snapshot_ratio, config.snapshot_min_bytes, encoding, partition, log)
        return _Held(partition, state)

    def _go_on(self) -> None:
        """Tell the watchdog that a restore goes on, and hear a stop in the middle of it."""
        self._heartbeat.beat()
        if self._stop.is_set():
            raise StoppedError

    def _partitions(self) -> dict[TopicPartition, Partition]:
        return {source: held.partition for source, held in self._held.items()}

    def _check(self, source: TopicPartition, records: Sequence[Any]) -> None:
        expected = self._held[source].partition.next_offset
        if records[0].offset < expected:
            raise BatchAbortedError(f"offset {records[0].offset} came again, expected {expected} or later")

    def _commit(self, link: KafkaLink, processed: Sequence[Processed], member: ConsumerGroupMetadata) -> None:
        """Publish everything the batch comes to and commit its offsets, in one transaction."""
        config, policy = self._config, self._processor.pipeline.policy
        records = [
            record for one in processed for record in output_records(one, config, self._refusals.known)
        ]
        begun = [one.source for one in processed if self._held[one.source].processor is not self._processor]
        for source in begun:
            served = config.served_with(self._model.idle_timeout_ms)
            begins = self._held[source].partition.next_offset
            epoch = epoch_of(source, begins, policy, served, self._rules)
            records.append(epoch_record(epoch, config))
        written = []
        for one in processed:
            held = self._held[one.source]
            snapshot, delta = held.state.values(held.partition, one.outcome.delta)
            written.append((one.source, held.state, snapshot, delta, len(records)))
            records += [state_record(one.source, value, config) for value in (*snapshot, *delta)]
        ends = {one.source: one.outcome.delta.next_offset for one in processed}
        try:
            published = link.transactor.commit(records, ends, member)
        except Exception as error:
            self._metrics.transactions.labels(type(error).__name__).inc()
            raise
        self._metrics.transactions.labels("committed").inc()
        for source in begun:
            self._held[source].processor = self._processor
        for source, state, snapshot, delta, first in written:
            self._metrics.state_bytes.labels("delta").inc(sum(map(len, delta)))
            self._metrics.state_bytes.labels("snapshot").inc(sum(map(len, snapshot)))
            cut = state.committed(published[first : first + len(snapshot) + len(delta)])
            if cut is not None:
                link.cut_state_log(source.partition, cut)

    def _apply(self, processed: Processed) -> None:
        source, trips = processed.source, processed.outcome.trips
        partition = self._held[source].partition
        was_open = partition.breaker.is_open
        partition.apply(processed.outcome.delta)
        if trips:
            state, blocking = partition.breaker, self._rules.blocking if self._rules else ()
            _LOG.error("%s[%d]: %s", *source, told_of_opening(state, self._model.reference, blocking))
        if (was_open or trips) and not partition.breaker.is_open:
            ended = utc(partition.stream_time_ms)
            _LOG.warning(
                "%s[%d]: the circuit breaker closed, by %s of event time: blocks block again", *source, ended
            )

    def _count(self, processed: Sequence[Processed]) -> None:
        """Count a committed batch."""
        metrics, now_ms = self._metrics, self._now_ms()
        metrics.batch(sum(one.records for one in processed))
        for one in processed:
            metrics.partition_batch(one)
            self._expose(one.source)
            self._notices.take(one)
            for alert in one.outcome.alerts:
                metrics.alert_latency_seconds.observe(max(0, now_ms - alert.received_at_ms) / 1000)
                if _LOG.isEnabledFor(logging.DEBUG):
                    session, account = self._pseudonym(alert.session_id), self._pseudonym(alert.account_id)
                    _LOG.debug(
                        "%s session %s of account %s: %s", alert.decision, session, account, alert.cause
                    )

    def _expose(self, source: TopicPartition) -> None:
        self._metrics.partition(source.partition, self._held[source].partition)

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

    def _produce_anew(self) -> None:
        """Read again from where the state is, and publish by another producer."""
        self._connect().produce_anew()
        self._rewind()

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
        self._lag.heed(self._held.keys(), lambda _: None)
        self._metrics.assigned_partitions.set(0)
        if self._link is not None:
            self._link.close()
            self._link = None
