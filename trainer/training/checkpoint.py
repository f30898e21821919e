"""What a training keeps on disk, so that it can be gone on from after it was ended."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray


class CheckpointError(ValueError):
    """There is nothing to go on from, or it is of another training."""


class Progress(NamedTuple):
    """How far a fit has come.

    Attributes:
        step: steps done.
        best_step: steps done when the validation loss was best.
        best_loss: of the validation.
        best: the network's weights then.
        current: all that a step changes, as it is now.
    """

    step: int
    best_step: int
    best_loss: float
    best: list[NDArray[Any]]
    current: list[NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One file of arrays, replaced whole.

    Attributes:
        path: of the file.
        run: what the training is: its configuration and the hash of its data.
    """

    path: Path
    run: str

    def load(self) -> Progress | None:
        """Return what was kept; None if nothing was.

        Raises:
            CheckpointError: it is of another training, or cannot be read.
        """
        if not self.path.exists():
            return None
        try:
            with np.load(self.path, allow_pickle=False) as kept:
                if str(kept["run"]) != self.run:
                    raise CheckpointError(
                        f"{self.path} is of another training: expected the same command on the same data; train "
                        "without --resume"
                    )
                lists = [
                    [kept[f"{name}{at}"] for at in range(int(kept[name]))] for name in ("best", "current")
                ]
                return Progress(int(kept["step"]), int(kept["best_step"]), float(kept["best_loss"]), *lists)
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(
                f"{self.path} is no checkpoint, or a damaged one: expected what a training kept; train without --resume"
            ) from error

    def save(self, progress: Progress) -> None:
        """Replace what was kept."""
        arrays: dict[str, Any] = {"run": self.run, "step": progress.step, "best_step": progress.best_step}
        for name, values in (("best", progress.best), ("current", progress.current)):
            arrays |= {f"{name}{at}": value for at, value in enumerate(values)} | {name: len(values)}
        self.path.parent.mkdir(exist_ok=True)
        partial = self.path.with_name(f"{self.path.name}.partial")
        with partial.open("wb") as file:
            np.savez(file, best_loss=progress.best_loss, **arrays)
        partial.replace(self.path)
