"""A worker process that can be hurt."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from broker import EmbeddedBroker


class Worker:
    """One worker process, healthy or with a fault of `tests.chaos.launcher` built in; of the version in `code`."""

    def __init__(
        self,
        number: int,
        flags: Sequence[str],
        log: Path,
        fault: tuple[str, int] | None,
        broker: EmbeddedBroker,
        code: Path | None = None,
    ) -> None:
        self.number = number
        self._log = log
        program = ["detector"] if fault is None else ["tests.chaos.launcher", fault[0], str(fault[1])]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *program, "run", *flags],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "CHAOS_BROKER_PID": str(broker.pid if broker.running else 0)},
                cwd=code,
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still lives."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def said(self, text: str) -> list[str]:
        """Return the lines of its log that hold a text."""
        return [line for line in self._log.read_text(errors="replace").splitlines() if text in line]

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    @property
    def at_work(self) -> bool:
        """Whether it lives, and said last that it holds partitions."""
        said = self.said("holding partitions")
        return self.alive and bool(said) and not said[-1].endswith("[]")
