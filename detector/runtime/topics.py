"""The topics at the start: created where they are missing, held against what rests on them where they are not."""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.errors import InvalidPartitionsError, TopicAlreadyExistsError

from detector.connection import AccessRefusedError, client_options, right_missing
from detector.contract.topics import (
    DEAD_LETTER_HEADERS_BYTES,
    MAX_SMALL_BYTES,
    TopicSpecification,
    alerts_specification,
    topic_specifications,
)
from detector.runtime.config import DetectorConfig
from detector.runtime.recovery import TopicsUnfitError
from detector.runtime.state_log import MAX_RECORD_BYTES as MAX_STATE_RECORD_BYTES

_LOG = logging.getLogger(__name__)
_KNOWN_WITHIN_S = 10.0
_LIMIT, _POLICY, _TIMESTAMP_TYPE = "max.message.bytes", "cleanup.policy", "message.timestamp.type"
_RETENTION = "retention.ms"
_STATE_BATCH_BYTES = 2 * 1024 * 1024
_STATE_RECORD_BYTES = MAX_STATE_RECORD_BYTES + 64 * 1024
_NEW_TOPIC_S = 5.0
"""For so long the settings of a topic that was just created may not be known to every broker."""
_ASK_AGAIN_S = 0.1


class Findings(NamedTuple):
    """What the settings of existing topics come to.

    Attributes:
        input_create_time: the input's records have their producers' times, and not the broker's.
    """

    input_create_time: bool


class Expectation(NamedTuple):
    """What a setting of a topic is expected to be, and what comes of another value."""

    topic: str
    setting: str
    holds: Callable[[str], bool]
    expected: str
    otherwise: str
    refused: bool = False

    def told(self, value: str) -> str:
        """Return what is to be said of a value that does not hold."""
        return f"topic {self.topic} has {self.setting}={value}: expected {self.expected}, {self.otherwise}"


def specifications(config: DetectorConfig) -> list[TopicSpecification]:
    """Return the topics the detector needs, its state topic included."""
    state = TopicSpecification(
        name=config.state_topic,
        partitions=config.partitions,
        # Old records are deleted once a snapshot replaces them, never by age or size.
        configs={
            _POLICY: "delete",
            _RETENTION: "-1",
            "retention.bytes": "-1",
            _LIMIT: str(_STATE_BATCH_BYTES),
        },
    )
    models = TopicSpecification(
        name=config.models_topic,
        partitions=config.partitions,
        configs={_RETENTION: "-1", "retention.bytes": "-1", _LIMIT: str(MAX_SMALL_BYTES)},
    )
    shadow = alerts_specification(config.shadow_topic, config.partitions)
    return [
        *topic_specifications(config.input_topic, config.alerts_topic, config.partitions),
        state,
        models,
        *([shadow] if config.uses_shadow_topic else []),
    ]


def ensure_topics(admin: KafkaAdminClient, config: DetectorConfig) -> None:
    """Create what is missing, and give the state topic as many partitions as the input has.

    Raises:
        TopicsUnfitError: a topic is missing and may not be created.
    """
    create_missing(admin, config, specifications(config))
    grow_state_topic(admin, config)


def inspect(admin: KafkaAdminClient, config: DetectorConfig) -> Findings:
    """Read the settings of the topics that there are; warn of what does not fit.

    Raises:
        TopicsUnfitError: a setting with which sessions, alerts or events would be lost.
        AccessRefusedError: this user may not read the settings: what decisions and state rest on must be known.
    """
    wanted = expectations(config)
    found = settings_of(admin, inspected_topics(config), {one.setting for one in wanted})
    for one in wanted:
        value = found[one.topic][one.setting]
        if one.holds(value):
            continue
        text = one.told(value)
        if one.refused:
            raise TopicsUnfitError(f"{text}. Change it as docs/operations.md lists it, and start again")
        _LOG.warning("%s. See 'Topics' in docs/operations.md", text)
    return Findings(found[config.input_topic][_TIMESTAMP_TYPE] == "CreateTime")


def inspected_topics(config: DetectorConfig) -> list[str]:
    """Return the topics whose settings are read."""
    return list(dict.fromkeys(one.topic for one in expectations(config)))


def expectations(config: DetectorConfig) -> list[Expectation]:
    """Return what the settings of the topics are expected to be."""

    def at_least(least: int) -> tuple[Callable[[str], bool], str]:
        return lambda value: int(value) >= least, f"{least} or more"

    def exactly(wanted: str) -> tuple[Callable[[str], bool], str]:
        return lambda value: value == wanted, wanted

    events, letters, state = config.input_topic, config.dead_letter_topic, config.state_topic
    alerts = [config.alerts_topic, *([config.shadow_topic] if config.uses_shadow_topic else [])]
    policy, forever = (_POLICY, *exactly("delete")), exactly("-1")
    lost = "since live sessions lie there and nowhere else"
    return [
        Expectation(state, *policy, lost, refused=True),
        Expectation(state, _RETENTION, *forever, lost, refused=True),
        Expectation(state, "retention.bytes", *forever, lost, refused=True),
        Expectation(state, _LIMIT, *at_least(_STATE_RECORD_BYTES), "the largest record of it", refused=True),
        Expectation(events, *policy, "since compaction deletes events before they are read", refused=True),
        Expectation(
            events,
            _TIMESTAMP_TYPE,
            *exactly("LogAppendTime"),
            "since a producer's own clock is no measure of another's",
        ),
        Expectation(
            events,
            _RETENTION,
            lambda value: int(value) < 0 or int(value) >= config.idle_timeout_ms,
            f"{config.idle_timeout_ms} or more, or -1",
            "since a worker that is away for longer loses events, and a rebuild finds no live session whole",
        ),
        Expectation(
            events,
            _LIMIT,
            *at_least(config.max_event_bytes),
            "or a lower --max-event-bytes: larger events never come",
        ),
        Expectation(
            letters,
            _LIMIT,
            *at_least(config.max_dead_letter_bytes + DEAD_LETTER_HEADERS_BYTES),
            "or a lower --max-dead-letter-bytes: a dead letter that does not fit goes without its value",
        ),
        Expectation(letters, *policy, "since compaction deletes dead letters with the same key"),
        Expectation(letters, _RETENTION, *forever, "or long enough for somebody to look at them"),
        *(
            Expectation(topic, _LIMIT, *at_least(MAX_SMALL_BYTES), "an alert on a long window")
            for topic in alerts
        ),
    ]


def settings_of(
    admin: KafkaAdminClient, topics: Sequence[str], names: Collection[str], role: str = "detector"
) -> dict[str, dict[str, str]]:
    """Return settings by topic and name, the broker's defaults included.

    Raises:
        AccessRefusedError: this user may not read them; the message names what the role needs.
    """
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(names)) for topic in topics]
    deadline_s = time.monotonic() + _NEW_TOPIC_S
    while True:
        found = admin.describe_configs(asked, config_filter="all")["topic"]
        unknown = [topic for topic in topics if not found.get(topic)]  # the client drops what is refused
        if not unknown:
            return {topic: {name: one["value"] for name, one in found[topic].items()} for topic in topics}
        if time.monotonic() > deadline_s:
            raise AccessRefusedError(right_missing(f"to read the settings of topic {unknown[0]}", role))
        time.sleep(_ASK_AGAIN_S)


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


def input_partitions(admin: KafkaAdminClient, topic: str, bootstrap_servers: str) -> int:
    """Return how many partitions the input topic has, for who publishes into each of them.

    Raises:
        TopicsUnfitError: there is no such topic.
    """
    if topic not in admin.list_topics():
        raise TopicsUnfitError(
            f"no topic {topic!r} at {bootstrap_servers}: expected the input topic; start the detector once, or create it "
            "as docs/operations.md tells"
        )
    return partition_count(admin, topic)
