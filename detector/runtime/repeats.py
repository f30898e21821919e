"""Repeated log lines: while a broker is away, kafka-python says the same hundreds of times a second."""

import logging
import time
from collections.abc import Callable

_INTERVAL_S = 10.0
_CLIENT = "kafka."


class Repeats(logging.Filter):
    """Passes each of the client's lines once in an interval, with the number of those held back since.

    Lines count as the same if the same statement logs them, whatever they name. Our own lines always pass.

    Args:
        interval_s: at most one line of a kind in so many seconds.
        clock_s: a monotonic clock, in seconds.
    """

    def __init__(
        self, interval_s: float = _INTERVAL_S, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._interval_s = interval_s
        self._clock_s = clock_s
        self._passed: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to log the record; adds to its text how many were held back before it."""
        if not record.name.startswith(_CLIENT):
            return True
        statement, now_s = (record.pathname, record.lineno), self._clock_s()
        passed_s, held_back = self._passed.get(statement, (now_s - self._interval_s, 0))
        if now_s - passed_s < self._interval_s:
            self._passed[statement] = (passed_s, held_back + 1)
            return False
        self._passed[statement] = (now_s, 0)
        if held_back:
            record.msg, record.args = f"{record.getMessage()} (and {held_back} like it before)", ()
        return True
