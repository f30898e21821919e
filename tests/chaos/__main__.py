"""The long run: `python -m tests.chaos [--runs N] [--faults N] [--seed S]`, or `make chaos`."""

import logging
import signal
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import click
from kafka.errors import KafkaError
from rich.console import Console
from rich.table import Table

from broker import BrokerError
from tests.chaos.cluster import ChaosError
from tests.chaos.faults import FAULTS
from tests.chaos.harness import draw, possible_faults, run
from tests.chaos.judging import Report
from tests.chaos.launcher import BROKEN


@click.command(context_settings={"show_default": True})
@click.option("--runs", type=click.IntRange(min=1), default=6, help="Runs, each on a cluster of its own.")
@click.option("--faults", type=click.IntRange(min=1), default=52, help="Faults a run.")
@click.option("--seed", type=int, default=1, help="Seed of the first run; the next has the next.")
@click.option("--brokers", type=click.Choice([1, 3]), default=1, help="Brokers of the cluster.")
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice(list(FAULTS)), help="These, not drawn ones."
)
@click.option("--broken", type=click.Choice(list(BROKEN)), help="Make the first workers a broken build.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder for the workers' logs and the data.")
def main(
    *,
    runs: int,
    faults: int,
    seed: int,
    brokers: int,
    kinds: tuple[str, ...],
    broken: str | None,
    keep: Path | None,
) -> None:
    """Draw faults, hurt a real cluster with them, and hold what is on its topics against the oracle."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # that brokers go away is the point
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # leave nothing running behind
    console = Console(width=110, highlight=False)
    reports: list[Report] = []
    failed: list[int] = []
    if missing := FAULTS.keys() - possible_faults():
        console.print(
            f"left out, since neither this machine nor this checkout can: {', '.join(sorted(missing))}"
        )
    began_s = time.monotonic()
    for one in range(seed, seed + runs):
        drawn = kinds or draw(one, faults)
        console.print(f"run with seed {one}: {len(drawn)} faults, brokers: {brokers}")
        folder = keep and keep / f"seed-{one}"
        if folder:
            folder.mkdir(parents=True)
        try:
            report = run(
                one,
                drawn,
                brokers=brokers,
                broken=broken,
                say=lambda text: console.print(f"  {text}"),
                keep=folder,
            )
        except (ChaosError, BrokerError, KafkaError) as error:
            console.print(f"  did not recover: {error}")
            failed.append(one)
            continue
        reports.append(report)
        console.print(f"  {describe(report)}")
        if not report.sound:
            failed.append(one)
    if reports:
        console.print(table(reports))
    console.print(f"{len(reports)} of {runs} runs judged in {(time.monotonic() - began_s) / 60:.0f} minutes")
    for one in failed:
        console.print(
            f"FAILED: repeat with python -m tests.chaos --runs 1 --faults {faults} --seed {one} --brokers {brokers}"
        )
    sys.exit(1 if failed else 0)


def describe(report: Report) -> str:
    """Put a report into a line, and another for each worker that failed."""
    line = (
        f"{report.events:,} events, {report.alerts:,} alerts, {report.dead_letters:,} dead letters; "
        f"lost {report.lost}, doubled {report.doubled}, wrong {report.wrong}, disordered {report.disordered}, "
        f"dead letters off {report.dead_letters_off}, states off {report.states_off}; {report.models} models, "
        f"{report.by_rules:,} alerts by rules, "
        f"{report.shadow_alerts:,} shadow alerts, off {report.shadows_off}; "
        f"unaccounted {report.unaccounted}; exit codes {dict(report.endings)}; {report.failed} failed on by a model, "
        f"{report.refused} refused by a topic, {report.rebuilds} partitions rebuilt, {report.refusals.total()} workers "
        f"refused to go on, {report.alerts_beside_wild_clocks} alerts beside {report.wild_clocks} times of wild clocks"
    )
    return "\n  ".join([line, *report.failures])


def table(reports: Sequence[Report]) -> Table:
    """Lay out the faults of all runs, and the sum of what came of them."""
    faults: Counter[str] = Counter()
    seconds: dict[str, list[float]] = defaultdict(list)
    for report in reports:
        faults.update(report.faults)
        for kind, recovered_s in report.recovery_s.items():
            seconds[kind] += recovered_s
    rows = Table("fault", "times", "recovery p50", "longest")
    for kind, times in sorted(faults.items()):
        rows.add_row(kind, str(times), *_figures(seconds[kind]))
    rows.add_section()
    rows.add_row("all", str(faults.total()), *_figures([one for times in seconds.values() for one in times]))
    rows.add_section()
    rows.add_row("events", f"{sum(one.events for one in reports):,}")
    rows.add_row("alerts", f"{sum(one.alerts for one in reports):,}")
    rows.add_row("alerts lost", str(sum(one.lost for one in reports)))
    rows.add_row("alerts doubled", str(sum(one.doubled for one in reports)))
    rows.add_row("alerts wrong", str(sum(one.wrong for one in reports)))
    return rows


def _figures(seconds: Sequence[float]) -> tuple[str, str]:
    return f"{statistics.median(seconds):.1f} s", f"{max(seconds):.1f} s"


if __name__ == "__main__":
    main()
