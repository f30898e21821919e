"""A worker that turns but gets nowhere is ended, and its successor does the work."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from detector.runtime.health import EXIT_STALLED
from tests.runtime.stack import Stack, flags_of, without_clock
from tests.runtime.test_end_to_end import records, sessions
from tests.waiting import PATIENCE_S

FRUITLESS = """
import sys
from detector.cli import main
from detector.runtime.recovery import BatchAbortedError
from detector.runtime.transaction import Transactor
def aborted(*arguments):
    raise BatchAbortedError("always")
Transactor.commit = aborted
main(sys.argv[1:])
"""


def test_batches_that_fail_for_ever_end_the_worker(make_stack: Callable[..., Stack], tmp_path: Path) -> None:
    """Every transaction is aborted and tried again: no progress, exit code 70; nothing is lost or doubled by it."""
    stack = make_stack(partitions=1, stall_timeout_ms=6_000, transaction_timeout_ms=5_000)
    stack.publish(records(sessions(33)))
    log = tmp_path / "fruitless.log"
    with log.open("wb") as output:
        fruitless = subprocess.Popen(
            [sys.executable, "-c", FRUITLESS, "run", *flags_of(stack.config)],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        assert fruitless.wait(PATIENCE_S) == EXIT_STALLED, log.read_text()
    finally:
        fruitless.kill()
    assert "retry: BatchAbortedError: always" in log.read_text()
    assert stack.alerts() == []
    with stack.worker():
        stack.wait_until_processed()
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0])
