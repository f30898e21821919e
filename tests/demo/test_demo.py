"""The demo as a user starts it: it ends by itself, or by Ctrl-C at any point, and leaves nothing running."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Mapping
from contextlib import closing

import psutil
import pytest
from click.testing import CliRunner
from kafka import KafkaAdminClient

from broker import Broker
from demo.cli import main

PATIENCE_S = 120


def start(*arguments: str, environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    """Start the demo in a session of its own, as a terminal would."""
    return subprocess.Popen(
        [sys.executable, "-m", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(environment),
        start_new_session=True,
    )


def marked() -> dict[str, str]:
    """Return an environment whose processes can be told from all others."""
    return {**os.environ, "DEMO_TEST_MARK": uuid.uuid4().hex}


def left_running(environment: Mapping[str, str]) -> list[str]:
    """Return the command lines of processes that still carry the mark."""
    left = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DEMO_TEST_MARK") == environment["DEMO_TEST_MARK"]:
                left.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return left


def test_lives_are_shown_and_kept_for_the_console(kafka: Broker) -> None:
    """Every event is scored and the topic holds what a replay gives; with --keep the console shows it until Ctrl-C."""
    environment = marked() | {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "PYTHONUNBUFFERED": "1"}
    demo = start("--customers", "60", "--rate", "2000", "--keep", environment=environment)
    assert demo.stdout is not None
    output = ""
    while not (found := re.search(r"console: (http://\S+)", output)):
        line = demo.stdout.readline()
        assert line, output
        output += line
    with urllib.request.urlopen(found[1], timeout=PATIENCE_S) as answer:  # noqa: S310  the address of our own console
        assert b"<html" in answer.read()
    os.killpg(demo.pid, signal.SIGINT)
    rest, _ = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 0, output + rest
    assert "yes, bit for bit" in output
    assert "notebook's model" in output
    assert "\x1b[" not in output
    assert left_running(environment) == []
    with closing(KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)) as admin:
        assert [name for name in admin.list_topics() if name.startswith("demo-")] == []


@pytest.mark.long
def test_the_notebooks_world_is_without_a_flaw(kafka: Broker) -> None:
    """All attacks of the seed preset are blocked, nobody else is, the exit code says so, and it ends by itself."""
    environment = marked() | {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
    demo = start("--preset", "seed", "--sessions", "110", "--seed", "3", environment=environment)
    output, _ = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 0, output
    assert output.count("BLOCK  session") == 10
    assert "5 of 5" in output
    assert left_running(environment) == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("after", "number"),
    [
        ("starting a Kafka broker", signal.SIGINT), ("broker at", signal.SIGINT), ("simulating", signal.SIGINT),
        ("BLOCK  session", signal.SIGINT), ("detector is ready", signal.SIGHUP),
    ],
)  # fmt: skip
def test_it_can_be_ended_at_any_point(after: str, number: signal.Signals) -> None:
    """By Ctrl-C while the broker starts, the detector starts, or sessions flow, by a terminal that hangs up: exit code 130, nothing left."""
    environment = marked()
    environment.pop("KAFKA_BOOTSTRAP_SERVERS", None)
    demo = start("--preset", "seed", environment=environment | {"PYTHONUNBUFFERED": "1"})
    assert demo.stdout is not None
    seen = ""
    while after not in seen:
        line = demo.stdout.readline()
        assert line, seen
        seen += line
    time.sleep(0.3)  # into the middle of what was announced
    os.killpg(demo.pid, number)
    rest, _ = demo.communicate(timeout=PATIENCE_S)
    # Where it came within an exec() of a text, as dataclasses are made by, CPython ends itself by the signal after all:
    # run_eval_code_obj remembers it though it was handled. A shell says 130 of both.
    assert demo.returncode in {130, -number}, seen + rest
    assert "everything that was started has been ended" in rest
    assert "Traceback" not in rest
    assert left_running(environment) == []


def test_a_broker_that_is_not_there_is_one_clear_message() -> None:
    """A wrong KAFKA_BOOTSTRAP_SERVERS is named, and nothing is started."""
    environment = marked() | {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    demo = start(environment=environment)
    output, _ = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 1
    assert "127.0.0.1:1" in output
    assert "Traceback" not in output
    assert left_running(environment) == []


def test_an_option_of_the_other_preset_is_refused() -> None:
    """What would be ignored is a usage error that names the option meant."""
    for arguments, meant in (
        (["--sessions", "9"], "--customers"),
        (["--preset", "seed", "--customers", "9"], "--sessions"),
    ):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2
        assert meant in result.output
