"""A long run against the decoder: `python -m tests.fuzzing --seconds 300`, or `make fuzz`."""

import time
from collections import Counter

import click
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from tests.fuzzing.records import RECORDS, FuzzedRecord, outcome

_EXAMPLES = 500


def fuzz(seconds: float, seed: int) -> Counter[str]:
    """Try records for as long; return how many had which outcome.

    Raises:
        BaseException: what the smallest record that was found to fail raises, after printing it.
    """
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
        @given(RECORDS)
        def attempt(record: FuzzedRecord) -> None:
            seen[outcome(record)] += 1

        attempt()
        seed += 1
    return seen


@click.command()
@click.option("--seconds", type=float, default=300.0, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the first 500 records.")
def main(seconds: float, seed: int) -> None:
    """Try hostile records on the decoder; ends with a traceback and the smallest record if one fails."""
    seen = fuzz(seconds, seed)
    click.echo(f"{seen.total():,} records, none failed")
    for name, count in seen.most_common():
        click.echo(f"{count:>10,} {name}")


if __name__ == "__main__":
    main()
