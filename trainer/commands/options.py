"""Options that several commands share, and the sessions they name."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

import click
import msgspec
from click.core import ParameterSource

from detector.core.encoding import Encoding
from detector.core.limits import SessionLimits
from detector.formats.options import NAMES, format_options, wire_format_of
from detector.ranges import NumberRange
from trainer.data.description import FIELDS, WORDS, Description, TimeUnit, described, read_description
from trainer.data.loading import load
from trainer.data.observing import LOSS, Loss, with_signals
from trainer.data.sessions import LabelsOf, Sessions, Splits
from trainer.data.simulated import BASE_RATE
from trainer.data.splitting import TEST_SHARE, By, default_by, split, told_of_split
from trainer.data.topic import Topic
from trainer.data.verdicts import Verdicts
from trainer.training.defaults import typical_window
from trainer.training.network import Shape

FILE = click.Path(dir_okay=False, path_type=Path)
SPLIT_OPTIONS = ("split_by", "split_seed", "test_share")
"""In the order in which `split` takes them."""
OF_DATA: Final = (
    *(
        "bootstrap_servers",
        "labels",
        "verdicts",
        "description",
        "columns",
        "time_unit",
        "labels_of",
        "unlabelled",
        "label_delay",
    ),
    *("skip_bad_lines", *NAMES, *SPLIT_OPTIONS),
)
"""Options that say nothing of simulated traffic."""
MOST_SEED: Final = 2**32 - 1
"""Of NumPy's and TensorFlow's generators."""
IDLE_MS: Final = SessionLimits().idle_timeout_ms


def described_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that name a file of data and say how it is to be read."""
    options = [
        click.option(
            "--data",
            type=FILE,
            help="Sessions or events: JSON lines, CSV (.gz too) or Parquet; see docs/how-to/own-data.md.",
        ),
        click.option("--labels", type=FILE, help="File of labels, if they are not with the data."),
        click.option("--description", type=FILE, help="TOML file that says what all of these say."),
        click.option(
            "--column",
            "columns",
            multiple=True,
            metavar="FIELD=COLUMN",
            help=f"What the data calls a field: {', '.join(FIELDS)}. May be repeated.",
        ),
        click.option(
            "--time-unit",
            type=click.Choice(get_args(TimeUnit)),
            help="Of times that are numbers.  [default: ms]",
        ),
        click.option(
            "--labels-of", type=click.Choice(get_args(LabelsOf)), help="What has labels.  [default: session]"
        ),
        click.option(
            "--unlabelled",
            type=click.Choice(["refuse", "lawful", "leave-out"]),
            help="What has no label.  [default: refuse]",
        ),
        click.option(
            "--label-delay", help="What is younger at the data's end is no example, labelled or not: 30d."
        ),
        click.option(
            "--skip-bad-lines", is_flag=True, help="Leave out lines of --data that are none, and tell them."
        ),
    ]
    return _given(command, options)


def data_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say where labelled sessions come from, and how they are split."""
    options: list[Callable[[Callable[..., None]], Callable[..., None]]] = [
        click.option("--topic", help="Kafka topic of events, in place of --data."),
        click.option(
            "--verdicts",
            metavar="TOPIC|FILE",
            help="Labels are what sessions were found to be: topic of verdicts, or a file of them. The last of each "
            "session holds; what has none is up to --unlabelled and --label-delay.",
        ),
        click.option("--bootstrap-servers", default="127.0.0.1:9092", envvar="KAFKA_BOOTSTRAP_SERVERS"),
        format_options,
        click.option(
            "--split-by",
            type=click.Choice(get_args(By)),
            help="How parts are chosen.  [default: as the data says, by account, by id: the first that can be]",
        ),
        click.option(
            "--split-seed", type=click.IntRange(0, MOST_SEED), help="Of random parts.  [default: 0]"
        ),
        click.option(
            "--test-share",
            type=NumberRange(0, 0.8, min_open=True),
            help=f"Of the data, for the figures.  [default: {TEST_SHARE}]",
        ),
        click.option(
            "--base-rate",
            type=NumberRange(0, 1, min_open=True, max_open=True),
            help=f"Share of attacks where the model serves.  [default: the data's own; realistic: {BASE_RATE:g}]",
        ),
    ]
    return described_options(_given(command, options))


def network_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a network's size, and of how long its sessions may be silent."""
    sizes = click.IntRange(1, 1_024)
    usual = Shape()
    options = [
        click.option("--units", type=sizes, default=usual.units, show_default=True, help="Of the state of a network."),
        click.option("--embedding-units", type=sizes, default=usual.embedding_units, show_default=True, help="Of an action."),
        click.option(
            "--idle-timeout-ms",
            type=click.IntRange(min=1),
            help="The detector's own: a session idle for longer begins anew.  [default: 1800000; train --like: that of the model]",
        ),
    ]  # fmt: skip
    return _given(command, options)


def _given(
    command: Callable[..., None], options: Sequence[Callable[[Callable[..., None]], Callable[..., None]]]
) -> Callable[..., None]:
    for option in reversed(options):
        command = option(command)
    return command


def files_read(options: dict[str, Any]) -> dict[str, Path | None]:
    """Return the files that the options name for reading, by option."""
    return {f"--{name}": options.get(name) for name in ("data", "labels", "description")}


def has_data(options: dict[str, Any]) -> bool:
    """Tell whether the options name data of one's own."""
    return any(options[name] is not None for name in ("data", "topic"))


def refuse_ignored(what: str, names: Collection[str]) -> None:
    """Refuse options that were given and that nothing would come of.

    Args:
        what: ignores them.
        names: of the parameters of the command that runs.

    Raises:
        click.UsageError: one of them is on the command line.
    """
    context = click.get_current_context()
    given = [
        one.opts[0]
        for one in context.command.params
        if one.name in names and context.get_parameter_source(one.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(
            f"{', '.join(given)} given, of which {what} takes nothing: leave it out, or name --data, --topic or another "
            "--preset"
        )


def refuse_ignored_by_source(options: dict[str, Any], of_presets: Collection[str]) -> None:
    """Refuse options that the source ignores, be it data or a preset; `of_presets` are those that data ignores.

    Raises:
        click.UsageError: one of them is on the command line.
    """
    if options["topic"] is not None:
        refuse_ignored("--topic", of_presets)
    elif options["data"] is not None:
        of_topics = () if options["verdicts"] is not None else ("bootstrap_servers",)
        refuse_ignored("--data", (*of_topics, *NAMES, *of_presets))
    else:
        refuse_ignored("simulated traffic", OF_DATA)


def tries_edits(options: dict[str, Any]) -> bool:
    """Tell whether attacks will be changed, for which what signals read is needed again."""
    return bool(options.get("evasions") or options.get("evasion"))


def description_of(options: dict[str, Any]) -> Description:
    """Return the description that the options name, with what they say themselves.

    Raises:
        DataError: it is none.
    """
    told = read_description(options["description"]) if options["description"] else Description()
    document: dict[str, Any] = msgspec.to_builtins(told)
    for name in ("time_unit", "labels_of", "unlabelled", "label_delay"):
        if options[name] is not None:
            document[name] = options[name]
    for one in options["columns"]:
        field, given, column = one.partition("=")
        if not given:
            raise click.UsageError(f"--column {one}: expected FIELD=COLUMN, FIELD one of {', '.join(FIELDS)}")
        document["columns"][field] = column
    return described(document, "the command line")


def words_of(options: dict[str, Any]) -> dict[str, Any]:
    """Return what the description says of actions: those that end a session, and those that move money."""
    told = description_of(options)
    return {name: getattr(told, name) for name in WORDS}


class Own(NamedTuple):
    """Data of one's own.

    Attributes:
        whole: all sessions as they were read, those of which nobody knows anything among them.
        encoding: with the signals that are read of them; None if there are none.
        idle_timeout_ms: a session without an action for longer has ended.
    """

    whole: Sessions
    encoding: Encoding | None
    idle_timeout_ms: int

    def sessions(self, loss: Loss | None = None, *, keeps_fields: bool = False) -> Sessions:
        """Return the labelled sessions, with their signals; see `with_signals`."""
        if self.encoding is None:
            return self.whole
        found = with_signals(self.whole, self.encoding, self.idle_timeout_ms, loss, keeps_fields=keeps_fields)
        return replace(found, signals_window=self.encoding.window)


def own_data(options: dict[str, Any], model: Encoding | None = None, idle_timeout_ms: int = IDLE_MS) -> Own:
    """Read the data that the options name, and say what is to be said of it.

    Args:
        options: of a command.
        model: whose signals are read; None for those that the description declares.
        idle_timeout_ms: a session without an action for longer has ended.

    Raises:
        click.UsageError: they name no source, or several.
        DataError: the source has no sessions to give.
    """
    sources = [name for name in ("preset", "data", "topic") if options[name] is not None]
    if len(sources) != 1:
        given = " and ".join(f"--{name}" for name in sources) or "no source"
        raise click.UsageError(f"{given} given: expected one of --preset, --data, --topic")
    if options["labels"] is not None and options["verdicts"] is not None:
        raise click.UsageError("--labels and --verdicts given: expected one of them")
    servers = options["bootstrap_servers"]
    wire = wire_format_of(*(options[name] for name in NAMES))
    source = options["data"] or Topic(servers, options["topic"], wire)
    labels = options["labels"]
    if (found := options["verdicts"]) is not None:
        labels = Verdicts(Path(found) if Path(found).is_file() else Topic(servers, found))
    words = description_of(options)
    if model is not None:
        words = msgspec.structs.replace(words, signals=model.signals.declared)
    loaded = load(source, words, labels, skip_bad_lines=options["skip_bad_lines"])
    for line in loaded.told:
        click.echo(line, err=True)
    if not words.signals:
        return Own(loaded.sessions, None, idle_timeout_ms)
    encoding = model or Encoding(
        loaded.sessions.names,
        options.get("window") or typical_window(loaded.sessions),
        ends_session=words.ends_session,
        signals=words.signals,
    )
    return Own(loaded.sessions, encoding, idle_timeout_ms)


def splits_of(
    options: dict[str, Any], own: Own, recorded: Mapping[str, Any] | None = None
) -> tuple[Splits, dict[str, int | float | str]]:
    """Split data of one's own, and say how.

    What is trained on has lost some of its histories; what is judged by, none.

    Args:
        options: of a command.
        own: the data.
        recorded: how a model's data was split, which holds where the options say nothing.

    Returns:
        the parts, and how they were made, to be recorded in a model file.

    Raises:
        DataError: the sessions can't be split.
    """
    sessions = own.sessions(keeps_fields=tries_edits(options))
    usual = {"split_by": default_by(sessions), "split_seed": 0, "test_share": TEST_SHARE} | dict(
        recorded or {}
    )
    how = {name: usual[name] if options[name] is None else options[name] for name in SPLIT_OPTIONS}
    parts = split(sessions, *how.values())
    if own.encoding is not None and recorded is None:
        parts = parts._replace(train=split(own.sessions(LOSS), *how.values()).train)
    for line in told_of_split(sessions, parts, how["split_by"]):
        click.echo(line, err=True)
    return parts, how
