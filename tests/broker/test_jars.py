"""The jars: fetched once from a real Maven repository over HTTP (a loopback one), verified, never poisoned."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from broker.errors import JarsUnavailableError
from broker.jars import cache_dir, class_path
from tests.broker.processes import PROJECT

_VICTIM = "kafka-tools-api-4.1.0.jar"


class Repository(ThreadingHTTPServer):
    """A Maven repository on the loopback interface that serves the jars of the user's cache."""

    daemon_threads = True

    def __init__(self, jars: list[Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Serve)
        self.jars = {jar.name: jar for jar in jars}
        self.asked: list[str] = []
        self.gate = threading.Event()  # requests wait for it
        self.gate.set()


class _Serve(BaseHTTPRequestHandler):
    server: Repository

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        self.server.asked.append(name)
        self.server.gate.wait()
        jar = self.server.jars.get(name)
        if jar is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(jar.stat().st_size))
        self.end_headers()
        self.wfile.write(jar.read_bytes())

    def log_message(self, *_arguments: object) -> None:
        """Keep quiet."""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """The repository that jgo's configuration file names as `central`, and an empty cache for the user."""
    server = Repository(class_path())
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    settings = tmp_path / "jgo.conf"
    settings.write_text(f"[repositories]\ncentral = http://127.0.0.1:{server.server_port}\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield server
    server.gate.set()
    server.shutdown()
    thread.join()
    server.server_close()


def _fetching() -> subprocess.Popen[str]:
    """Another process that asks for the class path."""
    return subprocess.Popen(
        [sys.executable, "-c", "from broker.jars import class_path; class_path()"],
        cwd=PROJECT,
        stderr=subprocess.PIPE,
        text=True,
    )


def _await_requests(repository: Repository, count: int, processes: list[subprocess.Popen[str]]) -> None:
    while len(repository.asked) < count:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)


def _assert_cache_is_whole() -> None:
    lock: dict[str, str] = json.loads((PROJECT / "broker" / "kafka.lock.json").read_bytes())
    digests = {hashlib.sha256(jar.read_bytes()).hexdigest() for jar in cache_dir().glob("*.jar")}
    assert digests == set(lock.values())


def test_a_full_cache_needs_no_network(repository: Repository) -> None:
    """The first call fetches every jar once; the second asks the repository for nothing."""
    jars = class_path()
    fetched = [name for name in repository.asked if name.endswith(".jar")]
    assert sorted(fetched) == sorted(jar.name for jar in jars)
    repository.asked.clear()
    assert class_path() == jars
    assert repository.asked == []


def test_a_damaged_jar_alone_is_fetched_again(repository: Repository) -> None:
    """A jar cut short in the cache is noticed by its digest and replaced."""
    class_path()
    repository.asked.clear()
    damaged = cache_dir() / _VICTIM
    os.truncate(damaged, 100)
    class_path()
    assert [name for name in repository.asked if name.endswith(".jar")] == [_VICTIM]
    _assert_cache_is_whole()


def test_two_processes_may_fetch_at_once(repository: Repository) -> None:
    """Two first starts at the same time both succeed and leave a whole cache."""
    repository.gate.clear()
    both = [_fetching(), _fetching()]
    _await_requests(repository, 9, both)  # one process has at most 8 under way
    repository.gate.set()
    for process in both:
        _output, messages = process.communicate(timeout=120)
        assert process.returncode == 0, messages
    _assert_cache_is_whole()


def test_a_killed_fetch_poisons_nothing(repository: Repository) -> None:
    """A process killed in the middle of its downloads leaves a cache that the next start completes."""
    repository.gate.clear()
    process = _fetching()
    _await_requests(repository, 1, [process])
    process.kill()
    process.communicate()
    repository.gate.set()
    class_path()
    _assert_cache_is_whole()


def test_a_foreign_jar_is_refused(repository: Repository, tmp_path: Path) -> None:
    """What the repository serves under a pinned name must be the pinned file; it does not reach the cache."""
    foreign = tmp_path / "foreign.jar"
    shutil.copy(repository.jars[_VICTIM], foreign)
    with foreign.open("ab") as file:
        file.write(b"!")
    repository.jars[_VICTIM] = foreign
    with pytest.raises(JarsUnavailableError, match="SHA-256"):
        class_path()
    assert not (cache_dir() / _VICTIM).exists()


def test_an_absent_jar_is_named(repository: Repository) -> None:
    """A repository without one of the artifacts is reported with the artifact's name."""
    del repository.jars[_VICTIM]
    with pytest.raises(JarsUnavailableError, match="kafka-tools-api"):
        class_path()


def test_no_repository_is_reported(repository: Repository) -> None:
    """Without network the message says what could not be fetched and what to check."""
    repository.server_close()
    with pytest.raises(JarsUnavailableError, match=r"(?s)could not fetch Apache Kafka.*Check the network"):
        class_path()
