"""The topics, with the settings the guarantees rest on."""

from typing import Final

import msgspec

ACTIONS_TOPIC: Final = "session-actions"
ALERTS_TOPIC: Final = "session-alerts"
VERDICTS_TOPIC: Final = "session-verdicts"
MAX_RECORD_BYTES: Final = 12 * 1024 * 1024
"""Largest record of the input topic: room for a 10 MB value that is then refused, and not lost."""
DEAD_LETTER_HEADERS_BYTES: Final = 64 * 1024
"""Room for the headers of a dead letter, beside the original's bytes and headers."""
MAX_ALERT_BYTES: Final = 4 * 1024 * 1024
"""Room for an alert on the longest window, each of its actions named and scored."""
MAX_SMALL_BYTES: Final = 1024 * 1024
"""Of topics whose records are small: Kafka's default but for 12 bytes, where a broker's own may be less."""
_LIMIT: Final = "max.message.bytes"


class TopicSpecification(msgspec.Struct, frozen=True, kw_only=True):
    """How a topic is created where it does not exist yet. An existing topic is left as its owners made it."""

    name: str
    partitions: int
    configs: dict[str, str]


def dead_letter_topic(input_topic: str) -> str:
    """Return the name of the topic that takes what could not be scored of `input_topic`."""
    return f"{input_topic}.dlq"


def shadow_topic(alerts_topic: str) -> str:
    """Return the name of the topic that takes what a challenger in shadow would block."""
    return f"{alerts_topic}.shadow"


def explanations_topic(alerts_topic: str) -> str:
    """Return the name of the topic that takes explanations of the alerts; the group that writes them is named so, too."""
    return f"{alerts_topic}.explanations"


def explanations_specification(alerts_topic: str, partitions: int) -> TopicSpecification:
    """Return the topic of the explanations."""
    return TopicSpecification(
        name=explanations_topic(alerts_topic), partitions=partitions, configs={_LIMIT: str(MAX_ALERT_BYTES)}
    )


def redriven_topic(input_topic: str) -> str:
    """Return the name of the topic that remembers which dead letters were redriven."""
    return f"{dead_letter_topic(input_topic)}.redriven"


def redriven_specification(input_topic: str) -> TopicSpecification:
    """Return the topic that remembers which dead letters were redriven: the last position by reason and partition."""
    return TopicSpecification(
        name=redriven_topic(input_topic),
        partitions=1,
        configs={"cleanup.policy": "compact", _LIMIT: str(MAX_SMALL_BYTES)},
    )


def accounts_topic(input_topic: str) -> str:
    """Return the name of the topic that keeps the listed accounts of `input_topic`."""
    return f"{input_topic}.accounts"


def accounts_specification(input_topic: str) -> TopicSpecification:
    """Return the topic of the listed accounts: the last listing by account, none for one that was cleared."""
    return TopicSpecification(
        name=accounts_topic(input_topic),
        partitions=1,
        configs={"cleanup.policy": "compact", _LIMIT: str(MAX_SMALL_BYTES)},
    )


def verdicts_specifications(verdicts_topic: str, partitions: int) -> list[TopicSpecification]:
    """Return the topic of the verdicts, and that of its dead letters. Both are kept until their owners say otherwise."""
    return [
        TopicSpecification(
            name=name, partitions=partitions, configs={"retention.ms": "-1", _LIMIT: str(limit)}
        )
        for name, limit in (
            (verdicts_topic, MAX_SMALL_BYTES),
            (dead_letter_topic(verdicts_topic), MAX_SMALL_BYTES + DEAD_LETTER_HEADERS_BYTES),
        )
    ]


def alerts_specification(topic: str, partitions: int) -> TopicSpecification:
    """Return a topic of alerts, the detector's or a challenger's."""
    return TopicSpecification(name=topic, partitions=partitions, configs={_LIMIT: str(MAX_ALERT_BYTES)})


def topic_specifications(input_topic: str, alerts_topic: str, partitions: int) -> list[TopicSpecification]:
    """Return the topics of one detector, all with the same number of partitions."""
    return [
        TopicSpecification(
            name=input_topic,
            partitions=partitions,
            configs={
                # The broker's clock is the one a false event time is held against, and latency measured from.
                "message.timestamp.type": "LogAppendTime",
                _LIMIT: str(MAX_RECORD_BYTES),
            },
        ),
        alerts_specification(alerts_topic, partitions),
        TopicSpecification(
            name=dead_letter_topic(input_topic),
            partitions=partitions,
            # Above the input's, since a dead letter carries the original's bytes and headers of its own.
            configs={_LIMIT: str(MAX_RECORD_BYTES + DEAD_LETTER_HEADERS_BYTES), "retention.ms": "-1"},
        ),
    ]
