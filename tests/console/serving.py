"""A `python -m detector console` of a test's own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import PATIENCE_S, wait_for


class Console:
    """A running console and where it is.

    Args:
        arguments: of the command; it takes a free port.
        log: its output.
        environment: beyond what every process needs.
    """

    def __init__(self, arguments: list[str], log: Path, environment: Mapping[str, str]) -> None:
        self.log = log
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DETECTOR_")}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "detector", "console", "--port", "0", *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**kept, **environment},
            )

    @property
    def url(self) -> str:
        """Where it listens, on loopback; waits until it does."""

        def listening() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return re.search(r"console on \S+:\d+/", self.log.read_text()) is not None

        wait_for(listening, f"an address in {self.log}")
        found = re.search(r"console on \S+:(\d+)/", self.log.read_text())
        assert found is not None
        return f"http://127.0.0.1:{found[1]}"

    def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)


@contextmanager
def console(arguments: list[str], log: Path, **environment: str) -> Iterator[Console]:
    """Run a console for the block; it must stop cleanly at its end, and tell of no error."""
    running = Console(arguments, log, environment)
    try:
        yield running
        assert running.stop() == 0, log.read_text()
        assert " ERROR " not in log.read_text(), log.read_text()
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()
