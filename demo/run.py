"""A bounded run of the whole product, on a real broker."""

import os
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from broker import Broker, obtain
from broker.probe import free_ports
from demo.metrics import Reading, read
from demo.processes import Child, ChildFailedError
from demo.summary import Received, Summary, summarise
from demo.traffic import Plan, Traffic, parted
from demo.view import View
from detector.contract.alerts import Alert, decode_alert
from detector.contract.labels import labels_of
from detector.contract.topics import ACTIONS_TOPIC, ALERTS_TOPIC, VERDICTS_TOPIC
from detector.runtime.subscription import subscribe

_METRICS_EVERY_S = 0.5
_RATE_OVER_S = 3.0
_LOOK_EVERY_S = 0.1


class TimeLimitError(Exception):
    """The run took too long."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a run takes place: everything ends with the stack.

    Attributes:
        stack: of what was started.
        folder: of files and logs.
        environment: of every child: the broker, and topics of the run's own on somebody's broker.
        metrics_port: of the detector.
        deadline_s, limit_s: of the monotonic clock, and what was allowed.
    """

    stack: ExitStack
    folder: Path
    environment: dict[str, str]
    metrics_port: int
    deadline_s: float
    limit_s: float

    def start(self, name: str, module: str, *arguments: str) -> Child:
        """Start one of our commands; `name` is that of its log."""
        child = Child(module, arguments, self.environment, self.folder / f"{name}.log")
        return self.stack.enter_context(child)

    def wait(self, *children: Child) -> None:
        """Wait until they have ended, each of them well."""
        while not all(child.finished() for child in children):
            self.check(f"{', '.join(child.name for child in children)} had not ended")
            time.sleep(_LOOK_EVERY_S)

    def check(self, seen: str) -> None:
        """Hold what was seen against the time.

        Raises:
            TimeLimitError: it is over.
        """
        if time.monotonic() > self.deadline_s:
            raise TimeLimitError(
                f"{seen} after {self.limit_s:g} s: expected the run to end by then. See --time-limit"
            )


def stage(stack: ExitStack, folder: Path, view: View, time_limit_s: float) -> Stage:
    """Start the broker."""
    view.step("starting a Kafka broker (the first time, its jars are fetched: about a minute) …")
    broker = stack.enter_context(obtain())
    view.step(f"broker at {broker.bootstrap_servers} ({broker.kind})")
    own = f"demo-{uuid.uuid4().hex[:8]}." if broker.kind == "external" else ""
    if own:
        stack.callback(_forget, broker.bootstrap_servers, own, view)
    return Stage(
        stack=stack,
        folder=folder,
        environment=_environment(broker, own),
        metrics_port=free_ports()[0],
        deadline_s=time.monotonic() + time_limit_s,
        limit_s=time_limit_s,
    )


def run(at: Stage, view: View, plan: Plan, rate: float) -> Summary:
    """Publish what a plan simulates, show the alerts on it, and hold them against the truth.

    Args:
        at: where.
        view: shows it.
        plan: what.
        rate: events published a second, of the part shown.

    Raises:
        ChildFailedError: a command failed, or an event was not scored.
        TimeLimitError: it took too long.
    """
    detector = at.start("detector", "detector", "run", "--model", plan.model, "--metrics-port", f"{at.metrics_port}")  # fmt: skip
    view.step(f"simulating {plan.told}")
    traffic = _simulated(at, plan)
    labels = (at.folder / "labels.jsonl").read_bytes().splitlines()
    truths = {id_: truth for id_, truth in labels_of(labels, "labels").items() if id_ in traffic.actions}
    while not read(at.metrics_port).ready:
        detector.finished()
        at.check("the detector was not ready")
        time.sleep(_LOOK_EVERY_S)
    view.step(f"detector is ready, model {plan.model}; {len(traffic.before):,} events before, to warm up")
    servers, alerts_topic = at.environment["KAFKA_BOOTSTRAP_SERVERS"], at.environment["DETECTOR_ALERTS_TOPIC"]
    arriving = subscribe(servers, alerts_topic, from_beginning=True, stop=lambda: False)
    received: list[Received] = []

    def publish(part: str, lines: Sequence[bytes], speed: str, expected: int) -> None:
        path = at.folder / f"{part}.jsonl"
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        producer = at.start(f"replay-{part}", "producer", "replay", f"{path}", "--speed", speed)
        for alert, reading in _watch(at, view, arriving, detector, expected):
            if alert is not None:
                received.append(alert)
                if truth := truths.get(alert.alert.session_id):
                    view.alert(alert, truth)
            if reading is not None:
                if reading.dead_letters:
                    raise ChildFailedError(f"{reading.dead_letters} events were dead-lettered, expected none")
                if producer.finished() and reading.events == expected and len(received) >= reading.alerts:
                    return
                at.check(f"{reading.events:,} of {expected:,} events were scored")

    publish("before", traffic.before, "max", len(traffic.before))
    view.step(f"{len(traffic.shown):,} events of {len(truths):,} sessions, {rate:,.0f} a second in the mean")
    publish("shown", traffic.shown, traffic.speed(rate), len(traffic.before) + len(traffic.shown))
    view.step("replaying the log offline …")
    offline = _offline(at, plan)
    return summarise(truths, traffic.actions, received, offline[plan.model], offline.get(plan.beside))


def console_of(at: Stage) -> str:
    """Start the console on the run's alerts, and return its address once it answers."""
    port = free_ports()[0]
    metrics = f"http://127.0.0.1:{at.metrics_port}/metrics"
    console = at.start("console", "detector", "console", "--port", f"{port}", "--metrics-url", metrics)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            console.finished()
            at.check("the console did not answer")
            time.sleep(_LOOK_EVERY_S)
        else:
            return f"http://127.0.0.1:{port}/"


def _simulated(at: Stage, plan: Plan) -> Traffic:
    """Simulate what a plan says, and part it; the labels are in the folder."""
    parts = range(len(plan.simulations))
    events = [at.folder / f"events-{number}.jsonl" for number in parts]
    labels = [at.folder / f"labels-{number}.jsonl" for number in parts]
    at.wait(
        *(
            at.start(f"simulate-{n}", "producer", "simulate", *options, "--out", f"{e}", "--labels", f"{t}")
            for n, (options, e, t) in enumerate(zip(plan.simulations, events, labels, strict=True))
        )
    )
    (at.folder / "labels.jsonl").write_bytes(b"".join(path.read_bytes() for path in labels))
    return parted((line for path in events for line in path.read_bytes().splitlines()), plan.shown_from_ms)


def _watch(
    at: Stage, view: View, arriving: Iterator[Alert | None], detector: Child, expected: int
) -> Iterator[tuple[Received | None, Reading | None]]:
    """Yield each alert as it comes, and now and then the detector's figures, which are shown."""
    readings: list[tuple[float, int]] = []
    next_s = 0.0
    for alert in arriving:
        if alert is not None:
            yield Received(alert, time.time_ns() // 1_000_000 - alert.received_at_ms), None
        now_s = time.monotonic()
        if now_s >= next_s:
            next_s = now_s + _METRICS_EVERY_S
            detector.finished()
            reading = read(at.metrics_port)
            readings = [one for one in readings if now_s - one[0] < _RATE_OVER_S] + [(now_s, reading.events)]
            elapsed_s = now_s - readings[0][0]
            events_per_s = (reading.events - readings[0][1]) / elapsed_s if elapsed_s else 0.0
            view.progress(reading.events, expected, events_per_s, reading.lag)
            yield None, reading


def _offline(at: Stage, plan: Plan) -> dict[str, list[Alert]]:
    """Return the alerts that each model of the plan must give of the log, by its name."""
    outputs = {name: at.folder / f"{name}.jsonl" for name in (plan.model, plan.beside) if name}
    at.wait(
        *(
            at.start(f"replay-{name}", "detector", "replay", "--model", name, "--out", f"{path}")
            for name, path in outputs.items()
        )
    )
    return {
        name: [decode_alert(line) for line in path.read_bytes().splitlines()]
        for name, path in outputs.items()
    }


def _forget(bootstrap_servers: str, own: str, view: View) -> None:
    """Delete the run's own topics and groups from somebody's broker."""
    try:
        with closing(KafkaAdminClient(bootstrap_servers=bootstrap_servers)) as admin:
            admin.delete_topics([name for name in admin.list_topics() if name.startswith(own)])
            admin.delete_groups(
                [group["group_id"] for group in admin.list_groups() if group["group_id"].startswith(own)]
            )
    except KafkaError as error:
        view.step(f"topics {own}* could not be deleted ({error}): delete them by hand")


def _environment(broker: Broker, own: str) -> dict[str, str]:
    """Return the children's environment; on somebody's broker topics have names that begin with the run's own."""
    actions_topic = f"{own}{ACTIONS_TOPIC}"
    return {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "PRODUCER_TOPIC": actions_topic,
        "DETECTOR_INPUT_TOPIC": actions_topic,
        "DETECTOR_ALERTS_TOPIC": f"{own}{ALERTS_TOPIC}",
        "DETECTOR_VERDICTS_TOPIC": f"{own}{VERDICTS_TOPIC}",
        "DETECTOR_GROUP": f"{own}session-detector",
        "DETECTOR_CLOCK": "event",  # what is simulated is past, and published faster than it happened
    }
