"""Turns the shop's CSV export into events, and its labels into a label file; yours: `python -m trainer events`."""  # noqa: INP001

import csv
import gzip
import json
from datetime import datetime
from pathlib import Path

import click

TIME, SESSION, ACCOUNT, ACTION, LABEL = "time", "session", "user", "action", "fraud"
"""The columns of the export."""
RENAMED = {"sign out": "LOGOUT"}
"""LOGOUT ends a session; every other name is your own."""


@click.command()
@click.argument("export", type=click.Path(exists=True, path_type=Path))
@click.option("--events", type=click.Path(path_type=Path), required=True, help="Events to write, .jsonl.gz.")
@click.option("--labels", type=click.Path(path_type=Path), required=True, help="Labels to write, .jsonl.gz.")
def main(export: Path, events: Path, labels: Path) -> None:
    """Read EXPORT, which is sorted by time, and write an event for each line and a label for each session."""
    truth: dict[str, int] = {}
    count = 0
    with export.open(newline="", encoding="utf-8") as lines, gzip.open(events, "wb") as out:
        for count, row in enumerate(csv.DictReader(lines), start=1):
            event = {
                "event_id": f"{export.stem}-{count}",
                "session_id": row[SESSION],
                "account_id": row[ACCOUNT],
                "action": RENAMED.get(row[ACTION], row[ACTION].upper().replace(" ", "_")),
                "occurred_at_ms": round(datetime.fromisoformat(row[TIME]).timestamp() * 1_000),
            }
            out.write(json.dumps(event).encode() + b"\n")
            truth[row[SESSION]] = max(truth.get(row[SESSION], 0), int(row[LABEL]))
    with gzip.open(labels, "wb") as out:
        for session, label in truth.items():
            out.write(json.dumps({"session_id": session, "label": label}).encode() + b"\n")
    click.echo(f"wrote {count:,} events of {len(truth):,} sessions, {sum(truth.values()):,} of them attacks")


if __name__ == "__main__":
    main()
