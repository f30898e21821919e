"""The commands that the documentation shows, and those of them that are not run, each with its reason."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent.parent
PAGES: Final = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

NOT_RUN: Final = {
    r"docker compose|^deploy/standin/|^TESTCONTAINERS_": "needs a container engine; tests/deploy checks the files",
    r"^ssh ": "needs another machine",
    r"^make (?:format|lint|lowest|test|verify)\b": "lint and tests are what CI runs, this test among them; format is what lint checks",
    r"^make (?:audit|lock)\b": "its outcome is the package index's of the day",
    r"^make (?:fuzz|sbom)\b": "takes minutes, or an environment of its own; tests/fuzzing runs the former for seconds",
}
"""Commands, as regular expressions searched for, that are not run, and why.

The first that fits counts. A page can say it itself, in a comment before the block: `<!-- not run: reason -->`.
"""

_BLOCK: Final = re.compile(
    r"(?:^<!-- not run: (?P<reason>\S.*?) -->\n\n?)?^```(?P<language>sh|console)\n(?P<text>.*?)^```",
    re.MULTILINE | re.DOTALL,
)


class Command(NamedTuple):
    """One command of a page.

    Attributes:
        text: as a shell reads it, continuation lines joined, a comment left out.
        output: the lines shown below it, where the block is a session at the prompt.
        reason: why it is not run; empty if it is.
    """

    page: Path
    text: str
    output: tuple[str, ...]
    reason: str

    @property
    def place(self) -> str:
        """For messages: the page, then the command."""
        name = self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page.name
        return f"{name}: {self.text}"


def commands(page: Path) -> Iterator[Command]:
    """Yield the commands of a page's fenced blocks, in order."""
    for block in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        told, lines = block["reason"] or "", block["text"].replace("\\\n", " ").splitlines()
        for text, output in _lines(lines) if block["language"] == "sh" else _prompted(lines):
            yield Command(page, text, output, told or _reason(text))


def _lines(lines: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for line in lines:
        text = re.split(r"(?:^|\s+)#", line)[0]
        if text.strip():
            yield text, ()


def _prompted(lines: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield lines[start][2:], tuple(lines[start + 1 : end])


def _reason(text: str) -> str:
    return next((reason for pattern, reason in NOT_RUN.items() if re.search(pattern, text)), "")
