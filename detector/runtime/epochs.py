"""Replaying a log as it was decided: each part of it by the model that was in service then."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from kafka import TopicPartition

from detector.client.consumer import Consumer
from detector.connection import client_options
from detector.contract.alerts import Alert
from detector.contract.dead_letters import DeadLetter
from detector.contract.epochs import ModelEpoch, decode_epoch
from detector.core.breaker import BreakerLimits
from detector.core.decision import Policy
from detector.core.partition import Partition
from detector.core.shadowing import Challenger
from detector.model.artifact import Model, load_model
from detector.runtime.config import DetectorConfig
from detector.runtime.recovery import TopicsUnfitError
from detector.runtime.replaying import Batch, replay

_POLL_TIMEOUT_MS = 200

Epochs = Mapping[TopicPartition, Sequence[ModelEpoch]]


class ModelMissingError(Exception):
    """A model decided a part of the log, and its file is not at hand. The message names it."""


def epochs_of_group(config: DetectorConfig) -> Epochs:
    """Read which model decided from which offset on, by partition and in the order of the offsets.

    Raises:
        TopicsUnfitError: there is no topic of models.
        KafkaError: the broker can't be reached or refuses.
    """
    epochs: dict[TopicPartition, list[ModelEpoch]] = defaultdict(list)
    consumer = Consumer(
        **client_options(config.bootstrap_servers),
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        allow_auto_create_topics=False,
    )
    with closing(consumer):
        numbers = consumer.partitions_for_topic(config.models_topic)
        if not numbers:
            raise TopicsUnfitError(
                f"no topic {config.models_topic!r} at {config.bootstrap_servers}: expected that of the group's models"
            )
        targets = [TopicPartition(config.models_topic, number) for number in sorted(numbers)]
        consumer.assign(targets)
        consumer.seek_to_beginning(*targets)
        ends = consumer.end_offsets(targets)
        while any(consumer.position(target) < end for target, end in ends.items()):
            for records in consumer.poll(timeout_ms=_POLL_TIMEOUT_MS).values():
                for record in records:
                    _add(decode_epoch(record.value), epochs)
    return epochs


def _add(epoch: ModelEpoch, epochs: dict[TopicPartition, list[ModelEpoch]]) -> None:
    known = epochs[TopicPartition(epoch.topic, epoch.partition)]
    while known and known[-1].from_offset >= epoch.from_offset:
        known.pop()  # a group whose offsets were put back decided anew from there
    known.append(epoch)


def replay_epochs(
    batches: Iterable[Batch],
    models: Mapping[str, Model],
    epochs: Epochs,
    config: DetectorConfig,
    dead_letter: Callable[[DeadLetter], None] = lambda _: None,
    partitions: dict[TopicPartition, Partition] | None = None,
    challenger: Challenger | None = None,
    shadow_alert: Callable[[Alert], object] = lambda _: None,
) -> Iterator[Alert]:
    """Yield the alerts that the detector must have published for a log, whatever models were put in service when.

    Args:
        batches: records by partition, each partition's in the order of the log.
        models: by the SHA-256 of their files, hexadecimal. All read the same steps.
        epochs: as `epochs_of_group` returns them. What comes before the first of a partition is left out.
        config: limits of events and sessions.
        dead_letter: called with each record that can't be scored.
        partitions: live sessions to go on from, by partition; changed. New ones without it.
        challenger: scores the same windows in shadow.
        shadow_alert: called with each alert of its.

    Raises:
        ModelMissingError: a model that decided is not among `models`.
    """
    partitions = {} if partitions is None else partitions
    for batch in batches:
        for source, records in batch.items():
            for begin, end, epoch in _spans(epochs.get(source, ())):
                part = [record for record in records if begin <= record.offset < end]
                if not part:
                    continue
                if epoch.model.sha256 not in models:
                    raise ModelMissingError(
                        f"model {epoch.model.name} {epoch.model.version} ({epoch.model.sha256}) decided "
                        f"{source.topic}[{source.partition}] from offset {epoch.from_offset} on: expected its file"
                    )
                yield from replay(
                    [{source: part}],
                    models[epoch.model.sha256],
                    config,
                    dead_letter,
                    partitions,
                    policy=_policy(epoch),
                    challenger=challenger,
                    shadow_alert=shadow_alert,
                )


def models_of(folder: Path) -> dict[str, Model]:
    """Load every model file of a folder, by the SHA-256 of the file.

    Raises:
        ModelRefusedError: one of them can't be used.
    """
    loaded = [load_model(path) for path in sorted(folder.glob("*.onnx"))]
    return {model.sha256: model for model in loaded}


def _spans(epochs: Sequence[ModelEpoch]) -> Iterator[tuple[int, float, ModelEpoch]]:
    for number, epoch in enumerate(epochs):
        yield (
            epoch.from_offset,
            epochs[number + 1].from_offset if number + 1 < len(epochs) else float("inf"),
            epoch,
        )


def _policy(epoch: ModelEpoch) -> Policy:
    breaker = BreakerLimits(epoch.breaker_max_block_share, epoch.breaker_min_blocks, epoch.breaker_window_ms)
    return Policy(
        epoch.threshold, epoch.model, epoch.review_threshold, breaker if breaker.max_block_share else None
    )
