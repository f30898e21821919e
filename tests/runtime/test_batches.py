"""Batches that others write: every compression, and those that would end or fill a worker, on a real broker."""

import gzip
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cramjam
import pytest
from kafka import KafkaProducer
from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from detector.contract.dead_letters import Reason, read_dead_letter
from detector.runtime.batches import MAX_BATCH_BYTES, BoundedBatch, Withheld
from tests.runtime.stack import PATIENCE_S, Stack, without_clock
from tests.runtime.test_end_to_end import records, sessions
from tests.runtime.test_redrive import redrive

MB = 1_000_000
Written = tuple[bytes, bytes, list[tuple[str, bytes]]]
SIX: list[Written] = [(b"key", b"value %d" % number, [("name", b"text")]) for number in range(6)]


class _Latin1(str):
    """A header's name as a client in C may write it: kafka-python encodes names itself."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return self.__str__().encode("latin-1")


def _xerial(data: bytes) -> bytes:
    """Compress by snappy as Java does: in blocks, here never fewer than three."""
    size = min(32 * 1024, len(data) // 3)
    blocks = [
        bytes(cramjam.snappy.compress_raw(data[begin : begin + size])) for begin in range(0, len(data), size)
    ]
    framed = b"".join(len(block).to_bytes(4, "big") + block for block in blocks)
    return b"\x82SNAPPY\x00" + (1).to_bytes(4, "big") * 2 + framed


COMPRESSED: dict[str, tuple[int, Callable[[bytes], Any]]] = {
    "gzip": (DefaultRecordBatch.CODEC_GZIP, gzip.compress),
    "lz4": (DefaultRecordBatch.CODEC_LZ4, cramjam.lz4.compress),
    "zstd": (DefaultRecordBatch.CODEC_ZSTD, cramjam.zstd.compress),
    "snappy": (DefaultRecordBatch.CODEC_SNAPPY, cramjam.snappy.compress_raw),
    "snappy of Java": (DefaultRecordBatch.CODEC_SNAPPY, _xerial),
}


def _batch(codec: str, of: list[Written]) -> BoundedBatch:
    """Return a batch as it comes from a broker, compressed."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=2 * MAX_BATCH_BYTES,
    )
    for number, (key, value, headers) in enumerate(of):
        builder.append(number, 1_790_000_000_000, key, value, headers)
    whole, begin = bytes(builder.build()), DefaultRecordBatch.HEADER_STRUCT.size
    header = list(DefaultRecordBatch.HEADER_STRUCT.unpack_from(whole))
    number, compress = COMPRESSED[codec]
    header[5] |= number
    return BoundedBatch(DefaultRecordBatch.HEADER_STRUCT.pack(*header) + bytes(compress(whole[begin:])))


@pytest.mark.parametrize("codec", COMPRESSED)
def test_every_compression_is_read(codec: str) -> None:
    """Keys, values and headers come out as they went in, with offsets in their order."""
    read = list(_batch(codec, SIX))
    assert [(one.key, one.value, one.headers) for one in read] == SIX
    assert [one.offset for one in read] == list(range(6))


@pytest.mark.parametrize("codec", COMPRESSED)
def test_a_batch_is_read_up_to_the_limit_and_withheld_beyond(codec: str) -> None:
    """One of just less than the limit is read whole; of a larger one each record comes without anything, in order."""
    large: Written = (b"key", bytes(MAX_BATCH_BYTES - 2_000), [])
    assert [len(one.value) for one in _batch(codec, [*SIX, large])] == [7] * 6 + [MAX_BATCH_BYTES - 2_000]
    withheld = list(_batch(codec, [*SIX, (b"key", bytes(MAX_BATCH_BYTES), [])]))
    assert all(isinstance(one.value, Withheld) and one.key is None and not one.headers for one in withheld)
    assert [one.offset for one in withheld] == list(range(7))


@pytest.mark.parametrize("codec", COMPRESSED)
def test_spoiled_compression_is_an_error(codec: str) -> None:
    """What a broker never passes on is not taken for a batch that is too large."""
    batch = _batch(codec, SIX)
    batch._buffer[batch._pos + 1 :] = b"\xff" * 20
    with pytest.raises(CorruptRecordError):
        list(batch)


def test_the_detector_survives_hostile_batches(make_stack: Callable[..., Stack]) -> None:
    """Bombs, keys larger than any output takes, names of headers that are no UTF-8: dead letters or events.

    What comes behind them in the same partition is scored, one dead letter stands for each record, what is cut
    says so, and the worker's memory never holds what a bomb expands to.
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
    bombs: list[Written] = [(b"bomb", bytes(250 * MB), []), (b"beside it", b"{}", [])]
    others: list[Written] = [
        (bytes(5 * MB), bytes(12 * MB), []),
        (b"k", b"no event", [(_Latin1("caf\xe9"), b"header")]),
        (*first, [(_Latin1("\xff\xfe"), b"")]),
    ]
    sent = []
    for batch in (bombs, *([one] for one in others)):
        for key, value, headers in batch:
            sent.append(hostile.send(stack.config.input_topic, key=key, value=value, headers=headers))
        hostile.flush(PATIENCE_S)
    assert [one.get(PATIENCE_S).offset for one in sent] == [0, 1, 2, 3, 4]
    hostile.close()
    stack.publish(rest)
    with stack.worker() as worker:
        stack.wait_until_processed()
        status = Path(f"/proc/{worker.process.pid}/status").read_text()
    expected, expected_letters = stack.expected()
    assert without_clock(stack.alerts()) == without_clock(expected) != []
    letters = [
        read_dead_letter(one.key, one.value, one.headers)
        for one in stack.read(stack.config.dead_letter_topic)
    ]
    assert letters[2:] == expected_letters[2:]
    assert Counter(one.reason for one in letters) == {
        Reason.BATCH_TOO_LARGE: 2,
        Reason.TOO_LARGE: 1,
        Reason.MALFORMED: 1,
    }
    assert [one.offset for one in letters] == [0, 1, 2, 3]
    assert (letters[2].key_bytes, letters[2].value_bytes, letters[2].is_cut) == (5 * MB, 12 * MB, True)
    assert letters[3].headers == (("caf?", b"header"),)
    assert "2 of batches that are too large to be read" in redrive(stack, "--dry-run")
    (peak_kb,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    assert int(peak_kb) * 1_024 < 500 * MB, "two copies of what the bomb expands to"
