"""How many bytes an account's profile takes, after some days of lives.

Customers of `simulate --days` live through the days; each event goes to its account's profile, by the signals that a
model reads unless told otherwise. The most that a profile can take is what the encoding holds against its bound.
"""

from collections.abc import Iterator

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from detector.contract.actions import ENDS_SESSION
from detector.contract.events import encode_event
from detector.core.plan import largest_bytes
from detector.core.profile import Profile, tag_of
from detector.core.signals import Signals
from producer.behaviour.interleave import interleave
from producer.behaviour.lives.stream import sessions
from trainer.data.declared import DEFAULT_SIGNALS

START_MS = 1_790_000_000_000 // 86_400_000 * 86_400_000
_PERCENTILES = (50, 90, 99, 100)


def profiles(days: int, customers: int, signals: Signals) -> Iterator[bytes]:
    """Yield the packed profile of each account that was seen in the days."""
    lived, last_ms = dict[str, Profile](), dict[str, int]()
    planned = sessions(days=days, customers=customers, seed=1, start_ms=START_MS)
    for event in interleave(planned, start_ms=START_MS):
        values = signals.read(encode_event(event))
        at_ms, before_ms = event.occurred_at_ms, last_ms.get(event.session_id)
        profile = lived.setdefault(event.account_id, Profile(signals))
        profile.observe(
            tag_of(event.session_id),
            event.account_id,
            event.action,
            at_ms,
            None if before_ms is None else at_ms - before_ms,
            values,
            ends=event.action in ENDS_SESSION,
        )
        profile.touched_ms = at_ms
        last_ms[event.session_id] = at_ms
    for profile in lived.values():
        yield profile.packed()


@click.command(help=__doc__)
@click.argument("days", type=click.IntRange(min=1), default=60, help="60 unless given.")
@click.argument("customers", type=click.IntRange(min=1), default=2_000, help="2,000 unless given.")
def main(days: int, customers: int) -> None:
    """Measure and print the table."""
    signals = Signals(DEFAULT_SIGNALS)
    sizes = [len(one) for one in profiles(days, customers, signals)]
    table = Table("bytes", *(f"p{one}" for one in _PERCENTILES), "most there can be", title=f"{len(sizes):,} accounts after {days} days, {len(signals)} signals")  # fmt: skip
    table.add_row("a profile", *(f"{one:.0f}" for one in np.percentile(sizes, _PERCENTILES)), str(largest_bytes(signals)))  # fmt: skip
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
