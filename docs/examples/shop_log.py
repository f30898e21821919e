"""Writes the log of an imaginary shop as CSV: it stands in for the export that you have yourself."""  # noqa: INP001

import csv
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

_BROWSING = ("search", "view item", "view item", "add to cart")


_CUSTOMER = {"change address": 0.05, "change email": 0.03, "redeem points": 0.1, "check out": 0.5}
_THIEF = {"change email": 0.85, "change address": 0.7, "redeem points": 0.8, "check out": 0.6}
"""What each may do after looking around, in this order, and how likely."""
_ATTACKS = 0.02


def _session(draw: random.Random, *, fraud: bool) -> tuple[list[str], float]:
    """Return a session's actions, and the median seconds between two of them."""
    browsing = draw.choices(_BROWSING, k=draw.randint(0, 4) if fraud else draw.randint(2, 8))
    then = [action for action, share in (_THIEF if fraud else _CUSTOMER).items() if draw.random() < share]
    return ["sign in", *browsing, *then, *([] if fraud else ["sign out"])], 12.0 if fraud else 25.0


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--sessions", default=8_000, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), default="2026-03-01", show_default=True)
def main(file: Path, sessions: int, seed: int, day: datetime) -> None:
    """Write SESSIONS sessions of a day to FILE, 2 % of them takeovers."""
    draw = random.Random(seed)  # noqa: S311  a simulation
    rows = []
    for number in range(sessions):
        user = f"user-{draw.randrange(5_000)}"
        fraud = draw.random() < _ATTACKS
        actions, median_s = _session(draw, fraud=fraud)
        time = day.replace(tzinfo=UTC) + timedelta(seconds=draw.uniform(0, 86_000))
        for action in actions:
            row = (f"{day:%m%d}-{number}", user, action, int(fraud))
            rows.append((time.isoformat(timespec="milliseconds"), *row))
            time += timedelta(seconds=median_s * draw.lognormvariate(0, 0.6))
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(("time", "session", "user", "action", "fraud"))
        writer.writerows(sorted(rows))
    click.echo(f"wrote {len(rows):,} actions of {sessions:,} sessions to {file}")


if __name__ == "__main__":
    main()
