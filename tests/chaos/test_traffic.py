"""What the chaos runs publish."""

from collections import Counter

from kafka.partitioner.default import murmur2

from detector.contract.dead_letters import DeadLetter, Reason
from detector.core.partition import Delta, Partition
from detector.core.staging import Entry, stage
from detector.model.artifact import default_model_path, load_model
from detector.runtime.config import DetectorConfig
from detector.runtime.decoding import EventLimits, decode
from detector.runtime.replaying import LoggedLine
from tests.chaos.cluster import SETTINGS
from tests.chaos.traffic import traffic

NOW_MS = 1_800_000_000_000


def test_the_traffic_is_bad_enough() -> None:
    """Within the events of a short run there are repeats, late events, expiries, evictions and dead letters."""
    config, encoding = DetectorConfig(**SETTINGS), load_model(default_model_path()).encoding
    events = EventLimits(config.max_event_bytes, config.max_dead_letter_bytes, config.max_future_ms)
    sessions = config.session_limits
    partitions = [Partition() for _ in range(config.partitions)]
    counted: Counter[str] = Counter()
    records = traffic(1, NOW_MS - 48 * 3_600_000)
    for offset in range(10_000):
        key, value = next(records)
        number = (murmur2(key) & 0x7FFFFFFF) % len(partitions)
        decoded = decode(LoggedLine("actions", number, offset, NOW_MS, key, value), encoding.knows, events)
        if isinstance(decoded, DeadLetter):
            counted[decoded.reason.value] += 1
            continue
        staged = stage(partitions[number], [Entry(offset, NOW_MS, decoded)], encoding, sessions)
        delta = Delta(offset + 1, staged.stream_time_ms, sorted(staged.removed), staged.touched)
        partitions[number].apply(delta)
        counted["duplicates"] += staged.duplicates
        counted["clamped"] += staged.clamped
        counted["expired"] += staged.expired
        counted["evicted"] += staged.evicted
    wanted = {"duplicates", "clamped", "expired", "evicted", Reason.MALFORMED, Reason.UNKNOWN_ACTION}
    assert {name for name in wanted if counted[name] < 10} == set(), counted
    assert counted[Reason.NULL_VALUE] > 0
