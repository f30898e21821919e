"""What is done again and again beside the loop."""

import threading
from collections.abc import Callable
from typing import Self


class Periodic:
    """Does something at intervals in a thread of its own. A context manager; outside it nothing is done.

    Args:
        act: what is done.
        interval_s: seconds before each time.
        name: of the thread.
    """

    def __init__(self, act: Callable[[], None], interval_s: float, name: str) -> None:
        self._act, self._interval_s = act, interval_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        while not self._done.wait(self._interval_s):
            self._act()

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._done.set()
        self._thread.join()
