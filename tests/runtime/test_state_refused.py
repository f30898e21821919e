"""State that can't be used ends the worker with a clear message; --rebuild-from-input is the way out."""

from collections.abc import Callable

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from detector.core.partition import Delta
from tests.runtime.stack import Stack, read_committed, without_clock
from tests.runtime.state_logs import delta_values
from tests.runtime.test_end_to_end import records, sessions
from tests.waiting import PATIENCE_S


def write_state(stack: Stack, value: bytes) -> None:
    """Write a record to each partition of the state log."""
    producer = KafkaProducer(bootstrap_servers=stack.config.bootstrap_servers)
    for number in range(stack.config.partitions):
        producer.send(stack.config.state_topic, value, partition=number)
    producer.flush()
    producer.close()


def damage(stack: Stack) -> None:
    """Write what is no state."""
    write_state(stack, b"\x01garbage")


def write_newer_format(stack: Stack) -> None:
    """Write a record of a format that is yet to come."""
    write_state(stack, b"\x05" + delta_values(Delta(1, 0, [], {}))[0][1:])


def write_other_encoding(stack: Stack) -> None:
    """Write state in another model's steps."""
    write_state(stack, delta_values(Delta(1, 0, [], {}), b"another encoding")[0])


def delete_state(stack: Stack) -> None:
    """Delete all records of the state log."""
    admin = KafkaAdminClient(bootstrap_servers=stack.config.bootstrap_servers)
    targets = [TopicPartition(stack.config.state_topic, number) for number in range(stack.config.partitions)]
    admin.delete_records(dict.fromkeys(targets, -1))
    admin.close()


def delete_beginning(stack: Stack) -> None:
    """Delete the first records of the state log, as retention might."""
    admin = KafkaAdminClient(bootstrap_servers=stack.config.bootstrap_servers)
    targets = [TopicPartition(stack.config.state_topic, number) for number in range(stack.config.partitions)]
    admin.delete_records(dict.fromkeys(targets, 1))
    admin.close()


def lose_one_record(stack: Stack) -> None:
    """Write the state log anew without one record in its middle."""
    config = stack.config
    kept = {
        number: [one.value for one in read_committed(config, config.state_topic) if one.partition == number]
        for number in range(config.partitions)
    }
    delete_state(stack)
    producer = KafkaProducer(bootstrap_servers=config.bootstrap_servers)
    for number, values in kept.items():
        assert len(values) > 2, "a log without a middle"
        for value in values[:1] + values[2:]:
            producer.send(config.state_topic, value, partition=number)
    producer.flush()
    producer.close()


def move_offsets(stack: Stack) -> None:
    """Set the group's offsets back to the start, as an operator might."""
    consumer = KafkaConsumer(bootstrap_servers=stack.config.bootstrap_servers, group_id=stack.config.group)
    sources = [TopicPartition(stack.config.input_topic, number) for number in range(stack.config.partitions)]
    consumer.commit({source: OffsetAndMetadata(0) for source in sources})
    consumer.close(autocommit=False)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damage, "checksum does not match"),
        (write_newer_format, "of format 05, expected one of 01, 02, 03, 04"),
        (write_other_encoding, "another model's vocabulary"),
        (delete_state, "holds no state, but the group"),
        (delete_beginning, "its beginning is missing"),
        (lose_one_record, "records before it are missing"),
        (move_offsets, "somebody moved the group's offsets"),
    ],
)
def test_refused_state_ends_the_worker_and_is_rebuilt_on_demand(
    make_stack: Callable[..., Stack], spoil: Callable[[Stack], None], message: str
) -> None:
    """Exit code 1 and the cause; with the flag the input is replayed silently: nothing is lost or doubled."""
    stack = make_stack(partitions=2, batch_max_events=60)
    log = list(records(sessions(220)))
    half = len(log) // 2
    stack.publish(log[:half])
    with stack.worker():
        stack.wait_until_processed()
    spoil(stack)
    refused = stack.start()
    assert refused.process.wait(PATIENCE_S) == 1
    said = refused.log.read_text()
    assert message in said
    assert "--rebuild-from-input" in said
    assert "Traceback" not in said
    stack.publish(log[half:])
    with stack.worker("--rebuild-from-input") as rebuilt:
        stack.wait_until_processed()
        assert "rebuilt" in rebuilt.log.read_text()
    more = list(records(sessions(110, 9)))
    stack.publish(more)
    with stack.worker() as restored:  # the log was replaced: the flag is not needed any more
        stack.wait_until_processed()
        assert "rebuilt" not in restored.log.read_text()
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0])
