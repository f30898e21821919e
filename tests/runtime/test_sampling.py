"""What a sample of a topic says of its writers: partitioners told apart, keys, and what lies in several partitions."""

from collections import Counter
from collections.abc import Callable
from zlib import crc32

import pytest
from kafka import TopicPartition

from detector.contract.dead_letters import Reason
from detector.contract.events import SessionAction, encode_event
from detector.model.artifact import load_model, packaged_model_path
from detector.runtime import checking
from detector.runtime.checking import Finding, of_sample
from detector.runtime.config import DetectorConfig
from detector.runtime.partitioners import Partitioner, by_crc32, by_fnv1a, by_murmur2
from detector.runtime.processing import processor_of
from detector.runtime.replaying import LoggedLine
from detector.runtime.sampling import Sample

PARTITIONS = 6


@pytest.mark.parametrize(
    ("key", "hashed"),
    [(b"kafka", 0x0D33C4E1), (b"giberish123456789", 0x77A58295), (b"1234", 0x023BDD03), (b"", 0x7EE3623B)],
)
def test_fnv1a_is_go_s_as_a_signed_number_without_its_sign(key: bytes, hashed: int) -> None:
    """As Go's hash/fnv has it, of which Sarama drops the sign."""
    assert by_fnv1a(key, 1 << 31) == hashed


def line(partition: int, offset: int, key: bytes | None, account: str, session: str = "") -> LoggedLine:
    """Return the record of an event; one of no account is no event."""
    event = SessionAction(
        event_id=f"{partition}-{offset}",
        session_id=session or f"session of {account}",
        account_id=account,
        action="LOGIN",
        occurred_at_ms=1_790_000_000_000,
    )
    return LoggedLine("in", partition, offset, -1, key, encode_event(event) if account else b"none")


def sampled(*lines: LoggedLine) -> Sample:
    """Return the sample of some records."""
    model, sample = load_model(packaged_model_path("seed")), Sample(PARTITIONS)
    processor = processor_of(model, DetectorConfig())
    for one in lines:
        sample.add({TopicPartition("in", one.partition): [one]}, processor)
    return sample


def written(count: int, partitioner: Partitioner, name: Callable[[int], str] = str) -> list[LoggedLine]:
    """Return the events of accounts, of which a writer puts each into a partition."""
    accounts = [f"account-{name(number)}" for number in range(count)]
    return [
        line(partitioner(one.encode(), PARTITIONS), at, one.encode(), one) for at, one in enumerate(accounts)
    ]


def told(sample: Sample, *, of_history: bool = True) -> dict[str, Finding]:
    """Return the findings by what they are about."""
    return {one.about: one for one in of_sample(sample, of_history=of_history)}


@pytest.mark.parametrize(
    ("name", "partitioner"), [("murmur2", by_murmur2), ("CRC-32", by_crc32), ("FNV-1a", by_fnv1a)]
)
def test_writers_of_one_partitioner_are_well(name: str, partitioner: Partitioner) -> None:
    """Whichever it is, it is known by its keys, all of which lie where it puts them; no other's do but by chance."""
    sample = sampled(*written(300, partitioner))
    shares = sample.partitioners()
    assert shares.pop(name) == 1
    assert max(shares.values()) < 0.4
    assert told(sample) == {}


def test_two_partitioners_are_told_apart() -> None:
    """Both are named, with the share of each, whether an account lies in two partitions already or not yet."""
    apart = sampled(*written(300, by_murmur2), *written(100, by_crc32, lambda number: f"other-{number}"))
    assert set(told(apart)) == {"partitioners"}
    assert "where murmur2 puts them, and the others where CRC-32 does" in told(apart)["partitioners"].seen
    beside = sampled(*written(100, by_murmur2), *written(100, by_fnv1a))
    assert set(told(beside)) == {"partitioners", "accounts"}
    assert "of 100 accounts lie in several partitions" in told(beside)["accounts"].seen


def test_a_partitioner_of_ones_own_is_none_of_the_known_and_no_fault() -> None:
    """As long as no account lies in several partitions."""
    sample = sampled(*written(300, lambda key, count: crc32(key[::-1]) % count))
    assert max(sample.partitioners().values()) < 0.4
    assert told(sample) == {}


def test_keys_added_after_partitions_are_told() -> None:
    """Where a topic was given partitions, older records lie where its partitioner put them with fewer."""
    fewer = written(100, lambda key, _: by_murmur2(key, 4), lambda number: f"older-{number}")
    assert "none of the known" in told(sampled(*written(300, by_murmur2), *fewer))["partitioners"].seen


def test_few_keys_or_one_partition_tell_nothing_of_a_partitioner() -> None:
    """By chance any partitioner fits."""
    assert sampled(*written(5, by_murmur2)).partitioners() == {}
    assert Sample(1).partitioners() == {}


def test_keys_are_held_against_what_the_model_reads() -> None:
    """The session's id will do where no history is read; no key, and another one, never do."""
    sample = sampled(
        line(0, 0, b"a", "a", "s"),
        line(0, 1, b"s", "a", "s"),
        line(0, 2, None, "a", "s"),
        line(0, 3, b"x", "a", "s"),
    )
    assert sample.keys == Counter(account=1, session=1, none=1, other=1)
    assert told(sample)["keys"].seen == (
        "3 of 4 events are keyed otherwise: 1 without a key, 1 under another key, 1 under the session's id"
    )
    assert told(sample, of_history=False)["keys"].seen == (
        "2 of 4 events are keyed otherwise: 1 without a key, 1 under another key"
    )


def test_what_lies_in_several_partitions_is_told() -> None:
    """Accounts where the model reads their history, sessions where it does not."""
    sample = sampled(line(0, 0, b"a", "a", "s"), line(1, 0, b"a", "a", "t"), line(1, 1, b"a", "a", "t"))
    assert told(sample)["accounts"].seen == "1 of 1 accounts lie in several partitions"
    assert told(sample, of_history=False) == {}
    split = sampled(line(0, 0, b"a", "a", "s"), line(1, 0, b"a", "a", "s"))
    assert told(split, of_history=False)["sessions"].seen == "1 of 1 sessions lie in several partitions"


def test_dead_letters_are_told_by_reason_with_the_first_of_each() -> None:
    """With their share, where the first lies, why, and what is to be done."""
    sample = sampled(line(0, 0, b"a", "a"), line(0, 1, b"a", ""), line(1, 7, None, ""))
    found = told(sample)[Reason.MALFORMED]
    assert found.seen.startswith("2 of 3 records (66.7%) are dead letters, such as in[0] at offset 1: ")
    assert "docs/contract.md" in found.expected


def test_each_reason_of_who_writes_says_what_to_do() -> None:
    """Those that are left are the detector's own."""
    own = {Reason.LISTING_REFUSED, Reason.PROCESSING, Reason.PRODUCTION}
    assert set(Reason) - own == set(checking._MENDED)
