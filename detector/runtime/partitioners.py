"""Partitioners: which partition the usual clients put a key into, each in its own way.

murmur2 is of Java, kafka-python and librdkafka's `murmur2_random`; CRC-32 librdkafka's default, `consistent_random`
(`rd_kafka_msg_partitioner_consistent`); FNV-1a Sarama's default, `NewHashPartitioner`, with librdkafka's `fnv1a_random`.
"""

from collections.abc import Callable, Mapping
from typing import Final
from zlib import crc32

from kafka.partitioner.default import murmur2

Partitioner = Callable[[bytes, int], int]
"""From a key and how many partitions there are to the number of one."""


def by_murmur2(key: bytes, partitions: int) -> int:
    """Return the partition that Kafka's own client gives a key."""
    number: int = (murmur2(key) & 0x7FFF_FFFF) % partitions
    return number


def by_crc32(key: bytes, partitions: int) -> int:
    """Return the partition that librdkafka gives a key, unless it is told otherwise."""
    return crc32(key) % partitions


def by_fnv1a(key: bytes, partitions: int) -> int:
    """Return the partition that Sarama gives a key, unless it is told otherwise: the remainder of a signed hash, without its sign."""
    hashed = 0x811C_9DC5
    for byte in key:
        hashed = (hashed ^ byte) * 0x0100_0193 & 0xFFFF_FFFF
    return abs(hashed - (hashed >> 31 << 32)) % partitions


PARTITIONERS: Final[Mapping[str, Partitioner]] = {
    "murmur2": by_murmur2,
    "CRC-32": by_crc32,
    "FNV-1a": by_fnv1a,
}
"""By the name of the hash."""
