"""Explaining alerts from their topic: those of one session, or all of them as they come, into a topic beside."""

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import msgspec
from kafka import KafkaAdminClient, TopicPartition

from detector.client.producer import Producer
from detector.client.reading import committed_span, log_reader, read
from detector.connection import client_options
from detector.contract.alerts import Alert, headers_of
from detector.contract.explanations import Explanation
from detector.contract.headers import EXPLANATION_TYPE
from detector.contract.topics import explanations_specification, explanations_topic
from detector.core.explaining import NotExplainableError
from detector.runtime.config import DetectorConfig
from detector.runtime.recovery import TopicsUnfitError
from detector.runtime.subscription import alerts_in
from detector.runtime.topics import create_missing, partition_count

_LOG = logging.getLogger(__name__)
_ALERTS_A_TURN = 200
_POLL_TIMEOUT_MS = 200

Explain = Callable[[Alert], Explanation]


def alerts_on_topic(config: DetectorConfig) -> Iterator[Alert]:
    """Yield the alerts that are on the topic now.

    Raises:
        TopicsUnfitError: there is no such topic.
        KafkaError: the broker can't be reached or refuses.
    """
    with closing(log_reader(config.bootstrap_servers)) as consumer:
        spans = committed_span(consumer, config.alerts_topic)
        if not spans:
            raise _no_topic(config)
        for batch in read(consumer, spans):
            yield from alerts_in(batch)


def explain_topic(
    config: DetectorConfig, explain: Explain, stop: Callable[[], bool], most: int | None
) -> int:
    """Publish an explanation of each alert to the topic beside, until `stop`; return how many.

    At least once: an explanation is acknowledged before its alert's offset is committed, so that after a crash some
    come again, the same bits under the same alert id. An alert that can't be explained is told and passed over; one
    whose model is missing ends it, since that can be mended. Meant to run once: two at the same time both explain all.

    Args:
        config: names broker and topics. Offsets are kept under the name of the topic of explanations.
        explain: an alert.
        stop: asked between batches.
        most: end after so many alerts; None goes on.

    Raises:
        ModelMissingError: nothing was committed of the batch; run again with the model, it goes on from there.
        TopicsUnfitError: a topic is missing.
        KafkaError: the broker can't be reached or refuses.
    """
    topic, seen, explained = explanations_topic(config.alerts_topic), 0, 0
    sources = _ensure_topic(config)
    with (
        closing(log_reader(config.bootstrap_servers, group_id=topic)) as consumer,
        closing(_producer(config)) as producer,
    ):
        consumer.assign(sources)  # and no member of the group: there is nothing to share
        while not stop() and (most is None or seen < most):
            room = _ALERTS_A_TURN if most is None else min(_ALERTS_A_TURN, most - seen)
            if not (polled := consumer.poll(timeout_ms=_POLL_TIMEOUT_MS, max_records=room)):
                continue
            alerts = list(alerts_in(polled))
            sent = [_send(producer, topic, alert, found) for alert, found in _explained(alerts, explain)]
            producer.flush()
            for one in sent:
                one.get(timeout=0)
            consumer.commit()
            seen += len(alerts)
            explained += len(sent)
    return explained


def _explained(alerts: list[Alert], explain: Explain) -> Iterator[tuple[Alert, Explanation]]:
    for alert in alerts:
        try:
            yield alert, explain(alert)
        except NotExplainableError as error:
            _LOG.warning("passed over: %s", error)


def _send(producer: Producer, topic: str, alert: Alert, explanation: Explanation) -> Any:
    headers = headers_of(alert, EXPLANATION_TYPE)
    value = msgspec.json.encode(explanation)
    return producer.send(topic, key=alert.session_id.encode(), value=value, headers=headers)


def _ensure_topic(config: DetectorConfig) -> list[TopicPartition]:
    """Create the topic of explanations where it is missing, and return the partitions of the alerts."""
    with closing(KafkaAdminClient(**client_options(config.bootstrap_servers))) as admin:
        if config.alerts_topic not in admin.list_topics():
            raise _no_topic(config)
        partitions = partition_count(admin, config.alerts_topic)
        create_missing(admin, config, [explanations_specification(config.alerts_topic, partitions)])
    return [TopicPartition(config.alerts_topic, number) for number in range(partitions)]


def _no_topic(config: DetectorConfig) -> TopicsUnfitError:
    return TopicsUnfitError(
        f"no topic {config.alerts_topic!r} at {config.bootstrap_servers}: expected that of a detector's alerts"
    )


def _producer(config: DetectorConfig) -> Producer:
    return Producer(**client_options(config.bootstrap_servers), acks="all", linger_ms=1_000)
