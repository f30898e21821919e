"""A stack of a test's own on the session's broker."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from broker import Broker
from tests.conftest import UniqueName
from tests.runtime.stack import Stack

SetTopic = Callable[[str, str, str], None]
"""Called with a topic, the name of a setting, and its value."""


@pytest.fixture
def make_stack(kafka: Broker, unique_name: UniqueName, tmp_path: Path) -> Callable[..., Stack]:
    """Return a function that makes a stack with some settings of DetectorConfig."""

    def make(**settings: Any) -> Stack:
        return Stack(kafka.bootstrap_servers, unique_name("detector"), tmp_path, **settings)

    return make


@pytest.fixture
def set_topic(admin: KafkaAdminClient) -> SetTopic:
    """Return a function that changes a setting of a topic."""

    def change(topic: str, name: str, value: str) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})
        # A topic that is new has no settings that kafka-python could know it by, for a moment.
        admin.alter_configs([resource], raise_on_unknown=False)

    return change
