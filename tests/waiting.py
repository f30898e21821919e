"""Waiting for what other processes do."""

import time
from collections.abc import Callable

PATIENCE_S = 150.0


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds, for as long as a loaded machine may need."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"waited {PATIENCE_S:g} s for {what}"
        time.sleep(0.05)
