"""A model that reads signals: trained, exported, loaded, and better for it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detector.core.signals import Kind, Signal
from detector.model.artifact import Model, load_model
from detector.model.metadata import SIGNALS_FORMAT
from trainer.data.sessions import Session, Sessions, Splits
from trainer.data.windows import every_window, pack
from trainer.training.calibration import TrainingError
from trainer.training.config import TrainingConfig
from trainer.training.defaults import Schedule
from trainer.training.network import Shape
from trainer.training.pipeline import Trained, train

DAY_MS = 86_400_000
DEVICE = Signal(name="device", kind=Kind.NOVELTY, of="attributes.device", bounds=(7 * DAY_MS,))
AMOUNT = Signal(name="amount", kind=Kind.MAGNITUDE, of="amount", bounds=(10, 100, 1_000))
CONFIG = TrainingConfig(
    shape=Shape(units=8, embedding_units=8),
    schedule=Schedule(steps=200, batch_size=32),
    signals=(DEVICE, AMOUNT),
    window=4,
)
ACTIONS = ("LOGIN", "VIEW_BALANCE", "TRANSFER_SMALL")


def _lives(accounts: int, begin: int) -> Sessions:
    """Return sessions that are all alike but for their device: an attack is one from a new one, in the fifth of six."""
    rng = np.random.RandomState(begin)
    made = []
    for number in range(begin, begin + accounts):
        attacked = number % 2
        for day in range(6):
            is_attack = attacked and day == 4
            device = f"other of {number}" if is_attack else f"own of {number}"
            start_ms = DAY_MS * (begin + day) + int(rng.randint(DAY_MS // 2))
            made.append(
                Session(
                    session_id=f"{number}/{day}",
                    account_id=str(number),
                    actions=ACTIONS,
                    label=int(is_attack),
                    timestamps_ms=tuple(start_ms + 5_000 * place for place in range(len(ACTIONS))),
                    fields={
                        "attributes.device": (device,) * len(ACTIONS),
                        "amount": (None, None, float(rng.randint(2_000))),
                    },
                )
            )
    return Sessions.of(made)


PARTS = Splits(_lives(300, 0), _lives(100, 1_000), _lives(100, 2_000))


@pytest.fixture(scope="module")
def trained() -> Trained:
    """A model with signals."""
    return train(CONFIG, PARTS)


@pytest.fixture(scope="module")
def model(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The same, as the detector loads it."""
    path: Path = tmp_path_factory.mktemp("model") / "model.onnx"
    path.write_bytes(trained.file)
    return load_model(path)


def test_the_file_declares_what_the_model_reads(model: Model) -> None:
    """Signals are in the metadata, in the order of the graph's input, and canaries have codes of theirs."""
    assert model.metadata.format == SIGNALS_FORMAT
    assert model.metadata.signals == CONFIG.signals
    assert model.encoding.signals.codes == (6, 7)
    codes = [code for one in model.metadata.canaries for step in one.signals or [] for code in step]
    assert min(codes) >= 1
    assert len(set(codes)) > 3


def test_it_sees_what_actions_and_gaps_do_not_tell(trained: Trained) -> None:
    """Attacks that differ by their device alone are caught; without signals there is nothing to tell them by."""
    assert trained.figures.numbers()["recall"] == 1
    with pytest.raises(TrainingError, match="expected a model that tells them apart"):
        train(replace(CONFIG, signals=(), members=1), PARTS)


def test_its_bits_do_not_depend_on_the_batch(model: Model) -> None:
    """A window of real signals scores alone as among all."""
    (windows,) = every_window(pack(PARTS.test, model.encoding, CONFIG.idle_timeout_ms), model.encoding.window)
    alone = [model.score(windows[at : at + 1])[0].tobytes() for at in range(len(windows))]
    assert [score.tobytes() for score in model.score(windows)] == alone


def test_the_same_training_gives_the_same_bytes(trained: Trained) -> None:
    """Signals and all."""
    assert train(CONFIG, PARTS).file == trained.file
