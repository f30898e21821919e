"""Rebuilding from the input: who was blocked stays blocked, who was not does not, and the worker stays in the group."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from detector.contract.alerts import Cause, Decision
from detector.contract.listings import AccountListing, Listing, encode_listing
from detector.core.partition import Partition
from detector.runtime.link import KafkaLink
from detector.runtime.recovery import StateRefusedError
from detector.runtime.state_log import MAX_RECORD_BYTES
from tests.runtime.conftest import SetTopic
from tests.runtime.stack import Stack, flags_of, without_clock
from tests.runtime.state_logs import ENCODING, state_values
from tests.runtime.test_end_to_end import records, sessions
from tests.runtime.test_redrive import TAKEOVER, event, redrive
from tests.runtime.test_state_refused import damage
from tests.waiting import PATIENCE_S, wait_for

MakeStack = Callable[..., Stack]


@contextmanager
def admin_of(stack: Stack) -> Iterator[KafkaAdminClient]:
    """Open an admin client for the block."""
    admin = KafkaAdminClient(bootstrap_servers=stack.config.bootstrap_servers)
    try:
        yield admin
    finally:
        admin.close()


def run_and_damage(stack: Stack, log: list[tuple[bytes, bytes]], *arguments: str) -> None:
    """Let a worker process a log, then damage the state it left."""
    stack.publish(log)
    with stack.worker(*arguments):
        stack.wait_until_processed()
    damage(stack)


def takeovers(steps: slice) -> list[tuple[bytes, bytes]]:
    """Return some actions of each of ten sessions that are taken over."""
    return [
        event(f"s{session}", number, action)
        for session in range(10)
        for number, action in list(enumerate(TAKEOVER))[steps]
    ]


def test_sessions_blocked_by_another_model_are_not_blocked_again(make_stack: MakeStack) -> None:
    """Alerts were published by a stricter threshold; the rebuild with the usual one decides nothing anew."""
    stack = make_stack(partitions=2)
    run_and_damage(stack, takeovers(slice(0, 1)), "--threshold", "1e-12")
    before = stack.alerts()
    assert len({alert.session_id for alert in before}) == len(before) == 10
    stack.publish(takeovers(slice(1, None)))
    with stack.worker("--rebuild-from-input"):
        stack.wait_until_processed()
    assert stack.alerts() == before


def test_what_could_not_be_published_leaves_no_trace_in_a_rebuild(
    make_stack: MakeStack, set_topic: SetTopic
) -> None:
    """An event that became a dead letter through no fault of its own can be redriven after the rebuild, and counts."""
    stack = make_stack(partitions=1)
    set_topic(stack.config.alerts_topic, "max.message.bytes", "500")
    run_and_damage(stack, [event("s", number, action) for number, action in enumerate(TAKEOVER)])
    failed = len(stack.read(stack.config.dead_letter_topic))
    assert failed > 0
    assert stack.alerts() == []
    set_topic(stack.config.alerts_topic, "max.message.bytes", "1000000")
    assert redrive(stack).startswith(f"{failed} redriven")
    with stack.worker("--rebuild-from-input"):
        stack.wait_until_processed()
    (alert,) = stack.alerts()
    assert alert.window[0] == "LOGIN"


def test_sessions_that_nobody_blocked_can_still_be(make_stack: MakeStack) -> None:
    """No alert was published: what the model thinks of the past does not keep the next action from blocking."""
    stack = make_stack(partitions=2)
    run_and_damage(stack, takeovers(slice(0, 3)), "--threshold", "1")
    assert stack.alerts() == []
    stack.publish(takeovers(slice(3, None)))
    with stack.worker("--rebuild-from-input"):
        stack.wait_until_processed()
    assert sorted(alert.session_id for alert in stack.alerts()) == sorted(
        f"s{number}" for number in range(10)
    )
    assert {alert.action_number for alert in stack.alerts()} == {4}


def test_what_was_reviewed_is_not_reviewed_again_and_lists_come_back(make_stack: MakeStack) -> None:
    """A review counts as one, so that a block may still follow; who was allowed or denied on the input still is."""
    stack = make_stack(partitions=1)
    listings = {"denied": Listing.DENY, "allowed": Listing.ALLOW}
    stack.publish(
        (b"k", encode_listing(AccountListing(account_id=account, listing=listing)))
        for account, listing in listings.items()
    )
    reviewing = ("--threshold", "1", "--review-threshold", "0.5")
    run_and_damage(stack, takeovers(slice(0, 3)), *reviewing)
    reviewed = stack.alerts()
    assert [alert.decision for alert in reviewed] == [Decision.REVIEW] * 10
    stack.publish(takeovers(slice(3, None)))
    with stack.worker("--rebuild-from-input", *reviewing):
        stack.wait_until_processed()
    assert stack.alerts() == reviewed
    stack.publish([event("d", 0, "LOGIN", account_id="denied")])
    stack.publish(event("a", number, action, account_id="allowed") for number, action in enumerate(TAKEOVER))
    stack.publish(event(f"s{session}", 9, "TRANSFER_LARGE") for session in range(10))
    with stack.worker("--breaker-max-block-share", "0"):
        stack.wait_until_processed()
    decided = Counter((alert.account_id, alert.decision, alert.cause) for alert in stack.alerts()[10:])
    assert decided == {("a", Decision.BLOCK, Cause.SCORE): 10, ("denied", Decision.BLOCK, Cause.DENY_LIST): 1}


def test_alerts_that_retention_deleted_are_decided_again_in_silence(make_stack: MakeStack) -> None:
    """Where the alerts topic does not reach back, the model says who was blocked: nobody is blocked twice."""
    stack = make_stack(partitions=2)
    run_and_damage(stack, takeovers(slice(0, 3)))
    assert len(stack.alerts()) == 10
    with admin_of(stack) as admin:
        admin.delete_records({TopicPartition(stack.config.alerts_topic, number): -1 for number in range(2)})
    stack.publish(takeovers(slice(3, None)))
    with stack.worker("--rebuild-from-input"):
        stack.wait_until_processed()
    assert stack.alerts() == []


def test_alerts_on_events_that_retention_deleted_still_count(make_stack: MakeStack) -> None:
    """The input is cut behind the deciding events; sessions that go on are not blocked again, and the log tells."""
    stack = make_stack(partitions=1)
    run_and_damage(stack, takeovers(slice(0, 3)))
    before = stack.alerts()
    assert len(before) == 10
    with admin_of(stack) as admin:
        admin.delete_records({TopicPartition(stack.config.input_topic, 0): 30})
    stack.publish([event(f"s{session}", 9, "TRANSFER_LARGE") for session in range(10)])
    stack.publish(takeovers(slice(1, 2)))
    with stack.worker("--rebuild-from-input") as worker:
        stack.wait_until_processed()
        assert "from offset 30, where retention left its start, up to 30" in worker.log.read_text()
    again = stack.alerts()[10:]
    assert stack.alerts()[:10] == before
    # Sessions of which the input holds nothing before the rebuild's end begin anew: that is what was lost.
    assert all(alert.source.offset >= 30 for alert in again)


def test_alerts_behind_the_cut_keep_what_is_replayed_blocked(make_stack: MakeStack) -> None:
    """The input is cut between a session's deciding event and its last one: replayed, the session is blocked."""
    stack = make_stack(partitions=1)
    log = takeovers(slice(0, 2)) + [event(f"s{session}", 5, "VIEW_BALANCE") for session in range(10)]
    run_and_damage(stack, log)
    before = stack.alerts()
    assert len(before) == 10
    assert all(alert.source.offset < 20 for alert in before)
    with admin_of(stack) as admin:
        admin.delete_records({TopicPartition(stack.config.input_topic, 0): 20})
    more = [(7, "CHANGE_PASSWORD"), (8, "ADD_RECIPIENT"), (9, "TRANSFER_LARGE")]
    stack.publish([event(f"s{session}", *step) for session in range(10) for step in more])
    with stack.worker("--rebuild-from-input"):
        stack.wait_until_processed()
    assert stack.alerts() == before


def test_an_input_made_anew_is_refused_and_begun_on_demand(make_stack: MakeStack) -> None:
    """State of a topic that was deleted and made again ends the worker; with the flag the new log is read whole."""
    stack = make_stack(partitions=1)
    stack.publish(records(sessions(33)))
    with stack.worker():
        stack.wait_until_processed()
    old = stack.alerts()
    with admin_of(stack) as admin:
        topic = stack.config.input_topic
        admin.delete_topics([topic])
        wait_for(lambda: topic not in admin.list_topics(), "the topic to be gone")
        admin.create_topics([NewTopic(topic, 1, 1)])
    stack.publish(takeovers(slice(0, None)))
    refused = stack.start()
    assert refused.process.wait(PATIENCE_S) == 1
    assert "it was made anew, or lost records" in refused.log.read_text()
    with stack.worker("--rebuild-from-input"):
        stack.wait_until_processed()
    assert stack.alerts()[: len(old)] == old
    assert without_clock(stack.alerts()[len(old) :]) == without_clock(stack.expected()[0])


@pytest.mark.parametrize(("damaged_chunk", "good"), [(None, True), (0, False), (1, False), (-1, False)])
def test_a_whole_snapshot_makes_damage_before_it_superfluous(
    make_stack: MakeStack, damaged_chunk: int | None, *, good: bool
) -> None:
    """A log whose damaged part could not be deleted is sound from its last whole snapshot on, and from no other."""
    stack = make_stack(partitions=1)
    stack.publish((b"key", b"what the state was made of") for _ in range(7))
    partition = Partition(6)
    partition.sessions = {f"s{number}": bytes(MAX_RECORD_BYTES // 3) for number in range(4)}
    chunks = state_values(partition)
    assert len(chunks) > 2
    if damaged_chunk is not None:
        chunks[damaged_chunk] = chunks[damaged_chunk][:-1] + b"?"
    producer = KafkaProducer(bootstrap_servers=stack.config.bootstrap_servers)
    for value in (b"damage", *chunks):
        producer.send(stack.config.state_topic, value, partition=0)
    producer.flush()
    producer.close()
    link = KafkaLink(stack.config, ENCODING)
    source = TopicPartition(stack.config.input_topic, 0)
    try:
        if good:
            restored, _ = link.state_reader.restore(link.membership, source)
            assert (restored.next_offset, restored.sessions) == (7, partition.sessions)
        else:
            with pytest.raises(StateRefusedError) as refusal:
                link.state_reader.restore(link.membership, source)
            assert refusal.value.next_offset == 7
    finally:
        link.close()


SLOW = """
import sys, time
from detector.cli import main
from detector.runtime import rebuilding, restoring
silent, restoring._TELL_INTERVAL_S = rebuilding._silent, 0.2
class Slow:
    def __init__(self, processor):
        self._processor = processor
    def process(self, *arguments):
        time.sleep(0.5)
        return self._processor.process(*arguments)
rebuilding._silent = lambda *arguments: Slow(silent(*arguments))
main(sys.argv[1:])
"""


@contextmanager
def slow_rebuild(stack: Stack, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a worker that takes half a second for each batch of a rebuild, with limits below the whole's time."""
    log = folder / "slow.log"
    limits = [
        *("--stall-timeout-ms", "4000", "--max-poll-interval-ms", "6500", "--transaction-timeout-ms", "3000"),
        *("--batch-max-events", "50"),
    ]
    arguments = ["run", *flags_of(stack.config), "--rebuild-from-input", *limits]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW, *arguments], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield process, log
    finally:
        process.kill()
        process.wait()


def test_a_long_rebuild_keeps_the_worker_alive_and_in_the_group(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    """A rebuild far longer than watchdog and group allow ends well, once, without being thrown out in between."""
    stack = make_stack(partitions=1)
    log = list(records(sessions(220)))
    run_and_damage(stack, log)
    assert len(log) / 50 * 0.5 > 8, "too short a rebuild to outlast the limits"
    more = list(records(sessions(110, 9)))
    stack.publish(more)
    with slow_rebuild(stack, tmp_path) as (process, said):
        stack.wait_until_processed()
        process.terminate()
        assert process.wait(PATIENCE_S) == 0, said.read_text()
        text = said.read_text()
    assert text.count("rebuilding: rebuilt ") == 1, text
    assert "rebuilding" in text
    assert "rejoin" not in text
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0])


def test_a_rebuild_can_be_stopped(make_stack: MakeStack, tmp_path: Path) -> None:
    """SIGTERM in the middle of a rebuild ends the worker with code 0 long before the rebuild would have ended."""
    stack = make_stack(partitions=1)
    run_and_damage(stack, list(records(sessions(660))))
    with slow_rebuild(stack, tmp_path) as (process, said):
        wait_for(lambda: ": at offset" in said.read_text(), "the rebuild to be under way")
        process.terminate()
        assert process.wait(PATIENCE_S) == 0, said.read_text()
        assert "rebuilding: rebuilt " not in said.read_text()
    with stack.worker("--rebuild-from-input"):
        stack.publish(records(sessions(33, 5)))
        stack.wait_until_processed()
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0])
