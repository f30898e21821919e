"""Writes docs/configuration.md and docs/commands.md from the settings and commands themselves: `python -m docs.generate`."""  # noqa: INP001

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

import broker.__main__
import demo.cli
import detector.cli
import producer.cli
import trainer.cli
from detector.check_topic import check_topic_command
from detector.runtime.config import DECIDING, DetectorConfig
from detector.runtime.settings import environment_variable_of, flag_of
from detector.runtime.validating import BELOW

TARGET = Path(__file__).with_name("configuration.md")
COMMANDS_TARGET = Path(__file__).with_name("commands.md")

COMMANDS: dict[str, click.Command] = {
    "detector": detector.cli.main,
    "producer": producer.cli.main,
    "broker": broker.__main__.main,
    "trainer": trainer.cli.main,
    "demo": demo.cli.main,
}
"""What can follow `python -m`."""

_INTRODUCTION = """\
# Configuration

Written by `make docs` from the code; a test holds the two alike. Every command prints the same with `--help`.

A flag wins over its environment variable, and that over the default. Values are checked before anything is consumed; one out of bounds ends the command with exit code 2 and a message that says what was expected.
"""

_DETECTOR = """\
## `python -m detector run`

Settings that are on or off have a second flag, such as `--no-create-topics`; as a variable they take `true` or `false`.

What is decided depends on the log and on these: `--model`, {deciding}. Give all workers of a group the same, and `detector replay` too.
"""

_FITTING = """\
### Settings that must fit each other

One that would disarm another, or make it harm, is refused at the start.
"""

_REPLAY = """\
## `python -m detector replay`

Compute offline the alerts that the detector must publish for a log. It takes the settings of `run`, ignores those that touch neither the log nor the decisions, and has two of its own. `--partitions` is how many the input topic has that a `--file` stands for: time runs by partition.
"""

_COMMANDS_INTRODUCTION = """\
# Commands

Written by `make docs` from the code; a test holds the two alike. Every command prints the same with `--help`, and ends with exit code 2 and a message if it is called wrongly; the exit codes of the detector are in [operations](operations.md#exit-codes).
"""

_TAKE_SETTINGS = (detector.cli.replay, detector.cli.redrive, check_topic_command)
"""Commands that take the settings of `run` and list only options of their own here."""

_ENVIRONMENT = """\
## Variables without a flag

| variable | read by | meaning |
|---|---|---|
| `KAFKA_BOOTSTRAP_SERVERS` | demo, tests | broker to use instead of starting one |
| `DETECTOR_CONSOLE_TOKEN` | `detector console` | token that viewers must present; no flag, since others can read a command line |
| `SCHEMA_REGISTRY_URL` | whatever reads events | registry of the schemas of Avro and Protobuf; with `SCHEMA_REGISTRY_USERNAME`, `SCHEMA_REGISTRY_PASSWORD_FILE` or `SCHEMA_REGISTRY_PASSWORD`, and `SCHEMA_REGISTRY_CA_FILE` ([formats](how-to/formats.md)) |
| `XDG_CACHE_HOME` | embedded broker | where caches are kept; its jars lie below `session-fraud-detector` |
"""


def configuration() -> str:
    """Return the whole document."""
    settings = _table(("flag", "variable", "default", "unit", "meaning"), _settings())
    fitting = _table(("flag", "is", "or else"), _fitting())
    sections = [
        _section(leaf) for leaf in _leaves() if leaf[1] is not detector.cli.run
    ]  # its options are the settings
    return "\n".join(
        [
            _INTRODUCTION,
            _DETECTOR.format(deciding=_deciding()),
            settings,
            _FITTING,
            fitting,
            *sections,
            _ENVIRONMENT,
        ]
    )


def _fitting() -> Iterator[tuple[str, ...]]:
    """Return the rows of the settings that have to fit each other."""
    flags = {one.name: f"`{flag_of(one)}`" for one in fields(DetectorConfig)}
    for low, high, otherwise in BELOW:
        yield flags[low], f"less than {flags[high]}", otherwise
    yield (
        "`--challenge-threshold`",
        "less than `--threshold`, or the model's own",
        "nothing would be challenged",
    )
    yield "`--review-threshold`", "less than both", "nothing would be reviewed"
    yield (
        "`--step-up-passed`, `--step-up-failed`",
        "two actions",
        "one clears a session, the other blocks it",
    )
    yield "`--shadow-threshold`", "given only with `--shadow-model`", "it would be of nothing"
    yield (
        "`--max-dead-letter-bytes`",
        "with `--max-event-bytes` at most 12 MiB",
        "a dead letter, which has a value of the one and a key of the other, would not fit its topic",
    )
    yield (
        "`--input-topic`, `--alerts-topic`, `--group`",
        "such that no two of the topics made from them are one, `.` and `_` taken as alike",
        "one would be read as what it is not",
    )


def commands() -> str:
    """Return the reference of commands."""
    return "\n".join([_COMMANDS_INTRODUCTION, *(_command(name, command) for name, command in _leaves())])


def _command(name: str, command: click.Command) -> str:
    program = f"python -m {name}"
    usage = click.Context(command, info_name=program, terminal_width=100).get_usage()
    paragraphs = [
        paragraph.replace("\n", " ") for paragraph in inspect.cleandoc(command.help or "").split("\n\n")
    ]
    anchor = program.replace(" ", "-")
    told = f"Its options: [configuration](configuration.md#{anchor})."
    return "\n\n".join([f"## `{program}`", f"```text\n{usage}\n```", *paragraphs, told]) + "\n"


def _section(leaf: tuple[str, click.Command]) -> str:
    name, command = leaf
    about = f"## `python -m {name}`\n\n" + (command.help or "").split("\n\n")[0].replace("\n", " ")
    if name == "detector replay":
        about = _REPLAY.rstrip()
    elif command in _TAKE_SETTINGS:
        about += " It takes the settings of `run`, and these:"
    rows = list(_options(command))
    table = _table(("option", "variable", "default", "values", "meaning"), rows) if rows else ""
    return f"{about}\n\n{table}".rstrip() + "\n"


def _leaves() -> Iterator[tuple[str, click.Command]]:
    for module, command in COMMANDS.items():
        yield from _below(module, command)


def _below(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for word, one in command.commands.items():
            yield from _below(f"{name} {word}", one)
    else:
        yield name, command


def _deciding() -> str:
    """Name the settings that decide, but for how many partitions there are, which the topic says."""
    *most, last = (f"`--{name.replace('_', '-')}`" for name in DECIDING if name != "partitions")
    return f"{', '.join(most)} and {last}"


def _settings() -> Iterator[tuple[str, ...]]:
    for one in fields(DetectorConfig):
        unit, default = one.metadata["unit"], _value(one.default)
        yield f"`{flag_of(one)}`", f"`{environment_variable_of(one)}`", default, unit, one.metadata["help"]


def _options(command: click.Command) -> Iterator[tuple[str, ...]]:
    settings = {one.name for one in fields(DetectorConfig)} if command in _TAKE_SETTINGS else set()
    for one in command.params:
        if one.name in settings:
            continue
        if isinstance(one, click.Argument):
            default = (
                "required"
                if one.required
                else "the standard input"
                if one.default == "-"
                else _value(one.default)
            )
            yield f"`{str(one.name).upper()}`", "", default, _values(one), ""
            continue
        assert isinstance(one, click.Option)  # noqa: S101  for the type checker: there is no third kind
        text = one.help or ""
        told = re.search(r"\s*\[default: (.*)\]$", text)
        if told:
            default, text = told[1], text[: told.start()]
        elif one.is_flag:
            default = _value(one.default is True)
        else:
            default = "required" if one.required else _value(one.default)
        variable = f"`{one.envvar}`" if one.envvar else ""
        yield ", ".join(f"`{name}`" for name in one.opts), variable, default, _values(one), text


def _value(value: Any) -> str:
    match value:
        case bool():
            return "on" if value else "off"
        case int():
            return str(value)
        case float():
            return f"{value:.10g}"
        case str():
            return value or "empty"
    return ""  # none, whichever way click says so


def _values(one: click.Parameter) -> str:
    kind = one.type
    if isinstance(kind, click.Choice):
        return ", ".join(map(str, kind.choices))
    if isinstance(kind, click.IntRange | click.FloatRange):
        least = f"{'above' if kind.min_open else 'at least'} {kind.min:.10g}"
        return least if kind.max is None else f"{least}, at most {kind.max:.10g}"
    if isinstance(one, click.Option) and one.is_flag:
        return ""
    return kind.name if kind is click.INT else one.metavar or kind.name


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', '&#124;').replace('<', '&lt;') for cell in line)} |\n"
        for line in lines
    )


if __name__ == "__main__":
    TARGET.write_text(configuration(), encoding="utf-8")
    COMMANDS_TARGET.write_text(commands(), encoding="utf-8")
    click.echo(f"wrote {TARGET.name} and {COMMANDS_TARGET.name}")
