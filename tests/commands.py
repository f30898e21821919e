"""Commands of ours, run to their end within this process, where what they need is imported only once.

Where a process is the property (signals, exit by a watchdog, what two hash seeds do), tests start one.
"""

import logging
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from click.testing import CliRunner

_SETTINGS = ("DETECTOR_", "PRODUCER_", "KAFKA_")


def run(
    module: str, *arguments: str, stdin: str | bytes | None = None, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m MODULE ARGUMENTS`; settings in this process's environment do not count.

    An exception that the command does not turn into a message is raised here.
    """
    unset: dict[str, str | None] = {name: None for name in os.environ if name.startswith(_SETTINGS)}
    with _of_its_own():
        done = CliRunner().invoke(
            import_module(f"{module}.cli").main,
            arguments,
            input=stdin,
            env=unset | environment,
            prog_name=f"python -m {module}",
        )
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess([module, *arguments], done.exit_code, done.stdout, done.stderr)


@contextmanager
def _of_its_own() -> Iterator[None]:
    """Let the block set up its log and its signals, and undo it."""
    root, kafka = logging.getLogger(), logging.getLogger("kafka")
    handlers, levels = root.handlers[:], (root.level, kafka.level)
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    root.handlers.clear()
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        kafka.setLevel(levels[1])
        for number, handler in signals.items():
            signal.signal(number, handler)
