"""`train`: from labelled sessions to a model file."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from detector.core.encoding import Encoding
from detector.model.artifact import ModelRefusedError, UnknownActions, load_model, resolve_model_path
from trainer.commands.options import FILE, data_options, has_data, sessions_of
from trainer.commands.tables import show
from trainer.data.sessions import DataError, Splits, split
from trainer.data.sources import BASE_RATE, REALISTIC_SESSIONS, realistic_splits
from trainer.data.windows import Weighing
from trainer.evaluation.report import write_report
from trainer.progress import EpochLines, Terminal, plain_figures
from trainer.training.backend import BackendMissingError
from trainer.training.config import TrainingConfig
from trainer.training.seed_training import TrainingError, train_and_evaluate
from trainer.training.sequence import Schedule, Shape
from trainer.training.sequence_training import DEFAULT_TARGET_FPR, SequenceConfig, train_sequence

_SEED_DEFAULTS = {field.name: field.default for field in fields(TrainingConfig)}
_SCHEDULE = Schedule()
_SHAPE = Shape()


@click.command()
@click.option(
    "--preset", type=click.Choice(["seed", "realistic"]), help="Simulated traffic.  [default: seed]"
)
@data_options
@click.option(
    "--out",
    required=True,
    type=FILE,
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
            if options["preset"] == "realistic" or has_data(options):
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
    show(console, trained.figures)
    click.echo(
        f"threshold {trained.figures.threshold:.6g}, window "
        f"{trained.metadata.window}, {len(trained.metadata.gap_bounds_ms)} gap bounds, Keras against onnxruntime "
        f"{trained.parity_error:.1e}"
    )
    return trained.parameters


def _encoding_of(model: str) -> Encoding:
    return load_model(resolve_model_path(model), UnknownActions.TOKEN).encoding


def _splits(options: dict[str, Any], seed: int) -> tuple[Splits, float | None, dict[str, int | float | str]]:
    if has_data(options):
        return split(sessions_of(options)), options["base_rate"], {}
    left_out = options["leave_out"]
    recorded: dict[str, int | float | str] = {"sessions": options["sessions"]}
    if left_out:
        recorded["left_out"] = ",".join(left_out)
    parts = realistic_splits(options["sessions"], seed, left_out)
    return parts, options["base_rate"] or BASE_RATE, recorded
