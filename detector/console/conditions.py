"""What is wrong with the detectors, in the words that a fraud team needs; nothing, if all is well.

The same conditions wake an operator through deploy/prometheus/alerts.yml; docs/runbook.md tells what to do.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from enum import StrEnum
from operator import attrgetter

import msgspec

from detector.console.workers import Worker

LATELY_S = 900.0
"""For so long a counter that rose is told of, as the alert rules do."""


class Severity(StrEnum):
    """How bad it is."""

    CRITICAL = "critical"  # sessions are not judged, or not blocked
    WARNING = "warning"


class Condition(msgspec.Struct, frozen=True):
    """Something that is not as it should be; the runbook tells under the name of an alert rule what to do."""

    severity: Severity
    text: str
    rule: str


class Rises:
    """Which of the workers' counters rose lately: a counter itself does not tell when it did."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[int, float]] = {}

    def lately(self, workers: Sequence[Worker], counter: str, now_s: float) -> list[Worker]:
        """Return the workers whose counter rose in the last LATELY_S; a first look takes what is there as a rise.

        Args:
            workers: those that answered.
            counter: a field's name.
            now_s: monotonic.
        """
        for worker in workers:
            key, value = (worker.name, counter), getattr(worker, counter)
            before, risen_s = self._seen.get(key, (0, float("-inf")))
            rose = value > before or 0 < value < before  # fallen: a new process, that counts from 0
            self._seen[key] = value, now_s if rose else risen_s
        return [one for one in workers if now_s - self._seen[one.name, counter][1] < LATELY_S]


def conditions(
    workers: Sequence[Worker], *, stands_still: bool, refused: Sequence[Worker], lost: Sequence[Worker]
) -> list[Condition]:
    """Return what is wrong, the worst first.

    Args:
        workers: all of them, at least one.
        stands_still: events wait and none was committed for some time.
        refused: those that refused a model file lately.
        lost: those that lately found events deleted before they were read.
    """
    up = [one for one in workers if one.up]
    found = [
        *_absent(workers),
        *_unscored(up, stands_still=stands_still, lost=lost),
        *_models(up, refused),
        *_drift(up),
    ]
    return sorted(found, key=attrgetter("severity"))


def _absent(workers: Sequence[Worker]) -> Iterator[Condition]:
    down = [f"{one.name} ({one.detail})" for one in workers if not one.up]
    waiting = [one.name for one in workers if one.ready is False]
    if len(down) == len(workers):
        yield Condition(Severity.CRITICAL, f"No worker answers: {_listed(down)}", "DetectorDown")
    elif down:
        yield Condition(
            Severity.WARNING,
            f"{_count(down, workers)} not answering: {_listed(down)}",
            "DetectorPartitionsUnheld",
        )
    if waiting:
        yield Condition(
            Severity.WARNING,
            f"{_count(waiting, workers)} not ready: {_listed(waiting)}",
            "DetectorPartitionsUnheld",
        )


def _unscored(up: Sequence[Worker], *, stands_still: bool, lost: Sequence[Worker]) -> Iterator[Condition]:
    if opened := sum(one.breakers_open for one in up):
        of = sum(one.partitions for one in up)
        text = f"Circuit breaker open: blocks are held back as challenges on {opened} of {of} partitions"
        yield Condition(Severity.CRITICAL, text, "DetectorBreakerOpen")
    if stands_still:
        yield Condition(
            Severity.CRITICAL,
            "Events wait and none is scored: the workers stand still",
            "DetectorStandsStill",
        )
    if lost:
        events = sum(one.lost_events for one in lost)
        yield Condition(
            Severity.CRITICAL, f"Events were deleted before they were read: {events:,}", "DetectorEventsLost"
        )


def _models(up: Sequence[Worker], refused: Sequence[Worker]) -> Iterator[Condition]:
    by_model: dict[str, list[str]] = defaultdict(list)
    for one in up:
        if one.model:
            by_model[_model(one)].append(one.name)
    if len(by_model) > 1:
        which = "; ".join(f"{model} on {_listed(names)}" for model, names in sorted(by_model.items()))
        yield Condition(
            Severity.WARNING, f"Workers decide with different models: {which}", "DetectorModelsDiffer"
        )
    if refused:
        which = "; ".join(f"{one.name} goes on with {_model(one)}" for one in refused)
        yield Condition(
            Severity.WARNING, f"A changed model file was refused: {which}", "DetectorModelRefused"
        )


def _drift(up: Sequence[Worker]) -> Iterator[Condition]:
    beyond = {one.of: one for worker in up for one in worker.drift if one.beyond}
    if beyond:
        text = f"Traffic differs from what the model was trained on: {_listed(sorted(map(_spoken, beyond)))}"
        shares_alone = all(one.expected is not None for one in beyond.values())
        yield Condition(Severity.WARNING, text, "DetectorDriftOfShares" if shares_alone else "DetectorDrift")


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _model(worker: Worker) -> str:
    labels = worker.model
    return f"{labels.get('name', '?')} {labels.get('version', '?')} ({labels.get('sha256', '')[:12]})"


def _count(some: Sequence[object], workers: Sequence[Worker]) -> str:
    return f"{len(some)} of {len(workers)} workers {'is' if len(some) == 1 else 'are'}"


def _listed(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
