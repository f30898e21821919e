"""The command line of the trainer."""

import itertools
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from detector.core.encoding import Encoding
from detector.model.artifact import ModelRefusedError, UnknownActions, load_model, resolve_model_path
from trainer.comparing import CANDIDATES, HEADER, LEFT_OUT_HEADER, leave_one_out
from trainer.comparing import compare as compare_models
from trainer.data.sessions import DataError, Sessions, Splits, read_sessions, simulate, split
from trainer.data.sources import (
    BASE_RATE,
    REALISTIC_SESSIONS,
    TEST_ATTACKS,
    TEST_LAWFUL,
    events_of_file,
    events_of_topic,
    labelled_sessions,
    read_labels,
    realistic_splits,
)
from trainer.data.windows import Weighing
from trainer.evaluation.baselines import score_with_model
from trainer.evaluation.figures import evaluate as evaluate_scores
from trainer.evaluation.report import figure_rows, group_rows, markdown_table, write_report
from trainer.progress import EpochLines, Terminal, plain_figures
from trainer.training.backend import BackendMissingError
from trainer.training.config import TrainingConfig
from trainer.training.seed_training import TrainingError, train_and_evaluate
from trainer.training.sequence import Schedule, Shape
from trainer.training.sequence_training import DEFAULT_TARGET_FPR, SequenceConfig, train_sequence

_SEED_DEFAULTS = {field.name: field.default for field in fields(TrainingConfig)}
_SCHEDULE = Schedule()
_SHAPE = Shape()
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Train the model that the detector scores with, and evaluate any."""


def _data_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say where labelled sessions come from."""
    options = [
        click.option(
            "--data", type=_FILE, help="Labelled sessions, JSON lines (.gz too); see docs/model.md."
        ),
        click.option("--events", type=_FILE, help="Recorded events (JSON lines, .gz too); needs --labels."),
        click.option("--topic", help="Kafka topic of events; needs --labels."),
        click.option("--labels", type=_FILE, help="Label file, as the producer writes it."),
        click.option("--bootstrap-servers", default="127.0.0.1:9092", envvar="KAFKA_BOOTSTRAP_SERVERS"),
        click.option("--skip-bad-lines", is_flag=True, help="Leave out lines of --data that are no session."),
        click.option(
            "--base-rate",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            help=f"Share of attacks where the model serves.  [default: the data's own; realistic: {BASE_RATE:g}]",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@main.command()
@click.option(
    "--preset", type=click.Choice(["seed", "realistic"]), help="Simulated traffic.  [default: seed]"
)
@_data_options
@click.option(
    "--out",
    required=True,
    type=_FILE,
    help="Model file to write (.onnx); replaced only once the new one is complete.",
)
@click.option(
    "--sessions",
    type=click.IntRange(min=100),
    default=REALISTIC_SESSIONS,
    show_default=True,
    help="Realistic sessions to train on.",
)
@click.option("--leave-out", multiple=True, help="Realistic attack family to train without; may be repeated.")
@click.option(
    "--window", type=click.IntRange(1, 4_096), help="Actions read.  [default: from the data, at most 24]"
)
@click.option(
    "--like",
    help="Model file, or a packaged model, whose vocabulary, window and gap buckets to keep: so that the new one can "
    "take its place, or be its challenger, without a restart.",
)
@click.option("--cell", type=click.Choice(["lstm", "gru"]), default=_SHAPE.cell, show_default=True)
@click.option("--units", type=click.IntRange(1, 1_024), default=_SHAPE.units, show_default=True)
@click.option(
    "--embedding-units", type=click.IntRange(1, 1_024), default=_SHAPE.embedding_units, show_default=True
)
@click.option("--gap-buckets", type=click.IntRange(2, 250), default=24, show_default=True)
@click.option("--no-time", is_flag=True, help="Train without times.")
@click.option("--no-prefixes", is_flag=True, help="Train on whole sessions only.")
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    help=f"[default: {_SCHEDULE.epochs} at most; seed: {_SEED_DEFAULTS['epochs']}]",
)
@click.option(
    "--patience",
    type=click.IntRange(min=1),
    default=_SCHEDULE.patience,
    show_default=True,
    help="Epochs without a better validation loss before the end.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help=f"Windows a step.  [default: {_SCHEDULE.batch_size}; seed: {_SEED_DEFAULTS['batch_size']}]",
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, 1, min_open=True),
    default=_SCHEDULE.learning_rate,
    show_default=True,
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    help="Of simulation, split and weights.  [default: 1; seed preset: 42]",
)
@click.option(
    "--target-fpr",
    type=click.FloatRange(0, 1, min_open=True),
    default=DEFAULT_TARGET_FPR,
    show_default=True,
    help="Lawful sessions that may raise an alarm in their life; sets the threshold.",
)
@click.option("--cost-fn", type=click.FloatRange(min=0, min_open=True), help="Cost of a missed attack.")
@click.option("--cost-fp", type=click.FloatRange(min=0, min_open=True), help="Cost of a false alarm.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    default=_SEED_DEFAULTS["threshold"],
    show_default=True,
    help="Score that blocks; of the seed preset only.",
)
@click.option(
    "--idle-timeout-ms",
    type=click.IntRange(min=1),
    default=1_800_000,
    show_default=True,
    help="The detector's own: a session idle for longer begins anew.",
)
@click.option("--name", help="Name of the model in its alerts.  [default: session-lstm; seed: seed-lstm]")
@click.option("--version", default="1", show_default=True, help="Version in its alerts.")
@click.option(
    "--report/--no-report",
    default=True,
    show_default=True,
    help="Write plots, page and model card beside the model.",
)
def train(out: Path, *, report: bool, **options: Any) -> None:
    """Train a model, choose its threshold, evaluate it on sessions held out, and write it as one ONNX file.

    On one machine the same command writes the same file, byte for byte.
    """
    console = Console()
    partial = out.with_name(f"{out.name}.partial")
    try:
        partial.write_bytes(b"")  # that it cannot be written is better known before the training
        try:
            if options["preset"] == "realistic" or _has_data(options):
                parameters = _train_sequence(console, partial, out, options, report=report)
            else:
                parameters = _train_seed(console, partial, options)
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
    except (BackendMissingError, TrainingError, DataError, ModelRefusedError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(
            f"{out} cannot be written ({error.strerror}): expected a file in a folder that is there; choose another --out"
        ) from error
    click.echo(f"{out}: {out.stat().st_size:,} bytes, {parameters:,} parameters")


def _train_seed(console: Console, partial: Path, options: dict[str, Any]) -> int:
    given = {
        name: options[name]
        for name in ("epochs", "batch_size", "seed", "threshold", "name", "version")
        if options[name] is not None
    }
    config = TrainingConfig(**given)
    with EpochLines(console, config.epochs) as progress:
        trained = train_and_evaluate(config, progress)
    partial.write_bytes(trained.file)
    plain_figures(console, trained)
    return trained.parameters


def _train_sequence(
    console: Console, partial: Path, out: Path, options: dict[str, Any], *, report: bool
) -> int:
    seed = 1 if options["seed"] is None else options["seed"]
    if (options["cost_fn"] is None) != (options["cost_fp"] is None):
        raise click.UsageError(
            "--cost-fn and --cost-fp were not both given: expected both, or --target-fpr alone"
        )
    if options["like"] and (options["window"] or options["no_time"]):
        raise click.UsageError(
            "--like keeps a model's window and gap buckets: expected no --window and no --no-time"
        )
    parts, base_rate, recorded = _splits(options, seed)
    chosen = {"epochs": options["epochs"], "batch_size": options["batch_size"]}
    config = SequenceConfig(
        shape=Shape(options["cell"], options["units"], options["embedding_units"]),
        schedule=Schedule(
            seed=seed,
            patience=options["patience"],
            learning_rate=options["learning_rate"],
            **{name: value for name, value in chosen.items() if value is not None},
        ),
        weighing=Weighing(every_prefix=not options["no_prefixes"]),
        window=options["window"],
        gap_buckets=0 if options["no_time"] else options["gap_buckets"],
        encoding=_encoding_of(options["like"]) if options["like"] else None,
        target_fpr=options["target_fpr"],
        cost_fn=options["cost_fn"],
        cost_fp=options["cost_fp"],
        base_rate=base_rate,
        idle_timeout_ms=options["idle_timeout_ms"],
        preset=options["preset"] or "data",
        name=options["name"] or "session-lstm",
        version=options["version"],
        data_parameters=recorded,
    )
    with Terminal(console) as progress:
        trained = train_sequence(config, parts, progress)
    partial.write_bytes(trained.file)
    load_model(partial, UnknownActions.TOKEN)  # refused here rather than by the detector
    if report:
        for path in write_report(out, trained.metadata, trained.figures, trained.test):
            click.echo(str(path))
    _show(console, trained.figures)
    click.echo(
        f"threshold {trained.figures.threshold:.6g}, window "
        f"{trained.metadata.window}, {len(trained.metadata.gap_bounds_ms)} gap bounds, Keras against onnxruntime "
        f"{trained.parity_error:.1e}"
    )
    return trained.parameters


def _encoding_of(model: str) -> Encoding:
    return load_model(resolve_model_path(model), UnknownActions.TOKEN).encoding


@main.command()
@click.option("--model", required=True, help="Model file, or a packaged model: default, seed.")
@click.option("--preset", type=click.Choice(["realistic"]), help="Simulated traffic.")
@_data_options
@click.option(
    "--seed", type=click.IntRange(min=0), default=2_024, show_default=True, help="Of the simulation."
)
@click.option(
    "--sessions",
    type=click.IntRange(min=100),
    default=66_000,
    show_default=True,
    help="Realistic sessions; 1 in 11 is an attack.",
)
@click.option(
    "--split",
    "part",
    type=click.Choice(["test", "valid", "train", "all"]),
    default="test",
    show_default=True,
    help="Part of the data to evaluate on.",
)
@click.option("--threshold", type=click.FloatRange(0, 1, min_open=True), help="[default: the model's own]")
@click.option(
    "--report", type=_FILE, help="Write plots, page and card: its name, of which the suffix is replaced."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of tables.")
def evaluate(
    model: str, *, part: str, threshold: float | None, report: Path | None, as_json: bool, **options: Any
) -> None:
    """Evaluate a model on labelled sessions, as the detector would score them: after every action."""
    try:
        path = resolve_model_path(model)
        try:
            loaded = load_model(path, UnknownActions.TOKEN)
        except ModelRefusedError:
            loaded = load_model(path)
        if options["preset"] == "realistic":
            attacks = round(options["sessions"] * TEST_ATTACKS / (TEST_LAWFUL + TEST_ATTACKS))
            sessions = simulate(options["sessions"] - attacks, attacks, options["seed"])
            base_rate = options["base_rate"] or BASE_RATE
        else:
            read = _sessions(options)
            sessions = read if part == "all" else getattr(split(read), part)
            base_rate = options["base_rate"]
        _check_vocabulary(sessions, loaded.encoding.knows)
        idle_ms = int(loaded.metadata.training.get("idle_timeout_ms", 1_800_000))
        scored = score_with_model(loaded, sessions, idle_ms)
        figures = evaluate_scores(scored, threshold or loaded.threshold, base_rate)
        if report is not None:
            write_report(report, loaded.metadata, figures, scored)
    except (ModelRefusedError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(msgspec.json.encode(figures))
        return
    _show(Console(), figures)


@main.command()
@click.option("--sessions", type=click.IntRange(min=1_000), default=30_000, show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--window", type=click.IntRange(1, 4_096), default=20, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option(
    "--only",
    type=click.Choice([candidate.name for candidate in CANDIDATES]),
    multiple=True,
    help="Beside the baselines, train these instead of all; may be repeated.",
)
@click.option("--leave-one-out", "families", is_flag=True, help="Compare left-out families, not models.")
def compare(
    *, sessions: int, epochs: int, window: int, seed: int, only: tuple[str, ...], families: bool
) -> None:
    """Train and evaluate models, ablations and baselines on the same realistic sessions; print Markdown tables."""
    config = SequenceConfig(
        schedule=Schedule(seed=seed, epochs=epochs), window=window, base_rate=BASE_RATE, preset="realistic"
    )
    if families:
        header: tuple[str, ...] = LEFT_OUT_HEADER
        rows = leave_one_out(config, sessions, seed)
    else:
        header = HEADER
        chosen = [one for one in CANDIDATES if not only or one.name in only]
        rows = compare_models(config, realistic_splits(sessions, seed), chosen)
    try:
        for line in markdown_table(header, rows):
            click.echo(line)
    except (BackendMissingError, TrainingError) as error:
        raise click.ClickException(str(error)) from error


def _check_vocabulary(sessions: Sessions, knows: Callable[[str], bool]) -> None:
    unknown = sorted(name for name in sessions.names if not knows(name))
    if unknown:
        raise DataError(
            f"the model knows neither {', '.join(unknown[:5])} nor a token for unknown actions: expected actions of its "
            "vocabulary; train it on such data"
        )


def _has_data(options: dict[str, Any]) -> bool:
    return any(options[name] is not None for name in ("data", "events", "topic"))


def _splits(options: dict[str, Any], seed: int) -> tuple[Splits, float | None, dict[str, int | float | str]]:
    if _has_data(options):
        return split(_sessions(options)), options["base_rate"], {}
    left_out = options["leave_out"]
    recorded: dict[str, int | float | str] = {"sessions": options["sessions"]}
    if left_out:
        recorded["left_out"] = ",".join(left_out)
    parts = realistic_splits(options["sessions"], seed, left_out)
    return parts, options["base_rate"] or BASE_RATE, recorded


def _sessions(options: dict[str, Any]) -> Sessions:
    sources = [name for name in ("preset", "data", "events", "topic") if options[name] is not None]
    if len(sources) != 1:
        raise click.UsageError(
            f"{sources or 'no source'} given: expected one of --preset, --data, --events, --topic"
        )
    if options["data"] is not None:
        sessions, bad = read_sessions(options["data"], skip_bad_lines=options["skip_bad_lines"])
        for number, reason in itertools.islice(bad, 20):
            click.echo(f"line {number} left out: {reason}", err=True)
        return sessions
    if options["labels"] is None:
        raise click.UsageError("events without --labels: expected a label file beside them")
    labels = read_labels(options["labels"])
    if options["events"] is not None:
        return labelled_sessions(events_of_file(options["events"]), labels)
    return labelled_sessions(events_of_topic(options["bootstrap_servers"], options["topic"]), labels)


def _show(console: Console, figures: Any) -> None:
    """Print the figures: tables in a terminal, plain lines elsewhere."""
    families = [(name, count, share, before) for name, count, share, before in group_rows(figures.by_family)]
    lawful = list(group_rows(figures.by_lawful_kind))
    for header, rows in (
        (("on the sessions held out", "", "95 % interval"), list(figure_rows(figures))),
        (("attack family", "sessions", "blocked", "before the last large transfer"), families),
        (("lawful kind", "sessions", "false alarms", ""), lawful),
    ):
        if console.is_terminal:
            table = Table(*header)
            for row in rows:
                table.add_row(*row)
            console.print(table)
        else:
            for row in rows:
                click.echo(f"{row[0]}: {'  '.join(filter(None, row[1:]))}")
