"""Starting `python -m broker` as a user does, and looking at what it left behind."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

PROJECT = Path(__file__).parents[2]
GONE_TIMEOUT_S = 30


def bare_environment() -> dict[str, str]:
    """This process's environment without any program on PATH: no Java, Maven or Docker to be found."""
    return {**os.environ, "PATH": "/nonexistent", "JAVA_HOME": "/nonexistent"}


@contextmanager
def broker_up(*options: str) -> Iterator[tuple[subprocess.Popen[str], str, list[psutil.Process]]]:
    """Run `python -m broker up` in a bare environment.

    Yields the process, the first line it prints and its descendants; kills what is left of them at the end.
    """
    command = [sys.executable, "-m", "broker", "up", *options]
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        env=bare_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    descendants: list[psutil.Process] = []
    try:
        assert process.stdout is not None
        line = process.stdout.readline().rstrip("\n")
        descendants = psutil.Process(process.pid).children(recursive=True)
        yield process, line, descendants
    finally:
        for left in descendants:
            with suppress(psutil.NoSuchProcess):
                left.kill()
        process.kill()
        process.communicate()


def all_gone(processes: Sequence[psutil.Process]) -> bool:
    """Whether all of them end within the deadline."""
    _gone, alive = psutil.wait_procs(processes, timeout=GONE_TIMEOUT_S)
    return not alive
