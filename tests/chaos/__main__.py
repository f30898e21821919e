"""The long run: `python -m tests.chaos [--runs N] [--faults N] [--seed S]`, or `make chaos`."""

import statistics
import sys
import time
from collections import Counter, defaultdict

import click
from rich.console import Console
from rich.table import Table

from tests.chaos.cluster import ChaosError
from tests.chaos.harness import Report, run


@click.command(context_settings={"show_default": True})
@click.option("--runs", type=click.IntRange(min=1), default=6, help="Runs, each on a cluster of its own.")
@click.option("--faults", type=click.IntRange(min=1), default=50, help="Faults a run.")
@click.option("--seed", type=int, default=1, help="Seed of the first run; the next has the next.")
@click.option("--broken", help="Begin with workers of a broken build of tests.chaos.launcher.")
def main(*, runs: int, faults: int, seed: int, broken: str | None) -> None:
    """Draw faults, hurt a real cluster with them, and hold what is on its topics against the oracle."""
    console = Console(width=110, highlight=False)
    reports: list[Report] = []
    failed: list[int] = []
    began_s = time.monotonic()
    for one in range(seed, seed + runs):
        console.print(f"run with seed {one}: {faults} faults")
        try:
            report = run(one, faults, broken=broken, say=lambda text: console.print(f"  {text}"))
        except ChaosError as error:
            console.print(f"  did not recover: {error}")
            failed.append(one)
            continue
        reports.append(report)
        console.print(f"  {describe(report)}")
        if not report.sound:
            failed.append(one)
    console.print(table(reports), f"{(time.monotonic() - began_s) / 60:.0f} minutes")
    for one in failed:
        console.print(f"FAILED: repeat with python -m tests.chaos --runs 1 --faults {faults} --seed {one}")
    sys.exit(1 if failed else 0)


def describe(report: Report) -> str:
    """Put a report into a line."""
    return (
        f"{report.events:,} events, {report.alerts:,} alerts, {report.dead_letters:,} dead letters; "
        f"lost {report.lost}, doubled {report.doubled}, wrong {report.wrong}, disordered {report.disordered}, "
        f"dead letters off {report.dead_letters_off}, unaccounted {report.unaccounted}; "
        f"exit codes of ended workers {dict(report.endings)}"
    )


def table(reports: list[Report]) -> Table:
    """Lay out the faults of all runs, and the sum of what came of them."""
    faults: Counter[str] = Counter()
    seconds: dict[str, list[float]] = defaultdict(list)
    for report in reports:
        faults.update(report.faults)
        for kind, recovered_s in report.recovery_s.items():
            seconds[kind] += recovered_s
    rows = Table("fault", "times", "recovery p50", "longest", title=f"{faults.total()} faults")
    for kind, times in sorted(faults.items()):
        rows.add_row(
            kind, str(times), f"{statistics.median(seconds[kind]):.1f} s", f"{max(seconds[kind]):.1f} s"
        )
    lost, doubled = sum(one.lost for one in reports), sum(one.doubled for one in reports)
    rows.add_section()
    rows.add_row(f"{sum(one.events for one in reports):,} events", f"{sum(one.alerts for one in reports):,} alerts", f"lost {lost}", f"doubled {doubled}")  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
