"""A rebuild decides each part of the log under the limits that were in force there, and not under those of now."""

import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import NewPartitions

from detector.core.decision import Policy
from detector.core.partition import Partition
from detector.model.at_hand import ModelsAtHand
from detector.runtime.config import DetectorConfig
from detector.runtime.epochs import decided_by_epochs, epoch_of, epochs_of_group
from detector.runtime.processing import Processor
from detector.runtime.rebuilding import _of_epoch
from detector.runtime.recovery import TopicsUnfitError
from detector.runtime.replaying import batches_of_topic
from tests.core.strategies import MODEL, pipeline
from tests.model.models import signals_file
from tests.runtime.stack import Stack, alerts_in, without_clock
from tests.runtime.test_profiles import lives, parts, stored, tables
from tests.runtime.test_state_refused import damage

MakeStack = Callable[..., Stack]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that reads every kind of signal, in a folder of its own."""
    path = tmp_path / "models" / "signals.onnx"
    path.parent.mkdir()
    path.write_bytes(signals_file())
    return path


def test_an_epoch_is_under_its_limits_or_those_of_now(caplog: pytest.LogCaptureFixture) -> None:
    """Those of now where it records none, being old, or none that are still allowed, which is told."""
    policy, source = Policy(0.5, MODEL), TopicPartition("t", 0)
    now = DetectorConfig(idle_timeout_ms=7_000, max_future_ms=1_000, max_accounts=80, partitions=5)
    processor = Processor(pipeline(policy=policy, limits=now.session_limits), now.event_limits)
    then = replace(
        now, idle_timeout_ms=5_000, max_accounts=160, partitions=4, max_event_bytes=1_000, step_up_passed="OK"
    )
    epoch = epoch_of(source, 3, policy, then)
    of_then = _of_epoch(epoch, processor, replace(now, idle_timeout_ms=0))
    assert (of_then.pipeline.limits, of_then.limits) == (then.session_limits, then.event_limits)
    assert of_then.pipeline.limits.max_accounts == 40
    assert of_then.pipeline.policy.step_ups == then.step_ups != now.step_ups
    old = msgspec.structs.replace(epoch, partitions=None, idle_timeout_ms=None, max_accounts=None)
    disarmed = msgspec.structs.replace(epoch, max_future_ms=6_000)
    for one in (None, old, disarmed):
        assert caplog.messages == []
        assert _of_epoch(one, processor, now).pipeline.limits == now.session_limits
    assert "t[0] from offset 3 on is rebuilt under the limits of now: --max-future-ms" in caplog.text


def assert_as_the_epochs_tell(stack: Stack) -> None:
    """Hold alerts, live sessions and profiles against the oracle, each part under the limits of its epoch."""
    config, partitions = stack.config, dict[TopicPartition, Partition]()
    models = ModelsAtHand(Path(config.model).parent)
    made = decided_by_epochs(batches_of_topic(config), models, epochs_of_group(config), config, partitions)
    assert without_clock(stack.alerts()) == without_clock(alerts_in(made)) != []
    assert tables(stored(stack)) == tables({source.partition: one for source, one in partitions.items()})


def add_partition(stack: Stack) -> None:
    """Add a partition to the input."""
    config = stack.config
    admin = KafkaAdminClient(bootstrap_servers=config.bootstrap_servers)
    admin.create_partitions({config.input_topic: NewPartitions(total_count=config.partitions + 1)})
    admin.close()
    stack.config = replace(config, partitions=config.partitions + 1)


def test_accounts_that_a_partition_had_room_for_before_one_was_added_are_known(
    make_stack: MakeStack, model: Path
) -> None:
    """Each partition's share is smaller from then on: what is before is rebuilt with the share of then."""
    stack = make_stack(partitions=1, model=str(model), max_accounts=8, breaker_max_block_share=0.0)
    first, second, third = parts(lives(8, 600), 3)
    stack.publish(first)
    with stack.worker():
        stack.wait_until_processed()
    add_partition(stack)
    stack.publish(second[:40])
    with stack.worker():
        stack.wait_until_processed()
    damage(stack)
    stack.publish(second[40:] + third)
    with stack.worker("--rebuild-from-input"):
        stack.wait_until_processed()
    assert_as_the_epochs_tell(stack)


def test_what_smaller_limits_forgot_stays_forgotten(make_stack: MakeStack, model: Path) -> None:
    """More accounts, more sessions and longer ones are allowed by now: none comes back that was gone."""
    stack = make_stack(partitions=1, model=str(model), breaker_max_block_share=0.0)
    first, second = parts(lives(9, 400), 2)
    stack.publish(first)
    small = ("--max-accounts", "3", "--max-sessions", "3", "--idle-timeout-ms", "360000")
    with stack.worker(*small):
        stack.wait_until_processed()
    damage(stack)
    stack.publish(second)
    with stack.worker("--rebuild-from-input"):
        stack.wait_until_processed()
    assert_as_the_epochs_tell(stack)


@pytest.mark.parametrize("value", [b"{}", b"\xff", None])
def test_what_is_no_epoch_is_told_with_its_place(make_stack: MakeStack, value: bytes | None) -> None:
    """Whoever wrote beside the detector: which settings held is not known then, and not guessed."""
    stack = make_stack(partitions=1)
    stack.publish(lives(2, 20))
    with stack.worker():
        stack.wait_until_processed()
    with closing(KafkaProducer(bootstrap_servers=stack.config.bootstrap_servers)) as producer:
        sent = producer.send(stack.config.models_topic, value, key=b"k", partition=0).get(10)
    place = rf"{re.escape(stack.config.models_topic)}\[0\] at offset {sent.offset} is no model epoch"
    with pytest.raises(TopicsUnfitError, match=place):
        epochs_of_group(stack.config)
