"""Runs a page's commands in order, as a reader would: in a shell, in a copy of the project, on a real broker."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from tests.documentation.pages import ROOT, Command

PATIENCE_S: Final = 150.0
"""For what a loaded machine may need to become ready, or to end."""
COMMAND_TIMEOUT_S: Final = 900.0

_STAYS: Final = re.compile(
    r"^python -m detector (?:run|console|alerts(?!.*--from-beginning.*--max)(?!.*--max.*--from-beginning))\b"
)
"""Commands that go on until they are ended; `alerts` from now on waits for alerts that nobody may send."""


class WalkthroughError(Exception):
    """A command of a page did not do what the page says."""


class _Process(NamedTuple):
    command: Command
    process: "subprocess.Popen[bytes]"
    log: Path


class Walkthrough:
    """A reader at the prompt; as a context manager it ends what it started.

    Args:
        folder: to work in; gets a link to each part of the project.
        bootstrap_servers: of the broker to use, instead of the one at 127.0.0.1:9092.
        environment: variables beyond those of this process, whose own settings of ours are left out.
        metrics_port: of a detector that runs already, which pages call by 9108 until they start another.
    """

    def __init__(
        self,
        folder: Path,
        bootstrap_servers: str,
        environment: Mapping[str, str] | None = None,
        metrics_port: int = 0,
    ) -> None:
        self.folder = folder
        self.seconds: list[tuple[str, float]] = []
        self._processes: list[_Process] = []
        self._ports = {9108: metrics_port or _free_port(), 9109: _free_port()}
        self._bootstrap_servers = bootstrap_servers
        for part in ROOT.iterdir():
            if not (folder / part.name).exists():
                (folder / part.name).symlink_to(part)
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DETECTOR_", "PRODUCER_"))
        }
        self._environment = {
            **inherited,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "DETECTOR_CONSOLE_PORT": str(self._ports[9109]),
            **(environment or {}),
        }

    @property
    def metrics_port(self) -> int:
        """Where the detector that was started last serves its metrics."""
        return self._ports[9108]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self._processes:
            if one.process.poll() is None:
                one.process.kill()
                one.process.wait()

    def run(self, command: Command) -> None:
        """Run a command to its end, or until it is ready where it stays.

        Raises:
            WalkthroughError: it failed, ended though it should stay, or printed other lines than the page shows.
        """
        began_s = time.monotonic()
        text = command.text.replace("127.0.0.1:9092", self._bootstrap_servers)
        for port, ours in self._ports.items():
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{ours}")
        if _STAYS.match(text):
            self._start(command, text)
        else:
            self._finish(command, text)
        self.seconds.append((command.text, time.monotonic() - began_s))

    def end(self, *, expecting: Callable[[str], bool] | None = None) -> None:
        """End what stayed, once those that show alerts have shown some, or what is expected of them.

        Raises:
            WalkthroughError: a command had ended before, ended badly, or did not show the alerts.
        """
        shown = expecting or bool
        for one in self._processes:
            if " alerts " in one.command.text and "--from-beginning" in one.command.text:
                self._wait(one, lambda log=one.log: shown(log.read_text()), "show the alerts")  # type: ignore[misc]
        for one in reversed(self._processes):
            self._check_alive(one)
            one.process.send_signal(signal.SIGTERM)
            code = one.process.wait(PATIENCE_S)
            if code:
                raise WalkthroughError(
                    f"{one.command.place}: exit code {code} on SIGTERM, expected 0\n{one.log.read_text()}"
                )
        self._processes.clear()

    def _finish(self, command: Command, text: str) -> None:
        try:
            done = subprocess.run(
                ["bash", "-c", text],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise WalkthroughError(f"{command.place}: still running after {COMMAND_TIMEOUT_S:g} s") from error
        if done.returncode:
            raise WalkthroughError(
                f"{command.place}: exit code {done.returncode}, expected 0\n{done.stdout}{done.stderr}"
            )
        if command.output and done.stdout.splitlines() != list(command.output):
            raise WalkthroughError(
                f"{command.place}: printed\n{done.stdout}the page shows\n" + "\n".join(command.output)
            )

    def _start(self, command: Command, text: str) -> None:
        port = None
        if text.startswith("python -m detector run"):
            told = re.search(r"--metrics-port (\d+)", text)
            port = int(told[1]) if told else _free_port()  # a page may start several, one after the other
            text = text if told else f"{text} --metrics-port {port}"
            self._ports[9108] = port
        log = self.folder / f"stays-{_free_port()}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {text}"],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        one = _Process(command, process, log)
        self._processes.append(one)
        if port is not None:
            self._wait(one, lambda: _answers(f"http://127.0.0.1:{port}/readyz"), "be ready")
        elif text.startswith("python -m detector console"):
            self._wait(one, lambda: _answers(f"http://127.0.0.1:{self._ports[9109]}/"), "answer")
        else:
            self._check_alive(one)

    def _wait(self, one: _Process, condition: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            self._check_alive(one)
            if time.monotonic() > deadline_s:
                raise WalkthroughError(
                    f"{one.command.place}: did not {what} in {PATIENCE_S:g} s\n{one.log.read_text()}"
                )
            time.sleep(0.1)

    def _check_alive(self, one: _Process) -> None:
        code = one.process.poll()
        if code is not None:
            raise WalkthroughError(
                f"{one.command.place}: ended with code {code}, expected to stay\n{one.log.read_text()}"
            )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  our own loopback
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
