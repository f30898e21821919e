"""The oracle of a run: what must have come of its log, given what was done to the cluster that no log tells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from kafka import TopicPartition

from detector.client.reading import Batch
from detector.contract.alerts import Alert
from detector.contract.dead_letters import DeadLetter
from detector.core.breaker import BreakerState
from detector.core.partition import Partition
from detector.core.session import BLOCKED, HEAD_BYTES, REACHED, head, pack
from detector.model.artifact import Model
from detector.runtime import epochs
from detector.runtime.processing import Processed, Processor, challenger_of, processor_of
from detector.runtime.recovery import Origin
from detector.runtime.replaying import batches_of_topic
from tests.chaos.cluster import Cluster

Refused = Mapping[Origin, str]
"""Why what came of records of the input was refused by its topic, as the dead letters tell."""


@dataclass(slots=True)
class Expected:
    """What must have come of a log.

    Attributes:
        alerts: in the order of each partition.
        shadow_alerts: the challenger's.
        letters: dead letters.
        partitions: where each stands at the end.
        needless: records that were refused, though nothing came of them.
        rebuilt: partition and id of the sessions that were live when theirs was rebuilt, and the input offset then:
            what the challenger said of them before is forgotten (docs/guarantees.md).
    """

    alerts: list[Alert] = field(default_factory=list)
    shadow_alerts: list[Alert] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    partitions: dict[TopicPartition, Partition] = field(default_factory=dict)
    needless: int = 0
    rebuilt: dict[tuple[int, str], int] = field(default_factory=dict)


class _Watching:
    """A processor that knows what topics refused, and sees which sessions are live at a rebuild."""

    def __init__(
        self,
        processor: Processor,
        refused: Refused,
        rebuilds: Sequence[tuple[TopicPartition, int]],
        expected: Expected,
        forgotten: set[tuple[TopicPartition, int]],
    ) -> None:
        self._processor = processor
        self.pipeline = processor.pipeline
        self._refused = refused
        self._rebuilds = rebuilds
        self._expected = expected
        self._forgotten = forgotten

    def process(self, batch: Batch, partitions: Mapping[TopicPartition, Partition]) -> list[Processed]:
        """Process as the detector must have done, one partition's records at a time."""
        ((source, records),) = batch.items()
        for rebuilt in self._rebuilds:
            if rebuilt[0] == source and rebuilt[1] <= records[0].offset and rebuilt not in self._forgotten:
                self._forgotten.add(rebuilt)
                _forget(partitions[source])
        for record in records:
            if (source, record.offset) in self._refused:
                self._expected.needless += not self._comes_to_something(batch, partitions, source, record)
        processed = self._processor.process(batch, partitions, self._refused)
        for rebuilt, at in self._rebuilds:
            if rebuilt == source and records[0].offset <= at <= records[-1].offset + 1:
                delta = processed[0].outcome.delta
                for session_id in partitions[source].sessions.keys() | delta.touched.keys():
                    self._expected.rebuilt.setdefault((source.partition, session_id), at)
        return processed

    def _comes_to_something(
        self,
        batch: Batch,
        partitions: Mapping[TopicPartition, Partition],
        source: TopicPartition,
        record: Any,
    ) -> bool:
        """Tell whether a record that was refused would have come to an alert or a dead letter."""
        others = {where: why for where, why in self._refused.items() if where != (source, record.offset)}
        (one,) = self._processor.process(batch, partitions, others)
        alerts = [*one.outcome.alerts, *one.outcome.shadow_alerts]
        return any(result.source.offset == record.offset for result in alerts) or any(
            letter.offset == record.offset for letter in one.letters
        )


def _forget(partition: Partition) -> None:
    """Forget what a rebuild does, where an epoch begins: the breaker, and who reached the threshold without a block."""
    partition.breaker = BreakerState()
    for key, packed in partition.sessions.items():
        last_ms, touched_ms, actions, steps_end, _, marks = head(packed)
        if marks & (BLOCKED | REACHED) == REACHED:
            bare = pack(last_ms, touched_ms, actions, marks & ~REACHED, packed[HEAD_BYTES:steps_end], b"")
            partition.sessions[key] = bare + packed[steps_end:]


def expect(cluster: Cluster, challenging: Model, refused: Refused) -> Expected:
    """Return what must have come of a cluster's log.

    Args:
        cluster: whose input was processed to its end.
        challenging: the model in shadow.
        refused: what topics refused.
    """
    config, notes, expected = cluster.config, cluster.notes, Expected()
    challenger = challenger_of(challenging, config)
    forgotten: set[tuple[TopicPartition, int]] = set()

    def watching(*arguments: Any, **named: Any) -> _Watching:
        return _Watching(processor_of(*arguments, **named), refused, notes.rebuilds, expected, forgotten)

    with patch.object(epochs, "processor_of", watching):
        for made in epochs.decided_by_epochs(
            batches_of_topic(config),
            cluster.models(),
            epochs.epochs_of_group(config),
            config,
            expected.partitions,
            challenger,
        ):
            expected.alerts += made.outcome.alerts
            expected.shadow_alerts += made.outcome.shadow_alerts
            expected.letters += made.letters
    return expected
