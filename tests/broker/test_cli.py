"""`python -m broker up`: one line to read, and nothing left behind however it ends."""

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from kafka import KafkaAdminClient

from tests.broker.processes import GONE_TIMEOUT_S, PROJECT, all_gone, bare_environment, broker_up


def _java(descendants: list[psutil.Process]) -> psutil.Process:
    return next(process for process in descendants if process.name() == "java")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(number: signal.Signals) -> None:
    """Without Java on PATH it prints the address of a broker that answers; a signal ends it with exit 0, its processes and temporary data gone."""
    with broker_up("--port", "0") as (process, line, descendants):
        assert re.fullmatch(r"127\.0\.0\.1:\d+", line)
        admin = KafkaAdminClient(bootstrap_servers=line)
        assert len(admin.describe_cluster()["brokers"]) == 1
        admin.close()
        process.send_signal(number)
        rest_of_output, messages = process.communicate(timeout=GONE_TIMEOUT_S)
        assert process.returncode == 0
        assert rest_of_output == ""
        assert all_gone(descendants)
    found = re.search(r"data and logs in (\S+);", messages)
    assert found
    assert not Path(found[1]).exists()


def test_the_broker_dies_with_a_killed_parent(tmp_path: Path) -> None:
    """SIGKILL to the command, which can clean up nothing, ends Java all the same."""
    with broker_up("--port", "0", "--data-dir", str(tmp_path)) as (process, _line, descendants):
        assert _java(descendants).is_running()
        process.kill()
        assert all_gone(descendants)


def test_a_dead_java_process_is_reported() -> None:
    """When Java is killed from outside, the command says so and ends with exit 1, without a traceback."""
    with broker_up("--port", "0") as (process, _line, descendants):
        _java(descendants).kill()
        _output, messages = process.communicate(timeout=GONE_TIMEOUT_S)
        assert process.returncode == 1
        assert "Java process ended by itself (exit code 137)" in messages
        assert "Traceback" not in messages
        assert all_gone(descendants)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_the_broker_dies_with_its_killed_guard() -> None:
    """Even SIGKILL to the guard alone leaves no Java behind."""
    with broker_up("--port", "0") as (process, _line, descendants):
        next(child for child in descendants if child.ppid() == process.pid).kill()
        assert all_gone(descendants)
        process.communicate(timeout=GONE_TIMEOUT_S)
        assert process.returncode == 1


def _fails(*options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "broker", "up", *options],
        cwd=PROJECT,
        env=bare_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_busy_port_is_named() -> None:
    """A port somebody listens on is refused at once, with what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        messages = _fails("--port", str(port))
    assert f"port {port} on 127.0.0.1 is taken" in messages
    assert "--port" in messages


def test_an_unwritable_data_folder_is_named(tmp_path: Path) -> None:
    """A data folder that cannot be made is named, with what to do."""
    (tmp_path / "file").touch()
    messages = _fails("--port", "0", "--data-dir", str(tmp_path / "file" / "data"))
    assert str(tmp_path / "file" / "data") in messages
    assert "--data-dir" in messages


def test_a_refused_property_is_shown() -> None:
    """What Kafka says of a property it cannot take reaches the user."""
    assert "log.retention.ms" in _fails("--port", "0", "--property", "log.retention.ms=soon")
    assert "NAME=VALUE" in _fails("--property", "log.retention.ms")
