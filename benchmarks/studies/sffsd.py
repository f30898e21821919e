"""S-FFSD: 77,881 card transactions, labelled each by itself, with published figures; trained and evaluated by commands.

The file lies in `shared/data` beside the project, if it is there. A paying account is the session, the transaction's
type the action, the counter the time; unlabelled transactions are history and no examples. A random split of the labelled
transactions with 40 % to test, as published figures have it, and one by time, as one would serve. Each twice: without
signals, and with amount, place and payee as such. An account is one session that never ends, so nothing of its habits is
learned (ADR 0032): novelty, deviation and habit have no use here.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import polars as pl

ROOT = Path(__file__).parents[2]
DESCRIPTION = """
labels_of = "event"
time_unit = "count"
unlabelled_values = ["2"]
unlabelled = "leave-out"

[columns]
session = "Source"
action = "Type"
time = "Time"
label = "Labels"
"""
OF_FIELDS = """
[fields]
amount = "Amount"
"attributes.place" = "Location"
"attributes.payee" = "Target"

[[signals]]
name = "amount"
kind = "magnitude"
of = "amount"
bounds = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000]

[[signals]]
name = "another place"
kind = "change"
of = "attributes.place"

[[signals]]
name = "another payee"
kind = "change"
of = "attributes.payee"
"""
LEVELS = {"place": "Location", "payee": "Target"}
COMMONEST = 100
"""Places and payees that are told apart."""
FIGURES = ("roc_auc", "macro_f1", "best_macro_f1", "pr_auc")


def signals_of(data: Path) -> str:
    """Return the declaration of signals, with the commonest places and payees."""
    table, declared = pl.read_csv(data), OF_FIELDS
    for name, column in LEVELS.items():
        values = table[column].value_counts(sort=True)[column].head(COMMONEST).sort().to_list()
        declared += f'[[signals]]\nname = "{name}"\nkind = "level"\nof = "attributes.{name}"\nvalues = {json.dumps(values)}\n'
    return declared


def commands(data: Path, folder: Path, split: list[str], signals: str) -> dict[str, Any]:
    """Train a model and evaluate it, a command each; return the figures."""
    description, model = folder / "s-ffsd.toml", folder / "model.onnx"
    description.write_text(DESCRIPTION + signals)
    source = ["--data", str(data), "--description", str(description), "--test-share", "0.4", *split]
    for arguments in (
        ["train", "--out", str(model), "--no-report"],
        ["evaluate", "--model", str(model), "--json"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "trainer", *arguments, *source],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise click.ClickException(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rows(data: Path, seeds: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the figures of each split."""
    splits = {
        f"random, seed {seed}": ["--split-by", "event", "--split-seed", str(seed)]
        for seed in range(1, seeds + 1)
    }
    for name, split in (splits | {"by time": ["--split-by", "time"]}).items():
        for with_signals, signals in (("", ""), (", with signals", signals_of(data))):
            with tempfile.TemporaryDirectory() as folder:
                yield name + with_signals, commands(data, Path(folder), split, signals)


@click.command(help=__doc__)
@click.argument(
    "data",
    type=click.Path(path_type=Path),
    default=ROOT.parent / "shared" / "data" / "s-ffsd.csv.gz",
    help="The transactions, as published.",
)
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True)
def main(data: Path, seeds: int) -> None:
    """Print a Markdown table of AUC, macro F1 at the file's threshold and at the best, and AP."""
    if not data.exists():
        raise click.ClickException(f"{data} is not there: expected the transactions; name the file")
    click.echo("| split | AUC | F1 (macro) | best F1 (macro) | AP |\n|---|---|---|---|---|")
    for name, found in rows(data, seeds):
        shown = (found["estimates"][figure] for figure in FIGURES)
        click.echo(
            f"| {name} | {' | '.join('{value:.4f} ({low:.4f} to {high:.4f})'.format(**one) for one in shown)} |"
        )


if __name__ == "__main__":
    main()
