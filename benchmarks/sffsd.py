"""S-FFSD: 77,881 card transactions, labelled each by itself, with published figures; trained and evaluated by commands.

    PYTHONPATH=. python benchmarks/sffsd.py [FILE] [--seeds 3]

The file lies in `shared/data` beside the project, if it is there. A paying account is the session, the transaction's
type the action, the counter the time; unlabelled transactions are history and no examples. A random split of the labelled
transactions with 40 % to test, as published figures have it, and one by time, as one would serve.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).parent.parent
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
FIGURES = ("roc_auc", "macro_f1", "best_macro_f1", "pr_auc")


def commands(data: Path, folder: Path, split: list[str]) -> dict[str, Any]:
    """Train a model and evaluate it, a command each; return the figures."""
    description, model = folder / "s-ffsd.toml", folder / "model.onnx"
    description.write_text(DESCRIPTION)
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
        with tempfile.TemporaryDirectory() as folder:
            yield name, commands(data, Path(folder), split)


@click.command()
@click.argument(
    "data", type=click.Path(path_type=Path), default=ROOT.parent / "shared" / "data" / "s-ffsd.csv.gz"
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
