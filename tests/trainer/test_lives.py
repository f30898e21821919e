"""Lives from the commands: a model that reads signals is trained on them, and evaluated in the accounts' histories."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from click.testing import CliRunner

from detector.model.artifact import load_model
from trainer.cli import main
from trainer.commands.lives import lives_parts
from trainer.comparing import leave_one_out
from trainer.data.declared import DEFAULT_SIGNALS
from trainer.data.sessions import Splits
from trainer.training.config import TrainingConfig
from trainer.training.defaults import Schedule

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


def test_families_of_lives_are_left_out_one_by_one() -> None:
    """Each is tested on by a model that was trained and given its threshold without it."""
    config = TrainingConfig(
        schedule=Schedule(seed=1, steps=120), window=8, members=1, signals=DEFAULT_SIGNALS, preset="lives"
    )
    parts: list[Splits] = []

    def without(left_out: Sequence[str]) -> Splits:
        parts.append(lives_parts(1_500, 1, config.signals, config.idle_timeout_ms, left_out))
        return parts[-1]

    families = ["split", "scripted_fast"]
    rows = leave_one_out(config, families, without).rows
    assert [row[0] for row in rows] == families
    for family, row, (train, valid, test) in zip(families, rows, parts, strict=True):
        of_family = [
            sum(part.types.names[code] == family for code in part.types.codes)
            for part in (train, valid, test)
        ]
        assert of_family == [0, 0, int(row[1])]
        assert int(row[1]) > 0
