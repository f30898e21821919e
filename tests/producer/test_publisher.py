"""Publishing and replaying on a real broker."""

import itertools
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.partitioner.default import murmur2

from broker import Broker
from detector.contract.events import SessionEvent, decode_event, encode_event
from detector.contract.headers import ACTION_TYPE, PRODUCER_SOURCE, cloud_event_headers
from detector.contract.topics import topic_specifications
from producer import publisher
from producer.behaviour import seed
from producer.behaviour.interleave import interleave, schedule
from producer.behaviour.session import stream
from producer.cli import main
from producer.publisher import Publisher, Record, at_rate, at_speed
from tests.conftest import CreateTopic, UniqueName

PARTITIONS = 3
START = "2026-01-02T03:04:05"
START_MS = 1_767_323_045_000


NewTopic = Callable[..., str]


@pytest.fixture
def new_topic(create_topic: CreateTopic, admin: KafkaAdminClient) -> NewTopic:
    """Create an input topic as the detector does, under a name of its own."""

    def create(**configs: str) -> str:
        specification, *_ = topic_specifications("session-actions", "session-alerts", PARTITIONS)
        topic = create_topic("actions", partitions=PARTITIONS, configs={**specification.configs, **configs})
        admin.wait_for_topics([topic])
        return topic

    return create


def count(kafka: Broker, topic: str) -> int:
    """Return how many records the topic holds."""
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap_servers)
    try:
        return sum(
            consumer.end_offsets([TopicPartition(topic, number) for number in range(PARTITIONS)]).values()
        )
    finally:
        consumer.close()


def consume(kafka: Broker, topic: str) -> list[Any]:
    """Return all records of the topic, in order within each partition."""
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest")
    try:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        records: list[Any] = []
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            for batch in consumer.poll(timeout_ms=500).values():
                records += batch
        return records
    finally:
        consumer.close()


def run(kafka: Broker, *arguments: str | int | Path) -> Result:
    """Run the command in this process."""
    environment = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env=environment)


def expected_events(sessions: int, chosen: int) -> list[SessionEvent]:
    """Return what `simulate` should publish for the seed preset from `START` with 20 live sessions."""
    scheduled = schedule(seed.sessions(sessions, chosen), live_sessions=20, rng=stream(chosen, "schedule"))
    return list(interleave(scheduled, start_ms=START_MS))


def by_key(values: list[tuple[str, bytes]]) -> dict[str, list[bytes]]:
    """Group values by key, in order."""
    grouped: dict[str, list[bytes]] = defaultdict(list)
    for key, value in values:
        grouped[key].append(value)
    return grouped


def test_what_is_simulated_is_on_the_topic(kafka: Broker, new_topic: NewTopic) -> None:
    """Every event once, in its account's order, keyed and partitioned by account id, with CloudEvents headers."""
    topic = new_topic()
    result = run(
        kafka,
        "simulate",
        "--sessions",
        220,
        "--seed",
        2,
        "--live-sessions",
        20,
        "--start-time",
        START,
        "--topic",
        topic,
    )
    assert result.exit_code == 0, result.output
    records = consume(kafka, topic)
    expected = expected_events(220, 2)
    assert f"published {len(expected):,} events" in result.output
    assert by_key([(record.key.decode(), record.value) for record in records]) == by_key(
        [(event.account_id, encode_event(event)) for event in expected]
    )
    for record in records:
        event = decode_event(record.value)
        assert record.key == event.account_id.encode()
        assert record.partition == (murmur2(record.key) & 0x7FFFFFFF) % PARTITIONS
        assert list(record.headers) == cloud_event_headers(
            event_type=ACTION_TYPE,
            event_id=event.event_id,
            source=PRODUCER_SOURCE,
            subject=event.session_id,
            time_ms=event.occurred_at_ms,
        )
    assert {record.partition for record in records} == set(range(PARTITIONS))


@pytest.mark.parametrize("key", [None, "account", "session"])
def test_lives_are_keyed_by_account(
    key: str | None, kafka: Broker, new_topic: NewTopic, tmp_path: Path
) -> None:
    """An account's events lie in one partition in order, unless sessions are to be keys; a replay's as well."""
    topic, path = new_topic(), tmp_path / "events.jsonl"
    lives = "--preset", "realistic", "--days", 2, "--customers", 60, "--seed", 4, "--start-time", START
    told = ("--key", key) if key else ()
    assert run(kafka, "simulate", *lives, "--out", path).exit_code == 0
    result = run(kafka, "simulate", *lives, "--topic", topic, *told)
    assert result.exit_code == 0, result.output

    def key_of(value: bytes) -> str:
        event = decode_event(value)
        return event.session_id if key == "session" else event.account_id

    expected = by_key([(key_of(value), value) for value in path.read_bytes().splitlines()])
    records = consume(kafka, topic)
    assert by_key([(record.key.decode(), record.value) for record in records]) == expected
    topic = new_topic()
    assert run(kafka, "replay", path, "--speed", "max", "--topic", topic, *told).exit_code == 0
    assert by_key([(record.key.decode(), record.value) for record in consume(kafka, topic)]) == expected


@pytest.mark.parametrize("name", ["events.jsonl", "events.jsonl.gz"])
def test_a_replay_publishes_the_recording_byte_for_byte(
    name: str, kafka: Broker, new_topic: NewTopic, tmp_path: Path
) -> None:
    """A recorded file, replayed, leaves the same records on the topic as simulating straight to it would."""
    topic = new_topic()
    path = tmp_path / name
    simulated = run(
        kafka,
        "simulate",
        "--sessions",
        150,
        "--seed",
        4,
        "--live-sessions",
        20,
        "--start-time",
        START,
        "--out",
        path,
    )
    assert simulated.exit_code == 0, simulated.output
    result = run(kafka, "replay", path, "--speed", "max", "--topic", topic)
    assert result.exit_code == 0, result.output
    assert by_key([(record.key.decode(), record.value) for record in consume(kafka, topic)]) == by_key(
        [(event.account_id, encode_event(event)) for event in expected_events(150, 4)]
    )


def lines(count: int) -> list[bytes]:
    """Return events of two sessions, a millisecond apart."""
    return [
        json.dumps(
            {
                "event_id": f"e{number}",
                "session_id": f"s{number % 2}",
                "account_id": "a",
                "action": "LOGIN",
                "occurred_at_ms": START_MS + number,
            }
        ).encode()
        for number in range(count)
    ]


def test_a_replay_stops_before_a_bad_line(kafka: Broker, new_topic: NewTopic, tmp_path: Path) -> None:
    """All lines before it are on the topic, none after; the exit code is 1 and the line is named."""
    topic = new_topic()
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join([*lines(30), b"{", *lines(31)[30:]]))
    result = run(kafka, "replay", path, "--speed", "max", "--topic", topic)
    assert result.exit_code == 1
    assert "line 31" in result.output
    assert sorted(record.value for record in consume(kafka, topic)) == sorted(lines(30))


def test_a_replay_skips_bad_lines_on_request_and_says_so(
    kafka: Broker, new_topic: NewTopic, tmp_path: Path
) -> None:
    """All events are on the topic, and the lines left out are counted and named."""
    topic = new_topic()
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join([*lines(10), b"{", b"null", *lines(12)[10:]]))
    result = run(kafka, "replay", path, "--speed", "1000", "--skip-bad-lines", "--topic", topic)
    assert result.exit_code == 0, result.output
    assert "skipped 2 lines that are no event: 11, 12" in result.output
    assert sorted(record.value for record in consume(kafka, topic)) == sorted(lines(12))


def test_a_replay_says_what_lies_ahead_of_the_clock(
    kafka: Broker, new_topic: NewTopic, tmp_path: Path
) -> None:
    """Events far ahead of the clock are published as they are, and told of: detectors take the broker's time for theirs."""
    topic = new_topic()
    path = tmp_path / "events.jsonl"
    ahead = [line.replace(str(START_MS).encode()[:4], b"9999", 1) for line in lines(10)[:3]]
    path.write_bytes(b"\n".join([*ahead, *lines(10)[3:]]))
    result = run(kafka, "replay", path, "--speed", "max", "--topic", topic)
    assert result.exit_code == 0, result.output
    assert "3 events lie more than 5 minutes ahead" in " ".join(result.output.split())
    assert len(consume(kafka, topic)) == 10


def test_an_event_the_broker_refuses_is_counted_and_the_exit_code_is_1(
    kafka: Broker, new_topic: NewTopic, tmp_path: Path
) -> None:
    """A record over the topic's limit is never dropped in silence: the error counts what is not acknowledged."""
    topic = new_topic(**{"max.message.bytes": "5000"})
    path = tmp_path / "events.jsonl"
    large = lines(1)[0][:-1] + b', "attributes": {"note": "' + b"x" * 20_000 + b'"}}'
    path.write_bytes(large.replace(b"e0", b"large") + b"\n")
    result = run(kafka, "replay", path, "--speed", "max", "--topic", topic)
    assert result.exit_code == 1, result.output
    assert f"1 of 1 events sent to {topic!r} were not acknowledged" in result.output
    assert "all acknowledged" not in result.output
    assert count(kafka, topic) == 0


def test_a_missing_topic_is_one_clear_error(
    kafka: Broker, admin: KafkaAdminClient, unique_name: UniqueName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1 and what to do, and the topic is not created by the way."""
    monkeypatch.setattr(publisher, "METADATA_TIMEOUT_MS", 2_000)
    topic = unique_name("missing")
    result = run(kafka, "simulate", "--sessions", 5, "--topic", topic)
    assert result.exit_code == 1
    assert f"topic {topic!r} was not found" in result.output
    assert "Traceback" not in result.output
    assert topic not in admin.list_topics()


def test_no_broker_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1, the address, and how to start one."""
    monkeypatch.setattr(publisher, "BOOTSTRAP_TIMEOUT_MS", 1_000)
    with socket.socket() as held:  # bound and not listening: nobody else answers there meanwhile
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        result = CliRunner().invoke(main, ["simulate", "--sessions", "5", "--bootstrap-servers", address])
    assert result.exit_code == 1
    assert f"no Kafka broker answered at {address}" in result.output
    assert "python -m broker up" in result.output


@pytest.mark.parametrize(
    ("number", "exit_code", "options"),
    [
        (signal.SIGINT, 130, ["--rate", "400"]),
        (signal.SIGTERM, 143, ["--real-time", "--live-sessions", "5000"]),
        (signal.SIGINT, 130, []),
    ],
    ids=["paced", "real time", "full speed"],
)
def test_a_signal_ends_publishing_with_nothing_lost(
    number: signal.Signals, exit_code: int, options: list[str], kafka: Broker, new_topic: NewTopic
) -> None:
    """The exit code is the shell's, and the number reported is that of the records on the topic."""
    topic = new_topic()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "producer", "simulate", "--sessions", "60000", "--topic", topic),
            *("--bootstrap-servers", kafka.bootstrap_servers),
            *options,
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while count(kafka, topic) < 100:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == exit_code, errors
    reported = re.search(rf"stopped by {number.name}: published ([\d,]+) events .*all acknowledged", errors)
    assert reported is not None, errors
    assert int(reported[1].replace(",", "")) == count(kafka, topic)
    for record in consume(kafka, topic):
        # The topic's timestamps are the broker's: nothing arrives before it happens (50 ms for two clock readings).
        assert decode_event(record.value).occurred_at_ms <= record.timestamp + 50


class Stepped:
    """A stop that doesn't sleep: it records when each event was due, and stops after some."""

    def __init__(self, after: int) -> None:
        self.due_s: list[float] = []
        self._after = after

    def __bool__(self) -> bool:
        return len(self.due_s) > self._after

    def sleep_until(self, due_s: float) -> None:
        """Record."""
        self.due_s.append(due_s)


def test_publishing_waits_for_each_due_time_and_stops_between_events(
    kafka: Broker, new_topic: NewTopic
) -> None:
    """Due times are asked for one event at a time, evenly spaced, and nothing is sent once stopped."""
    topic = new_topic()
    records = [Record(decode_event(line), line) for line in lines(50)]
    stop = Stepped(after=20)
    counts: list[int] = []
    with Publisher(kafka.bootstrap_servers, topic) as connected:
        connected.publish(records, stop=stop, pace=at_rate(10), progress=counts.append)
        assert (connected.sent, connected.acknowledged) == (20, 20)
    assert [round(two - one, 6) for one, two in itertools.pairwise(stop.due_s)] == [0.1] * 20
    assert counts[-1] == 20
    assert count(kafka, topic) == 20


def test_many_unacknowledged_events_are_bounded_and_all_confirmed(
    kafka: Broker, new_topic: NewTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for few events ahead of their acknowledgement, all still arrive."""
    monkeypatch.setattr(publisher, "MAX_UNACKNOWLEDGED", 7)
    topic = new_topic()
    with Publisher(kafka.bootstrap_servers, topic) as connected:
        connected.publish((Record(decode_event(line), line) for line in lines(100)), stop=Stepped(after=1))
        assert (connected.sent, connected.acknowledged) == (100, 100)
    assert count(kafka, topic) == 100


times = st.lists(st.integers(min_value=0, max_value=10**9), min_size=1, max_size=30)


@given(times, st.floats(min_value=0.01, max_value=1_000))
def test_the_pace_of_a_replay_is_the_recorded_one_divided_by_the_speed(
    offsets: list[int], speed: float
) -> None:
    """An event is due as long after the first as it happened after it, divided by the speed."""
    events = [
        SessionEvent(
            event_id="e", session_id="s", account_id="a", action="LOGIN", occurred_at_ms=START_MS + offset
        )
        for offset in offsets
    ]
    pace = at_speed(speed)
    for index, event in enumerate(events):
        expected = (event.occurred_at_ms - events[0].occurred_at_ms) / 1_000 / speed
        assert pace(index, event) == pytest.approx(expected)
