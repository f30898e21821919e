"""Every page's commands, run in order as a reader would, beside a detector that has scored a history."""

import filecmp
import shutil
from pathlib import Path

import pytest

from tests.conftest import CreateTopic, UniqueName
from tests.documentation.conftest import History
from tests.documentation.pages import PAGES, ROOT, Command, commands
from tests.documentation.walkthrough import Walkthrough
from tests.machine import skip_without

pytestmark = pytest.mark.long
TUTORIAL = ROOT / "docs/tutorial.md"
"""Is followed by tests/documentation/test_walkthrough.py, which looks at the outcome too."""
RUN = {page: [one for one in commands(page) if not one.reason] for page in PAGES if page != TUTORIAL}


def cases() -> list[object]:
    """Return a case for each page with commands; one that needs a program of the machine says so."""
    found: list[object] = []
    for page, shown in RUN.items():
        marks = []
        if any(one.text.startswith("promtool ") for one in shown):
            marks.append(
                skip_without(
                    None if shutil.which("promtool") else "no promtool; on Debian: apt-get install prometheus"
                )
            )
        if shown:
            found.append(pytest.param(page, id=str(page.relative_to(ROOT)), marks=marks))
    return found


@pytest.fixture(scope="session")
def made() -> set[str]:
    """The targets of make that a page has run: another page's may be left out, they depend on no page."""
    return set()


def own_names(
    shown: list[Command], history: History, unique_name: UniqueName, create_topic: CreateTopic
) -> dict[str, str]:
    """Return the environment of a page's commands: the history's, save what the page would spoil for others.

    A page that starts a broker talks to that; one that starts a detector has a group of its own; one that publishes
    has an input topic of its own.
    """
    texts = [command.text for command in shown]
    environment = dict(history.environment)
    if any(text.startswith("python -m broker up") for text in texts):
        return {}
    if any(text.startswith("python -m detector run") and "--group" not in text for text in texts):
        environment["DETECTOR_GROUP"] = unique_name()
    if any(text.startswith("python -m producer") and "--out" not in text for text in texts):
        environment["DETECTOR_INPUT_TOPIC"] = environment["PRODUCER_TOPIC"] = create_topic()
    return environment


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", cases())
def test_commands_do_what_the_page_says(
    page: Path,
    history: History,
    made: set[str],
    unique_name: UniqueName,
    create_topic: CreateTopic,
    tmp_path: Path,
) -> None:
    """Each ends well, or stays until it is ended; what shows alerts from the beginning shows some."""
    history.give(tmp_path)
    environment = own_names(RUN[page], history, unique_name, create_topic)
    words = {"--group ": f"--group {unique_name()}-", "--alerts-topic ": f"--alerts-topic {unique_name()}-"}
    if environment:
        words["session-actions"] = environment["DETECTOR_INPUT_TOPIC"]
        words["session-alerts"] = environment["DETECTOR_ALERTS_TOPIC"]
    with Walkthrough(tmp_path, environment, words=words, metrics_port=history.metrics_port) as walk:
        for command in RUN[page]:
            if command.text not in made:
                walk.run(command)
            if command.text.startswith("make "):
                made.add(command.text)
        walk.end()


def test_what_make_writes_is_what_is_checked_in(tmp_path: Path) -> None:
    """`make docs` and `make schemas`, run in a copy of the pages, change nothing."""
    with Walkthrough(tmp_path) as walk:
        for text in ("make docs", "make schemas"):
            walk.run(Command(TUTORIAL, text, (), ""))
    written = [
        path
        for path in sorted((tmp_path / "docs").rglob("*"))
        if path.is_file() and path.suffix in {".md", ".json"}
    ]
    assert len(written) > 50
    for path in written:
        assert filecmp.cmp(path, ROOT / path.relative_to(tmp_path), shallow=False), path
