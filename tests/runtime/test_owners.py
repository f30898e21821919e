"""Partitions that a settled group has given to nobody are noticed, and shared out again."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.structs import MemberState

from broker import Broker
from detector.runtime.config import DetectorConfig
from detector.runtime.partition_owners import Owners
from detector.runtime.recovery import MemberFencedError
from tests.conftest import CreateTopic, UniqueName
from tests.runtime.stack import Stack, flags_of, without_clock
from tests.runtime.test_end_to_end import records, sessions
from tests.waiting import wait_for


class _Nothing(RangePartitionAssignor):  # type: ignore[misc]
    """Gives nobody anything, as a leader does whose metadata lacks the topic."""

    @classmethod
    def assign(cls, cluster: Any, members: Any) -> Any:
        shares = super().assign(cluster, members)
        for share in shares.values():
            share.assigned_partitions = []
        return shares


@pytest.fixture
def settled(
    kafka: Broker, admin: KafkaAdminClient, create_topic: CreateTopic, unique_name: UniqueName
) -> Iterator[Callable[[type], Owners]]:
    """Return a function that settles a group of one member with an assignor, and looks at it every call."""
    consumers = []

    def settle(assignor: type) -> Owners:
        topic, group, seconds = create_topic(partitions=2), unique_name("group"), iter(range(0, 10_000, 11))
        consumer = KafkaConsumer(
            topic,
            bootstrap_servers=kafka.bootstrap_servers,
            group_id=group,
            partition_assignment_strategy=[assignor],
        )
        consumers.append(consumer)

        def stable() -> bool:
            consumer.poll(100)
            shared_out = assignor is _Nothing or bool(
                consumer.assignment()
            )  # what is tested may happen here too
            return shared_out and bool(consumer.group_metadata().state == MemberState.STABLE)

        wait_for(stable, "the group to settle")
        return Owners(admin, DetectorConfig(group=group, input_topic=topic), lambda: next(seconds))

    yield settle
    for consumer in consumers:
        consumer.close()


def test_partitions_without_an_owner_are_named_at_the_second_look(
    settled: Callable[[type], Owners],
) -> None:
    """One look may fall between two rebalances; the second, an interval later, may not."""
    owners = settled(_Nothing)
    owners.check()
    with pytest.raises(MemberFencedError, match=r"partitions \[0, 1\] of .* have no owner"):
        owners.check()


def test_a_group_that_shares_everything_out_is_left_alone(settled: Callable[[type], Owners]) -> None:
    """However often one looks."""
    owners = settled(RangePartitionAssignor)
    for _ in range(4):
        owners.check()


FORGETFUL = """
import sys
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor as Assignor
from detector.cli import main
from detector.runtime import partition_owners as owners
owners._INTERVAL_S = 1.0
assign, check, noticed = Assignor.assign, owners.Owners.check, []
def nothing_at_first(self_or_cluster, *arguments):
    shares = assign(self_or_cluster, *arguments)
    for share in shares.values():
        if not noticed:
            share.assigned_partitions = []
    return shares
def noticing(self):
    try:
        check(self)
    except owners.MemberFencedError:
        noticed.append(True)
        raise
Assignor.assign, owners.Owners.check = nothing_at_first, noticing
main(sys.argv[1:])
"""


def test_a_worker_that_was_assigned_nothing_joins_anew(
    make_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    """It is alone in the group and yet assigned nothing, until it notices; then everything is processed."""
    stack = make_stack(partitions=2)
    stack.publish(records(sessions(33)))
    log = tmp_path / "forgetful.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", FORGETFUL, "run", *flags_of(stack.config)],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        stack.wait_until_processed()
    finally:
        process.terminate()
        assert process.wait() == 0, log.read_text()
    assert "have no owner" in log.read_text()
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0])
