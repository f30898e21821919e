"""`python -m detector check-topic` on a real broker, of topics that librdkafka and kafka-python write to."""

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer

from detector.cli import main
from detector.runtime.partitioners import PARTITIONERS
from tests.runtime.conftest import SetTopic
from tests.runtime.stack import Stack, flags_of
from tests.runtime.test_end_to_end import records, sessions
from tests.waiting import PATIENCE_S

MakeStack = Callable[..., Stack]


def check(stack: Stack, *arguments: str) -> Result:
    """Run the command on a stack's input topic."""
    return CliRunner().invoke(main, ["check-topic", *flags_of(stack.config), *arguments])


def publish(stack: Stack, partitioner: str, seed: int) -> int:
    """Publish events with librdkafka, keyed by account; return how many."""
    producer = Producer(
        {"bootstrap.servers": stack.config.bootstrap_servers, "partitioner": partitioner, "linger.ms": 20}
    )
    values = [value for _, value in records(sessions(400, seed))]
    failed: list[object] = []
    for value in values:
        producer.produce(
            stack.config.input_topic,
            key=json.loads(value)["account_id"],
            value=value,
            on_delivery=lambda error, _: failed.append(error) if error else None,
        )
    assert producer.flush(PATIENCE_S) == 0
    assert failed == []
    return len(values)


@pytest.mark.parametrize(
    ("partitioner", "name"),
    [("murmur2_random", "murmur2"), ("consistent_random", "CRC-32"), ("fnv1a_random", "FNV-1a")],
)
def test_a_topic_that_is_well_is_told_so(make_stack: MakeStack, partitioner: str, name: str) -> None:
    """Exit code 0 and no finding, whichever partitioner all writers have; it is known as librdkafka computes it."""
    stack = make_stack(partitions=5)
    count = publish(stack, partitioner, 7)
    result = check(stack, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["findings"] == []
    assert (report["records"], report["keys"]) == (count, {"account": count})
    assert {one for one, share in report["partitioners"].items() if share == 1} == {name}
    assert set(report["partitioners"]) == set(PARTITIONERS)
    assert "nothing to mend" in check(stack).stdout


def test_what_is_wrong_with_a_topic_is_told(make_stack: MakeStack, set_topic: SetTopic) -> None:
    """Exit code 1; each finding is named with what was seen and what is to be done. Nothing is written or committed."""
    stack = make_stack(partitions=5)
    topic = stack.config.input_topic
    publish(stack, "murmur2_random", 7)
    publish(stack, "consistent_random", 7)
    stack.publish([(b"k", b"{}"), *((b"session", value) for _, value in records(sessions(4, 9)))])
    for setting, value in (
        ("message.timestamp.type", "CreateTime"),
        ("retention.ms", "60000"),
        ("cleanup.policy", "compact"),
        ("max.message.bytes", "50000"),
    ):
        set_topic(topic, setting, value)
    before = len(stack.read(topic))
    result = check(stack, "--json")
    assert result.exit_code == 1, result.output
    report = json.loads(result.stdout)
    assert {one["about"] for one in report["findings"]} == {
        "keys", "sessions", "partitioners", "malformed",
        "message.timestamp.type", "retention.ms", "cleanup.policy", "max.message.bytes",
    }  # fmt: skip
    told = check(stack, "--max-events", "100")
    assert told.exit_code == 1
    assert "100 records" in told.stdout
    assert "- retention.ms: it is 60000. Expected 1800000 or more, or -1, " in told.stdout
    assert len(stack.read(topic)) == before


def test_a_topic_that_is_not_there_is_not_checked(make_stack: MakeStack) -> None:
    """Exit code 2: nothing is known to be well."""
    stack = make_stack(partitions=1)
    result = check(stack, "--input-topic", "nowhere")
    assert result.exit_code == 2
    assert "no topic 'nowhere'" in result.stderr
