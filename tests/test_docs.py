"""The documentation says what the code does: settings, commands, links and examples are held against it."""

import importlib.util
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import click
import msgspec
import pytest

from detector.console.config import ANALYST_TOKEN_VARIABLE, TOKEN_VARIABLE
from detector.contract.alerts import decode_alert
from detector.contract.control import decode_control, is_control
from detector.contract.events import decode_event
from detector.contract.explanations import Explanation
from detector.runtime.config import DetectorConfig
from docs.generate import COMMANDS, TARGET, configuration

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_OUR_PATH = re.compile(r"(?:detector|producer|trainer|broker|demo|tests|benchmarks|docs|deploy)/[\w./-]*")
_FORBIDDEN = [
    "/" + "work" + "/",
    "/" + "root" + "/",
    "pypi" + ".org",
    "python" + "hosted",
    "maven" + ".org",
    "maven" + ".apache",
    "registry-1" + ".docker",
    "proxy." + "golang",
    "npmjs" + ".org",
]
"""Paths of a machine and hosts of registries; put together here, so that this file does not hold them."""

_FLAGS_OF_OTHERS = {"--scale", "--volumes"}
"""Flags of docker compose that documents name alone."""


class Code(NamedTuple):
    """A piece of code in a document: a line of a fenced block of commands, or a span within a sentence."""

    document: Path
    text: str
    fenced: bool


def identify(path: Path) -> str:
    """Name a file in a test's id."""
    return str(path.relative_to(ROOT))


def codes() -> Iterator[Code]:
    """Yield the commands and spans of code of all documents."""
    for document in DOCUMENTS:
        text = document.read_text()
        for language, block in _FENCE.findall(text):
            for line in block.replace("\\\n", " ").splitlines():
                if language == "sh" or (language == "console" and line.startswith("$ ")):
                    yield Code(document, line, fenced=True)
        for span in _SPAN.findall(_FENCE.sub("", text)):
            yield Code(document, span, fenced=False)


def commands(program: str) -> list[tuple[Code, list[str]]]:
    """Return every mention of a command that begins with `program`, and its arguments."""
    found = []
    for code in codes():
        for at in re.finditer(rf"(?<![\w/.-]){re.escape(program)} ", code.text):
            lexer = shlex.shlex(code.text[at.end() :], posix=True, punctuation_chars="|&;<>")
            lexer.whitespace_split = True
            arguments = []
            for token in lexer:
                if token.startswith(tuple("|&;<>")):
                    break
                arguments.append(token)
            found.append((code, arguments))
    return found


def command_of(arguments: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that follows `python -m`, and the arguments left."""
    command, rest = COMMANDS[arguments[0]], arguments[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"no command {rest[0]!r} in {sorted(command.commands)}"
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def label(case: tuple[Code, list[str]]) -> str:
    """Name a mention of a command in a test's id."""
    code, arguments = case
    return f"{identify(code.document)}: {' '.join(arguments)[:60]}"


def test_the_configuration_reference_is_that_of_the_code() -> None:
    """docs/configuration.md is what `make docs` writes: no setting, default or help text differs."""
    assert TARGET.read_text() == configuration()


@pytest.mark.parametrize("document", DOCUMENTS, ids=identify)
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link names a file that is there and, if it has an anchor, a heading in it."""
    for link in _LINK.findall(_FENCE.sub("", document.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{link}: no such heading, there are {sorted(anchors)}"


@pytest.mark.parametrize("case", commands("python -m"), ids=label)
def test_commands_are_understood(case: tuple[Code, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A command as written parses against the real one, values included; it is not carried out.

    In a sentence a command may lack what is required; its options must still exist.
    """
    code, arguments = case
    if arguments[0] not in COMMANDS:
        assert importlib.util.find_spec(arguments[0]), f"no module {arguments[0]!r}"
        return
    command, rest = command_of(arguments)
    if code.fenced:
        for parameter in command.params:
            if isinstance(parameter.type, click.Path):
                monkeypatch.setattr(parameter.type, "exists", False)
        command.make_context(" ".join(arguments), rest)
        return
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in rest if word.startswith("--")} <= known | {"--help"}


@pytest.mark.parametrize("case", commands("make"), ids=label)
def test_make_targets_exist(case: tuple[Code, list[str]]) -> None:
    """Every target that a document names is in the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {word for word in case[1] if "=" not in word} <= targets


def test_commands_were_found() -> None:
    """The tests above have something to look at: the README shows each program and both commands."""
    readme = ROOT / "README.md"
    shown = {arguments[0] for code, arguments in commands("python -m") if code.document == readme}
    assert {"detector", "producer", "broker", "trainer"} <= shown
    made = {arguments[0] for code, arguments in commands("make") if code.document == readme}
    assert {"demo", "test"} <= made


@pytest.mark.parametrize("document", DOCUMENTS, ids=identify)
def test_variables_and_files_that_are_named_exist(document: Path) -> None:
    """Environment variables of ours are read by some command, and paths of the repository are there."""
    known = {str(parameter.envvar) for command in _every(COMMANDS.values()) for parameter in command.params}
    known |= {TOKEN_VARIABLE, ANALYST_TOKEN_VARIABLE}
    text = document.read_text()
    assert set(re.findall(r"\b(?:DETECTOR|PRODUCER)_[A-Z_]+\b", text)) <= known
    for span in _SPAN.findall(_FENCE.sub("", text)):
        if _OUR_PATH.fullmatch(span):
            assert (ROOT / span).exists(), f"{span} is not there"


@pytest.mark.parametrize("document", DOCUMENTS, ids=identify)
def test_flags_that_are_named_exist(document: Path) -> None:
    """A span that begins with a flag names one of some command of ours."""
    parameters = [parameter for command in _every(COMMANDS.values()) for parameter in command.params]
    known = {name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)}
    spans = _SPAN.findall(_FENCE.sub("", document.read_text()))
    assert {span.split()[0] for span in spans if span.startswith("--")} <= known | _FLAGS_OF_OTHERS | {
        "--help"
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=identify)
def test_examples_of_records_are_valid(document: Path) -> None:
    """A block of JSON is an event, an alert, its explanation or a listing as the contract has it."""
    for language, block in _FENCE.findall(document.read_text()):
        if language == "json":
            value = block.encode()
            if is_control(value):
                decode_control(value)
            elif "attributions" in block:
                msgspec.json.decode(value, type=Explanation)
            elif "alert_id" in block:
                decode_alert(value)
            else:
                decode_event(value)


def test_no_machine_or_registry_is_named() -> None:
    """No text file holds a path of somebody's machine or the host of a registry."""
    skipped = {"__pycache__", "build", "dist", ".git"}
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(part.startswith(".") for part in parts[:-1]) and parts[0] != ".ci"
        if hidden or skipped & set(parts) or not path.is_file() or path.suffix in {".onnx", ".pyc", ".gz"}:
            continue
        text = path.read_text(errors="replace")
        assert [one for one in _FORBIDDEN if one in text] == [], path


def test_every_setting_is_explained() -> None:
    """The reference has a row for each field of DetectorConfig."""
    text = TARGET.read_text()
    for name in DetectorConfig.__dataclass_fields__:
        assert f"| `--{name.replace('_', '-')}` |" in text


def _every(commands_: Iterable[click.Command]) -> Iterator[click.Command]:
    for command in commands_:
        if isinstance(command, click.Group):
            yield from _every(command.commands.values())
        else:
            yield command
