"""The relay of verdicts: from their topic into every partition of the input, each once.

    poll → settle → decode → commit

A partition's decisions depend on its own log alone, so a verdict has to lie there, between the events, as a listing does.
What is published and how far the verdicts were read is one transaction; so a relay that is killed at any moment, or
joined by another, neither loses a verdict nor repeats one. It keeps no state but that.
"""

import logging
import threading
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import replace

import msgspec
from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import KafkaError, RetriableError, SaslAuthenticationFailedError

from detector.connection import access_explained, client_options
from detector.contract.dead_letters import DeadLetter, Reason
from detector.contract.topics import MAX_SMALL_BYTES, verdicts_specifications
from detector.contract.verdicts import encode_verdict
from detector.runtime.config import DetectorConfig
from detector.runtime.decoding import decode_verdict_record
from detector.runtime.health import Heartbeat
from detector.runtime.lag import EndsOfBrokers, LagMeter
from detector.runtime.membership import Membership, Records
from detector.runtime.metrics import RelayMetrics
from detector.runtime.outputs import dead_letter_record
from detector.runtime.recovery import (
    BatchAbortedError,
    MemberFencedError,
    OutcomeUnknownError,
    RecordRefusedError,
    TopicsUnfitError,
)
from detector.runtime.topics import create_missing, input_partitions, partition_count
from detector.runtime.transaction import OutputRecord, Transactor, in_every_partition

_LOG = logging.getLogger(__name__)
_VERDICTS_A_TRANSACTION = 500
_MIN_BACKOFF_S = 0.05
_MAX_BACKOFF_S = 5.0
_RECOVERABLE = (
    BatchAbortedError,
    MemberFencedError,
    OutcomeUnknownError,
    RetriableError,
    SaslAuthenticationFailedError,
)


class VerdictRelay:
    """One relay; several share the partitions of the verdicts.

    Args:
        config: names broker and topics. The group is called `<input-topic>.verdicts`.
        metrics: counted into after each commit.
        heartbeat: beaten in each turn that succeeds, and while no broker answers.

    Attributes:
        relayed: verdicts published so far.
        refused: records that went to the dead letters, `<verdicts-topic>.dlq`.
    """

    def __init__(self, config: DetectorConfig, metrics: RelayMetrics, heartbeat: Heartbeat) -> None:
        self._input_topic = config.input_topic
        # To its clients the verdicts are the input.
        self._config = replace(
            config,
            input_topic=config.verdicts_topic,
            verdicts_topic=config.input_topic,
            group=relay_group(config),
            batch_max_events=_VERDICTS_A_TRANSACTION,
            # With its key a dead letter is no larger than its topic takes, which is made for verdicts and not for events.
            max_dead_letter_bytes=MAX_SMALL_BYTES - config.max_event_bytes,
        )
        self._metrics, self._heartbeat = metrics, heartbeat
        self._lag = LagMeter(EndsOfBrokers(config.bootstrap_servers, self._config.group), metrics.lags)
        self._clients: tuple[KafkaAdminClient, Transactor, Membership] | None = None
        self._open = ExitStack()
        self._next: dict[TopicPartition, int] = {}  # of the partitions held, where their verdicts go on
        self.relayed = self.refused = 0

    def run(self, stop: threading.Event, most: int | None = None) -> None:
        """Relay until `stop` is set, or so many records were read.

        Raises:
            TopicsUnfitError: a topic is missing, or takes no record as large as one of these.
            KafkaError: the broker refuses this client for good.
        """
        failures = 0
        try:
            while not stop.is_set() and (most is None or self.relayed + self.refused < most):
                try:
                    self._turn(None if most is None else most - self.relayed - self.refused)
                    self._heartbeat.beat()
                    failures = 0
                except RecordRefusedError as error:
                    raise TopicsUnfitError(f"{error} and start again; nothing is lost") from error
                except _RECOVERABLE as error:
                    _LOG.warning("beginning anew: %s: %s", type(error).__name__, error)
                    self._close()
                    failures += 1
                    stop.wait(min(_MAX_BACKOFF_S, _MIN_BACKOFF_S * 2**failures))
        finally:
            self._close()
            self._lag.close()

    def _turn(self, most: int | None) -> None:
        """Take what came from the verdicts to the input, or so many of it: all of that or nothing."""
        admin, transactor, membership = self._clients or self._connect()
        self._lag.heed(self._next.keys(), membership.position)
        records = self._settle(membership, membership.poll())
        self._heartbeat.ready = self._heartbeat.ready or membership.joined
        if not records:
            return
        if most is not None:  # with the last ones the run ends: what is behind them is read by the next
            records = _first(records, most)
        member = membership.identity()
        partitions = partition_count(admin, self._input_topic)
        outputs, relayed, refused = list[OutputRecord](), 0, Counter[Reason]()
        for source, read in records.items():
            for record in read:
                decoded = decode_verdict_record(record, self._config.event_limits)
                if isinstance(decoded, DeadLetter):
                    _LOG.warning(  # the detail may hold ids
                        "%s[%d] at offset %d is no verdict: %s", *source, record.offset, decoded.reason.value
                    )
                    outputs.append(dead_letter_record(decoded, self._config, source))
                    refused[decoded.reason] += 1
                else:
                    # What was written for people stays where it is.
                    value = encode_verdict(msgspec.structs.replace(decoded, why=""))
                    key = decoded.account_id.encode()
                    outputs += in_every_partition(self._input_topic, key, value, partitions)
                    relayed += 1
        ends = {source: read[-1].offset + 1 for source, read in records.items()}
        transactor.commit(outputs, ends, member)
        self._next |= ends
        self.relayed += relayed
        self.refused += refused.total()
        self._metrics.verdicts.inc(relayed)
        for reason, count in refused.items():
            self._metrics.dead_letters.labels(reason).inc(count)
        _LOG.info("%d verdicts relayed into %d partitions, %d refused", relayed, partitions, refused.total())

    def _settle(self, membership: Membership, records: Records) -> Records:
        """Take note of which partitions went and came; return the records if none did."""
        dropped, gained = membership.settle(set(self._next))
        if not (dropped or gained):
            return records
        for source in dropped:
            self._next.pop(source, None)
        for source in gained:
            # The broker answers once no transaction of an earlier owner is open on it (KIP-447).
            committed = membership.consumer.committed(source)
            first = membership.consumer.beginning_offsets([source])[source]
            self._next[source] = max(committed or 0, first)
        for source, offset in self._next.items():
            membership.seek(source, offset)
        return {}

    def _connect(self) -> tuple[KafkaAdminClient, Transactor, Membership]:
        config, name = self._config, self._config.worker_name
        self._heartbeat.beat()  # a broker that is away is no reason to end: nothing here would mend it
        with access_explained():
            admin = self._open.enter_context(
                closing(KafkaAdminClient(**client_options(config.bootstrap_servers)))
            )
        partitions = input_partitions(admin, self._input_topic, config.bootstrap_servers)
        create_missing(admin, config, verdicts_specifications(config.input_topic, partitions))
        transactor = self._open.enter_context(closing(Transactor(config, name)))
        membership = self._open.enter_context(closing(Membership(config, name)))
        self._clients = admin, transactor, membership
        return self._clients

    def _close(self) -> None:
        self._heartbeat.ready = False
        self._next.clear()
        self._lag.heed(self._next.keys(), lambda _: None)
        self._clients = None
        try:
            self._open.close()
        except KafkaError as error:
            _LOG.warning("a client did not close cleanly: %s", error)


def _first(records: Records, most: int) -> Records:
    """Return so many of the records, of each partition the first."""
    kept: Records = {}
    for source, read in records.items():
        if most > 0:
            kept[source] = read[:most]
            most -= len(kept[source])
    return kept


def relay_group(config: DetectorConfig) -> str:
    """Return the group that the relays of an input topic are."""
    return f"{config.input_topic}.verdicts"
