"""The command line of the trainer."""

from dataclasses import fields
from pathlib import Path
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from trainer.backend import BackendMissingError
from trainer.config import TrainingConfig
from trainer.training import Epoch, Trained, TrainingError, train_and_evaluate

_DEFAULTS = {field.name: field.default for field in fields(TrainingConfig)}


@click.group()
def main() -> None:
    """Train the model that the detector scores with."""


@main.command()
@click.option(
    "--preset", type=click.Choice(["seed"]), default="seed", show_default=True, help="Simulated traffic."
)
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Model file to write (.onnx); replaced only once the new one is complete.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=_DEFAULTS["epochs"], show_default=True)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=_DEFAULTS["batch_size"],
    show_default=True,
    help="Sessions a step.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0, max=2**32 - 1),
    default=_DEFAULTS["seed"],
    show_default=True,
    help="Of the simulated sessions, the split and the weights.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=_DEFAULTS["threshold"],
    show_default=True,
    help="Score that blocks.",
)
@click.option("--name", default=_DEFAULTS["name"], show_default=True, help="Name of the model in its alerts.")
@click.option("--version", default=_DEFAULTS["version"], show_default=True, help="Version in its alerts.")
def train(
    *,
    preset: str,
    out: Path,
    epochs: int,
    batch_size: int,
    seed: int,
    threshold: float,
    name: str,
    version: str,
) -> None:
    """Train a model, evaluate it on sessions held out, and write it as one ONNX file.

    On one machine the same command writes the same file, byte for byte.
    """
    config = TrainingConfig(
        preset=preset,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        threshold=threshold,
        name=name,
        version=version,
    )
    partial = out.with_name(f"{out.name}.partial")
    console = Console()
    try:
        partial.write_bytes(b"")  # that it cannot be written is better known before the training
        try:
            with _Progress(console, config.epochs) as progress:
                trained = train_and_evaluate(config, progress)
            partial.write_bytes(trained.file)
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
    except (BackendMissingError, TrainingError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(
            f"{out} cannot be written ({error.strerror}): expected a file in a folder that is there; choose another --out"
        ) from error
    _report(console, trained)
    click.echo(f"{out}: {len(trained.file):,} bytes, {trained.parameters:,} parameters")


class _Progress:
    """A line an epoch, and under it, in a terminal, a bar over all batches."""

    def __init__(self, console: Console, epochs: int) -> None:
        self._epochs = epochs
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_batch(self, done: int, of: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done, total=of)

    def on_epoch(self, epoch: Epoch) -> None:
        """Print the epoch's figures."""
        self._bar.console.print(
            f"epoch {epoch.number:>2}/{self._epochs}  loss {epoch.loss:.6f}  accuracy {epoch.accuracy:.4f}  "
            f"validation loss {epoch.validation_loss:.6f}  accuracy {epoch.validation_accuracy:.4f}",
            highlight=False,
            soft_wrap=True,
        )


def _report(console: Console, trained: Trained) -> None:
    """Print the figures: a table in a terminal, plain lines elsewhere."""
    rows = _figures(trained)
    if not console.is_terminal:
        for name, figure in rows:
            click.echo(f"{name}: {figure}")
        return
    table = Table("on the sessions held out", "")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _figures(trained: Trained) -> list[tuple[str, str]]:
    whole, serving = trained.classification, trained.serving
    return [
        ("accuracy, whole sessions", f"{whole.accuracy:.4f}"),
        ("precision", f"{whole.precision:.4f}"),
        ("recall", f"{whole.recall:.4f}"),
        ("ROC-AUC", f"{whole.roc_auc:.6f}"),
        ("PR-AUC", f"{whole.pr_auc:.6f}"),
        ("attacks caught, scored on every action", f"{serving.caught} of {serving.attacks}"),
        (
            f"false alarms at {trained.metadata.threshold:g}, scored on every action",
            f"{serving.false_alarms} of {serving.normal_sessions}",
        ),
        ("highest score in a normal session", f"{serving.highest_normal_score:.1e}"),
        ("actions until the block, mean", f"{serving.mean_actions_until_block:.2f}"),
        ("Keras against onnxruntime, largest difference", f"{trained.parity_error:.1e}"),
    ]
