"""`train`: from labelled sessions to a model file."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from rich.console import Console

from detector.core.encoding import Encoding, EncodingError
from detector.core.signals import Signal, Signals
from detector.model.artifact import ModelRefusedError, UnknownActions, load_model, resolve_model_path
from detector.ranges import NumberRange
from detector.writing import keep_apart
from trainer.commands.lives import lives_parts
from trainer.commands.options import (
    FILE,
    MOST_SEED,
    data_options,
    description_of,
    files_read,
    has_data,
    network_options,
    own_data,
    refuse_ignored,
    refuse_ignored_by_source,
    splits_of,
    words_of,
)
from trainer.commands.tables import show
from trainer.data.declared import DEFAULT_SIGNALS
from trainer.data.observing import told_of_signals
from trainer.data.sessions import DataError, Splits
from trainer.data.simulated import (
    BASE_RATE,
    REALISTIC_SESSIONS,
    realistic_splits,
    seed_preset,
)
from trainer.data.windows import Weighing
from trainer.evaluation.report import write_report
from trainer.evaluation.units import labels_by
from trainer.progress import Terminal
from trainer.training.backend import BackendMissingError
from trainer.training.calibration import DEFAULT_CHALLENGE_FPR, DEFAULT_TARGET_FPR, TrainingError, Wanted
from trainer.training.checkpoint import CheckpointError
from trainer.training.config import TrainingConfig
from trainer.training.defaults import GAP_BUCKETS, Schedule
from trainer.training.network import Shape
from trainer.training.notebook import NOTEBOOK, SESSIONS, TEST_SHARE
from trainer.training.pipeline import Trained
from trainer.training.pipeline import train as train_model

_OF_NOTEBOOK: Final = {
    *("preset", "seed", "steps", "batch_size", "learning_rate", "name", "version", "device"),
    *Wanted._fields,
    "challenge_fpr",
}
"""Options that the preset seed takes; all else of it is as in the notebook."""
_FROM_DATA = "[default: from the data]"


@click.command()
@click.option(
    "--preset", type=click.Choice(["seed", "realistic", "lives"]), help="Simulated traffic.  [default: seed]"
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
    help="Simulated sessions to train on, of the presets realistic and lives: of lives about so many, of 100 customers at "
    "least, 60 days of each.",
)
@click.option("--leave-out", multiple=True, help="Simulated attack family to train without; may be repeated.")
@click.option("--no-signals", is_flag=True, help="Train without what lives carry beside actions and times.")
@click.option(
    "--window", type=click.IntRange(1, 4_096), help="Actions read.  [default: from the data, at most 24]"
)
@click.option(
    "--like",
    help="Model file, or a packaged model, whose vocabulary, window and gap buckets to keep, so that the new one can "
    "take its place, or be its challenger, without a restart; and its name and budgets, where none are given.",
)
@network_options
@click.option(
    "--members",
    type=click.IntRange(1, 20),
    help=f"Networks whose mean is the model; each is judged by a part of the data that it has not seen.  {_FROM_DATA}",
)
@click.option("--no-time", is_flag=True, help="Train without times.")
@click.option("--no-prefixes", is_flag=True, help="Train on whole sessions only.")
@click.option("--steps", type=click.IntRange(min=1), help=f"Of each network, at most.  {_FROM_DATA}")
@click.option("--batch-size", type=click.IntRange(min=1), help=f"Windows a step.  {_FROM_DATA}")
@click.option(
    "--learning-rate",
    type=NumberRange(0, 1, min_open=True),
    help=f"Of Adam, at the start.  [default: {Schedule().learning_rate}; seed preset: {NOTEBOOK.schedule.learning_rate}]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, MOST_SEED),
    help=f"Of simulation, split and weights.  [default: 1; seed preset: {NOTEBOOK.schedule.seed}]",
)
@click.option(
    "--target-fpr",
    type=NumberRange(0, 1, min_open=True),
    help="Lawful sessions that may raise an alarm in their life; sets the threshold.  "
    f"[default: {DEFAULT_TARGET_FPR}; the best F1, where the data cannot show so few]",
)
@click.option(
    "--challenge-fpr",
    type=NumberRange(0, 1, min_open=True),
    help="Lawful sessions that may be asked for a second factor in their life; sets the challenge threshold.  "
    f"[default: {DEFAULT_CHALLENGE_FPR}; none, where the data cannot show so few]",
)
@click.option("--cost-fn", type=NumberRange(min=0, min_open=True), help="Cost of a missed attack.")
@click.option("--cost-fp", type=NumberRange(min=0, min_open=True), help="Cost of a false alarm.")
@click.option(
    "--threshold", type=NumberRange(0, 1, min_open=True), help="Score that blocks, whatever the budget."
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "gpu"]),
    default="cpu",
    show_default=True,
    help="What to train on; only the CPU gives the same bytes again.",
)
@click.option("--resume", is_flag=True, help="Go on from where the same command was ended.")
@click.option(
    "--name",
    help="Name of the model in its alerts.  [default: session-lstm, or session-bigrams; seed: seed-lstm]",
)
@click.option(
    "--version",
    help="Version in its alerts.  [default: the first digits of a hash of all else in the file; seed: 1]",
)
@click.option(
    "--report/--no-report",
    default=True,
    show_default=True,
    help="Write plots, page and model card beside the model.",
)
def train(out: Path, *, resume: bool, report: bool, **options: Any) -> None:
    """Train a model, choose its threshold, evaluate it on sessions held out, and write it as one ONNX file.

    On one machine the same command writes the same file, byte for byte, and so does one that was ended and gone on
    with. What has been trained lies in OUT.checkpoint until the file is written.
    """
    console = Console()
    keep_apart({"--out": out}, files_read(options))
    partial, kept = out.with_name(f"{out.name}.partial"), out.with_name(f"{out.name}.checkpoint")
    try:
        partial.write_bytes(b"")  # that it cannot be written is better known before the training
        if not resume:
            shutil.rmtree(kept, ignore_errors=True)
        try:
            with Terminal(console) as progress:
                config, parts = _asked(options)
                trained = train_model(config, parts, progress, kept)
            partial.write_bytes(trained.file)
            load_model(
                partial,
                UnknownActions.TOKEN if trained.metadata.unknown_token else UnknownActions.DEAD_LETTER,
            )
            partial.replace(out)  # what the detector would refuse was refused here
        finally:
            partial.unlink(missing_ok=True)
        shutil.rmtree(kept, ignore_errors=True)
        if report:
            for path in write_report(out, trained.metadata, trained.figures, trained.test):
                click.echo(str(path))
    except (
        BackendMissingError,
        CheckpointError,
        TrainingError,
        DataError,
        EncodingError,
        ModelRefusedError,
    ) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt as error:
        raise click.ClickException(
            f"ended before the model was complete: the same command with --resume goes on from {kept}"
        ) from error
    except OSError as error:
        raise click.ClickException(
            f"{out} cannot be written ({error.strerror}): expected a file in a folder that is there; choose another --out"
        ) from error
    show(console, trained.figures)
    click.echo(_summary(trained))
    click.echo(f"{out}: {out.stat().st_size:,} bytes, {trained.parameters:,} parameters")


def _summary(trained: Trained) -> str:
    metadata = trained.metadata
    chosen = metadata.training
    return (
        f"threshold {metadata.threshold:.6g} by {chosen['threshold_by']}: on validation "
        f"{chosen['valid_false_alarm_rate']:.3%} of {chosen['valid_lawful']:,} lawful {chosen['unit']}s alarmed, recall "
        f"{chosen['valid_recall']:.2%}; window {metadata.window}, {len(metadata.gap_bounds_ms)} gap bounds, Keras against "
        f"onnxruntime {trained.parity_error:.1e}"
    )


def _asked(options: dict[str, Any]) -> tuple[TrainingConfig, Splits]:
    """Return the training that the options ask for, and its sessions."""
    if (options["cost_fn"] is None) != (options["cost_fp"] is None):
        raise click.UsageError(
            "--cost-fn and --cost-fp were not both given: expected both, or --target-fpr alone"
        )
    deciding = [
        f"--{name.replace('_', '-')}"
        for name in ("threshold", "cost_fn", "target_fpr")
        if options[name] is not None
    ]
    if len(deciding) > 1:
        raise click.UsageError(f"{' and '.join(deciding)} each decide the threshold: expected one of them")
    if options["like"] and (options["window"] or options["no_time"]):
        raise click.UsageError(
            "--like keeps a model's window and gap buckets: expected no --window and no --no-time"
        )
    is_notebook = options["preset"] in {None, "seed"} and not has_data(options)
    if is_notebook:
        refuse_ignored("the preset seed", options.keys() - _OF_NOTEBOOK)
    else:
        refuse_ignored_by_source(options, ("sessions", "leave_out"))
    config = NOTEBOOK if is_notebook else TrainingConfig(preset=options["preset"] or "data")
    seed = config.schedule.seed if options["seed"] is None else options["seed"]
    given = {name: options[name] for name in ("steps", "batch_size", "learning_rate") if options[name]}
    if not is_notebook and not has_data(options):
        config = replace(config, wanted=Wanted(target_fpr=DEFAULT_TARGET_FPR))
    wanted = {name: options[name] for name in Wanted._fields if options[name] is not None}
    config = replace(
        config,
        schedule=replace(config.schedule, seed=seed, **given),
        wanted=Wanted(**wanted) if wanted else config.wanted,
        name=options["name"] or config.name,
        version=options["version"] or config.version,
        device=options["device"],
        challenge_fpr=options["challenge_fpr"],
    )
    if is_notebook:
        return config, seed_preset(SESSIONS, seed, TEST_SHARE)
    config = _in_place_of(options["like"], config, chosen=bool(wanted))
    like, idle_timeout_ms = config.encoding, options["idle_timeout_ms"] or config.idle_timeout_ms
    options = {**options, "idle_timeout_ms": idle_timeout_ms}
    signals = DEFAULT_SIGNALS if options["preset"] == "lives" else description_of(options).signals
    if like is not None:
        signals = like.signals.declared
    if options["no_signals"]:
        signals = ()
    for line in told_of_signals(Signals(signals)):
        click.echo(line, err=True)
    parts, base_rate, recorded = _splits(options, seed, signals, like)
    config = replace(
        config,
        signals=signals,
        shape=Shape(units=options["units"], embedding_units=options["embedding_units"]),
        members=options["members"],
        weighing=Weighing(every_prefix=not options["no_prefixes"]),
        window=options["window"],
        gap_buckets=0 if options["no_time"] else GAP_BUCKETS,
        base_rate=base_rate,
        idle_timeout_ms=idle_timeout_ms,
        **words_of(options),
        data_parameters=recorded,
    )
    return config, parts


def _in_place_of(like: str | None, config: TrainingConfig, *, chosen: bool) -> TrainingConfig:
    """Return the training of what may take a model's place: its steps, and where none are given its name and its budgets.

    Args:
        like: the model's file or name; None if there is none to replace.
        config: as asked for.
        chosen: whether the options say what decides the threshold. A score that was given is none of another model's.
    """
    if like is None:
        return config
    replaced = load_model(resolve_model_path(like))
    if not replaced.metadata.unknown_token:
        raise click.UsageError(
            f"--like {like}: it has no token for unknown actions, which what is trained in its place would have: expected a model "
            "with one, as all are but the notebook's; or no --like"
        )
    replaced = replaced.treating(UnknownActions.TOKEN)
    training, challenge_fpr = replaced.metadata.training, config.challenge_fpr
    kept = {name: float(training[name]) for name in ("target_fpr", "cost_fn", "cost_fp") if name in training}
    if challenge_fpr is None and replaced.challenge_threshold is not None:
        challenge_fpr = float(training.get("challenge_fpr", DEFAULT_CHALLENGE_FPR))
    return replace(
        config,
        encoding=replaced.encoding,
        name=config.name or replaced.reference.name,
        idle_timeout_ms=replaced.idle_timeout_ms,
        wanted=Wanted(**kept) if kept and not chosen else config.wanted,
        challenge_fpr=challenge_fpr,
    )


def _splits(
    options: dict[str, Any], seed: int, signals: Sequence[Signal], like: Encoding | None
) -> tuple[Splits, float | None, dict[str, int | float | str]]:
    if has_data(options):
        own, how = splits_of(options, own_data(options, like, options["idle_timeout_ms"]))
        source = options["data"].name if options["data"] else options["topic"]
        labels = np.concatenate([labels_by(part, part.labels_of) for part in own])
        told = {"source": source, "labelled": len(labels), "attacks": int(labels.sum())}
        return own, options["base_rate"], told | how
    left_out = options["leave_out"]
    recorded: dict[str, int | float | str] = {"sessions": options["sessions"]}
    if left_out:
        recorded["left_out"] = ",".join(left_out)
    count, base_rate = options["sessions"], options["base_rate"] or BASE_RATE
    if options["preset"] == "lives":
        parts = lives_parts(count, seed, signals, options["idle_timeout_ms"], left_out)
        return parts, base_rate, recorded
    return realistic_splits(count, seed, left_out), base_rate, recorded
