"""Every command of the documentation is run somewhere, or says why not; and every page can be found."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.generate import COMMANDS_TARGET
from docs.generate import commands as reference
from tests.documentation.pages import NOT_RUN, PAGES, ROOT, commands


def identify(page: Path) -> str:
    """Name a page in a test's id."""
    return str(page.relative_to(ROOT))


def test_the_reference_of_commands_is_that_of_the_code() -> None:
    """docs/commands.md is what `make docs` writes: no command, argument or help text differs."""
    assert COMMANDS_TARGET.read_text() == reference()


def test_every_exception_is_needed() -> None:
    """Each row of the table of exceptions stands for a command on some page, and gives a reason."""
    shown = [command.text for page in PAGES for command in commands(page)]
    for pattern, reason in NOT_RUN.items():
        assert len(reason.split()) >= 3
        assert any(re.search(pattern, text) for text in shown), f"no page shows {pattern!r}: take it out"


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_no_command_hides(page: Path) -> None:
    """Commands are in blocks marked sh or console that begin a line: elsewhere nothing would run them."""
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r"^[ >\t]+```(?:sh|console)", text, re.MULTILINE), "a block is indented"
    for language, block in re.findall(r"^```([^\n]*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        assert language not in {"bash", "shell", "zsh", "shell-session"}, "mark it sh or console"
        if language not in {"sh", "console"}:
            assert not re.findall(r"^(?:\$ |python -m |make |\. \.venv)", block, re.MULTILINE)
    marked = len(re.findall(r"^<!-- not run: ", text, re.MULTILINE))
    followed = len(re.findall(r"^<!-- not run: \S.*? -->\n\n?```(?:sh|console)\n", text, re.MULTILINE))
    assert marked == followed, "a comment that excludes is not right before a block of commands"


def test_the_navigation_holds_every_page() -> None:
    """Every page of docs/ is in the navigation of mkdocs.yml, and every entry is a page."""
    listed = set(_leaves(_configuration()["nav"]))
    decisions = {f"adr/{path.name}" for path in (ROOT / "docs/adr").glob("[0-9]*.md")}
    assert "adr/*.md" in listed
    brought_in = {"changelog.md", "model-card.md", "model-card-history.md"}
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert listed - {"adr/*.md"} - brought_in == there - decisions


def _configuration() -> Any:
    class Loader(yaml.SafeLoader):
        """Passes over tags of Python objects."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    return yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)  # noqa: S506  a safe loader


def _leaves(node: Any) -> list[str]:
    if isinstance(node, str):
        return [node]
    children = node.values() if isinstance(node, dict) else node
    return [leaf for child in children for leaf in _leaves(child)]
