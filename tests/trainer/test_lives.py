"""Lives from the commands: a model that reads signals is trained on them, and evaluated in the accounts' histories."""

from pathlib import Path

import msgspec
from click.testing import CliRunner

from detector.model.artifact import load_model
from trainer.cli import main
from trainer.data.declared import DEFAULT_SIGNALS

SMALL = [
    "--sessions",
    "1500",
    "--steps",
    "30",
    "--window",
    "8",
    "--units",
    "8",
    "--members",
    "1",
    "--no-report",
]


def _train(out: Path, *options: str) -> str:
    done = CliRunner().invoke(main, ["train", "--preset", "lives", *SMALL, "--out", str(out), *options])
    assert done.exit_code == 0, done.output
    return done.stderr


def test_a_model_of_lives_reads_signals_and_is_evaluated_with_them(tmp_path: Path) -> None:
    """The same command writes the same bytes; the file has the signals; what attackers change is tried in its history."""
    path = tmp_path / "model.onnx"
    told = _train(path)
    assert "reads the signals channel (level), outcome (level)" in told
    assert "20% of the accounts trained on lose their history" in told
    assert "the 30 days before them are history alone" in told
    assert _train(tmp_path / "again.onnx") == told
    assert path.read_bytes() == (tmp_path / "again.onnx").read_bytes()
    assert load_model(path).metadata.signals == DEFAULT_SIGNALS
    asked = ["evaluate", "--model", str(path), "--preset", "lives", "--sessions", "1500"]
    done = CliRunner().invoke(main, [*asked, "--threshold", "0.05", "--evasions", "--json"])
    assert done.exit_code == 0, done.output
    found = msgspec.json.decode(done.stdout)
    assert found["examples"] > 1_000
    assert {one["edit"] for one in found["evasions"]} >= {"LOGOUT put in", "one pause of 31 minutes"}


def test_without_signals_a_model_of_lives_is_one_of_actions_and_gaps(tmp_path: Path) -> None:
    """The same lives, and none of what events carry beside."""
    path = tmp_path / "model.onnx"
    assert "signals" not in _train(path, "--no-signals")
    assert load_model(path).metadata.signals == ()
