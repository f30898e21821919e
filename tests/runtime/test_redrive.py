"""Dead letters come back, on a real broker: once each, whole, with their history, whatever happens meanwhile."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from detector.contract.dead_letters import Failure
from detector.contract.topics import redriven_topic
from tests.commands import run
from tests.runtime.stack import Stack, flags_of
from tests.waiting import PATIENCE_S

NOW_MS = 1_790_000_000_000
TAKEOVER = ("LOGIN", "CHANGE_PASSWORD", "ADD_RECIPIENT", "TRANSFER_LARGE")
MakeStack = Callable[..., Stack]


def event(session: str, number: int, action: str, **changes: object) -> tuple[bytes, bytes]:
    """Encode a valid event, but for the changes, keyed by its session."""
    fields = {"event_id": f"{session}-{number}", "session_id": session, "account_id": "a", "action": action}
    return session.encode(), json.dumps(fields | {"occurred_at_ms": NOW_MS + number} | changes).encode()


def oversized_takeover(session: str) -> list[tuple[bytes, bytes]]:
    """Encode a session whose every event is larger than a limit of 1,000 bytes."""
    return [
        event(session, number, action, attributes={"device": "x" * 2_000})
        for number, action in enumerate(TAKEOVER)
    ]


def redrive(stack: Stack, *arguments: str) -> str:
    """Run the command to its end; return what it printed."""
    done = run("detector", "redrive", *flags_of(stack.config), *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def dead_lettered(stack: Stack, log: Sequence[tuple[bytes | None, bytes | None]], *arguments: str) -> None:
    """Publish a log and let a worker with some flags process it."""
    stack.publish(log)
    with stack.worker(*arguments):
        stack.wait_until_processed()


def values(stack: Stack, topic: str) -> list[tuple[bytes | None, bytes | None]]:
    """Return key and value of all committed records of a topic."""
    return [(record.key, record.value) for record in stack.read(topic)]


def headers_of(record: Any) -> dict[str, str]:
    """Return a record's headers as text; of those that repeat, the last."""
    return {name: value.decode(errors="replace") for name, value in record.headers}


def test_events_come_back_after_the_fix_once_each(make_stack: MakeStack) -> None:
    """Events refused by a limit set too low are scored once it is raised and they are redriven, and only once."""
    stack = make_stack()
    sessions = [f"taken-over-{number}" for number in range(20)]
    dead_lettered(
        stack,
        [one for session in sessions for one in oversized_takeover(session)],
        "--max-event-bytes",
        "1000",
    )
    assert stack.alerts() == []
    letters = values(stack, stack.config.dead_letter_topic)
    assert len(letters) == 80
    with stack.worker():
        printed = redrive(stack)
        stack.wait_until_processed()
        assert printed == f"80 redriven to {stack.config.input_topic}: 80 too_large\n"
        assert redrive(stack) == f"0 redriven to {stack.config.input_topic}: none\n"
        stack.wait_until_processed()
    assert sorted(alert.session_id for alert in stack.alerts()) == sorted(sessions)
    assert sorted(values(stack, stack.config.input_topic)) == sorted(letters * 2)
    assert len(values(stack, stack.config.dead_letter_topic)) == 80


def test_redriven_events_go_back_to_their_partition_in_their_order(make_stack: MakeStack) -> None:
    """An event returns to the partition it came from, even if its key would map elsewhere; order is kept."""
    stack = make_stack()
    producer = KafkaProducer(bootstrap_servers=stack.config.bootstrap_servers)
    for number in range(40):
        key, value = event("s", number, f"UNKNOWN_{number}")
        producer.send(stack.config.input_topic, key=key, value=value, partition=number % 4)
    producer.flush()
    producer.close()
    with stack.worker():
        stack.wait_until_processed()
        redrive(stack)
        stack.wait_until_processed()
    by_partition: dict[int, list[bytes]] = {}
    for record in stack.read(stack.config.input_topic):
        by_partition.setdefault(record.partition, []).append(record.value)
    assert sorted(by_partition) == [0, 1, 2, 3]
    for found in by_partition.values():
        assert found[10:] == found[:10]


def test_a_dry_run_changes_nothing(make_stack: MakeStack) -> None:
    """It counts what a run would redrive, and publishes and remembers nothing, not even a topic.

    Asked for one reason, it counts that one's letters alone.
    """
    stack = make_stack(partitions=2)
    log = [event("s", 1, "FLY"), event("s", 2, "WALK"), (b"k", b"not JSON"), (b"k", None)]
    dead_lettered(stack, log)
    before = stack.read(stack.config.input_topic)
    printed = redrive(stack, "--dry-run")
    assert printed == (
        f"3 would be redriven to {stack.config.input_topic}: 1 malformed, 2 unknown_action\n"
        f"1 kept on {stack.config.dead_letter_topic}: 1 null values, with nothing to score\n"
    )
    one_reason = redrive(stack, "--dry-run", "--reason", "malformed")
    assert one_reason == f"1 would be redriven to {stack.config.input_topic}: 1 malformed\n"
    assert stack.read(stack.config.input_topic) == before
    admin = KafkaAdminClient(bootstrap_servers=stack.config.bootstrap_servers)
    assert redriven_topic(stack.config.input_topic) not in admin.list_topics()
    admin.close()
    assert redrive(stack).startswith(f"3 redriven to {stack.config.input_topic}")
    assert len(stack.read(stack.config.input_topic)) == len(before) + 3


def test_each_reason_has_a_position_of_its_own(make_stack: MakeStack) -> None:
    """What one run passed over for its reason, a later run for another reason still finds, and no run finds twice."""
    stack = make_stack(partitions=2)
    log = []
    for number in range(30):
        log += [
            event(f"s{number}", 1, "FLY"),
            (f"s{number}".encode(), f"nonsense {number}".encode()),
            event(f"s{number}", 2, "LOGIN", occurred_at_ms=NOW_MS // 1_000),
        ]
    dead_lettered(stack, log)
    topic = stack.config.input_topic
    assert redrive(stack, "--reason", "malformed") == f"30 redriven to {topic}: 30 malformed\n"
    assert redrive(stack, "--reason", "malformed") == f"0 redriven to {topic}: none\n"
    first = redrive(stack, "--reason", "unknown_action", "--reason", "malformed", "--max", "7")
    assert first == f"7 redriven to {topic}: 7 unknown_action\n"
    assert redrive(stack) == f"53 redriven to {topic}: 30 time_unit, 23 unknown_action\n"
    assert redrive(stack) == f"0 redriven to {topic}: none\n"
    found = Counter(values(stack, topic))
    assert found == Counter(log) + Counter(log)


def test_history_and_the_originals_headers_are_carried(make_stack: MakeStack) -> None:
    """An event that fails again says how often it was redriven and where it lay each time; its own headers stay."""
    stack = make_stack(partitions=1)
    producer = KafkaProducer(bootstrap_servers=stack.config.bootstrap_servers)
    own = [("ce_id", b"7"), ("trace", b"\xff\x00"), ("trace", b"2"), ("dlq-reason", b"forged")]
    key, value = event("s", 1, "FLY")
    producer.send(stack.config.input_topic, key=key, value=value, headers=own)
    producer.flush()
    producer.close()
    with stack.worker():
        for _ in range(3):
            stack.wait_until_processed()
            assert redrive(stack).startswith("1 redriven")
        stack.wait_until_processed()
    letters = stack.read(stack.config.dead_letter_topic)
    events = stack.read(stack.config.input_topic)
    assert [(record.key, record.value) for record in letters] == [(key, value)] * 4
    assert "dlq-redrive-count" not in headers_of(letters[0])
    assert headers_of(letters[3])["dlq-redrive-count"] == "3"
    for records in (letters, events[1:]):
        assert all(list(record.headers)[:3] == own[:3] for record in records)
    history = [
        msgspec.json.decode(text, type=Failure) for name, text in letters[3].headers if name == "dlq-history"
    ]
    assert [(one.reason, one.topic, one.offset) for one in history] == [
        ("unknown_action", stack.config.input_topic, record.offset) for record in events[:3]
    ]
    assert headers_of(letters[3])["dlq-source-offset"] == str(events[3].offset)
    assert headers_of(letters[3])["dlq-reason"] == "unknown_action"


def test_a_letter_that_was_cut_comes_back_whole_or_is_reported(make_stack: MakeStack) -> None:
    """A cut value, key and headers are fetched from the input; what retention deleted there is kept and told."""
    stack = make_stack(partitions=1, max_dead_letter_bytes=500)
    lost, found = (event(session, 1, "LOGIN", attributes={"x": "y" * 5_000}) for session in ("lost", "found"))
    found = (b"k" * 2_000, found[1])
    producer = KafkaProducer(bootstrap_servers=stack.config.bootstrap_servers)
    for key, value in (lost, found):
        producer.send(stack.config.input_topic, key=key, value=value, headers=[("trace", b"t" * 100)])
    producer.flush()
    producer.close()
    with stack.worker("--max-event-bytes", "1000"):
        stack.wait_until_processed()
    letters = stack.read(stack.config.dead_letter_topic)
    assert [(len(one.value), headers_of(one)["dlq-headers-omitted"]) for one in letters] == [(500, "1")] * 2
    assert [(len(one.key), headers_of(one).get("dlq-key-bytes")) for one in letters] == [
        (4, None),
        (1_000, "2000"),
    ]
    admin = KafkaAdminClient(bootstrap_servers=stack.config.bootstrap_servers)
    admin.delete_records({TopicPartition(stack.config.input_topic, 0): 1})
    admin.close()
    assert redrive(stack) == (
        f"1 redriven to {stack.config.input_topic}: 1 too_large\n"
        f"1 kept on {stack.config.dead_letter_topic}: 1 cut, and not whole on the input topic any more\n"
    )
    back = stack.read(stack.config.input_topic)[-1]
    assert (back.key, back.value) == found
    assert headers_of(back)["trace"] == "t" * 100
    assert headers_of(back)["dlq-redrive-count"] == "1"


DYING = """
import os, sys
from kafka import KafkaProducer
from detector.cli import main
commit, commits = KafkaProducer.commit_transaction, []
def dying(self):
    commits.append(1)
    if len(commits) == 2 and "{when}" == "before":
        os._exit(9)
    commit(self)
    if len(commits) == 2:
        os._exit(9)
KafkaProducer.commit_transaction = dying
main(sys.argv[1:])
"""


@pytest.mark.parametrize(("when", "left"), [("before", 20), ("after", 10)])
def test_a_crash_neither_loses_nor_doubles(make_stack: MakeStack, when: str, left: int) -> None:
    """A run that dies at its second commit, everything being on the broker, is finished by the next run."""
    stack = make_stack(partitions=2, batch_max_events=10)
    log = [event(f"s{number}", 1, "FLY") for number in range(30)]
    dead_lettered(stack, log)
    arguments = ["redrive", *flags_of(stack.config)]
    dead = subprocess.run(
        [sys.executable, "-c", DYING.format(when=when), *arguments], timeout=PATIENCE_S, check=False
    )
    assert dead.returncode == 9
    assert redrive(stack) == f"{left} redriven to {stack.config.input_topic}: {left} unknown_action\n"
    assert Counter(values(stack, stack.config.input_topic)) == Counter(log * 2)


def test_without_a_topic_the_message_says_so(make_stack: MakeStack) -> None:
    """A wrong topic ends the command with code 1 and a message, not a traceback."""
    stack = make_stack(partitions=1)
    flags = [*flags_of(stack.config), "--input-topic", "no-such-topic"]
    done = subprocess.run(
        [sys.executable, "-m", "detector", "redrive", *flags],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 1
    assert "no topic 'no-such-topic.dlq'" in done.stderr
    assert "Traceback" not in done.stderr
