"""The topics at the start: created where they are missing, held against each other where they are not."""

import logging
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from kafka import KafkaAdminClient
from kafka.admin import NewPartitions, NewTopic
from kafka.errors import InvalidPartitionsError, TopicAlreadyExistsError

from detector.connection import client_options
from detector.contract.topics import TopicSpecification, topic_specifications
from detector.runtime.config import DetectorConfig
from detector.runtime.recovery import TopicsUnfitError

_LOG = logging.getLogger(__name__)
_KNOWN_WITHIN_S = 10.0
_ASK_AGAIN_S = 0.05


def specifications(config: DetectorConfig) -> list[TopicSpecification]:
    """Return the topics the detector needs, its state topic included."""
    state = TopicSpecification(
        name=config.state_topic,
        partitions=config.partitions,
        # Old records are deleted once a snapshot replaces them, never by age or size.
        configs={"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"},
    )
    models = TopicSpecification(
        name=config.models_topic,
        partitions=config.partitions,
        configs={"retention.ms": "-1", "retention.bytes": "-1"},
    )
    shadow = TopicSpecification(name=config.shadow_topic, partitions=config.partitions, configs={})
    return [
        *topic_specifications(config.input_topic, config.alerts_topic, config.partitions),
        state,
        models,
        *([shadow] if config.shadow_model else []),
    ]


def ensure_topics(admin: KafkaAdminClient, config: DetectorConfig) -> None:
    """Create what is missing, and give the state topic as many partitions as the input has.

    Raises:
        TopicsUnfitError: a topic is missing and may not be created.
    """
    create_missing(admin, config, specifications(config))
    grow_state_topic(admin, config)


def create_missing(
    admin: KafkaAdminClient, config: DetectorConfig, wanted: Sequence[TopicSpecification]
) -> None:
    """Create those of the topics that are missing.

    Raises:
        TopicsUnfitError: a topic is missing and may not be created.
    """
    existing = set(admin.list_topics())
    missing = [one for one in wanted if one.name not in existing]
    if missing and not config.create_topics:
        names = ", ".join(one.name for one in missing)
        raise TopicsUnfitError(
            f"topics missing: {names}. Expected them to exist and to be this user's to describe, since "
            "--no-create-topics is set: create them as docs/operations.md lists them, allow what docs/security.md "
            "lists, or let the detector create them with --create-topics"
        )
    for one in missing:
        partitions = one.partitions
        if one.name == config.state_topic and config.input_topic in existing:
            partitions = partition_count(admin, config.input_topic)
        topic = NewTopic(one.name, partitions, config.replication_factor, topic_configs=one.configs)
        try:
            admin.create_topics([topic])
        except TopicAlreadyExistsError:
            continue  # another worker was quicker
        _LOG.info("created topic %s with %d partitions", one.name, partitions)
        until_s = time.monotonic() + _KNOWN_WITHIN_S
        while one.name not in admin.list_topics() and time.monotonic() < until_s:
            time.sleep(_ASK_AGAIN_S)  # brokers learn of it one after the other


def grow_state_topic(admin: KafkaAdminClient, config: DetectorConfig) -> int:
    """Give the state topic the input's number of partitions, after somebody added some to the input; return it."""
    wanted, present = (partition_count(admin, name) for name in (config.input_topic, config.state_topic))
    if present < wanted:
        try:
            admin.create_partitions({config.state_topic: NewPartitions(total_count=wanted)})
        except InvalidPartitionsError:
            return wanted  # it has them already: another worker was quicker, or the metadata lagged behind
        _LOG.info(
            "topic %s grown from %d to %d partitions, as the input", config.state_topic, present, wanted
        )
    return wanted


def fitted(config: DetectorConfig) -> DetectorConfig:
    """Return the settings for the input topic as it is, with its number of partitions; unchanged if there is none.

    Raises:
        KafkaError: the broker can't be reached or refuses.
    """
    with closing(KafkaAdminClient(**client_options(config.bootstrap_servers))) as admin:
        if config.input_topic not in admin.list_topics():
            return config
        return replace(config, partitions=partition_count(admin, config.input_topic))


def partition_count(admin: KafkaAdminClient, topic: str) -> int:
    """Return how many partitions a topic has."""
    return len(admin.describe_topics([topic])[0]["partitions"])
