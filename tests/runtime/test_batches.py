"""Batches that would end or fill a worker: what lies in them is scored or dead-lettered, and what is behind them is read."""

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from click.testing import CliRunner
from kafka import KafkaProducer

from detector.cli import main as detector
from detector.contract.dead_letters import DeadLetter, Reason, read_dead_letter
from tests.client.batches import (
    COMPRESSED,
    GZIP,
    Written,
    batch,
    body,
    compressed,
    overflowing,
    publish_batch,
)
from tests.runtime.conftest import SetTopic
from tests.runtime.stack import Stack, Worker, flags_of, without_clock
from tests.runtime.test_end_to_end import NOW_MS, records, sessions
from tests.runtime.test_redrive import redrive
from tests.waiting import PATIENCE_S
from trainer.data.description import Description
from trainer.data.loading import load
from trainer.data.sessions import Splits, sha256_of
from trainer.data.topic import Topic, events_of

MB = 1_000_000


def written(of: Sequence[tuple[bytes, bytes]]) -> list[Written]:
    """Return records with the headers that a producer of ours would add."""
    return [Written(key, value, [(b"ce_type", b"session.action.v1")]) for key, value in of]


def publish(stack: Stack, *batches: bytes) -> None:
    """Publish batches to the one partition, as they are."""
    for one in batches:
        publish_batch(stack.config.bootstrap_servers, stack.config.input_topic, one)


def letters_of(stack: Stack) -> list[DeadLetter]:
    """Return what was dead-lettered."""
    return [
        read_dead_letter(one.key, one.value, list(one.headers))
        for one in stack.read(stack.config.dead_letter_topic)
    ]


def peak_bytes(worker: Worker) -> int:
    """Return the most memory that a worker had resident."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    (peak_kb,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(peak_kb) * 1_024


def test_whatever_a_broker_takes_is_scored(make_stack: Callable[..., Stack], tmp_path: Path) -> None:
    """Every compression as Java reads it, attributes and offsets that say nothing: each event once, in its order.

    The trainer makes the same sessions of them as of a recording of the events.
    """
    stack, log = make_stack(partitions=1), list(records(sessions(400)))
    kinds = [*COMPRESSED, "attributes", "offsets"]
    size = len(log) // len(kinds)
    shares = [written(log[begin : begin + size]) for begin in range(0, size * len(kinds), size)]
    for kind, share in zip(kinds, shares, strict=True):
        match kind:
            case "attributes":
                whole = batch(body([one._replace(attributes=255) for one in share]), size)
            case "offsets":
                whole = batch(body(share, [0] * size), size)
            case _:
                whole = compressed(share, kind)
        publish(stack, whole)
    stack.publish(log[size * len(kinds) :])
    with stack.worker():
        stack.wait_until_processed()
    assert [one.value for one in stack.read(stack.config.input_topic)] == [value for _, value in log]
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0]) != []
    assert letters_of(stack) == []
    (recording := tmp_path / "events.jsonl").write_bytes(b"".join(value + b"\n" for _, value in log))
    lawful = Description(unlabelled="lawful")
    trained_on, recorded = (
        load(source, lawful).sessions
        for source in (Topic(stack.config.bootstrap_servers, stack.config.input_topic), recording)
    )
    assert sha256_of(Splits(trained_on, trained_on, trained_on)) == sha256_of(
        Splits(recorded, recorded, recorded)
    )


def test_what_can_not_be_read_is_dead_lettered_alone(
    make_stack: Callable[..., Stack], set_topic: SetTopic, tmp_path: Path
) -> None:
    """One record beside others, and a batch as a whole: a letter with reason and offset, and what is behind goes on.

    `replay`, `backtest` and the trainer pass over the same; `redrive` keeps the letters.
    """
    stack = make_stack(partitions=1)
    set_topic(stack.config.input_topic, "message.timestamp.type", "CreateTime")
    log = [(key, json.dumps(json.loads(value)).encode()) for key, value in records(sessions(80))]
    bomb = [Written(b"bomb", bytes(250 * MB)), Written(b"beside it", b"{}")]
    publish(
        stack,
        compressed(written(log[:10]), "zstd"),
        overflowing(written([log[10], (b"lost", b"lost"), *log[11:20]])),
        compressed(bomb, "gzip"),
        compressed(written(log[20:]), "snappy of Java, two streams"),
    )
    with stack.worker():
        stack.wait_until_processed()
    letters = letters_of(stack)
    assert [(one.reason, one.offset, one.value, one.value_bytes) for one in letters] == [
        (Reason.DESERIALIZATION, 11, None, None),
        (Reason.BATCH_TOO_LARGE, 22, None, None),
    ]
    assert letters[0].detail.endswith(f"timestamp {(1 << 63) + (1 << 61)}")
    assert letters[1].detail == "more than 67108864 bytes decompressed: none of it was read; offsets 21 to 22"
    expected, expected_letters = stack.expected()
    assert without_clock(stack.alerts()) == without_clock(expected) != []
    assert [(one.reason, one.offset) for one in expected_letters] == [
        (one.reason, one.offset) for one in letters
    ]
    assert "2 of records or batches that could not be read" in redrive(stack, "--dry-run")
    where = ["--bootstrap-servers", stack.config.bootstrap_servers, "--topic", stack.config.input_topic]
    for command in (
        ["replay", *flags_of(stack.config), "--out", str(tmp_path / "alerts")],
        ["backtest", "--model", "seed", "--model", "seed", *where],
    ):
        done = CliRunner().invoke(detector, command)
        assert done.exit_code == 0, done.output
    events = events_of(Topic(stack.config.bootstrap_servers, stack.config.input_topic))
    assert [value for *_, value in events] == [value for _, value in log]


def test_memory_is_bounded_whatever_is_compressed(make_stack: Callable[..., Stack]) -> None:
    """Events of 64 KiB whose attributes are nothing but braces, headers by the million, and batches of both."""
    stack = make_stack(partitions=1, max_sessions=1_000)
    event = {"account_id": "a", "action": "LOGIN", "occurred_at_ms": NOW_MS}
    values = []
    for number in range(2_000):
        head = json.dumps({"event_id": f"e{number}", "session_id": f"s{number % 7}", **event})[:-1]
        head += ',"attributes":{"x":['
        values.append((head + "{}," * ((65_536 - len(head) - 5) // 3) + "{}]}}").encode())
    assert max(map(len, values)) <= 65_536
    for begin in range(0, 2_000, 500):
        publish(stack, compressed([Written(b"s", value) for value in values[begin : begin + 500]], "gzip"))
    many = body([Written(b"k", b"no event", [(b"", None)] * 10_000_000)])
    publish(stack, *[batch(gzip.compress(many), 1, codec=GZIP)] * 3)
    with stack.worker() as worker:
        stack.wait_until_processed()
        peak = peak_bytes(worker)
    letters = letters_of(stack)
    assert [(one.reason, one.headers_omitted) for one in letters] == [(Reason.MALFORMED, 10_000_000)] * 3
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0])
    assert peak < 500 * MB


class _Latin1(str):
    """A header's name as a client in C may write it: kafka-python encodes names itself."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return self.__str__().encode("latin-1")


def test_the_detector_survives_hostile_batches(make_stack: Callable[..., Stack]) -> None:
    """Bombs, keys larger than any output takes, names of headers that are no UTF-8: dead letters or events.

    What comes behind them in the same partition is scored, what is cut says so, and the worker's memory never holds
    what a bomb expands to.
    """
    stack = make_stack(partitions=1)
    hostile = KafkaProducer(
        bootstrap_servers=stack.config.bootstrap_servers,
        compression_type="gzip",
        max_request_size=1_000 * MB,
        batch_size=1_000 * MB,
        linger_ms=2_000,
    )
    first, *rest = records(sessions(66))
    bombs: list[tuple[bytes, bytes, list[tuple[str, bytes]]]] = [
        (b"bomb", bytes(250 * MB), []),
        (b"beside it", b"{}", []),
    ]
    others: list[tuple[bytes, bytes, list[tuple[str, bytes]]]] = [
        (bytes(5 * MB), bytes(12 * MB), []),
        (b"k", b"no event", [(_Latin1("caf\xe9"), b"header")]),
        (*first, [(_Latin1("\xff\xfe"), b"")]),
    ]
    sent = []
    for sent_together in (bombs, *([one] for one in others)):
        for key, value, headers in sent_together:
            sent.append(hostile.send(stack.config.input_topic, key=key, value=value, headers=headers))
        hostile.flush(PATIENCE_S)
    assert [one.get(PATIENCE_S).offset for one in sent] == [0, 1, 2, 3, 4]
    hostile.close()
    stack.publish(rest)
    with stack.worker() as worker:
        stack.wait_until_processed()
        peak = peak_bytes(worker)
    expected, expected_letters = stack.expected()
    assert without_clock(stack.alerts()) == without_clock(expected) != []
    letters = letters_of(stack)
    assert letters[1:] == expected_letters[1:]
    assert Counter(one.reason for one in letters) == {
        Reason.BATCH_TOO_LARGE: 1,
        Reason.TOO_LARGE: 1,
        Reason.MALFORMED: 1,
    }
    assert [one.offset for one in letters] == [1, 2, 3]
    assert (letters[1].key_bytes, letters[1].value_bytes, letters[1].is_cut) == (5 * MB, 12 * MB, True)
    assert letters[2].headers == (("caf\ufffd", b"header"),)
    assert peak < 500 * MB, "two copies of what the bomb expands to"
