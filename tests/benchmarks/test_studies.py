"""Studies are commands that say how they are called."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import benchmarks.studies
from benchmarks.studies.__main__ import main

NAMES = sorted(path.stem for path in Path(*benchmarks.studies.__path__).glob("[a-z]*.py"))


def _called(line: str) -> Result:
    return CliRunner().invoke(main, line.split())


@pytest.mark.parametrize("name", NAMES)
def test_each_study_says_how_it_is_called(name: str) -> None:
    """`--help` of each names its arguments and says what they are."""
    called = _called(f"{name} --help")
    assert called.exit_code == 0, called.output
    assert "Positional arguments:" in called.output


def test_studies_are_listed() -> None:
    """`--help` lists each with what it is about, and a name that is none gets the names that there are."""
    listed, refused = _called("--help"), _called("nosuch")
    assert [line.split()[0] for line in listed.output.partition("Studies:\n")[2].splitlines() if line[2] != " "] == NAMES  # fmt: skip
    assert refused.exit_code == 2
    assert f"nosuch is no study: expected one of {', '.join(NAMES)}" in refused.output


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("accounts 60 many", "'many' is not a valid integer"),
        ("accounts 60 400 1", "unexpected extra argument"),
        ("clocks nosuch", "model file nosuch cannot be read"),
        ("clocks default 20000 nosuch", "'nosuch' is not one of 'event'"),
        ("explanations default 0", "0 is not in the range"),
        ("own_data nosuch", "'nosuch' is not one of 'thin evidence, 1,000'"),
        ("parts", "Missing argument 'MODEL'"),
        ("parts history nosuch", "'nosuch' does not exist"),
        ("reading 50000 tarin", "'tarin' is not 'train'"),
    ],
)
def test_what_is_called_wrongly_is_told(line: str, told: str) -> None:
    """It is a usage error, before anything is measured."""
    called = _called(line)
    assert called.exit_code == 2, called.output
    assert told in called.output
