"""Runs a page's commands in order, as a reader would: in a shell, in a copy of the project, on a real broker."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import copytree, ignore_patterns
from types import TracebackType
from typing import Final, NamedTuple, Self

from broker.probe import free_ports
from tests.documentation.pages import ROOT, Command

PATIENCE_S: Final = 150.0
"""For what a loaded machine may need to become ready, or to end."""
COMMAND_TIMEOUT_S: Final = 900.0

_STAYS: Final = re.compile(
    r"^python -m broker up\b|^kafka-console-consumer"
    r"|^python -m detector (?:run|console|alerts(?!.*--from-beginning.*--max)(?!.*--max.*--from-beginning))\b"
)
"""Commands that go on until they are ended; `alerts` from now on waits for alerts that nobody may send.

With `--max` it ends by itself, well, if somebody did.
"""
_BROKER: Final = "127.0.0.1:9092"
_JAVA_ENDED: Final = 128 + signal.SIGTERM
"""What a Java program ends with on SIGTERM when all is well."""


class WalkthroughError(Exception):
    """A command of a page did not do what the page says."""


class _Process(NamedTuple):
    command: Command
    process: "subprocess.Popen[bytes]"
    output: Path
    errors: Path

    @property
    def printed(self) -> str:
        return self.errors.read_text() + self.output.read_text()


class Walkthrough:
    """A reader at the prompt; as a context manager it ends what it started.

    Args:
        folder: to work in; gets a copy of docs/, and a link to each other part of the project; its bin/ is searched for programs first.
        environment: variables beyond those of this process, whose own settings of ours are left out.
        words: what to put in the place of words of the pages, such as names of topics.
        metrics_port: of a detector that runs already, which pages call by 9108 until they start another.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        *,
        words: Mapping[str, str] | None = None,
        metrics_port: int = 0,
    ) -> None:
        self.folder = folder
        self._processes: list[_Process] = []
        free = free_ports(2)
        self._ports = {9108: metrics_port or free[0], 9109: free[1]}
        copytree(ROOT / "docs", folder / "docs", ignore=ignore_patterns("__pycache__"), dirs_exist_ok=True)
        for part in ROOT.iterdir():
            if part.name not in {".git", "build"} and not (folder / part.name).exists():
                (folder / part.name).symlink_to(part)
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(
                ("DETECTOR_", "PRODUCER_", "KAFKA_BOOTSTRAP_SERVERS", "MAKE", "MFLAGS", "ARGS")
            )
        }
        self._environment = {
            **inherited,
            "PATH": os.pathsep.join(
                [str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
            ),
            "DETECTOR_CONSOLE_PORT": str(self._ports[9109]),
            **(environment or {}),
        }
        self._words = dict(words or {})
        if "KAFKA_BOOTSTRAP_SERVERS" in self._environment:
            self._words[_BROKER] = self._environment["KAFKA_BOOTSTRAP_SERVERS"]

    @property
    def metrics_port(self) -> int:
        """Where the detector that was started last serves its metrics."""
        return self._ports[9108]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in reversed(self._processes):
            if one.process.poll() is None:
                one.process.kill()
                one.process.wait()

    def run(self, command: Command) -> None:
        """Run a command to its end, or until it is ready where it stays.

        Raises:
            WalkthroughError: it failed, ended though it should stay, or printed other lines than the page shows.
        """
        text = command.text
        for word, ours in self._words.items():
            text = text.replace(word, ours)
        for port, own in self._ports.items():
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{own}")
        if _STAYS.match(text):
            self._start(command, text)
        else:
            self._finish(command, text)

    def end(self, *, expecting: Callable[[str], bool] | None = None) -> None:
        """End what stayed, once those that show alerts have shown some, or what is expected of them.

        Raises:
            WalkthroughError: a command had ended before, ended badly, or did not show the alerts.
        """
        shown = expecting or bool
        for one in self._processes:
            if "--from-beginning" in one.command.text:
                self._wait(one, lambda one=one: shown(one.output.read_text()), "show the alerts")  # type: ignore[misc]
        for one in reversed(self._processes):
            self._check_alive(one)
            one.process.send_signal(signal.SIGTERM)
            code = one.process.wait(PATIENCE_S)
            if code != (_JAVA_ENDED if one.command.text.startswith("kafka-") else 0):
                raise WalkthroughError(
                    f"{one.command.place}: exit code {code} on SIGTERM, expected 0\n{one.printed}"
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
        serves = text.startswith("python -m detector run")
        if serves:  # a page may start several, one after the other
            told = re.search(r"--metrics-port (\d+)", text)
            self._ports[9108] = int(told[1]) if told else free_ports()[0]
        elif text.startswith("python -m broker up"):
            text += f" --port {free_ports()[0]}"
        serial = len(list(self.folder.glob("stays-*.out")))
        output, errors = (self.folder / f"stays-{serial}.{kind}" for kind in ("out", "err"))
        with output.open("wb") as out, errors.open("wb") as err:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {text}"],
                cwd=self.folder,
                env=self._environment | {"DETECTOR_METRICS_PORT": str(self._ports[9108])},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        one = _Process(command, process, output, errors)
        self._processes.append(one)
        if serves:
            self._wait(one, lambda: _answers(f"http://127.0.0.1:{self._ports[9108]}/readyz"), "be ready")
        elif text.startswith("python -m detector console"):
            self._wait(one, lambda: _answers(f"http://127.0.0.1:{self._ports[9109]}/"), "answer")
        elif text.startswith("python -m broker up"):
            self._wait(one, lambda: output.read_text().endswith("\n"), "say its address")
            self._words[_BROKER] = self._environment["KAFKA_BOOTSTRAP_SERVERS"] = output.read_text().strip()
        else:
            self._check_alive(one)

    def _wait(self, one: _Process, condition: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            self._check_alive(one)
            if time.monotonic() > deadline_s:
                raise WalkthroughError(
                    f"{one.command.place}: did not {what} in {PATIENCE_S:g} s\n{one.printed}"
                )
            time.sleep(0.1)

    def _check_alive(self, one: _Process) -> None:
        code = one.process.poll()
        had_all = code == 0 and "--max" in one.command.text
        if code is not None and not had_all:
            raise WalkthroughError(
                f"{one.command.place}: ended with code {code}, expected to stay\n{one.printed}"
            )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  our own loopback
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
