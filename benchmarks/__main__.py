"""Run the benchmarks: `python -m benchmarks [--quick] [--check] [NAME ...]`."""

import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import click

from benchmarks import core, handover, latency, restore, rules, scaling, scoring, service
from benchmarks.checking import losses
from benchmarks.results import Result, markdown, read, write

DOCS = Path(__file__).parent.parent / "docs"
PEERS_PYTHON = Path(__file__).parent.parent / ".venv-peers" / "bin" / "python"


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    repetitions: int
    events: int
    core_events: int
    live: tuple[int, ...]
    latency_s: float
    score_s: float
    restored: int
    handovers: int
    peers_python: str | None


QUICK = Scale(1, 40_000, 5_000, (1_000, 10_000), 4, 0.05, 20_000, 2, None)
FULL = Scale(3, 150_000, 30_000, (1_000, 10_000, 100_000, 1_000_000), 10, 0.2, 1_000_000, 10, None)


def benchmarks(scale: Scale) -> dict[str, Callable[[], list[Result]]]:
    """Return every benchmark by name, in the order of the page."""
    return {
        "service": lambda: service.run(scale.repetitions, scale.events, scale.peers_python),
        "latency": lambda: latency.run(max(1, scale.repetitions - 1), scale.latency_s),
        "scaling": lambda: scaling.run(max(1, scale.repetitions - 1), scale.events),
        "core": lambda: core.run(scale.repetitions, scale.core_events, scale.live),
        "rules": lambda: rules.run(scale.repetitions + 2, scale.events // 3),
        "restore": lambda: restore.run(max(1, scale.repetitions - 1), scale.restored),
        "handover": lambda: handover.run(scale.handovers, 5_000, scale.restored // 10),
        "scoring": lambda: scoring.run(scale.repetitions + 2, scale.score_s),
    }


ORDER = (
    "service", "stages", "latency", "scaling", "live-sessions", "session-lengths", "rules", "watching", "restore", "handover",
    "start",
    "core-default", "core-seed", "scoring-default", "scoring-seed",
)  # fmt: skip


def page(results: list[Result]) -> str:
    """Render docs/performance.md."""
    head = (
        "# Performance\n\n"
        "Written by `make bench`; figures as JSON in [performance/](performance/). All of a section ran in turns in one "
        "run, with the other contenders under the same load: the ratios carry over to other machines, the rest holds for "
        f"this one: {os.cpu_count()} shared cores, {platform.system()} {platform.machine()}, Python "
        f"{platform.python_version()}. Each figure is a median with the range of its repetitions. `make bench-check` "
        "measures again and fails where a ratio has fallen beyond noise; what was done for speed, and what it gave, is in "
        "[ADR 0013](adr/0013-performance.md) and [ADR 0020](adr/0020-faster-loop.md), what has changed since and why in "
        "[ADR 0045](adr/0045-what-an-event-costs.md).\n\n"
    )
    ordered = sorted(results, key=lambda one: ORDER.index(one.name))
    return head + "\n".join(markdown(one, f"performance/{one.name}.png") for one in ordered)


def _checked(results: list[Result], names: tuple[str, ...]) -> int:
    """Compare ratios with the committed ones; return the exit code."""
    committed = [read(path) for path in sorted((DOCS / "performance").glob("*.json"))]
    if not committed:
        raise click.ClickException("docs/performance holds no figures: run `make bench` and commit them")
    measured = {result.name for result in results}
    compared = [one for one in committed if not names or one.name in measured]
    try:
        found = losses(compared, results)
    except LookupError as error:
        raise click.ClickException(str(error.args[0])) from error
    for loss in found:
        click.echo(f"slower: {loss}", err=True)
    click.echo(f"{sum(len(one.ratios) for one in compared)} ratios compared, {len(found)} fell beyond noise")
    return 1 if found else 0


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(benchmarks(QUICK))))
@click.option("--quick", is_flag=True, help="Small and rough, to try a change; writes to --out only.")
@click.option("--check", is_flag=True, help="Compare ratios with the committed ones; writes nothing.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=DOCS,
    help="Folder for page and figures.",
)
def main(names: tuple[str, ...], *, quick: bool, check: bool, out: Path) -> None:
    """Measure everything, or the benchmarks named, and write tables, JSON and plots."""
    peers = str(PEERS_PYTHON) if PEERS_PYTHON.exists() else None
    if peers is None:
        click.echo("Quix Streams is left out: no .venv-peers; `make bench` makes it", err=True)
    scale = replace(QUICK if quick else FULL, peers_python=peers)
    if quick and out == DOCS:
        out = Path("bench-quick")
    if quick and check:
        raise click.UsageError(
            "--quick and --check exclude each other: one repetition shows no noise to judge by"
        )
    results: list[Result] = []
    for name, run in benchmarks(scale).items():
        if names and name not in names:
            continue
        began_s = time.monotonic()
        made = run()
        click.echo(f"{name}: {time.monotonic() - began_s:.0f} s", err=True)
        for result in made:
            if not check:
                write(result, out / "performance")
            click.echo(markdown(result, f"{result.name}.png"))
        results += made
    if check:
        sys.exit(_checked(results, names))
    stored = [read(path) for path in sorted((out / "performance").glob("*.json"))]
    (out / "performance.md").write_text(page(stored), encoding="utf-8")


if __name__ == "__main__":
    main()
