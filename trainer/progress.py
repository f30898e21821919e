"""How the terminal shows a training: a bar over what is being done, and lines that stay."""

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from trainer.training.fitting import Observer


class Terminal(Observer):
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
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_stage(self, what: str) -> None:
        """Say what is being done."""
        self._bar.update(self._task, description=what, completed=0, total=None)
        self._print(f"{what} …")

    def on_part(self, done: int, of: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done, total=of)

    def on_validation(self, step: int, loss: float, valid_loss: float) -> None:
        """Print the losses."""
        self._print(f"step {step:>6,}  loss {loss:.6f}  validation loss {valid_loss:.6f}")

    def on_note(self, line: str) -> None:
        """Print it."""
        self._print(line)

    def _print(self, line: str) -> None:
        self._bar.console.print(line, highlight=False, soft_wrap=True)
