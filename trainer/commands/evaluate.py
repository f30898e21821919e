"""`evaluate`: figures of a model on labelled sessions."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, get_args

import click
import msgspec
from rich.console import Console

from detector.model.artifact import Model, ModelRefusedError, UnknownActions, load_model, resolve_model_path
from detector.ranges import NumberRange
from detector.writing import keep_apart
from producer.behaviour.lives.stream import LivesBehaviour
from trainer.commands.options import (
    FILE,
    MOST_SEED,
    SPLIT_OPTIONS,
    data_options,
    files_read,
    own_data,
    refuse_ignored,
    refuse_ignored_by_source,
    splits_of,
    tries_edits,
)
from trainer.commands.tables import show, show_table
from trainer.data.observing import in_history
from trainer.data.sessions import DataError, LabelsOf, Sessions
from trainer.data.simulated import BASE_RATE, TEST_ATTACKS, TEST_LAWFUL, after_warm_up, lived, simulate
from trainer.data.splitting import TEST_SHARE, By
from trainer.data.windows import check_known
from trainer.evaluation.course import Money
from trainer.evaluation.evasion import Edit, Escapes, escapes, read_edits, usual_edits
from trainer.evaluation.exporting import check_path, write_scores
from trainer.evaluation.figures import differences
from trainer.evaluation.figures import evaluate as evaluate_scores
from trainer.evaluation.report import difference_section, escape_section, write_report
from trainer.evaluation.scoring import OnPart, Scored, score_with_model
from trainer.evaluation.thresholds import threshold_for
from trainer.evaluation.units import judge
from trainer.progress import Terminal

_PARTS: Final = {
    "test": "held out",
    "valid": "of the part valid, which chooses a threshold",
    "train": "of the part train, which is learned from",
    "all": "of all parts, what is learned from among them",
}


def _checked(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a table that could not be written, before there are scores to write."""
    try:
        return None if path is None else check_path(path)
    except DataError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.option("--model", required=True, help="Model file, or a packaged model: default, history, seed.")
@click.option("--preset", type=click.Choice(["realistic", "lives"]), help="Simulated traffic.")
@data_options
@click.option(
    "--seed", type=click.IntRange(0, MOST_SEED), default=2_024, show_default=True, help="Of the simulation."
)
@click.option(
    "--sessions",
    type=click.IntRange(min=100),
    default=66_000,
    show_default=True,
    help="Simulated ones: of realistic ones 1 in 11 is an attack, of lives about 1 in 80.",
)
@click.option(
    "--split",
    "part",
    type=click.Choice(["test", "valid", "train", "all"]),
    default="test",
    show_default=True,
    help="Part of the data to evaluate on.",
)
@click.option("--threshold", type=NumberRange(0, 1, min_open=True), help="[default: the model's own]")
@click.option(
    "--challenge-threshold",
    type=NumberRange(0, 1, min_open=True),
    help="[default: the model's own, if it has one]",
)
@click.option(
    "--challenge-fpr",
    type=NumberRange(0, 1, min_open=True),
    help="In its place the score that challenges this share of the lawful sessions evaluated on.",
)
@click.option(
    "--unit", type=click.Choice(get_args(LabelsOf)), help="What an example is.  [default: what is labelled]"
)
@click.option(
    "--at-k",
    multiple=True,
    type=click.IntRange(min=1),
    help="Precision and recall of so many with the highest scores; may be repeated.",
)
@click.option(
    "--compare", "other", help="A second model, on the same sessions: differences with their intervals."
)
@click.option("--evasions", is_flag=True, help="Edit the attacks that are caught, and say what escapes.")
@click.option(
    "--evasion", type=FILE, help="TOML file of further edits, see docs/model.md; implies --evasions."
)
@click.option(
    "--scores", type=FILE, callback=_checked, help="Write the sessions' scores, as .parquet or .csv."
)
@click.option(
    "--event-scores",
    type=FILE,
    callback=_checked,
    help="Write the score after each event, as .parquet or .csv.",
)
@click.option(
    "--report", type=FILE, help="Write plots, page and card: its name, of which the suffix is replaced."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of tables.")
def evaluate(model: str, *, at_k: Sequence[int], as_json: bool, **options: Any) -> None:
    """Evaluate a model on labelled sessions, as the detector would score them: after every action."""
    _check(options)
    keep_apart(
        {f"--{one}": options[one.replace("-", "_")] for one in ("scores", "event-scores")},
        files_read(options),
    )
    try:
        loaded = _loaded(model)
        sessions, whole = _part(options, loaded)
        unit: LabelsOf = options["unit"] or sessions.labels_of
        with Terminal(Console(stderr=True)) as progress:
            progress.on_stage("scoring")
            scored = _scored(loaded, sessions, progress.on_part)
            second = options["other"] and _loaded(options["other"])
            other = second and _scored(second, _seen_by(second, loaded, sessions, options), progress.on_part)
        of_other = [f"--compare: {line}" for line in other.packed.told] if other else []
        for line in (*scored.packed.told, *of_other):
            click.echo(line, err=True)
        base_rate, base_rate_from = _base_rate(options, loaded, unit)
        figures = evaluate_scores(
            scored,
            threshold := options["threshold"] or loaded.threshold,
            base_rate,
            base_rate_from=base_rate_from,
            unit=unit,
            at_k=at_k,
            money=Money.of(loaded.metadata),
            part=_part_in_words(options, loaded),
            challenge_threshold=_challenge_threshold(options, loaded, scored),
        )
        found: dict[str, Any] = msgspec.to_builtins(figures, str_keys=True)
        tables = []
        if second and other:
            compared = differences((scored, threshold), (other, second.threshold), base_rate, unit)
            found["compared"] = compared
            tables.append(difference_section(compared, unit))
        if options["evasions"] or options["evasion"]:
            found["evasions"] = _evasions(loaded, scored, whole, threshold, options["evasion"])
            tables.append(escape_section(found["evasions"]))
        if options["report"] is not None:
            write_report(options["report"], loaded.metadata, figures, scored, tables)
        for name, events in (("scores", False), ("event_scores", True)):
            if options[name] is not None:
                write_scores(options[name], scored, threshold, events=events)
    except (ModelRefusedError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    show(console := Console(), figures)
    for table in tables:
        show_table(console, table)


def _check(options: dict[str, Any]) -> None:
    """Refuse options that the sessions to evaluate on leave without a meaning."""
    if options["challenge_threshold"] and options["challenge_fpr"]:
        raise click.UsageError(
            "--challenge-threshold and --challenge-fpr each decide who is challenged: expected one of them"
        )
    if options["preset"] is not None:
        refuse_ignored("simulated traffic", ("part",))
    elif options["part"] == "all":
        refuse_ignored("--split all", SPLIT_OPTIONS)
    refuse_ignored_by_source(options, ("seed", "sessions"))


def _challenge_threshold(options: dict[str, Any], model: Model, scored: Scored) -> float | None:
    if options["challenge_fpr"] is None:
        given: float | None = options["challenge_threshold"]
        return given or model.challenge_threshold
    judged = judge(scored, "session")
    return threshold_for(judged.scores[~judged.labels], options["challenge_fpr"])


def _loaded(model: str) -> Model:
    path = resolve_model_path(model)
    try:
        return load_model(path, UnknownActions.TOKEN)
    except ModelRefusedError:
        return load_model(path)


def _part(options: dict[str, Any], model: Model) -> tuple[Sessions, Sessions | None]:
    """Return the sessions to evaluate on and, if they are to be changed, all that the signals rest on."""
    if options["preset"] == "lives":
        whole = lived(options["sessions"], options["seed"], LivesBehaviour(), model.encoding.signals.fields)
        edits = tries_edits(options)
        idle_ms = _recorded(model).idle_timeout_ms
        return after_warm_up(
            whole, model.metadata.signals, idle_ms, keeps_fields=edits
        ), whole if edits else None
    if options["preset"] == "realistic":
        attacks = round(options["sessions"] * TEST_ATTACKS / (TEST_LAWFUL + TEST_ATTACKS))
        return simulate(options["sessions"] - attacks, attacks, options["seed"]), None
    own = own_data(options, model.encoding, _recorded(model).idle_timeout_ms)
    rest = own.whole if own.encoding is not None and tries_edits(options) else None
    if options["part"] == "all":
        return own.sessions(keeps_fields=rest is not None), rest
    recorded = _recorded(model)
    how = {name: getattr(recorded, name) for name in SPLIT_OPTIONS}
    if recorded.split_by is None:
        del how["split_by"]
    part: Sessions = getattr(splits_of(options, own, how)[0], options["part"])
    return part, rest


def _part_in_words(options: dict[str, Any], model: Model) -> str:
    """Say which sessions are evaluated on: of other data than the training's none is held out, or learned from."""
    if options["preset"]:
        return "simulated"
    source = options["data"].name if options["data"] else options["topic"]
    trained_on = _recorded(model).source or f"the preset {model.metadata.preset}"
    if source == trained_on:
        return _PARTS[options["part"]]
    of = "" if options["part"] == "all" else f"the part {options['part']} of "
    return f"of {of}{source}, by a model trained on {trained_on}"


def _seen_by(second: Model, first: Model, sessions: Sessions, options: dict[str, Any]) -> Sessions:
    """Return the sessions as a second model sees them, which may read other signals."""
    alike = second.metadata.signals in {(), first.metadata.signals}
    return sessions if alike else _part(options, second)[0]


def _base_rate(options: dict[str, Any], model: Model, unit: LabelsOf) -> tuple[float | None, str]:
    """Return the share of attacks to assume, None for the examples' own, and where it is from."""
    if options["base_rate"] is not None:
        return options["base_rate"], "given"
    recorded = _recorded(model)
    if recorded.base_rate is not None and unit == recorded.unit:
        return recorded.base_rate, "the model's own"
    return (BASE_RATE, "the preset's") if options["preset"] else (None, "")


def _scored(model: Model, sessions: Sessions, on_part: OnPart | None = None) -> Scored:
    unknown = sorted(name for name in sessions.names if not model.encoding.knows(name))
    if unknown:
        raise DataError(
            f"the model knows neither {', '.join(unknown[:5])} nor a token for unknown actions: expected actions of its "
            "vocabulary; train it on such data"
        )
    check_known(sessions, model.encoding)
    return score_with_model(model, sessions, _recorded(model).idle_timeout_ms, on_part)


class _Recorded(msgspec.Struct, frozen=True):
    """What a model file says of its training, as far as an evaluation goes by it."""

    source: str | None = None
    unit: LabelsOf = "session"
    base_rate: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    idle_timeout_ms: Annotated[int, msgspec.Meta(ge=1)] = 1_800_000
    split_by: By | None = None
    split_seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    test_share: Annotated[float, msgspec.Meta(gt=0, le=0.8)] = TEST_SHARE


def _recorded(model: Model) -> _Recorded:
    try:
        return msgspec.convert(model.metadata.training, _Recorded)
    except msgspec.ValidationError as error:
        raise DataError(
            f"the model's record of its training is not one that the trainer writes ({error}): expected its own file; train "
            "it again"
        ) from error


def _evasions(
    model: Model, scored: Scored, whole: Sessions | None, threshold: float, own: Path | None
) -> list[Escapes]:
    def score(changed: Sessions) -> Scored:
        if whole is not None:
            changed = in_history(whole, changed, model.encoding, _recorded(model).idle_timeout_ms)
        return _scored(model, changed)

    metadata, names = model.metadata, {*scored.sessions.names, *model.encoding.vocabulary}
    ends = [name for name in metadata.ends_session if name in scored.sessions.names]
    usual = usual_edits(scored.sessions, Money.of(metadata), ends, _recorded(model).idle_timeout_ms)
    edits = read_edits(own, names) if own else []

    def tried(some: list[Edit]) -> Iterator[Escapes]:
        return escapes(scored, threshold, some, names.__contains__, score, ends)

    return [*(one for one in tried(usual) if one.attacks), *tried(edits)]
