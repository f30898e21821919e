"""The guide's one command: trained on a topic and its verdicts, held against the model in service, put into shadow."""

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from broker import Broker
from detector.contract.events import decode_event
from detector.contract.labels import labels_of
from detector.contract.verdicts import Finding, Verdict, encode_verdict
from detector.model.artifact import load_model, packaged_model_path
from tests.conftest import UniqueName

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 500
"""For a command: a training of minutes, on a loaded machine."""
Publish = Callable[[str, list[tuple[bytes, bytes]]], None]


@pytest.fixture
def publish(kafka: Broker, admin: KafkaAdminClient) -> Publish:
    """Return a function that makes a topic of these records."""

    def make(topic: str, records: list[tuple[bytes, bytes]]) -> None:
        admin.create_topics([NewTopic(topic, 2, 1)])
        producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
        for key, value in records:
            producer.send(topic, key=key, value=value)
        producer.flush()
        producer.close()

    return make


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line of a module of the project."""
    return sys.executable, "-m", module, *arguments


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment | {"PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.timeout(2 * PATIENCE_S)
def test_one_command_trains_compares_and_puts_into_shadow(
    kafka: Broker, unique_name: UniqueName, publish: Publish, tmp_path: Path
) -> None:
    """Verdicts on frauds alone are enough; what fails on the way replaces nothing."""
    simulated = run(
        *python("producer", "simulate", "--preset", "realistic", "--attack-rate", "0.1"),
        *("--sessions", "800", "--seed", "5", "--out", "events.jsonl.gz", "--labels", "labels.jsonl"),
        cwd=tmp_path,
    )
    assert simulated.returncode == 0, simulated.stderr
    with gzip.open(tmp_path / "events.jsonl.gz") as lines:
        events = [(decode_event(line).account_id.encode(), line.strip()) for line in lines]
    accounts = {decode_event(line).session_id: key for key, line in events}
    with (tmp_path / "labels.jsonl").open("rb") as lines:
        frauds = [one for one in labels_of(lines, "labels").values() if one.label]
    verdicts = [
        (
            accounts[one.session_id],
            encode_verdict(
                Verdict(
                    verdict_id=one.session_id,
                    account_id=accounts[one.session_id].decode(),
                    session_id=one.session_id,
                    verdict=Finding.FRAUD,
                    by="analyst",
                    decided_at_ms=0,
                    fraud_type=one.type,
                )
            ),
        )
        for one in frauds
    ]
    named = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "DETECTOR_INPUT_TOPIC": unique_name("events"),
        "DETECTOR_VERDICTS_TOPIC": unique_name("verdicts"),
    }
    publish(named["DETECTOR_INPUT_TOPIC"], events)
    publish(named["DETECTOR_VERDICTS_TOPIC"], verdicts)
    model, shadow = packaged_model_path("default"), tmp_path / "shadow.onnx"
    command = ("sh", str(ROOT / "docs/examples/retrain.sh"), str(model), str(shadow))
    shadow.write_bytes(b"before")
    refused = run(*command, "--steps", "none", cwd=tmp_path, **named)
    assert refused.returncode != 0
    assert shadow.read_bytes() == b"before"
    done = run(*command, "--steps", "60", "--label-delay", "0d", cwd=tmp_path, **named)
    assert done.returncode == 0, done.stderr
    assert f"{len(frauds):,} sessions have verdicts: {len(frauds):,} frauds, 0 lawful" in done.stderr
    assert "in shadow" in done.stdout
    before, after = load_model(model), load_model(shadow)
    assert after.encoding.fingerprint == before.encoding.fingerprint
    assert after.metadata.training["target_fpr"] == before.metadata.training["target_fpr"]
    assert str(after.reference) != str(before.reference)
    assert not list(tmp_path.glob("retrain.*"))
