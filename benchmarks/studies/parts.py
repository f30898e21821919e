"""The parts of actions: what naming them costs an alert, and how near they are to values from many orders of arrival.

MODEL reads signals, EVENTS are of lives (`producer simulate --days`). Over the windows of up to 300 alerts. First
table: times, as ratios: reasons with the second call for parts to those without it, and an explanation with parts to one
without, to the reasons. Second: of the weightiest actions, how often the first part that the alert names has the
largest value in the explanation (the action itself and its gap aside), is among its first three, and how far values
from PART_ORDERS orders are off those from 512, of the first 60 alerts.
"""

import statistics
import uuid
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import click
from rich.console import Console
from rich.table import Table

from benchmarks.arguments import model_argument, rounds_argument
from benchmarks.timing import spread, timed
from detector.core import explaining, reasons
from detector.core.decision import Decided
from detector.core.explaining import parts_values, shapley_values
from detector.core.reasons import Case, reasons_of
from detector.model.artifact import Model
from detector.runtime.config import DetectorConfig
from detector.runtime.processing import processor_of
from detector.runtime.replaying import batches_of_file, replay

_CASES = 300
_HELD = 60
_MANY_ORDERS = 512
_NO_PARTS = ("the action itself", "the gap")
_SEED = uuid.UUID(int=7)


def cases_of(model: Model, events: Path) -> list[Case]:
    """Return what the alerts of a log are decided on."""
    cases: list[Case] = []

    def keeping(decided: Decided) -> Decided:
        cases.extend(
            Case(window, one.action_number)
            for one, window in zip(decided.alerts, decided.windows, strict=True)
        )
        return decided

    config = DetectorConfig(partitions=1, max_future_ms=0, review_threshold=model.threshold / 20)
    processor = processor_of(model, config)
    processor = replace(processor, pipeline=replace(processor.pipeline, explain=keeping))
    for _ in replay(batches_of_file(events, config), processor):
        pass
    return cases[:_CASES]


def costs(model: Model, cases: list[Case], rounds: int) -> Table:
    """Measure what parts cost, in turns."""

    def told() -> None:
        for one in cases:
            reasons_of([one], model.encoding, model.score)

    def explained(*, parts: bool) -> None:
        for one in cases[:50]:
            values = shapley_values(one.window, model.encoding, model.score, _SEED).values
            if parts:
                parts_values(one.window, model.encoding, model.score, values, _SEED)

    ratios: dict[str, list[float]] = {"reasons": [], "explanation": []}
    for _ in range(rounds):
        with patch.object(reasons, "PARTED_ACTIONS", 0):
            plain_s = timed(told)
        ratios["reasons"].append(timed(told) / plain_s)
        plain_s = timed(partial(explained, parts=False))
        ratios["explanation"].append(timed(partial(explained, parts=True)) / plain_s)
    table = Table(title=f"{len(cases)} alerts, {rounds} rounds: median (lowest to highest)")
    table.add_column("of")
    table.add_column("with parts, to without", justify="right")
    for name, of in ratios.items():
        table.add_row(name, spread(of))
    return table


def agreement(model: Model, cases: list[Case]) -> Table:
    """Hold named parts, and values from PART_ORDERS orders, against those from many."""
    first, among, errors, largest, named = [], [], [], [], 0
    for case in cases:
        found = shapley_values(case.window, model.encoding, model.score, _SEED)
        few = parts_values(case.window, model.encoding, model.score, found.values, _SEED)
        with patch.object(explaining, "PART_ORDERS", _MANY_ORDERS):
            many = parts_values(case.window, model.encoding, model.score, found.values, _SEED)
        told = named_parts(model, case)
        for at, parts in many.items():
            right = {one.part: one.value for one in parts}
            off = [abs(one.value - right[one.part]) for one in few[at]]
            errors += off
            largest.append(max(off))
            sign = 1 if found.values[at] > 0 else -1
            ranked = sorted(right.keys() - set(_NO_PARTS), key=lambda one: -sign * right[one])
            if told.get(at):
                named += 1
                first.append(told[at][0] == ranked[0])
                among.append(told[at][0] in ranked[:3])
    table = Table(title=f"{len(cases)} alerts, {len(largest)} actions, of which {named} with named parts")
    for column in (
        "first named is first",
        "is among three",
        "mean error",
        "largest of an action, mean",
        "most",
    ):
        table.add_column(column, justify="right")
    table.add_row(
        f"{statistics.mean(first):.1%}",
        f"{statistics.mean(among):.1%}",
        f"{statistics.mean(errors):.4f}",
        f"{statistics.mean(largest):.4f}",
        f"{max(largest):.4f}",
    )
    return table


def named_parts(model: Model, case: Case) -> dict[int, list[str]]:
    """Return the parts that the alert names, by action."""
    kept: dict[int, list[str]] = {}

    def keeping(*given: object) -> dict[int, list[str]]:
        kept.update(original(*given))  # type: ignore[arg-type]
        return kept

    original = reasons._named  # noqa: SLF001  the words alone do not say which action is meant
    with patch.object(reasons, "_named", keeping):
        reasons_of([case], model.encoding, model.score)
    return kept


@click.command(help=__doc__)
@model_argument()
@click.argument(
    "events", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="JSON lines (.gz too)."
)
@rounds_argument()
def main(model: Model, events: Path, rounds: int) -> None:
    """Measure and print."""
    cases = cases_of(model, events)
    if not cases:
        raise click.ClickException(
            f"{events} has no alert of the model: expected events of lives, attacks among them"
        )
    console = Console(width=160)
    console.print(costs(model, cases, rounds))
    console.print(agreement(model, cases[:_HELD]))


if __name__ == "__main__":
    main()
