"""Who a worker is to the brokers: nobody else, whatever the others' groups and instances are called."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from kafka import KafkaProducer

from tests.conftest import UniqueName
from tests.runtime.stack import Stack, flags_of, without_clock
from tests.runtime.test_end_to_end import records, sessions
from tests.waiting import wait_for

MakeStack = Callable[..., Stack]


def test_groups_whose_names_begin_alike_leave_each_other_alone(
    make_stack: MakeStack, unique_name: UniqueName
) -> None:
    """Group fraud with worker eu-0 and group fraud-eu with worker 0 decide side by side, and none fences the other."""
    fraud = unique_name("fraud")
    one, other = make_stack(partitions=1), make_stack(partitions=1)
    one.config = replace(one.config, group=fraud, instance_id="eu-0")
    other.config = replace(other.config, group=f"{fraud}-eu", instance_id="0")
    with one.worker() as first, other.worker() as second:
        for number in range(3):
            for stack in (one, other):
                stack.publish(records(sessions(40, 7 + number)))
            for stack in (one, other):
                stack.wait_until_processed()
        assert not [
            worker.log.read_text() for worker in (first, second) if "restore: " in worker.log.read_text()
        ]
    for stack in (one, other):
        assert without_clock(stack.alerts()) == without_clock(stack.expected()[0])


def test_what_a_worker_of_before_left_open_holds_nobody_up_for_long(make_stack: MakeStack) -> None:
    """A worker crashed under the name of before, group-instance; its successor waits for the transaction's time-out."""
    stack = make_stack(partitions=1, instance_id="worker-0", transaction_timeout_ms=4_000)
    config = stack.config
    published = stack.publish(records(sessions(20)))
    producer = KafkaProducer(
        bootstrap_servers=config.bootstrap_servers,
        transactional_id=f"{config.group}-{config.instance_id}",
        transaction_timeout_ms=config.transaction_timeout_ms,
    )
    with closing(producer):
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(config.alerts_topic, value=b"{}").get(timeout=60)
        with stack.worker():
            stack.wait_until_processed()
            wait_for(
                lambda: without_clock(stack.alerts()) == without_clock(stack.expected()[0]),
                "the alerts to be readable",
            )
    assert published
    assert "--instance-id" in flags_of(config)
