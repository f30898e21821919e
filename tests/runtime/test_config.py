"""Settings: bounds, names that Kafka takes, and no setting that disarms another."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.runtime.config import ConfigurationError, DetectorConfig
from detector.runtime.settings import flag_of
from detector.runtime.validating import BELOW

FLOATS = [one.name for one in fields(DetectorConfig) if isinstance(one.default, float)]
NAMES = st.text("ab.-_", min_size=1, max_size=6).filter(lambda name: name not in {".", ".."})


def refused(**settings: Any) -> str:
    """Return why settings are refused."""
    with pytest.raises(ConfigurationError) as caught:
        DetectorConfig(**settings)
    return str(caught.value)


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.1, 25.0])
def test_a_share_or_threshold_is_a_number_from_0_to_1(name: str, value: float) -> None:
    """A breaker share of 25, meant as a percentage, would never open; what is no number compares with nothing."""
    assert f"--{name.replace('_', '-')} is {value}: expected " in refused(**{name: value})


@pytest.mark.parametrize(("low", "high", "otherwise"), BELOW)
def test_of_two_settings_one_has_to_be_below_the_other(low: str, high: str, otherwise: str) -> None:
    """Equal is refused, and the message has both values and what would happen; one less is taken."""
    most = 300_000
    longer: dict[str, Any] = {
        "idle_timeout_ms": most,
        "max_poll_interval_ms": most,
        "stall_timeout_ms": most,
    } | {high: 7_000}
    shorter = {
        "max_future_ms": 1,
        "session_timeout_ms": 1_000,
        "transaction_timeout_ms": 1,
        "poll_timeout_ms": 1,
    }
    message = refused(**(shorter | longer | {low: 7_000}))
    flags = [f"--{name.replace('_', '-')}" for name in (low, high)]
    assert message == f"{flags[0]} is 7000: expected less than {flags[1]}, 7000; {otherwise}"
    DetectorConfig(**(shorter | longer | {low: 6_999}))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"threshold": 0.5, "review_threshold": 0.5},
            "--review-threshold is 0.5: expected less than --threshold",
        ),
        (
            {"threshold": 0.5, "challenge_threshold": 0.5},
            "--challenge-threshold is 0.5: expected less than --threshold",
        ),
        (
            {"challenge_threshold": 0.4, "review_threshold": 0.4},
            "--review-threshold is 0.4: expected less than --challenge-threshold",
        ),
        ({"challenge_threshold": -0.5}, "--challenge-threshold is -0.5: expected a score, 0 for none or -1"),
        (
            {"step_up_passed": "SAME", "step_up_failed": "SAME"},
            "--step-up-passed and --step-up-failed are both 'SAME'",
        ),
        ({"shadow_threshold": 0.5}, "expected --shadow-model"),
        ({"max_dead_letter_bytes": 12 * 1024 * 1024}, "--max-dead-letter-bytes and --max-event-bytes"),
        ({"max_event_bytes": 2 * 1024 * 1024}, "--max-dead-letter-bytes and --max-event-bytes"),
        ({"breaker_max_block_share": 1.0}, "--breaker-max-block-share is 1.0: expected less than 1"),
        ({"session_timeout_ms": 999}, "--session-timeout-ms is 999: expected at least 1000 ms"),
        (
            {"max_poll_interval_ms": 2**31},
            "--max-poll-interval-ms is 2147483648: expected at most 2147483647",
        ),
        ({"replication_factor": 0}, "--replication-factor is 0"),
        ({"metrics_port": 65_536}, "--metrics-port is 65536: expected at most 65535"),
        ({"unknown_actions": "drop"}, "--unknown-actions is 'drop'"),
        ({"log_level": "LOUD"}, "--log-level is 'LOUD'"),
        ({"instance_id": "a/b"}, "--instance-id is 'a/b'"),
        ({"group": "a/b"}, "--group is 'a/b'"),
        ({"input_topic": ".."}, "--input-topic is '..'"),
        ({"alerts_topic": "x" * 201}, "--alerts-topic is"),
        ({"group": ""}, "--group is ''"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], told: str) -> None:
    """Each by its flag, with what was seen and what was expected."""
    assert told in refused(**settings)


@pytest.mark.parametrize(
    ("input_topic", "alerts_topic", "group"),
    [
        ("a", "a", "g"),  # events and alerts
        ("a", "a.dlq", "g"),
        ("a", "a_dlq", "g"),  # one name to Kafka's metrics, so the broker refuses the second
        ("a", "a.dlq.redriven", "g"),
        ("a", "a.accounts", "g"),
        ("a", "g.state", "g"),
        ("g.models", "b", "g"),
        ("b.shadow", "b", "g"),
        ("b.explanations", "b", "g"),
        ("g.state", "b", "g"),
    ],
)
def test_topics_are_one_each(input_topic: str, alerts_topic: str, group: str) -> None:
    """A topic that takes what another part of the detector writes would be read as what it is not."""
    told = refused(input_topic=input_topic, alerts_topic=alerts_topic, group=group)
    assert "expected topics of their own" in told


@given(NAMES, NAMES, NAMES, NAMES)
def test_no_two_workers_share_a_name(
    group: str, instance: str, other_group: str, other_instance: str
) -> None:
    """Whatever groups and instances are called, two workers' transactional ids differ, and no topic is called so."""
    one, other = (
        DetectorConfig(input_topic="in", alerts_topic="out", group=f"g{g}", instance_id=i)
        for g, i in ((group, instance), (other_group, other_instance))
    )
    assert (one.worker_name == other.worker_name) == ((group, instance) == (other_group, other_instance))
    assert one.worker_name.startswith(f"{one.group}/")


def test_the_defaults_fit_each_other_and_the_page_says_what_must() -> None:
    """docs/configuration.md has a row for each pair."""
    page = (Path(__file__).parent.parent.parent / "docs/configuration.md").read_text(encoding="utf-8")
    known = {one.name: flag_of(one) for one in fields(DetectorConfig())}
    for low, high, otherwise in BELOW:
        assert f"| `{known[low]}` | less than `{known[high]}` | {otherwise} |" in page
