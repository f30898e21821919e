"""Reading a worker whatever is at its address, and what is told of real workers when something is wrong."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from broker import Broker
from detector.console.conditions import LATELY_S, Condition, Rises, Severity, conditions
from detector.console.figures import Figures, WorkerReader
from detector.console.workers import MAX_BYTES, Drift, Shadow, Worker, read_worker
from detector.runtime.health import HealthServer, Heartbeat
from detector.runtime.metrics import DetectorMetrics
from tests.conftest import UniqueName
from tests.model.models import changed_file
from tests.runtime import stack as runtime
from tests.runtime.stack import Stack
from tests.runtime.test_guard_rails import sessions, write_bad_model
from tests.runtime.test_model_watch import put
from tests.waiting import wait_for

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"


@contextmanager
def server(answer: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """Answer each connection so for the block; return the address of what stands for a worker's metrics."""
    end = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection, contextlib.suppress(OSError):
                    connection.recv(65_536)
                    answer(connection, end)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/metrics"
        finally:
            end.set()
            listening.shutdown(socket.SHUT_RDWR)
    thread.join()


def hang(_: socket.socket, end: threading.Event) -> None:
    """Answer nothing."""
    end.wait()


def drip(connection: socket.socket, end: threading.Event) -> None:
    """Answer a byte now and then, for ever: no wait for the next one is a long one."""
    connection.sendall(_HEAD)
    while not end.wait(0.05):
        connection.sendall(b"#")


def flood(connection: socket.socket, end: threading.Event) -> None:
    """Answer without end."""
    connection.sendall(_HEAD)
    while not end.is_set():
        connection.sendall(b"# nothing\n" * 10_000)


def infinite(connection: socket.socket, _: threading.Event) -> None:
    """Answer a figure that no count can be."""
    connection.sendall(_HEAD + b'detector_lag_events{partition="0"} +Inf\n')


@pytest.mark.parametrize(
    ("answer", "timeout_s", "said"),
    [
        (hang, 0.3, "no answer in 0.3 s"),
        (drip, 0.3, "no answer in 0.3 s"),
        (flood, 60.0, "answered something other than a detector's metrics"),
        (infinite, 60.0, "answered something other than a detector's metrics"),
    ],
)
def test_whatever_answers_is_bounded(
    answer: Callable[[socket.socket, threading.Event], None], timeout_s: float, said: str
) -> None:
    """Silence, a byte at a time, an answer without end and nonsense are a worker that is down, and say so."""

    async def read(url: str) -> Worker:
        async with httpx2.AsyncClient() as client:
            return (await read_worker(url, client, timeout_s)).worker

    with server(answer) as url:
        worker = asyncio.run(read(url))
    assert (worker.up, worker.detail) == (False, said)
    assert MAX_BYTES < 100 * 1024 * 1024


def test_real_workers_tell_what_is_wrong(kafka: Broker, unique_name: UniqueName, tmp_path: Path) -> None:
    """An open breaker, models that differ, a refused file, a challenger and a worker that is gone, of two real workers."""
    path, other = tmp_path / "bad.onnx", tmp_path / "other.onnx"
    write_bad_model(path)
    other.write_bytes(changed_file(path, version="2"))
    stack = Stack(
        kafka.bootstrap_servers,
        unique_name("health"),
        tmp_path,
        partitions=2,
        metrics_port=0,
        shadow_model="seed",
        model_watch_ms=100,
    )
    with stack.worker("--model", str(path)) as first:
        first.wait_until_logged("holding partitions [0, 1]")
        with stack.worker("--model", str(other)) as second:
            second.wait_until_logged("holding partitions [")
            urls = [metrics_of(first), metrics_of(second)]
            stack.publish(sessions(0, 100))
            stack.wait_until_processed()
            figures = read(urls)
            assert figures.conditions == [
                Condition(
                    Severity.CRITICAL,
                    "Circuit breaker open: blocks are held back as challenges on 2 of 2 partitions",
                    "DetectorBreakerOpen",
                ),
                Condition(Severity.WARNING, models(figures), "DetectorModelsDiffer"),
            ]
            shadows = [one.shadow for one in figures.workers]
            assert all(shadow is not None and shadow.model["name"] == "seed-lstm" for shadow in shadows)
            told = [shadow for shadow in shadows if shadow is not None]
            assert sum(one.scored for one in told) == 300
            assert sum(one.alerts for one in told) == 10  # each tenth session is an attack
            # The bad model wants every event blocked; the challenger those from an attack's second action on.
            assert sum(one.only_champion for one in told) == 300 - 2 * 10
            assert sum(one.only_challenger for one in told) == 0
            put(path, b"no model")
            wait_for(lambda: len(read(urls).conditions) == 3, "the refusal")
            assert (
                read(urls)
                .conditions[-1]
                .text.startswith(f"A changed model file was refused: {figures.workers[0].name} goes on with ")
            )
    assert read(urls).conditions[0].text.startswith("No worker answers: 127.0.0.1:")


def models(figures: Figures) -> str:
    """Return the words for two workers that decide with two versions of a model."""
    told = sorted(
        f"{one.model['name']} {one.model['version']} ({one.model['sha256'][:12]}) on {one.name}"
        for one in figures.workers
    )
    return f"Workers decide with different models: {'; '.join(told)}"


def metrics_of(worker: runtime.Worker) -> str:
    """Return the address that a worker logged."""
    return worker.log.read_text().partition("metrics on ")[2].split()[0]


def read(urls: list[str]) -> Figures:
    """Read workers as a console does that has just begun."""

    async def once() -> Figures:
        async with httpx2.AsyncClient() as client:
            return await WorkerReader(urls, client).read()

    return asyncio.run(once())


def worker(name: str, **fields: object) -> Worker:
    """Return a worker that answers and is ready."""
    return Worker(name=name, **({"up": True, "ready": True, "partitions": 4} | fields))  # type: ignore[arg-type]


def drift(of: str, expected: float | None) -> Drift:
    """Return what has drifted; a share has an expected one."""
    return Drift(of=of, measure=0.3, expected=expected, beyond=True)


def test_all_is_well_without_a_word() -> None:
    """Sound workers of the same model, one of them with a challenger, have no conditions."""
    shadow = Shadow(model={"name": "new"}, alerts=3, scored=9, only_champion=1, only_challenger=2)
    model = {"name": "m", "version": "1", "sha256": "ab" * 32}
    two = [worker("a", model=model, shadow=shadow), worker("b", model=model, lag=500)]
    assert conditions(two, stands_still=False, refused=[], lost=[]) == []


def test_the_worst_is_told_first() -> None:
    """What keeps sessions from being judged or blocked comes before what does not, and says how much of all it is."""
    workers = [
        worker("a", lost_events=1_200, breakers_open=1),
        worker("b", ready=False, drift=[drift("reached_threshold", 0.001), drift("gaps", None)]),
        *(Worker(name=f"c{n}", up=False, detail="ConnectError") for n in range(5)),
    ]
    told = conditions(workers, stands_still=True, refused=workers[:1], lost=workers[:1])
    runbook = (Path(__file__).parents[2] / "docs" / "runbook.md").read_text()
    assert all(f"\n## {one.rule}\n" in runbook for one in told)
    assert [(one.severity.value, one.text) for one in told] == [
        ("critical", "Circuit breaker open: blocks are held back as challenges on 1 of 8 partitions"),
        ("critical", "Events wait and none is scored: the workers stand still"),
        ("critical", "Events were deleted before they were read: 1,200"),
        (
            "warning",
            "5 of 7 workers are not answering: c0 (ConnectError), c1 (ConnectError), c2 (ConnectError) and 2 more",
        ),
        ("warning", "1 of 7 workers is not ready: b"),
        ("warning", "A changed model file was refused: a goes on with ? ? ()"),
        ("warning", "Traffic differs from what the model was trained on: gaps, reached threshold"),
    ]


def test_a_counter_is_told_of_for_a_while_after_it_rose() -> None:
    """At the first look what is there counts as a rise; so does any count after a restart; then it is quiet."""
    rises = Rises()

    def told(count: int, now_s: float) -> bool:
        return bool(rises.lately([worker("a", refused_models=count)], "refused_models", now_s))

    assert not told(0, 0.0)
    assert told(1, 10.0)
    assert told(1, 9.0 + LATELY_S)
    assert not told(1, 11.0 + LATELY_S)
    assert told(3, 20.0 + LATELY_S)
    assert not told(3, 21.0 + 2 * LATELY_S)
    assert told(2, 22.0 + 2 * LATELY_S)  # a new process, that counts from 0
    assert not told(0, 23.0 + 3 * LATELY_S)


def test_workers_that_stand_still_are_told_of() -> None:
    """Events that wait over six readings without one committed are a condition; one committed event ends it."""
    metrics, heartbeat = DetectorMetrics(), Heartbeat()
    heartbeat.ready = True
    metrics.lag.labels("0").set(7)

    async def told() -> list[list[str]]:
        clock = iter(range(8))
        texts = []
        async with httpx2.AsyncClient() as client:
            reader = WorkerReader([url], client, lambda: float(next(clock)))
            for reading in range(8):
                metrics.events.labels("scored").inc(reading == 7)
                texts.append([one.text for one in (await reader.read()).conditions])
        return texts

    health = HealthServer("127.0.0.1", 0, metrics.registry, heartbeat, 60.0)
    url = f"http://127.0.0.1:{health.port}/metrics"
    still = ["Events wait and none is scored: the workers stand still"]
    try:
        assert asyncio.run(told()) == [[], [], [], [], [], still, still, []]
    finally:
        health.close()
