"""The core without Kafka: decode, window, score, decide; and what the number of live sessions does to it."""

import sys
import time
from typing import Any

import numpy as np

from benchmarks.results import Ratio, Result, Row, quotients, repeated
from detector.contract.events import SessionEvent, decode_event, encode_event
from detector.core.decision import Policy
from detector.core.offline import detect
from detector.core.partition import Partition
from detector.core.staging import Entry, SessionLimits
from detector.model.artifact import PACKAGED_MODELS, Model, load_model, packaged_model_path

_START_MS = 1_790_000_000_000
_LIMITS = SessionLimits(1_800_000, 2_000_000)
_ACTIONS = ("VIEW_BALANCE", "TRANSFER_SMALL")


def _session_id(number: int) -> str:
    return f"s-{number:031d}"


def _event(event_id: str, number: int, action: str, after_ms: int) -> SessionEvent:
    return SessionEvent(
        event_id=event_id,
        session_id=_session_id(number),
        account_id=f"a-{number}",
        action=action,
        occurred_at_ms=_START_MS + after_ms,
    )


def values_of(live_sessions: int, events: int, first: int) -> list[bytes]:
    """Return encoded events of sessions drawn at random, from a fixed seed."""
    numbers = np.random.default_rng(3).integers(live_sessions, size=events).tolist()
    return [
        encode_event(_event(f"e-{first + index}", number, _ACTIONS[index % 2], index))
        for index, number in enumerate(numbers)
    ]


def consume(partition: Partition, values: list[bytes], model: Model, score: Any, batch_events: int) -> float:
    """Take encoded events through the core; return events a second."""
    offset = partition.next_offset
    began_s = time.perf_counter()
    entries = (Entry(offset + index, _START_MS, decode_event(value)) for index, value in enumerate(values))
    alerts = detect(
        entries,
        source=("benchmark", 0),
        encoding=model.encoding,
        score=score,
        policy=Policy(1.0, model.reference),
        limits=_LIMITS,
        now_ms=lambda: _START_MS,
        partition=partition,
        batch_events=batch_events,
    )
    for _ in alerts:
        pass
    return len(values) / (time.perf_counter() - began_s)


def filled(live_sessions: int, model: Model) -> Partition:
    """Return a partition with so many live sessions, of full windows, each with bytes of its own."""
    partition = Partition()
    values = [
        encode_event(_event(f"f-{turn}", 0, "VIEW_BALANCE", 0)) for turn in range(model.encoding.window)
    ]
    consume(partition, values, model, lambda windows: np.zeros(len(windows), np.float32), len(values))
    template = bytearray(next(iter(partition.sessions.values())))
    for number in range(live_sessions):
        partition.sessions[_session_id(number)] = bytes(template)
    return partition


def run(repetitions: int, events: int, live: tuple[int, ...]) -> list[Result]:
    """Measure the core of both models, and its cost by live sessions."""
    results = [_by_batch(name, repetitions, events) for name in PACKAGED_MODELS]
    return [*results, _by_sessions(repetitions, events, live)]


def _by_batch(name: str, repetitions: int, events: int) -> Result:
    model = load_model(packaged_model_path(name))
    values = values_of(1_000, events, 0)

    def measure(batch_events: int, *, scored: bool) -> float:
        partition = filled(1_000, model)
        nothing = lambda windows: np.zeros(len(windows), np.float32)  # noqa: E731
        return consume(partition, values, model, model.score if scored else nothing, batch_events)

    runs = repeated(
        {
            f"{kind}, batches of {size:,}": (lambda size=size, kind=kind: measure(size, scored=kind == "all"))  # type: ignore[misc]
            for kind in ("all", "without the scoring")
            for size in (1, 100, 2_000)
        },
        repetitions,
    )
    ratios = [
        Ratio(
            f"all by without the scoring, batches of {size:,}",
            quotients(runs[f"all, batches of {size:,}"], runs[f"without the scoring, batches of {size:,}"]),
        )
        for size in (1, 100, 2_000)
    ]
    rows = [Row(label, "events/s", figures) for label, figures in runs.items()]
    how = f"{events:,} events of 1,000 sessions with full windows, no Kafka; {repetitions} repetitions in turns."
    return Result(f"core-{name}", f"Core without Kafka, {name} model", how, rows, ratios)


def _by_sessions(repetitions: int, events: int, live: tuple[int, ...]) -> Result:
    model = load_model(packaged_model_path("default"))
    partitions = {count: filled(count, model) for count in live}
    bytes_each = {
        count: (
            sys.getsizeof(one.sessions)
            + sum(sys.getsizeof(k) + sys.getsizeof(v) for k, v in one.sessions.items())
        )
        / count
        for count, one in partitions.items()
    }
    turn = iter(range(1, 1 << 30))

    def measure(count: int) -> float:
        values = values_of(count, events, next(turn) * events)
        return consume(partitions[count], values, model, model.score, 2_000)

    runs = repeated(
        {f"{count:,} live sessions": (lambda count=count: measure(count)) for count in live}, repetitions
    )  # type: ignore[misc]
    fewest = runs[f"{live[0]:,} live sessions"]
    ratios = [
        Ratio(
            f"events/s with {count:,} by {live[0]:,} live sessions",
            quotients(runs[f"{count:,} live sessions"], fewest),
            0.8,
        )
        for count in live[1:]
    ]
    rows = [Row(label, "events/s", figures) for label, figures in runs.items()]
    rows += [
        Row(f"{count:,} live sessions, memory", "bytes a session", [size])
        for count, size in bytes_each.items()
    ]
    how = (
        f"{events:,} events of sessions drawn at random among those live in one partition, in batches of 2,000, default "
        f"model; {repetitions} repetitions in turns. Bytes are those of keys, values and table of full windows."
    )
    return Result("live-sessions", "Live sessions", how, rows, ratios)
