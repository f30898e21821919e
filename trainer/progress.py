"""How the terminal shows a training: a bar over its batches, a line an epoch, and the figures at the end."""

from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from trainer.training.seed_training import Epoch, Trained


class Terminal:
    """Shows the training of a sequence model."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
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

    def on_stage(self, what: str) -> None:
        """Say what is being done."""
        self._bar.update(self._task, description=what)
        self._print(f"{what} …")

    def on_batch(self, done: int, of: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, description="training", completed=done, total=of)

    def on_epoch(self, number: int, loss: float, valid_loss: float) -> None:
        """Print the epoch's figures."""
        self._print(f"epoch {number:>2}  loss {loss:.6f}  validation loss {valid_loss:.6f}")

    def _print(self, line: str) -> None:
        self._bar.console.print(line, highlight=False, soft_wrap=True)


class EpochLines:
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


def plain_figures(console: Console, trained: Trained) -> None:
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
