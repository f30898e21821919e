"""The detector's commands, as a user types them."""

import gzip
import json
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from broker import Broker
from detector.cli import main
from detector.contract.alerts import decode_alert
from detector.core.evidence import Evidence
from detector.model.artifact import load_model, packaged_model_path
from detector.runtime.config import DetectorConfig
from detector.runtime.settings import environment_variable_of, flag_of
from tests.commands import run
from tests.conftest import CreateTopic, UniqueName
from tests.model.models import changed_file

PATIENCE_S = 60
EVENT = (
    b'{"event_id":"e","session_id":"s","account_id":"a","action":"LOGIN","occurred_at_ms":1790000000000}\n'
)


def detector(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    return run("detector", *arguments, **environment)


def process(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in a process of its own: `run` sets up the garbage collection of the whole process."""
    return subprocess.run(
        [sys.executable, "-m", "detector", *arguments],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("actions", "verdict"),
    [
        (["LOGIN", "VIEW_BALANCE", "VIEW_TRANSACTIONS", "LOGOUT"], "ALLOWED"),
        (["LOGIN", "ADD_RECIPIENT", "TRANSFER_LARGE", "LOGOUT"], "BLOCKED"),
        (["LOGIN", "CHANGE_PASSWORD", "TRANSFER_LARGE", "LOGOUT"], "BLOCKED"),
    ],
)
def test_the_notebooks_sessions_are_judged_as_in_the_notebook(actions: list[str], verdict: str) -> None:
    """predict_session_risk: risk and BLOCKED or ALLOWED, in words and as JSON."""
    words = detector("score", "--model", "seed", *actions)
    assert words.stdout.startswith(verdict), words
    answer = json.loads(detector("score", "--model", "seed", "--json", *actions).stdout)
    assert answer["decision"] == verdict
    assert (answer["risk"] >= answer["threshold"]) == (verdict == "BLOCKED")


def test_a_long_session_is_scored_whole_where_the_model_adds_up(tmp_path: Path) -> None:
    """What came before the window counts: the same last actions score otherwise behind hundreds of others."""
    evidence = Evidence(window_weight=1, bias=0, logit_weight=0.01, drift=0.2)
    path = tmp_path / "model.onnx"
    path.write_bytes(changed_file(packaged_model_path("seed"), evidence=evidence))
    model, actions = load_model(path), ["LOGIN", *["VIEW_BALANCE"] * 300]
    for scored in (actions, actions[-model.encoding.window :]):
        told = CliRunner().invoke(main, ["score", "--model", str(path), "--json", *scored])
        expected = model.session_scores(model.encoding.steps(scored))[-1]
        assert json.loads(told.output)["risk"] == expected
        assert json.loads(told.output)["decision"] == ("BLOCKED" if scored is actions else "ALLOWED")


def test_what_follows_the_end_of_a_session_is_scored_alone() -> None:
    """As the detector begins anew after LOGOUT; the last action may be one, and what was left out is said."""
    both = CliRunner().invoke(
        main, ["score", "--gaps-s", "5,6,7,8", "LOGIN", "LOGOUT", "LOGIN", "VIEW_BALANCE", "LOGOUT"]
    )
    alone = CliRunner().invoke(main, ["score", "--gaps-s", "7,8", "LOGIN", "VIEW_BALANCE", "LOGOUT"])
    assert both.stdout == alone.stdout
    assert both.stderr == "LOGOUT ends a session: scored are the actions after it\n"
    assert alone.stderr == ""


def test_an_unknown_action_is_named_with_what_was_expected() -> None:
    """Exit code 2, the action and the vocabulary, no traceback."""
    ended = detector("score", "LOGIN", "FLY")
    assert ended.returncode == 2
    assert "FLY" in ended.stderr
    assert "ADD_RECIPIENT" in ended.stderr


def test_help_explains_every_setting() -> None:
    """Each setting appears with its flag and its environment variable."""
    shown = detector("run", "--help").stdout
    for one in fields(DetectorConfig):
        assert flag_of(one) in shown
        assert environment_variable_of(one) in shown


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        (["--batch-max-events", "0"], "--batch-max-events is 0: expected at least 1"),
        (["--threshold", "1.5"], "--threshold is 1.5"),
        (["--log-level", "LOUD"], "'LOUD'"),
        (["--input-topic", "no spaces"], "'no spaces'"),
        (["--partitions", "many"], "'many' is not a valid integer"),
    ],
)
def test_a_setting_out_of_bounds_is_refused(arguments: list[str], seen: str) -> None:
    """Exit code 2 with what was seen and what was expected, before anything is consumed."""
    ended = detector("run", *arguments)
    assert ended.returncode == 2
    assert seen in ended.stderr


def test_settings_come_from_the_environment() -> None:
    """An environment variable counts like its flag."""
    ended = detector("run", DETECTOR_BATCH_MAX_EVENTS="0")
    assert "--batch-max-events is 0" in ended.stderr


def test_a_model_that_is_none_is_refused_before_anything_is_consumed(tmp_path: Path) -> None:
    """A foreign file ends the command with one message and exit code 1, without a broker being asked."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model")
    ended = detector("run", "--model", str(path), "--bootstrap-servers", "127.0.0.1:1")
    assert ended.returncode == 1
    assert str(path) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_taken_metrics_port_is_named(kafka: Broker) -> None:
    """The broker's port stands for any that is taken."""
    port = kafka.bootstrap_servers.rsplit(":", 1)[1]
    ended = process("run", "--metrics-port", port, "--metrics-host", "127.0.0.1")
    assert ended.returncode == 1
    assert f"127.0.0.1:{port}" in ended.stderr
    assert "--metrics-port" in ended.stderr


def test_missing_topics_are_named_where_none_may_be_created(kafka: Broker) -> None:
    """Exit code 1 and the list of topics, with --no-create-topics."""
    ended = process(
        "run", "--no-create-topics", "--input-topic", "nowhere", "--metrics-port", "-1",
        "--bootstrap-servers", kafka.bootstrap_servers,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "nowhere, " in ended.stderr
    assert "--create-topics" in ended.stderr


@pytest.mark.parametrize(
    ("gaps", "actions", "verdict"),
    [
        ("5,8", ["LOGIN", "ADD_RECIPIENT", "TRANSFER_LARGE"], "BLOCKED"),
        ("10,10,12", ["LOGIN", "VIEW_BALANCE", "ADD_RECIPIENT", "TRANSFER_LARGE"], "BLOCKED"),
        ("20,90,60", ["LOGIN", "VIEW_BALANCE", "ADD_RECIPIENT", "TRANSFER_LARGE"], "ALLOWED"),
        ("15,30", ["LOGIN", "CHANGE_PASSWORD", "LOGOUT"], "ALLOWED"),
    ],
)
def test_the_packaged_model_reads_times(gaps: str, actions: list[str], verdict: str) -> None:
    """The same actions are an attack in seconds and lawful in minutes; a password change alone is lawful."""
    assert detector("score", "--gaps-s", gaps, *actions).stdout.startswith(verdict)


@pytest.mark.parametrize("gaps", ["4", "4,x", "4,-1", "1,2,3", "inf,1"])
def test_gaps_that_do_not_fit_are_refused(gaps: str) -> None:
    """Exit code 2, and how many numbers were expected."""
    ended = detector("score", "--gaps-s", gaps, "LOGIN", "ADD_RECIPIENT", "TRANSFER_LARGE")
    assert ended.returncode == 2
    assert "expected 2 numbers of seconds" in ended.stderr


def publish_an_alert(kafka: Broker, topic: str, folder: Path) -> None:
    """Publish the alert on a quick drain."""
    events, offline = folder / "events.jsonl", folder / "alerts.jsonl"
    lines = [
        {
            "event_id": f"e{n}",
            "session_id": "s",
            "account_id": "a",
            "action": action,
            "occurred_at_ms": 1_790_000_000_000 + n,
        }
        for n, action in enumerate(["LOGIN", "ADD_RECIPIENT", "TRANSFER_LARGE"])
    ]
    events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    replayed = detector("replay", "--model", "seed", "--file", str(events), "--out", str(offline))
    assert replayed.stdout.startswith("1 alerts, dead letters: none"), replayed.stderr
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    producer.send(topic, offline.read_bytes().strip()).get(timeout=PATIENCE_S)
    producer.close()


def test_alerts_are_printed_as_json_and_in_words(
    kafka: Broker, create_topic: CreateTopic, tmp_path: Path
) -> None:
    """A subscriber gets what is on the topic: --json one document a line, else one line with what mattered most."""
    topic = create_topic("alerts")
    publish_an_alert(kafka, topic, tmp_path)
    subscribe = ["alerts", "--topic", topic, "--from-beginning", "--max", "1"]
    as_json = detector(*subscribe, "--json", KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap_servers)
    alert = decode_alert(as_json.stdout.encode())
    assert alert.window == ["LOGIN", "ADD_RECIPIENT"]
    words = detector(*subscribe, KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap_servers)
    assert words.stdout.startswith("BLOCK session s account a score ")
    assert alert.explanation[0].startswith("ADD_RECIPIENT")
    assert f"| {alert.explanation[0]}" in words.stdout


def subscriber(kafka: Broker, topic: str, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start a subscriber to all alerts of a topic."""
    flags = ["--from-beginning", "--topic", topic, "--bootstrap-servers", kafka.bootstrap_servers]
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "detector", "alerts", *flags, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_subscriber_ends_on_a_signal(
    kafka: Broker, create_topic: CreateTopic, tmp_path: Path, number: signal.Signals
) -> None:
    """A subscriber that has printed what there is, and waits for more, ends with exit code 0 when it is asked to."""
    topic = create_topic("alerts")
    publish_an_alert(kafka, topic, tmp_path)
    process = subscriber(kafka, topic)
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        assert process.stdout.readline().startswith(b"BLOCK")
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0


def test_a_subscriber_tells_of_a_topic_that_is_not_there_and_waits_for_it(
    kafka: Broker, admin: KafkaAdminClient, unique_name: UniqueName, tmp_path: Path
) -> None:
    """A name mistyped is told of on standard error; a topic made later is read like any other."""
    topic = unique_name("late")
    process = subscriber(kafka, topic, "--max", "1")
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        told = process.stderr.readline().decode()
        assert f"no topic '{topic}'" in told
        admin.create_topics([NewTopic(topic, 1, 1)])
        publish_an_alert(kafka, topic, tmp_path)
        assert process.stdout.readline().startswith(b"BLOCK")
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_replay_by_the_models_of_then_takes_no_model(tmp_path: Path) -> None:
    """Which of --model and --models decides is not guessed at."""
    told = CliRunner().invoke(
        main, ["replay", "--model", "seed", "--models", str(tmp_path), "--out", str(tmp_path / "alerts")]
    )
    assert told.exit_code == 2
    assert "--model decides nothing beside --models" in told.output


def test_a_replay_that_stops_leaves_what_was_there(tmp_path: Path) -> None:
    """Half of the alerts would pass for all of them: the file is written whole or not at all."""
    log, out = tmp_path / "events.jsonl.gz", tmp_path / "alerts.jsonl"
    log.write_bytes(gzip.compress(EVENT * 1_000)[:60])
    out.write_bytes(b"before\n")
    told = CliRunner().invoke(main, ["replay", "--file", str(log), "--out", str(out)])
    assert told.exit_code == 1
    assert "Error: " in told.output
    assert out.read_bytes() == b"before\n"
    assert set(tmp_path.iterdir()) == {log, out}
