"""A long run against what reads the input: `python -m tests.fuzzing --seconds 300`, or `make fuzz`."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import click
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from tests.fuzzing import batches, records

_EXAMPLES = 500
TARGETS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], str]]] = {
    "decoder": (records.RECORDS, records.outcome),
    "batches": (batches.BATCHES, batches.outcome),
}


def fuzz(target: str, seconds: float, seed: int) -> Counter[str]:
    """Try what one of the targets reads for as long; return how many had which outcome.

    Raises:
        BaseException: what the smallest that was found to fail raises, after printing it.
    """
    strategy, outcome = TARGETS[target]
    seen: Counter[str] = Counter()
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:

        @seeded(seed)
        @settings(
            max_examples=_EXAMPLES,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def attempt(fuzzed: Any) -> None:
            seen[outcome(fuzzed)] += 1

        attempt()
        seed += 1
    return seen


@click.command()
@click.option("--seconds", type=float, default=300.0, show_default=True, help="For each target.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the first 500.")
@click.option("--target", "targets", type=click.Choice(list(TARGETS)), multiple=True, default=list(TARGETS))
def main(seconds: float, seed: int, targets: tuple[str, ...]) -> None:
    """Try hostile records and batches; ends with a traceback and the smallest that fails."""
    for target in targets:
        seen = fuzz(target, seconds, seed)
        click.echo(f"{target}: {seen.total():,}, none failed")
        for name, count in seen.most_common():
            click.echo(f"{count:>10,} {name}")


if __name__ == "__main__":
    main()
