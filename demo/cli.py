"""`python -m demo`: a bounded run of the whole product, on a real broker."""

import os
import shutil
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console

from broker import Broker, BrokerError, obtain
from demo.metrics import Reading, read
from demo.processes import Child, ChildFailedError
from demo.summary import Received, Summary, summarise
from demo.view import LiveView, PlainView, View, table
from detector.contract.alerts import Alert
from detector.contract.labels import SessionLabel, labels_of
from detector.contract.topics import ACTIONS_TOPIC, ALERTS_TOPIC
from detector.ranges import NumberRange
from detector.runtime.subscription import subscribe
from detector.version import VERSION

_METRICS_EVERY_S = 0.5
_RATE_OVER_S = 3.0


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--sessions", type=click.IntRange(min=1), default=1_100, help="Sessions to simulate.")
@click.option("--seed", type=int, default=42, help="Seed of the simulation.")
@click.option("--rate", type=NumberRange(min=1), default=400.0, help="Events published a second.")
@click.option("--time-limit", type=NumberRange(min=1), default=180.0, help="Longest run, in seconds.")
@click.version_option(VERSION)
def main(*, sessions: int, seed: int, rate: float, time_limit: float) -> None:
    """Send simulated sessions through Kafka and the detector, and show the block alerts as they arrive.

    Ends by itself and leaves nothing running; Ctrl-C ends it at any point. The exit code is 0 if every attack was
    blocked once and no lawful session was.
    """
    console = Console()
    view: View = LiveView(console) if console.is_terminal else PlainView(console)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="session-fraud-demo-"))
    try:
        with view:
            summary = _run(view, folder, sessions=sessions, seed=seed, rate=rate, time_limit_s=time_limit)
    except KeyboardInterrupt:
        console.print("interrupted: everything that was started has been ended")
        sys.exit(130)
    except (BrokerError, ChildFailedError, _TimeLimitError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    console.print(table(summary))
    sys.exit(0 if summary.flawless else 1)


class _TimeLimitError(Exception):
    """The run took too long."""


def _run(view: View, folder: Path, *, sessions: int, seed: int, rate: float, time_limit_s: float) -> Summary:
    with ExitStack() as stack:
        view.step("starting a Kafka broker (the first time, its jars are fetched: about a minute) …")
        broker = stack.enter_context(obtain())
        view.step(f"broker at {broker.bootstrap_servers} ({broker.kind})")
        environment, alerts_topic = _environment(broker)
        port = _free_port()
        labels = folder / "labels.jsonl"
        detector = stack.enter_context(
            Child(
                "detector",
                ["run", "--model", "seed", "--metrics-port", str(port)],
                environment,
                folder / "detector.log",
            )
        )
        deadline_s = time.monotonic() + time_limit_s
        while not read(port).ready:
            detector.finished()
            _check(deadline_s, "the detector was not ready", time_limit_s)
            time.sleep(0.1)
        view.step("detector is ready, with the notebook's model, whose traffic is simulated")
        simulation = [
            "--sessions",
            str(sessions),
            "--seed",
            str(seed),
            "--rate",
            str(rate),
            "--labels",
            str(labels),
        ]
        producer = stack.enter_context(
            Child("producer", ["simulate", *simulation], environment, folder / "producer.log")
        )
        view.step(f"simulating {sessions:,} sessions, seed {seed}, {rate:,.0f} events/s")
        arriving = subscribe(broker.bootstrap_servers, alerts_topic, from_beginning=True, stop=lambda: False)
        received: list[Received] = []
        for reading in _watch(view, arriving, received, detector, producer, port):
            if _all_scored(producer, reading, labels) and len(received) >= reading.alerts:
                break
            _check(deadline_s, f"{reading.events:,} events were scored", time_limit_s)
        if reading.dead_letters:
            raise ChildFailedError(f"{reading.dead_letters} events were dead-lettered, expected none")
        return summarise(_truths(labels), received)


def _watch(
    view: View,
    arriving: Iterator[Alert | None],
    received: list[Received],
    detector: Child,
    producer: Child,
    port: int,
) -> Iterator[Reading]:
    """Show alerts and progress; yield the detector's figures now and then."""
    readings: list[tuple[float, int]] = []
    next_s = 0.0
    for alert in arriving:
        if alert is not None:
            received.append(Received(alert, time.time_ns() // 1_000_000 - alert.received_at_ms))
            view.alert(received[-1])
        now_s = time.monotonic()
        if now_s >= next_s:
            next_s = now_s + _METRICS_EVERY_S
            detector.finished()
            producer.finished()
            reading = read(port)
            readings = [one for one in readings if now_s - one[0] < _RATE_OVER_S] + [(now_s, reading.events)]
            elapsed_s = now_s - readings[0][0]
            events_per_s = (reading.events - readings[0][1]) / elapsed_s if elapsed_s else 0.0
            view.progress(reading.events, reading.events + reading.lag, events_per_s, reading.lag)
            yield reading


def _all_scored(producer: Child, reading: Reading, labels: Path) -> bool:
    return producer.finished() and reading.events == sum(truth.actions or 0 for truth in _truths(labels))


def _truths(labels: Path) -> Iterable[SessionLabel]:
    return labels_of(labels.read_bytes().splitlines(), str(labels)).values()


def _environment(broker: Broker) -> tuple[dict[str, str], str]:
    """Return the children's environment and the alerts topic: on somebody's broker, topics of the run's own."""
    environment = dict(os.environ)
    environment["KAFKA_BOOTSTRAP_SERVERS"] = broker.bootstrap_servers
    run = f"demo-{uuid.uuid4().hex[:8]}." if broker.kind == "external" else ""
    actions_topic, alerts_topic = f"{run}{ACTIONS_TOPIC}", f"{run}{ALERTS_TOPIC}"
    environment["PRODUCER_TOPIC"] = environment["DETECTOR_INPUT_TOPIC"] = actions_topic
    environment["DETECTOR_ALERTS_TOPIC"] = alerts_topic
    environment["DETECTOR_GROUP"] = f"{run}session-detector"
    return environment, alerts_topic


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def _check(deadline_s: float, seen: str, limit_s: float) -> None:
    if time.monotonic() > deadline_s:
        raise _TimeLimitError(
            f"{seen} after {limit_s:g} s: expected the run to end by then. See --time-limit"
        )
