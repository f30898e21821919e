"""One real broker for a test session; topics, groups and transactional ids of its own for each test."""

import itertools
import uuid
from collections.abc import Iterator, Mapping
from typing import Protocol

import pytest
from hypothesis import HealthCheck, settings
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from broker import Broker, obtain
from tests.waiting import wait_for

# Tests share slow machines with brokers: how long an example takes says nothing about what it shows.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


class UniqueName(Protocol):
    """Makes names that no other test, nor an earlier run on the same broker, has used."""

    def __call__(self, prefix: str = ...) -> str:
        """Return a name that begins with `prefix`, valid for a topic, a group and a transactional id."""


class CreateTopic(Protocol):
    """Creates topics under unique names."""

    def __call__(
        self, prefix: str = ..., *, partitions: int = ..., configs: Mapping[str, str] | None = ...
    ) -> str:
        """Return the topic's name, which begins with `prefix`; `configs` are Kafka's topic settings."""


@pytest.fixture(scope="session")
def kafka() -> Iterator[Broker]:
    """The broker of this test session: external, container or embedded, but always a real Apache Kafka."""
    with obtain() as broker:
        yield broker


@pytest.fixture(scope="session")
def admin(kafka: Broker) -> Iterator[KafkaAdminClient]:
    """An admin client of the session's broker."""
    client = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    yield client
    client.close()


@pytest.fixture(scope="session")
def unique_name() -> UniqueName:
    """Names that keep tests apart on the one broker they share."""
    session, serial = uuid.uuid4().hex[:8], itertools.count(1)

    def make(prefix: str = "test") -> str:
        return f"{prefix}-{session}-{next(serial)}"

    return make


@pytest.fixture(scope="session")
def create_topic(admin: KafkaAdminClient, unique_name: UniqueName) -> CreateTopic:
    """Topics of arbitrary shape on the session's broker, with one replica, that keep what has a time long ago."""

    def create(prefix: str = "test", *, partitions: int = 1, configs: Mapping[str, str] | None = None) -> str:
        name = unique_name(prefix)
        admin.create_topics(
            [NewTopic(name, partitions, 1, topic_configs={"retention.ms": "-1"} | dict(configs or {}))]
        )
        # Else a consumer may join before the broker knows the topic, and has nothing until it asks again: minutes later.
        wait_for(lambda: _led(admin, name) == partitions, f"the broker to know the leaders of {name}")
        return name

    return create


def _led(admin: KafkaAdminClient, topic: str) -> int:
    """Return how many partitions of a topic have a leader that the broker knows."""
    return sum(one["error_code"] == 0 for one in admin.describe_topics([topic])[0]["partitions"])
