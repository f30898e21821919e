"""Deciding a log again as it was decided: each part of it by the model that was in service then, under the settings of then."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cache

import msgspec
from kafka import TopicPartition

from detector.client.reading import Batch, committed_span, log_reader, read
from detector.contract.epochs import ModelEpoch, decode_epoch
from detector.core.decision import Policy
from detector.core.partition import Partition
from detector.core.shadowing import Challenger
from detector.model.artifact import ModelRefusedError, UnknownActions
from detector.model.at_hand import ModelsAtHand
from detector.model.rules import Rules
from detector.runtime.config import DECIDING, DetectorConfig
from detector.runtime.processing import Processed, Processor, processor_of
from detector.runtime.recovery import TopicsUnfitError
from detector.runtime.replaying import replay

Epochs = Mapping[TopicPartition, Sequence[ModelEpoch]]


def epoch_of(
    source: TopicPartition,
    from_offset: int,
    policy: Policy,
    config: DetectorConfig,
    rules: Rules | None = None,
) -> ModelEpoch:
    """Return the epoch that begins where a policy, and rules beside it, decide from `from_offset` on."""
    settings = {name: getattr(config, name) for name in DECIDING}
    settings |= {
        "threshold": policy.threshold,
        "challenge_threshold": policy.challenge_threshold,
        "review_threshold": policy.review_threshold,
    }
    return ModelEpoch(
        topic=source.topic,
        partition=source.partition,
        from_offset=from_offset,
        model=policy.model,
        rules=None if rules is None else rules.text,
        **settings,
    )


def epochs_of_group(config: DetectorConfig) -> Epochs:
    """Read which model decided from which offset on, by partition and in the order of the offsets.

    Raises:
        TopicsUnfitError: there is no topic of model epochs, or something else is in it.
        KafkaError: the broker can't be reached or refuses.
    """
    epochs: dict[TopicPartition, list[ModelEpoch]] = defaultdict(list)
    with closing(log_reader(config.bootstrap_servers)) as consumer:
        committed = committed_span(consumer, config.models_topic)
        if not committed:
            raise TopicsUnfitError(
                f"no topic {config.models_topic!r} at {config.bootstrap_servers}: expected the group's model epochs"
            )
        for batch in read(consumer, committed):
            for records in batch.values():
                for record in records:
                    try:
                        _add(decode_epoch(record.value or b""), epochs)
                    except msgspec.DecodeError as error:
                        raise TopicsUnfitError(
                            f"{record.topic}[{record.partition}] at offset {record.offset} is no model epoch ({error}): "
                            "expected what the detector wrote; nobody else may write there (`detector permissions`). "
                            "`kafka-delete-records` takes it away, with all before it"
                        ) from error
    return epochs


def _add(epoch: ModelEpoch, epochs: dict[TopicPartition, list[ModelEpoch]]) -> None:
    known = epochs[TopicPartition(epoch.topic, epoch.partition)]
    while known and known[-1].from_offset >= epoch.from_offset:
        known.pop()  # a group whose offsets were put back decided anew from there
    known.append(epoch)


def decided_by_epochs(
    batches: Iterable[Batch],
    models: ModelsAtHand,
    epochs: Epochs,
    config: DetectorConfig,
    partitions: dict[TopicPartition, Partition] | None = None,
    challenger: Challenger | None = None,
) -> Iterator[Processed]:
    """Yield what the detector must have made of a log, whatever models and settings were in service when.

    Args:
        batches: records by partition, each partition's in the order of the log.
        models: that decided.
        epochs: as `epochs_of_group` returns them. What comes before the first of a partition is left out.
        config: settings that epochs of before they were recorded don't have.
        partitions: live sessions to go on from, by partition; changed. New ones without it.
        challenger: scores the same windows in shadow.

    Raises:
        ModelMissingError: a model that decided is not at hand.
        ModelRefusedError: a model has no unknown token, and one was in use; or it reads other steps than the one before.
        RulesRefusedError: rules decided, and what compiles them is not installed.
    """
    partitions, fingerprints = {} if partitions is None else partitions, dict[TopicPartition, bytes]()

    @cache
    def processor(epoch: ModelEpoch) -> Processor:
        of_then = config_of(epoch, config)
        model = models.of(epoch.model).treating(UnknownActions(of_then.unknown_actions))
        rules = None if epoch.rules is None else Rules(epoch.rules, model.encoding, "the rules of an epoch")
        return processor_of(model, of_then, rules=rules, challenger=challenger)

    for batch in batches:
        for source, records in batch.items():
            for begin, end, epoch in spans(epochs.get(source, ())):
                if part := [record for record in records if begin <= record.offset < end]:
                    fingerprint = processor(epoch).pipeline.encoding.fingerprint
                    if fingerprints.setdefault(source, fingerprint) != fingerprint:
                        raise ModelRefusedError(
                            f"{source.topic}[{source.partition}]: from offset {begin} on model {epoch.model} "
                            "decided, which reads another vocabulary, window, gap buckets or signals "
                            "than the one before. State was rebuilt there from what the input held then, which is not known "
                            "any more: expected models of the same steps"
                        )
                    yield from replay([{source: part}], processor(epoch), partitions)


def spans(epochs: Sequence[ModelEpoch]) -> Iterator[tuple[int, float, ModelEpoch]]:
    """Yield from which offset of its partition on, and up to which, each epoch holds."""
    for number, epoch in enumerate(epochs):
        yield (
            epoch.from_offset,
            epochs[number + 1].from_offset if number + 1 < len(epochs) else float("inf"),
            epoch,
        )


def config_of(epoch: ModelEpoch, config: DetectorConfig) -> DetectorConfig:
    """Return the settings of an epoch; those that it does not record are `config`'s."""
    recorded = {name: getattr(epoch, name) for name in DECIDING}
    settings = {name: value for name, value in recorded.items() if value is not None}
    challenge, review = epoch.challenge_threshold or 0.0, epoch.review_threshold or 0.0
    # What begins where a weightier decision does, as a model may bring it with it, decides nothing.
    challenge = challenge if challenge < epoch.threshold else 0.0
    review = review if review < (challenge or epoch.threshold) else 0.0
    return replace(config, **settings | {"challenge_threshold": challenge, "review_threshold": review})
