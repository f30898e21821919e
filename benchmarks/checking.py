"""The guard: ratios of a new run beside the committed ones, with the noise that both show."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.results import Ratio, Result

TOLERANCE = 0.15
"""A loss below this share is never one: repetitions of one run differ as much on a machine that others use too."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A ratio that fell beyond noise."""

    name: str
    before: float
    now: float
    noise: float

    def __str__(self) -> str:
        """Say what was seen and what was expected."""
        return (
            f"{self.name}: {self.now:.3g}, was {self.before:.3g}: expected a change of at most {self.noise:.0%}, the "
            "noise of both runs; find the commit that costs it, or run `make bench` and commit the new figures with the reason"
        )


def _noise(runs: list[float]) -> float:
    """Return the half range by the median."""
    return (max(runs) - min(runs)) / 2 / statistics.median(runs)


def losses(before: Iterable[Result], now: Iterable[Result]) -> list[Loss]:
    """Find ratios that got worse beyond noise: by more than both runs' half ranges together, and TOLERANCE.

    Raises:
        LookupError: a committed ratio was not measured, so nothing can be said of it.
    """
    measured = {(result.name, ratio.name): ratio for result in now for ratio in result.ratios}
    found = []
    for result in before:
        for committed in result.ratios:
            new = measured.get((result.name, committed.name))
            if new is None:
                raise LookupError(
                    f"{result.name}: {committed.name!r} was not measured: expected the ratios of docs/performance; run "
                    "`make bench` if benchmarks were renamed, or install what this one needs"
                )
            if (loss := _loss(result.name, committed, new)) is not None:
                found.append(loss)
    return found


def _loss(name: str, committed: Ratio, new: Ratio) -> Loss | None:
    before, now = statistics.median(committed.runs), statistics.median(new.runs)
    noise = max(TOLERANCE, _noise(committed.runs) + _noise(new.runs))
    worse = now / before > 1 + noise if committed.lower_is_better else now / before < 1 / (1 + noise)
    return Loss(f"{name}: {committed.name}", before, now, noise) if worse else None
