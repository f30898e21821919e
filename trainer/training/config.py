"""What a training run is told, in one frozen object."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """One training run; the same one twice gives the same file, byte for byte, on one machine.

    The defaults are the notebook's.
    """

    preset: str = "seed"
    sessions: int = 11_000
    window: int = 10
    embedding_units: int = 32
    lstm_units: int = 64
    dropout: float = 0.2
    epochs: int = 15
    batch_size: int = 32
    test_fraction: float = 0.2
    seed: int = 42
    threshold: float = 0.8
    name: str = "seed-lstm"
    version: str = "1"

    def parameters(self) -> dict[str, int | float | str]:
        """Return what the model file records of the training."""
        elsewhere = {"preset", "window", "threshold", "name", "version"}
        return {key: value for key, value in asdict(self).items() if key not in elsewhere}
