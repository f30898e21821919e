"""The consumer on a real broker: what it shares with kafka-python's, and what it does beyond."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import CorruptRecordError
from kafka.record.memory_records import MemoryRecords

from broker import Broker
from detector.client.consumer import Consumer, _Fetcher
from detector.client.records import Unreadable, Withheld
from tests.client.batches import COMPRESSED, Written, batch, body, compressed, overflowing, publish_batch
from tests.conftest import CreateTopic, UniqueName

PATIENCE_S = 60.0
MANY = [Written(b"key", b"%d" % number + bytes(1_000)) for number in range(100)]
Settings = dict[str, Any]


def read(kafka: Broker, topic: str, kind: type[KafkaConsumer] = Consumer, **settings: Any) -> list[list[Any]]:
    """Return what a topic of one partition holds, as the polls brought it."""
    polled, source = [], TopicPartition(topic, 0)
    settings = {"auto_offset_reset": "earliest", "isolation_level": "read_committed"} | settings
    with closing(kind(bootstrap_servers=kafka.bootstrap_servers, group_id=None, **settings)) as consumer:
        consumer.assign([source])
        (end,) = consumer.end_offsets([source]).values()
        deadline_s = time.monotonic() + PATIENCE_S
        while consumer.position(source) < end:
            assert time.monotonic() < deadline_s, (consumer.position(source), end)
            if records := consumer.poll(200).get(source):
                polled.append(records)
    return polled


def flat(polled: list[list[Any]]) -> list[Any]:
    """Return the records of all polls."""
    return [record for records in polled for record in records]


@pytest.fixture
def transactions(kafka: Broker, unique_name: UniqueName) -> Iterator[Callable[[str, int, bool], None]]:
    """Return what publishes a transaction of so many records, and commits it or not."""
    producer = KafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, transactional_id=unique_name(), compression_type="gzip"
    )
    producer.init_transactions()

    def publish(topic: str, count: int, committed: bool) -> None:  # noqa: FBT001  a test's own
        producer.begin_transaction()
        for number in range(count):
            text = b"%s %d" % (b"in" if committed else b"out", number)
            producer.send(
                topic, key=b"key", value=text, headers=[("name", text)], timestamp_ms=1_000 + number
            )
        producer.flush()
        producer.commit_transaction() if committed else producer.abort_transaction()

    with closing(producer):
        yield publish


def test_what_kafka_python_reads_is_read_alike(
    kafka: Broker, create_topic: CreateTopic, transactions: Callable[[str, int, bool], None]
) -> None:
    """Transactions, aborted or not, and records outside of them: the same records, field by field."""
    topic = create_topic()
    for count, committed in [(3, True), (5, False), (2, True), (4, False)]:
        transactions(topic, count, committed)
        publish_batch(kafka.bootstrap_servers, topic, batch(body(MANY[:3]), 3))
    for isolation in ("read_committed", "read_uncommitted"):
        ours, theirs = (
            flat(read(kafka, topic, kind, isolation_level=isolation)) for kind in (Consumer, KafkaConsumer)
        )
        assert [(*one[:8], list(one.headers)) for one in ours] == [(*one[:8], one.headers) for one in theirs]
        assert len(ours) == (17 if isolation == "read_committed" else 26)


@pytest.mark.parametrize("codec", COMPRESSED)
def test_what_a_broker_takes_is_read(kafka: Broker, create_topic: CreateTopic, codec: str) -> None:
    """Each compression, as the broker's own readers accept it, between two batches that are nothing special."""
    topic, plain = create_topic(), compressed(MANY[:2], "none")
    for whole in (plain, compressed(MANY, codec), plain):
        publish_batch(kafka.bootstrap_servers, topic, whole)
    found = flat(read(kafka, topic))
    assert [one.offset for one in found] == list(range(104))
    assert [one.value for one in found[2:-2]] == [one.value for one in MANY]


@pytest.mark.parametrize(
    "written",
    [
        body([one._replace(attributes=255) for one in MANY]),
        body(MANY, [0] * len(MANY)),
        body(MANY, [-7] * len(MANY)),
        body([one._replace(headers=[(b"\xff\xfe", b"1")]) for one in MANY]),
    ],
    ids=["attributes", "offsets all 0", "negative offsets", "names of headers"],
)
def test_what_a_broker_does_not_look_at_ends_nobody(
    kafka: Broker, create_topic: CreateTopic, written: bytes
) -> None:
    """Each record once and in order, from any offset on, where kafka-python ends or reads for ever."""
    topic = create_topic()
    for whole in (batch(written, len(MANY)), batch(body(MANY[:2]), 2)):
        publish_batch(kafka.bootstrap_servers, topic, whole)
    found = flat(read(kafka, topic))
    assert [one.offset for one in found] == list(range(102))
    assert [one.value for one in found[:100]] == [one.value for one in MANY]


def test_a_poll_is_bounded_in_bytes(kafka: Broker, create_topic: CreateTopic) -> None:
    """Up to the record that reaches the bound; the next poll goes on behind it, within a batch and across."""
    topic = create_topic()
    for written in (MANY, [Written(None, bytes(20_000)), *MANY]):
        publish_batch(kafka.bootstrap_servers, topic, compressed(written))
    polled = read(kafka, topic, max_poll_bytes=10_000)
    assert [one.offset for one in flat(polled)] == list(range(len(flat(polled))))
    sizes = [[len(one.key or b"") + len(one.value) for one in records] for records in polled]
    assert all(sum(records[:-1]) < 10_000 for records in sizes)
    assert max(map(sum, sizes)) < 31_000
    assert len(polled) >= 20


def test_a_poll_is_bounded_over_partitions(kafka: Broker, create_topic: CreateTopic) -> None:
    """What was fetched of others stays for the polls to come."""
    topic = create_topic(partitions=4)
    sources = [TopicPartition(topic, number) for number in range(4)]
    for source in sources:
        publish_batch(kafka.bootstrap_servers, topic, compressed(MANY), source.partition)
    found: dict[TopicPartition, list[int]] = {source: [] for source in sources}
    with closing(
        Consumer(bootstrap_servers=kafka.bootstrap_servers, group_id=None, max_poll_bytes=10_000)
    ) as consumer:
        consumer.assign(sources)
        consumer.seek_to_beginning(*sources)
        deadline_s = time.monotonic() + PATIENCE_S
        while any(consumer.position(source) < 100 for source in sources):
            assert time.monotonic() < deadline_s
            polled = consumer.poll(200, max_records=150)
            assert sum(len(one.value) for records in polled.values() for one in records) < 12_000
            for source, records in polled.items():
                found[source] += [one.offset for one in records]
    assert found == {source: list(range(100)) for source in sources}


def test_a_batch_that_is_too_large_is_passed_once(kafka: Broker, create_topic: CreateTopic) -> None:
    """One mark at its last offset; whoever begins anew at the position behind it sees nothing of it again."""
    topic = create_topic()
    for whole in (compressed(MANY[:2]), compressed(MANY), compressed(MANY[:2])):
        publish_batch(kafka.bootstrap_servers, topic, whole)
    found = flat(read(kafka, topic, max_batch_bytes=50_000))
    assert [one.offset for one in found] == [0, 1, 101, 102, 103]
    assert isinstance(found[2].value, Withheld)
    source = TopicPartition(topic, 0)
    for begin, expected in [(1, [1, 101, 102, 103]), (50, [101, 102, 103]), (102, [102, 103])]:
        with closing(
            Consumer(bootstrap_servers=kafka.bootstrap_servers, group_id=None, max_batch_bytes=50_000)
        ) as consumer:
            consumer.assign([source])
            consumer.seek(source, begin)
            offsets: list[int] = []
            while len(offsets) < len(expected):
                offsets += [one.offset for one in consumer.poll(200).get(source, ())]
            assert offsets == expected
            assert consumer.position(source) == 104


def test_a_checksum_that_fails_stays_an_error() -> None:
    """No record causes it: a disk or the network does. What came before it is returned first."""
    spoiled = bytearray(batch(body(MANY), 100, base_offset=2))
    spoiled[-1] ^= 1
    part = _Fetcher.PartitionRecords(
        0, TopicPartition("t", 0), MemoryRecords(batch(body(MANY[:2]), 2) + bytes(spoiled))
    )
    assert [one.offset for one in part.take(10)] == [0, 1]
    with pytest.raises(CorruptRecordError, match="the batch at offset 2 fails its checksum"):
        part.take(10)


def test_the_position_is_behind_what_compaction_left_out() -> None:
    """A batch that lost its last records is not fetched again and again, and nor is one that lost all."""
    whole = batch(body(MANY[:2], [0, 3]), 2, offsets=9) + batch(b"", 0, base_offset=9, offsets=5)
    part = _Fetcher.PartitionRecords(1, TopicPartition("t", 0), MemoryRecords(whole))
    assert [one.offset for one in part.take(1)] == [3]
    assert (part.next_fetch_offset, part.take(10), part.next_fetch_offset, bool(part)) == (4, [], 14, False)


def test_a_member_can_ask_to_join_anew(
    kafka: Broker, create_topic: CreateTopic, unique_name: UniqueName
) -> None:
    """The group counts one generation more."""
    with closing(
        Consumer(create_topic(), bootstrap_servers=kafka.bootstrap_servers, group_id=unique_name())
    ) as consumer:
        generations: list[int] = []
        deadline_s = time.monotonic() + PATIENCE_S
        while len(set(generations)) < 2:
            assert time.monotonic() < deadline_s, generations
            consumer.poll(100)
            if consumer.assignment() and (generation := consumer.group_metadata().generation_id) > 0:
                generations.append(generation)
                if len(generations) == 1:
                    consumer.rejoin()
        assert consumer.refused_topics == set()
        assert set(generations) == {generations[0], generations[0] + 1}


def test_a_record_that_can_not_be_read_is_passed_once(kafka: Broker, create_topic: CreateTopic) -> None:
    """Its time overflows, on a topic whose times are the producers': those beside it are read."""
    topic = create_topic()
    for whole in (overflowing(MANY[:4]), compressed(MANY[:2])):
        publish_batch(kafka.bootstrap_servers, topic, whole)
    found = flat(read(kafka, topic))
    assert [one.offset for one in found] == list(range(6))
    assert [one.offset for one in found if isinstance(one.value, Unreadable)] == [1]


LEFT_HALFWAY = """
import sys
from detector.runtime.config import DetectorConfig
from detector.runtime.replaying import batches_of_topic
batches = batches_of_topic(DetectorConfig(bootstrap_servers=sys.argv[1], input_topic=sys.argv[2]))
next(batches)
raise SystemExit("of who reads it")
"""


def test_what_was_left_halfway_ends_with_python(kafka: Broker, create_topic: CreateTopic) -> None:
    """A reader that meets an error, and leaves a consumer open behind it, says so and ends: it hung without end."""
    topic = create_topic()
    with closing(KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)) as producer:
        producer.send(topic, b"{}")
    command = [sys.executable, "-c", LEFT_HALFWAY, kafka.bootstrap_servers, topic]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr.strip()) == (1, "of who reads it")
