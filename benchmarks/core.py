"""The core without Kafka: decode, window, score, decide; and what the number of live sessions does to it."""

import sys
import time
from typing import Any

import numpy as np

from benchmarks.results import Ratio, Result, Row, quotients, repeated
from detector.contract.events import SessionEvent, decode_event, encode_event
from detector.core.decision import Policy
from detector.core.limits import SessionLimits
from detector.core.partition import Partition
from detector.core.pipeline import Pipeline
from detector.core.staging import Entry
from detector.model.artifact import PLAIN_MODELS, Model, load_model, packaged_model_path

_START_MS = 1_790_000_000_000
_LIMITS = SessionLimits(1_800_000, 2_000_000)
LENGTHS = (1, 5, 20, 1_000)
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
    pipeline = Pipeline(
        encoding=model.encoding,
        score=lambda candidates: score(model.encoding.windows([one.steps for one in candidates])).tolist(),
        policy=Policy(1.0, model.reference),
        limits=_LIMITS,
        evidence=model.evidence,
    )
    for _ in pipeline.over(partition, entries, ("benchmark", 0), batch_events):
        pass
    return len(values) / (time.perf_counter() - began_s)


def filled(live_sessions: int, model: Model, actions: int | None = None) -> Partition:
    """Return a partition with so many live sessions of so many actions, each with bytes of its own.

    Without `actions` their windows are full.
    """
    partition = Partition()
    turns = range(model.encoding.window if actions is None else actions)
    values = [encode_event(_event(f"f-{turn}", 0, "VIEW_BALANCE", 0)) for turn in turns]
    consume(partition, values, model, lambda windows: np.zeros(len(windows), np.float32), len(values))
    template = bytearray(next(iter(partition.sessions.values())))
    for number in range(live_sessions):
        partition.sessions[_session_id(number)] = bytes(template)
    return partition


def run(repetitions: int, events: int, live: tuple[int, ...]) -> list[Result]:
    """Measure the core of both models, and its cost by live sessions."""
    results = [_by_batch(name, repetitions, events) for name in PLAIN_MODELS]
    return [*results, _by_sessions(repetitions, events, live), _by_length(repetitions, events)]


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


def _bytes_each(partition: Partition) -> float:
    """Return what a session weighs: key, value, and its share of the table."""
    held = sum(sys.getsizeof(key) + sys.getsizeof(value) for key, value in partition.sessions.items())
    return (sys.getsizeof(partition.sessions) + held) / len(partition.sessions)


def _by_length(repetitions: int, events: int) -> Result:
    """Measure what the number of actions that a session has had does to the next one's cost."""
    model = load_model(packaged_model_path("default"))
    live = max(1_000, events)  # so many that few sessions get a second event, which would make them longer

    def measure(actions: int) -> float:
        values = values_of(live, events, 0)
        return consume(filled(live, model, actions), values, model, model.score, 2_000)

    runs = repeated(
        {f"sessions of {count:,} actions": (lambda count=count: measure(count)) for count in LENGTHS},  # type: ignore[misc]
        repetitions,
    )
    shortest = runs[f"sessions of {LENGTHS[0]:,} actions"]
    ratios = [
        Ratio(
            f"events/s in sessions of {count:,} by {LENGTHS[0]:,} actions",
            quotients(runs[f"sessions of {count:,} actions"], shortest),
        )
        for count in LENGTHS[1:]
    ]
    rows = [Row(label, "events/s", figures) for label, figures in runs.items()]
    rows += [
        Row(
            f"sessions of {count:,} actions, memory",
            "bytes a session",
            [_bytes_each(filled(1_000, model, count))],
        )
        for count in LENGTHS
    ]
    how = (
        f"{events:,} events drawn at random among {live:,} sessions that have had so many actions before, batches of 2,000, "
        f"default model, no Kafka and no memo; {repetitions} repetitions in turns. From {model.encoding.window} actions on "
        "the window is full, and neither cost nor memory grows."
    )
    return Result("session-lengths", "Session lengths", how, rows, ratios)


def _by_sessions(repetitions: int, events: int, live: tuple[int, ...]) -> Result:
    model = load_model(packaged_model_path("default"))
    partitions = {count: filled(count, model) for count in live}
    bytes_each = {count: _bytes_each(one) for count, one in partitions.items()}
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
