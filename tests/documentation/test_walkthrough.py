"""The tutorial as a reader follows it, examples with their output, and proof that a wrong page is noticed."""

import gzip
from pathlib import Path

import click
import msgspec
import pytest

from tests.documentation.pages import PAGES, ROOT, Command, commands
from tests.documentation.walkthrough import Walkthrough, WalkthroughError
from tests.test_docs import command_of

pytestmark = pytest.mark.long
TUTORIAL = ROOT / "docs/tutorial.md"
NO_BROKER = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
SHOWN = [command for page in PAGES for command in commands(page) if command.output and not command.reason]


@pytest.mark.timeout(900)
def test_the_tutorial_leads_from_own_data_to_live_alerts(tmp_path: Path) -> None:
    """Its commands run as written, on a broker that they start; then most of the day's attacks are blocked, few others."""
    log = ""

    def blocked() -> set[str]:
        return {session for session in truth if f"session {session} " in log}

    def most_are_blocked(text: str) -> bool:
        nonlocal log
        log = text
        return len(blocked() & attacks) > 0.5 * len(attacks)

    with Walkthrough(tmp_path) as walk:
        for command in commands(TUTORIAL):
            if not command.reason:
                walk.run(command)
        with gzip.open(tmp_path / "own/today-labels.jsonl.gz") as lines:
            truth = {label["session_id"]: label["label"] for label in map(msgspec.json.decode, lines)}
        attacks = {session for session, label in truth.items() if label}
        assert attacks
        walk.end(expecting=most_are_blocked)
    assert len(blocked() - attacks) < 0.02 * len(truth)


@pytest.mark.parametrize("command", SHOWN, ids=lambda command: command.place)
def test_examples_print_what_the_page_shows(command: Command, tmp_path: Path) -> None:
    """A session at the prompt gives the very lines that stand below its command."""
    with Walkthrough(tmp_path, NO_BROKER) as walk:
        walk.run(command)


def test_examples_were_found() -> None:
    """The test above has something to look at."""
    assert any("detector score" in command.text for command in SHOWN)


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("```sh\npython -m detector scores LOGIN\n```\n", "exit code 2"),
        ("```sh\npython -m detector score --colour LOGIN\n```\n", "exit code 2"),
        ("```console\n$ python -m detector score --model seed LOGIN\nBLOCKED\n```\n", "the page shows"),
        ("```sh\npython -m detector run --batch-max-events 0\n```\n", "expected to stay"),
    ],
    ids=["unknown command", "unknown option", "other output", "ends though it should stay"],
)
def test_a_wrong_page_is_noticed(page: str, seen: str, tmp_path: Path) -> None:
    """Each way in which a page can be wrong fails its walk, with a message that says so."""
    (tmp_path / "page.md").write_text(page)
    (command,) = commands(tmp_path / "page.md")
    with Walkthrough(tmp_path, NO_BROKER) as walk, pytest.raises(WalkthroughError, match=seen):
        walk.run(command)


def test_commands_that_only_the_long_run_runs_are_still_parsed() -> None:
    """The check of every page's commands against click, in tests/test_docs.py, refuses what does not exist."""
    with pytest.raises(AssertionError, match="no command"):
        command_of(["detector", "frobnicate"])
    command, rest = command_of(["trainer", "train", "--epochen", "3", "--out", "model.onnx"])
    with pytest.raises(click.NoSuchOption):
        command.make_context("train", rest)


def test_a_page_can_exclude_a_block_with_a_reason(tmp_path: Path) -> None:
    """The comment before a block takes it out of the walk, and its reason is kept; other blocks are run."""
    page = tmp_path / "page.md"
    page.write_text("<!-- not run: takes an hour -->\n```sh\nfalse\n```\n\n```sh\ntrue \\\n  again\n```\n")
    assert [(one.text, one.reason) for one in commands(page)] == [
        ("false", "takes an hour"),
        ("true    again", ""),
    ]
