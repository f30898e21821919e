"""The commands that the documentation shows, and those of them that are not run, each with its reason."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent.parent
PAGES: Final = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

NOT_RUN: Final = {
    r"docker compose|^deploy/standin/|^TESTCONTAINERS_": "needs a container engine; tests/deploy checks the files",
    r"^kafka-console-consumer": "needs Kafka's own scripts",
    r"^promtool ": "needs Prometheus; tests/deploy checks the rules",
    r"^ssh ": "needs another machine",
    r"^make demo": "tests/demo runs the same as `python -m demo`",
    r"^make ": "builds, tests or pins this repository itself; that the target exists is tested",
    r"^python -m broker up": "a broker started just so is what the other commands talk to",
}
"""Commands, as regular expressions searched for, that no page's walk runs, and why.

The first that fits counts. A page can say it itself, in a comment before the block: `<!-- not run: reason -->`.
"""

_BLOCK: Final = re.compile(
    r"(?:^<!-- not run: (?P<reason>\S.*?) -->\n\n?)?^```(?P<language>sh|console)\n(?P<text>.*?)^```",
    re.MULTILINE | re.DOTALL,
)


class Command(NamedTuple):
    """One command of a page.

    Attributes:
        text: as a shell reads it, continuation lines joined.
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
        if line.strip() and not line.startswith("#"):
            yield line, ()


def _prompted(lines: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield lines[start][2:], tuple(lines[start + 1 : end])


def _reason(text: str) -> str:
    return next((reason for pattern, reason in NOT_RUN.items() if re.search(pattern, text)), "")
