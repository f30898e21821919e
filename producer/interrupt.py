"""Stopping on SIGINT and SIGTERM between two events, never inside one."""

import signal
import time
from types import FrameType
from typing import Self

_SLICE_S = 0.1


class Interrupt:
    """Records the first SIGINT or SIGTERM while entered; a second one acts as it did before.

    The handler only stores a number: raising from it could leave the client's locks held, and setting a
    `threading.Event` from it can deadlock.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._record)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """128 plus the signal, as shells report it; 0 without one."""
        return 0 if self.signal is None else 128 + self.signal

    def sleep_until(self, due_s: float) -> None:
        """Sleep until `time.monotonic()` reaches `due_s` seconds or a signal arrives."""
        while not self and (left_s := due_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _SLICE_S))  # slices, since sleep resumes after a handler (PEP 475)

    def _record(self, number: int, _frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)  # type: ignore[arg-type]
