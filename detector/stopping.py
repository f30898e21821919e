"""Stopping on signals."""

import signal
import sys
import threading


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set. A second signal ends the process at once."""
    stop = threading.Event()

    def handle(number: int, _frame: object) -> None:
        if stop.is_set():
            sys.exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    return stop
