"""What the chaos runs publish."""

from collections import Counter
from pathlib import Path

from kafka.partitioner.default import murmur2

from detector.contract.actions import STEP_UP_ACTIONS
from detector.contract.dead_letters import DeadLetter, Reason
from detector.core.partition import Delta, Partition
from detector.core.staging import Entry, stage
from detector.model.artifact import load_model
from detector.runtime.config import DetectorConfig
from detector.runtime.decoding import EventLimits, decode
from detector.runtime.replaying import LoggedLine
from tests.chaos.cluster import ACCOUNTS, SETTINGS
from tests.chaos.traffic import traffic
from tests.model.models import signals_file

NOW_MS = 1_800_000_000_000


def test_the_traffic_is_bad_enough(tmp_path: Path) -> None:
    """In a short run there are repeats, late events, expiries and evictions, of accounts' profiles too, and dead letters."""
    model = tmp_path / "model.onnx"
    model.write_bytes(signals_file())
    config, encoding = DetectorConfig(**SETTINGS, **ACCOUNTS), load_model(model).encoding
    events = EventLimits(config.max_event_bytes, config.max_dead_letter_bytes, config.max_future_ms)
    sessions = config.session_limits
    partitions = [Partition() for _ in range(config.partitions)]
    counted: Counter[str] = Counter()
    records = traffic(1, NOW_MS - 48 * 3_600_000)
    for offset in range(10_000):
        key, value = next(records)
        number = (murmur2(key) & 0x7FFFFFFF) % len(partitions)
        decoded = decode(
            LoggedLine("actions", number, offset, NOW_MS, key, value), encoding.knows, events, STEP_UP_ACTIONS
        )
        if isinstance(decoded, DeadLetter):
            counted[decoded.reason.value] += 1
            continue
        assert value is not None
        entry = Entry(offset, NOW_MS, decoded, fields=encoding.signals.read(value))
        staged = stage(partitions[number], [entry], encoding, sessions, step_ups=STEP_UP_ACTIONS)
        histories = staged.histories
        delta = Delta(
            offset + 1,
            staged.stream_time_ms,
            sorted(staged.removed),
            staged.touched,
            forgotten=sorted(histories.forgotten),
            profiles=histories.packed(),
        )
        partitions[number].apply(delta)
        counted["expired accounts"] += histories.expired
        counted["evicted accounts"] += histories.evicted
        counted["duplicates"] += staged.duplicates
        counted["verdicts"] += staged.verdicts.total()
        counted["clamped"] += staged.clamped
        counted["expired"] += staged.expired
        counted["evicted"] += staged.evicted
        counted["step-ups"] += staged.unscored
    accounts = {"expired accounts", "evicted accounts"}
    wanted = {
        "duplicates",
        "clamped",
        "expired",
        "evicted",
        "step-ups",
        "verdicts",
        Reason.MALFORMED,
        Reason.UNKNOWN_ACTION,
    } | accounts
    assert {name for name in wanted if counted[name] < 10} == set(), counted
    assert counted[Reason.NULL_VALUE] > 0
