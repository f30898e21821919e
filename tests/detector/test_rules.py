"""The command `rules`, and rules in `score` and `backtest`: without a broker, by the same core."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from detector.cli import main
from detector.model.artifact import load_model, packaged_model_path
from detector.model.variables import variables_of
from tests.runtime.test_end_to_end import records, sessions

RULES = """
[[rule]]
name = "tried"
when = 'action == "TRANSFER_SMALL" && action_number > 2'
then = "BLOCK"
"""


def run(*arguments: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A rules file that fits the model `seed`."""
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return path


def test_a_file_is_checked_and_told(path: Path) -> None:
    """What each rule does, and whether it acts; a file that does not fit has exit code 2, as at the start."""
    told = run("rules", "--model", "seed", str(path))
    assert told.exit_code == 0
    assert "BLOCK in shadow" in told.output
    assert 'tried: action == "TRANSFER_SMALL" && action_number > 2' in told.output
    path.write_text(RULES.replace("action_number", "number"))
    refused = run("rules", "--model", "seed", str(path))
    assert refused.exit_code == 2
    assert "line 4, rule 'tried'" in refused.output


def test_what_conditions_may_name_is_listed() -> None:
    """Every name of the model's, with its type and the values that it can have."""
    told = run("rules", "--model", "history").output.splitlines()
    encoding = load_model(packaged_model_path("history")).encoding
    assert [line.split()[:2] for line in told] == [[one.name, one.type] for one in variables_of(encoding)]
    assert any("device.novelty" in line and '"never"' in line for line in told)
    assert any("since_a_session.since" in line and 'duration("3600s")' in line for line in told)


def test_a_score_is_told_with_the_rules_that_hold(path: Path) -> None:
    """One in shadow is told and decides nothing; once it acts, it does."""
    actions = ["LOGIN", "VIEW_BALANCE", "TRANSFER_SMALL"]
    shadow = run("score", "--model", "seed", "--rules", str(path), *actions)
    assert shadow.output.startswith("ALLOWED")
    assert "rule tried" in shadow.output
    assert "BLOCK in shadow" in shadow.output
    path.write_text(f"{RULES}shadow = false\n")
    acting = json.loads(run("score", "--model", "seed", "--rules", str(path), "--json", *actions).output)
    assert acting["decision"] == "BLOCKED"
    assert run("score", "--model", "seed", "--rules", str(path), "LOGIN").output.startswith("ALLOWED")


def test_a_backtest_lets_the_other_sides_rules_act(path: Path, tmp_path: Path) -> None:
    """Given once they are the other side's; what they would newly block is told, and how often each held."""
    events = tmp_path / "events.jsonl"
    events.write_bytes(b"".join(value + b"\n" for _, value in records(sessions(66))))
    arguments = ("backtest", "--model", "seed", "--model", "seed", "--file", str(events), "--json")
    with_ = json.loads(run(*arguments, "--rules", str(path)).stdout)
    assert with_["rules"]["tried"] > 0
    assert len(with_["newly"]) > 0
    assert with_["no_longer"] == []
    twice = json.loads(run(*arguments, "--rules", str(path), "--rules", str(path)).stdout)
    assert len(twice["newly"]) == len(with_["newly"])  # of the one in service they are in shadow still
    assert json.loads(run(*arguments).stdout)["rules"] == {}
