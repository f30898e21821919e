"""What the settings of topics mean for a detector, read at its start, on a real broker."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from kafka import KafkaAdminClient

from detector.runtime.recovery import TopicsUnfitError
from detector.runtime.topics import ensure_topics, inspect
from tests.runtime.conftest import SetTopic
from tests.runtime.stack import Stack, without_clock
from tests.runtime.test_end_to_end import records, sessions
from tests.waiting import PATIENCE_S


@contextmanager
def admin_of(stack: Stack) -> Iterator[KafkaAdminClient]:
    """Open an admin client for the block."""
    admin = KafkaAdminClient(bootstrap_servers=stack.config.bootstrap_servers)
    try:
        yield admin
    finally:
        admin.close()


def test_topics_as_the_detector_creates_them_are_as_it_expects_them(
    make_stack: Callable[..., Stack], caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is refused and nothing warned about, a challenger's topic included; the broker's time is the events'."""
    stack = make_stack(shadow_model="default")
    with admin_of(stack) as admin, caplog.at_level(logging.WARNING, "detector"):
        ensure_topics(admin, stack.config)
        assert not inspect(admin, stack.config).input_create_time
    assert [one for one in caplog.records if one.name.startswith("detector")] == []


@pytest.mark.parametrize(
    ("topic", "setting", "value"),
    [
        ("state_topic", "cleanup.policy", "compact"),
        ("state_topic", "cleanup.policy", "compact,delete"),
        ("state_topic", "retention.ms", "604800000"),
        ("state_topic", "retention.bytes", "1000000000"),
        ("state_topic", "max.message.bytes", "500000"),
        ("input_topic", "cleanup.policy", "compact"),
    ],
)
def test_a_setting_that_loses_something_is_refused(
    make_stack: Callable[..., Stack], set_topic: SetTopic, topic: str, setting: str, value: str
) -> None:
    """The message names topic and setting, what it is, what it must be and why."""
    stack = make_stack(partitions=1)
    name = getattr(stack.config, topic)
    set_topic(name, setting, value)
    with (
        admin_of(stack) as admin,
        pytest.raises(
            TopicsUnfitError, match=f"topic {name} has {setting}={value}: expected .*, since|the largest"
        ),
    ):
        inspect(admin, stack.config)


@pytest.mark.parametrize(
    ("topic", "setting", "value"),
    [
        ("input_topic", "message.timestamp.type", "CreateTime"),
        ("dead_letter_topic", "max.message.bytes", "1000000"),
        ("dead_letter_topic", "retention.ms", "604800000"),
        ("dead_letter_topic", "cleanup.policy", "compact"),
        ("alerts_topic", "max.message.bytes", "100000"),
    ],
)
def test_a_setting_that_does_harm_is_warned_about(
    make_stack: Callable[..., Stack],
    set_topic: SetTopic,
    caplog: pytest.LogCaptureFixture,
    topic: str,
    setting: str,
    value: str,
) -> None:
    """It is one warning, which names topic, setting and both values; whose time the events have is told."""
    stack = make_stack(partitions=1)
    name = getattr(stack.config, topic)
    set_topic(name, setting, value)
    with admin_of(stack) as admin, caplog.at_level(logging.WARNING, "detector"):
        assert inspect(admin, stack.config).input_create_time == (value == "CreateTime")
    (warned,) = [one.getMessage() for one in caplog.records if one.name.startswith("detector")]
    assert f"topic {name} has {setting}={value}: expected " in warned


def test_a_state_topic_with_retention_ends_the_worker_before_it_can_lose_anything(
    make_stack: Callable[..., Stack], set_topic: SetTopic
) -> None:
    """Exit code 1 and what to do; with the setting mended the sessions are all there."""
    stack = make_stack(partitions=2)
    log = list(records(sessions(110)))
    stack.publish(log[: len(log) // 2])
    with stack.worker():
        stack.wait_until_processed()
    set_topic(stack.config.state_topic, "retention.ms", "86400000")
    refused = stack.start()
    assert refused.process.wait(PATIENCE_S) == 1
    told = refused.log.read_text().splitlines()[-1]
    assert (
        f"TopicsUnfitError: topic {stack.config.state_topic} has retention.ms=86400000: expected -1" in told
    )
    set_topic(stack.config.state_topic, "retention.ms", "-1")
    stack.publish(log[len(log) // 2 :])
    with stack.worker():
        stack.wait_until_processed()
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0]) != []
