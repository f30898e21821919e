"""`python -m detector explain`, as a user types it: from a file, from the topic, and from the topic into another."""

import subprocess
from pathlib import Path
from shutil import copy

import msgspec
import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata

from broker import Broker
from detector.contract.alerts import Alert, encode_alert
from detector.contract.explanations import Explanation
from detector.contract.topics import explanations_topic
from detector.core.explaining import explain
from detector.model.artifact import Model, load_model, packaged_model_path
from detector.runtime.config import DetectorConfig
from tests.commands import run
from tests.conftest import CreateTopic, UniqueName
from tests.console.alerts import alert, explainable, publish
from tests.detector.test_cli import detector
from tests.model.models import metadata, random_weights, with_canaries
from tests.runtime.stack import read_committed
from trainer.training.export import build_graph, model_file


@pytest.fixture(scope="module")
def model() -> Model:
    """The packaged model."""
    return load_model(packaged_model_path("default"))


def of_bytes(alerts: list[Alert]) -> bytes:
    """Return alerts as `alerts --json` prints them."""
    return b"\n".join(map(encode_alert, alerts))


def explain_input(value: bytes, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command on its standard input."""
    return run("detector", "explain", *arguments, stdin=value)


def explanations(printed: bytes) -> list[Explanation]:
    """Decode what the command printed."""
    return [msgspec.json.decode(line, type=Explanation) for line in printed.splitlines()]


def test_alerts_are_explained_by_the_model_that_they_name(model: Model, tmp_path: Path) -> None:
    """From the standard input and from a file, a document a line; bit for bit what the core computes."""
    alerts = [explainable("one", model), explainable("two", model)]
    expected = [explain(one, model.encoding, model.score) for one in alerts]
    assert explanations(explain_input(of_bytes(alerts)).stdout.encode()) == expected
    (tmp_path / "alerts.jsonl").write_bytes(of_bytes(alerts) + b"\n\n")
    from_file = detector("explain", "--max", "1", str(tmp_path / "alerts.jsonl"))
    assert explanations(from_file.stdout.encode()) == expected[:1]


def test_a_model_in_a_folder_is_found_by_its_hash(model: Model, tmp_path: Path) -> None:
    """Whatever the file is called; what else lies in the folder does no harm."""
    copy(packaged_model_path("default"), tmp_path / "of-last-year.onnx")
    changed = (tmp_path / "of-last-year.onnx").read_bytes() + b"x"
    (tmp_path / "broken.onnx").write_bytes(changed)
    done = explain_input(of_bytes([explainable("one", model)]), "--models", str(tmp_path))
    assert len(explanations(done.stdout.encode())) == 1


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (of_bytes([alert("s")]), "model example 7 (abababababab…) is not among the packaged models"),
        (b"{}", "line 1 is no alert"),
        (b"\n", "no alert in the input: expected one or more"),
    ],
    ids=["no such model", "no alert", "nothing"],
)
def test_what_cannot_be_explained_is_refused(value: bytes, told: str) -> None:
    """Exit code 1, what was seen and what was expected, and no traceback."""
    done = explain_input(value)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {told}")


def test_a_file_beside_the_topic_is_refused(tmp_path: Path) -> None:
    """What reads the topic would not look at it."""
    (tmp_path / "alerts.jsonl").write_bytes(b"")
    for how in (["--session", "s"], ["--follow"]):
        done = detector("explain", *how, str(tmp_path / "alerts.jsonl"))
        assert done.returncode == 2
        assert "expected them without a FILE" in done.stderr


def test_a_sessions_alerts_are_looked_up(kafka: Broker, create_topic: CreateTopic, model: Model) -> None:
    """Those of the session on the topic are explained, whatever else lies there; one without alerts is told."""
    topic = create_topic(partitions=2)
    alerts = [explainable(session, model) for session in ("other", "wanted", "another")]
    publish(kafka.bootstrap_servers, topic, alerts, f"{topic}-publisher")
    where = ["--bootstrap-servers", kafka.bootstrap_servers, "--alerts-topic", topic, "--session"]
    found = explanations(detector("explain", *where, "wanted").stdout.encode())
    assert found == [explain(alerts[1], model.encoding, model.score)]
    missing = detector("explain", *where, "nobody")
    assert (missing.returncode, missing.stderr) == (
        1, f"Error: no alert of session nobody on {topic}: expected one or more\n"
    )  # fmt: skip


def test_a_session_on_a_topic_that_is_not_there_is_refused(kafka: Broker, unique_name: UniqueName) -> None:
    """It waits a moment for the topic and then says what is missing; so does --follow."""
    where = ["--bootstrap-servers", kafka.bootstrap_servers, "--alerts-topic", unique_name()]
    for how in (["--session", "s"], ["--follow"]):
        done = detector("explain", *where, *how)
        assert done.returncode == 1
        assert done.stderr.startswith("Error: no topic "), done.stderr


class Follower:
    """A topic of alerts, the topic of their explanations, and runs of `explain --follow`."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self.config = DetectorConfig(bootstrap_servers=bootstrap_servers, alerts_topic=topic)
        self.explanations_topic = explanations_topic(topic)
        self._runs = 0

    def publish(self, *alerts: Alert) -> None:
        """Publish alerts."""
        self._runs += 1
        name = f"{self.config.alerts_topic}-{self._runs}"
        publish(self.config.bootstrap_servers, self.config.alerts_topic, alerts, name)

    def run(self, most: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Follow the topic for so many alerts."""
        where = [
            "--bootstrap-servers",
            self.config.bootstrap_servers,
            "--alerts-topic",
            self.config.alerts_topic,
        ]
        return detector("explain", "--follow", "--max", str(most), *where, *arguments)

    def found(self) -> list[tuple[bytes, bytes]]:
        """Return keys and values of the explanations, sorted."""
        return sorted((one.key, one.value) for one in read_committed(self.config, self.explanations_topic))


@pytest.fixture
def follower(kafka: Broker, create_topic: CreateTopic) -> Follower:
    """A follower of a topic with two partitions."""
    return Follower(kafka.bootstrap_servers, create_topic(partitions=2))


def keyed(model: Model, alerts: list[Alert]) -> list[tuple[bytes, bytes]]:
    """Return what is expected on the topic of explanations."""
    encoded = [msgspec.json.encode(explain(one, model.encoding, model.score)) for one in alerts]
    return sorted(zip((one.session_id.encode() for one in alerts), encoded, strict=True))


def test_a_topic_is_explained_into_another(follower: Follower, model: Model) -> None:
    """Each alert once, under its session's id, and each run goes on where the last one ended."""
    alerts = [explainable(f"s{number}", model) for number in range(6)]
    follower.publish(*alerts[:4])
    assert follower.run(3).stdout == "3 alerts explained\n"
    follower.publish(*alerts[4:])
    assert follower.run(3).stdout == "3 alerts explained\n"
    assert follower.found() == keyed(model, alerts)
    (record, *_) = read_committed(follower.config, follower.explanations_topic)
    headers = dict(record.headers)
    assert headers["ce_type"] == b"session.explanation.v1"
    assert headers["ce_id"] == msgspec.json.decode(record.value)["alert_id"].encode()


def test_what_comes_again_after_a_crash_is_the_same(follower: Follower, model: Model) -> None:
    """Explanations whose offsets were not committed are published once more, bit for bit: the alert's id tells."""
    alerts = [explainable(f"s{number}", model) for number in range(4)]
    follower.publish(*alerts)
    assert follower.run(4).returncode == 0
    put_back(follower)
    assert follower.run(4).returncode == 0
    once = keyed(model, alerts)
    assert follower.found() == sorted(once * 2)


def put_back(follower: Follower) -> None:
    """Put the group's offsets back to the beginning, where a crash before the commit would have left them."""
    config = follower.config
    consumer = KafkaConsumer(bootstrap_servers=config.bootstrap_servers, group_id=follower.explanations_topic)
    sources = [TopicPartition(config.alerts_topic, number) for number in range(2)]
    consumer.commit({source: OffsetAndMetadata(0) for source in sources})
    consumer.close(autocommit=False)


def test_a_missing_model_stops_it_and_loses_nothing(follower: Follower, tmp_path: Path) -> None:
    """Without the model it ends with what is missing; with it, the next run explains what the first did not."""
    graph = build_graph(random_weights(2), metadata().window)
    (tmp_path / "own.onnx").write_bytes(model_file(graph, with_canaries(graph, metadata())))
    own = load_model(tmp_path / "own.onnx")
    alerts = [explainable("first", own), explainable("second", own)]
    follower.publish(*alerts)
    done = follower.run(2)
    assert done.returncode == 1
    assert f"{own.sha256[:12]}…) is not among the packaged models" in done.stderr
    assert follower.run(2, "--models", str(tmp_path)).stdout == "2 alerts explained\n"
    assert follower.found() == keyed(own, alerts)


def test_an_alert_that_cannot_be_explained_is_passed_over(follower: Follower, model: Model) -> None:
    """One of an older version, without its gaps, is told and left out: no model could mend it."""
    alerts = [explainable("old", model, gap_ranges_ms=[]), explainable("new", model)]
    follower.publish(*alerts)
    done = follower.run(2)
    assert done.stdout == "1 alerts explained\n"
    assert "passed over: alert" in done.stderr
    assert follower.found() == keyed(model, alerts[1:])
