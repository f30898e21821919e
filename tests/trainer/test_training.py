"""Training from config to file, and its command. TensorFlow runs here, for an epoch or two at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from trainer.training.config import TrainingConfig
from trainer.training.seed_training import Epoch, train_and_evaluate

from detector.model.artifact import load_model

ROOT = Path(__file__).parents[2]


class _Recorder:
    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []
        self.epochs: list[Epoch] = []

    def on_batch(self, done: int, of: int) -> None:
        self.batches.append((done, of))

    def on_epoch(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)


def _train(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trainer", "train", "--out", str(out), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_is_trained_loads_and_says_what_it_is(tmp_path: Path) -> None:
    """The file loads; metadata and figures are the run's; the observer saw every batch and epoch."""
    config = TrainingConfig(
        sessions=550, epochs=2, batch_size=50, seed=9, threshold=0.5, name="n", version="3"
    )
    recorder = _Recorder()
    trained = train_and_evaluate(config, recorder)
    path = tmp_path / "model.onnx"
    path.write_bytes(trained.file)
    model = load_model(path)
    assert model.metadata == trained.metadata
    assert (model.reference.name, model.reference.version, model.threshold) == ("n", "3", 0.5)
    assert model.metadata.training == config.parameters()
    assert model.metadata.libraries.keys() >= {"tensorflow", "keras", "onnx", "onnxruntime", "python"}
    assert trained.parity_error <= 1e-6
    assert trained.serving.attacks + trained.serving.normal_sessions == 110
    assert recorder.batches == [(number, 18) for number in range(1, 19)]
    assert [epoch.number for epoch in recorder.epochs] == [1, 2]
    assert recorder.epochs[1].loss < recorder.epochs[0].loss


def test_the_same_command_writes_the_same_bytes(tmp_path: Path) -> None:
    """Two processes, with other hash seeds, write one file; another seed another."""
    files = []
    for name, seed in (("first", "42"), ("second", "42"), ("other", "43")):
        out = tmp_path / f"{name}.onnx"
        done = _train(out, "--epochs", "1", "--seed", seed)
        assert done.returncode == 0, done.stderr
        files.append(out.read_bytes())
        assert sorted(tmp_path.glob("*.partial")) == []
        if name == "first":
            # Not a terminal: a line an epoch and a line a figure, and nothing of TensorFlow's.
            lines = done.stdout.splitlines()
            assert done.stderr == ""
            assert lines[0].startswith("epoch  1/1  loss ")
            assert any(line.startswith("PR-AUC: ") for line in lines)
            assert any(line.startswith("actions until the block, mean: ") for line in lines)
            assert lines[-1].endswith("25,185 parameters")
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_a_path_that_cannot_be_written_is_told_before_the_training(tmp_path: Path) -> None:
    """A folder that is not there ends the command with one message and no epoch."""
    done = _train(tmp_path / "nowhere" / "model.onnx")
    assert done.returncode == 1
    assert "epoch" not in done.stdout
    assert "cannot be written" in done.stderr
    assert "expected a file in a folder that is there" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--epochs", "0"],
        ["--threshold", "0"],
        ["--threshold", "1.1"],
        ["--seed", "-1"],
        ["--preset", "nothing"],
    ],
)
def test_options_out_of_range(tmp_path: Path, options: list[str]) -> None:
    """An option out of its range is refused by its name, and nothing is written."""
    done = _train(tmp_path / "model.onnx", *options)
    assert done.returncode == 2
    assert options[0] in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_tensorflow_it_says_what_to_install(tmp_path: Path) -> None:
    """Where TensorFlow is missing the command says so, and a model that was there stays."""
    out = tmp_path / "model.onnx"
    out.write_bytes(b"the model of before")
    hidden = f"import sys; sys.modules['tensorflow'] = None; from trainer.cli import main; main(['train', '--out', {str(out)!r}])"
    done = subprocess.run(
        [sys.executable, "-c", hidden],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 1
    assert "install requirements/train.txt" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert out.read_bytes() == b"the model of before"


def test_help_needs_no_tensorflow() -> None:
    """`--help` answers without importing TensorFlow, Keras or onnx."""
    program = """
import sys
from click.testing import CliRunner
from trainer.cli import main
result = CliRunner().invoke(main, ["train", "--help"])
assert result.exit_code == 0 and "--batch-size" in result.output, result.output
sys.exit(bool({"tensorflow", "keras", "onnx"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
