"""Turns a Parquet export of user actions into events, and its labels into a label file. Copy and change it."""  # noqa: INP001

import gzip
from pathlib import Path

import click
import polars as pl

TIME, SESSION, ACCOUNT, ACTION, LABEL = "created", "visit", "customer", "event_type", "fraud"
"""The columns of your export."""


@click.command()
@click.argument("export", type=click.Path(exists=True, path_type=Path))
@click.option("--events", type=click.Path(path_type=Path), required=True, help="Events to write, .jsonl.gz.")
@click.option("--labels", type=click.Path(path_type=Path), required=True, help="Labels to write, .jsonl.gz.")
def main(export: Path, events: Path, labels: Path) -> None:
    """Read EXPORT, and write an event for each row, in the order of time, and a label for each session."""
    rows = pl.read_parquet(export).sort(TIME, maintain_order=True).with_row_index("number", offset=1)
    told = rows.select(
        event_id=pl.format("{}-{}", pl.lit(export.stem), "number"),
        session_id=pl.col(SESSION).cast(pl.String),
        account_id=pl.col(ACCOUNT).cast(pl.String),
        action=pl.col(ACTION).cast(pl.String),
        occurred_at_ms=pl.col(TIME).dt.epoch("ms"),
    )
    truth = rows.group_by(pl.col(SESSION).cast(pl.String).alias("session_id"), maintain_order=True).agg(
        label=pl.col(LABEL).cast(pl.Int8).max()
    )
    for path, frame in ((events, told), (labels, truth)):
        path.write_bytes(gzip.compress(frame.write_ndjson().encode()))
    click.echo(
        f"wrote {len(told):,} events of {len(truth):,} sessions, {truth['label'].sum():,} of them attacks"
    )


if __name__ == "__main__":
    main()
