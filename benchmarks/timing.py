"""How long something takes, and several such figures in words."""

import statistics
import time
from collections.abc import Callable, Sequence


def timed(work: Callable[[], object]) -> float:
    """Return how long the work took, in seconds."""
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


def spread(figures: Sequence[float], digits: int = 2) -> str:
    """Put figures of several rounds into words."""
    low, middle, high = min(figures), statistics.median(figures), max(figures)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
