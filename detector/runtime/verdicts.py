"""Verdicts: published to their topic, and the alert that one is on looked up."""

from contextlib import closing

from kafka import KafkaAdminClient

from detector.client.producer import Producer
from detector.connection import access_explained, client_options
from detector.contract.topics import verdicts_specifications
from detector.contract.verdicts import Verdict, encode_verdict, verdict_headers
from detector.runtime.config import DetectorConfig
from detector.runtime.topics import create_missing

_TIMEOUT_S = 30.0


def publish_verdict(config: DetectorConfig, verdict: Verdict) -> None:
    """Publish one verdict, acknowledged by all replicas; create the topic where it is missing.

    Raises:
        TopicsUnfitError: it is missing and may not be created.
        KafkaError: the broker can't be reached or refuses. Publish the same verdict again: a repeat changes nothing.
    """
    options = client_options(config.bootstrap_servers)
    with access_explained(), closing(KafkaAdminClient(**options)) as admin:
        create_missing(admin, config, verdicts_specifications(config.verdicts_topic, config.partitions)[:1])
    with closing(Producer(**options, acks="all", max_block_ms=int(_TIMEOUT_S * 1000))) as producer:
        sent = producer.send(
            config.verdicts_topic,
            key=verdict.account_id.encode(),
            value=encode_verdict(verdict),
            headers=verdict_headers(verdict),
        )
        producer.flush(timeout=_TIMEOUT_S)
        sent.get(timeout=0)
