"""Files that commands write: whole or not at all, and never over what they read."""

import gzip
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from detector.cli import main as detector
from detector.writing import keep_apart, written_whole
from producer.cli import main as producer
from producer.recording import create
from trainer.cli import main as trainer


@pytest.mark.parametrize("name", ["events.jsonl", "events.jsonl.gz"])
def test_a_file_takes_its_place_once_it_is_whole(tmp_path: Path, name: str) -> None:
    """While it is written, and when that fails, what was there before is there; nothing else is left behind."""
    path = tmp_path / name
    path.write_bytes(b"before")
    with pytest.raises(ZeroDivisionError), create(path) as file:
        file.write(b"%d" % (1 // 0))
    assert path.read_bytes() == b"before"
    with create(path) as file:
        file.write(b"whole")
        assert path.read_bytes() == b"before"
    data = path.read_bytes()
    assert (gzip.decompress(data) if path.suffix == ".gz" else data) == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_file_is_written_as_it_is() -> None:
    """A device is not replaced."""
    with written_whole(Path("/dev/null")) as file:
        file.write(b"gone")
    assert Path("/dev/null").is_char_device()


def test_a_file_is_never_written_by_way_of_another_that_is_there(tmp_path: Path) -> None:
    """What is called as half of one would be is left alone, and a link leads where it did."""
    other, link, path = tmp_path / "out.partial", tmp_path / "link", tmp_path / "out"
    other.write_bytes(b"read")
    link.symlink_to(path)
    with written_whole(link) as file:
        file.write(other.read_bytes())
    assert (other.read_bytes(), path.read_bytes()) == (b"read", b"read")
    assert link.readlink() == path
    with written_whole(tmp_path / ("x" * 250)) as file:
        file.write(b"whole")
    assert sorted(len(one.name) for one in tmp_path.iterdir()) == [3, 4, 11, 250]


def test_files_are_one_by_whatever_name(tmp_path: Path) -> None:
    """Through links and other ways to write a path; a device may be named twice, and what is not given is none."""
    one, link, hard = tmp_path / "one", tmp_path / "link", tmp_path / "hard"
    one.write_bytes(b"")
    link.symlink_to(one)
    hard.hardlink_to(one)
    for other in (one, link, hard, tmp_path / "." / "x" / ".." / "one"):
        with pytest.raises(click.UsageError, match="--out and --file are one file"):
            keep_apart({"--out": other}, {"--file": one})
    keep_apart({"--out": tmp_path / "two", "--labels": None}, {"--file": one, "--data": one})
    keep_apart({"--out": Path("/dev/null"), "--labels": Path("/dev/null")}, {})


@pytest.mark.parametrize(
    ("program", "command", "told"),
    [
        (detector, "replay --file x --out x", "--out and --file"),
        (detector, "backtest --model seed --model seed --file x --plot x", "--plot and --file"),
        (producer, "simulate --sessions 1 --out x --labels x", "--labels and --out"),
        (trainer, "events --data x --out x", "--out and --data"),
        (trainer, "events --data x --out y --labels-out y", "--labels-out and --out"),
        (trainer, "train --data x --out x", "--out and --data"),
        (trainer, "evaluate --model seed --data y.csv --scores y.csv", "--scores and --data"),
    ],
)
def test_no_command_writes_over_what_it_reads(
    program: click.Group, command: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two options that name one file are refused, and it stays as it is."""
    monkeypatch.chdir(tmp_path)
    for name in ("x", "y.csv"):
        Path(name).write_bytes(b"{}\n")
    result = CliRunner().invoke(program, command.split())
    assert result.exit_code == 2, result.output
    assert f"{told} are one file" in result.output
    assert [Path(name).read_bytes() for name in ("x", "y.csv")] == [b"{}\n", b"{}\n"]
