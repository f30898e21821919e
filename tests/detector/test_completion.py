"""Shell completion, as click generates it for the installed commands."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def answer(script: str, shell: str, words: str) -> str:
    """Return what a shell is told when it asks an installed command how to go on."""
    module, _, function = SCRIPTS[script].partition(":")
    variable = f"_{script.upper().replace('-', '_')}_COMPLETE"
    done = subprocess.run(
        [sys.executable, "-c", f"from {module} import {function}; {function}(prog_name={script!r})"],
        env=os.environ | {variable: shell, "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert not done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("script", "words", "offered"),
    [
        ("session-detector", "session-detector rep", "replay"),
        ("session-detector", "session-detector run --unknown", "--unknown-actions"),
        ("session-detector", "session-detector accounts al", "allow"),
        ("session-producer", "session-producer replay --time-unit m", "ms"),
        ("session-trainer", "session-trainer ev", "evaluate"),
    ],
)
def test_commands_options_and_values_are_completed(script: str, words: str, offered: str) -> None:
    """What begins as typed is offered: commands, their options, values that are one of a few."""
    assert f"plain,{offered}" in answer(script, "bash_complete", words).splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script(shell: str) -> None:
    """The line of docs/interfaces.md prints what the shell has to evaluate."""
    assert "session-detector" in answer("session-detector", f"{shell}_source", "")
