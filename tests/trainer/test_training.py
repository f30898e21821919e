"""The command that trains: what it writes, what it says, and that it can be ended and gone on with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.commands import run

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120


def _train(out: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return run("trainer", "train", "--out", str(out), *options)


def _process(out: Path, *options: str) -> "subprocess.Popen[str]":
    """Train in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "trainer", "train", "--out", str(out), *options],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_the_same_command_writes_the_same_bytes(tmp_path: Path) -> None:
    """Two processes, with other hash seeds, write one file; another seed another."""
    first, second, other = (tmp_path / f"{name}.onnx" for name in ("first", "second", "other"))
    options = ("--steps", "40", "--no-report")
    process = _process(first, *options, "--seed", "42")
    printed, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    # Not a terminal: a line a validation and a line a figure, and nothing of TensorFlow's.
    lines = printed.splitlines()
    assert said == ""
    assert "training …" in lines
    assert any(line.startswith("step     40  loss ") for line in lines)
    assert any(line.startswith("PR-AUC: ") for line in lines)
    assert lines[-1].endswith("25,185 parameters")
    for out, seed in ((second, "42"), (other, "43")):
        done = _train(out, *options, "--seed", seed)
        assert done.returncode == 0, done.stderr
    assert sorted(tmp_path.glob("*.partial")) == []
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes() != other.read_bytes()


def test_a_path_that_cannot_be_written_is_told_before_the_training(tmp_path: Path) -> None:
    """A folder that is not there ends the command with one message and no step."""
    done = _train(tmp_path / "nowhere" / "model.onnx")
    assert done.returncode == 1
    assert "step" not in done.stdout
    assert "cannot be written" in done.stderr
    assert "expected a file in a folder that is there" in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--steps", "0"],
        ["--threshold", "0"],
        ["--threshold", "1.1"],
        ["--seed", "-1"],
        ["--cost-fn", "inf"],
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
    assert "install session-fraud-detector[train]" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert out.read_bytes() == b"the model of before"


def test_without_its_extra_it_tells_its_version_and_its_commands() -> None:
    """Installed without the extra it answers `--version` and `--help`; each command says what to install, whatever follows it."""
    program = """
import sys
sys.modules.update(dict.fromkeys(("matplotlib", "onnx", "polars", "sklearn", "tensorflow")))
from click.testing import CliRunner
from trainer.cli import main
assert "version" in CliRunner().invoke(main, ["--version"]).output
told = CliRunner().invoke(main, ["--help"])
assert told.exit_code == 0 and not [name for name in main.commands if name not in told.output], told.output
for name in main.commands:
    for wanted in ("--help", "--data", "own.csv"):
        asked = CliRunner().invoke(main, [name, wanted])
        assert asked.exit_code == 1 and "install session-fraud-detector[train]" in asked.output, asked.output
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


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


def test_a_training_that_was_ended_can_be_gone_on_with(tmp_path: Path) -> None:
    """Interrupted once a checkpoint lies there and gone on with by --resume, it writes the bytes of one that was not."""
    whole, ended = tmp_path / "whole.onnx", tmp_path / "ended.onnx"
    options = ("--steps", "1500", "--no-report")
    assert _train(whole, *options).returncode == 0
    running = _process(ended, *options)
    kept = tmp_path / "ended.onnx.checkpoint" / "0.npz"
    until = time.monotonic() + PATIENCE_S
    while not kept.exists() and time.monotonic() < until:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=PATIENCE_S)
    assert running.returncode not in {0, None}
    assert "--resume" in said
    assert "Traceback" not in said
    assert kept.exists()
    assert not ended.exists()
    other = _train(ended, "--steps", "1400", "--no-report", "--resume")
    assert other.returncode == 1
    assert "is of another training" in other.stderr
    again = _train(ended, *options, "--resume")
    assert again.returncode == 0, again.stderr
    assert ended.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ended.onnx", "whole.onnx"]


def test_an_accelerator_that_is_not_there_is_told(tmp_path: Path) -> None:
    """--device gpu without one names what was found, and writes nothing."""
    done = _train(tmp_path / "model.onnx", "--device", "gpu")
    assert done.returncode == 1
    assert "finds /physical_device:CPU:0: expected an accelerator" in done.stderr
    assert list(tmp_path.iterdir()) == []
