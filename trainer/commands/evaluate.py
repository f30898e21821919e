"""`evaluate`: figures of a model on labelled sessions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from detector.model.artifact import ModelRefusedError, UnknownActions, load_model, resolve_model_path
from trainer.commands.options import FILE, data_options, sessions_of, splits_of
from trainer.commands.tables import show
from trainer.data.sessions import DataError, Sessions
from trainer.data.simulated import BASE_RATE, TEST_ATTACKS, TEST_LAWFUL, simulate
from trainer.evaluation.figures import evaluate as evaluate_scores
from trainer.evaluation.report import write_report
from trainer.evaluation.scoring import score_with_model


@click.command()
@click.option("--model", required=True, help="Model file, or a packaged model: default, seed.")
@click.option("--preset", type=click.Choice(["realistic"]), help="Simulated traffic.")
@data_options
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
    "--report", type=FILE, help="Write plots, page and card: its name, of which the suffix is replaced."
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
            sessions = sessions_of(options) if part == "all" else getattr(splits_of(options), part)
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
    show(Console(), figures)


def _check_vocabulary(sessions: Sessions, knows: Callable[[str], bool]) -> None:
    unknown = sorted(name for name in sessions.names if not knows(name))
    if unknown:
        raise DataError(
            f"the model knows neither {', '.join(unknown[:5])} nor a token for unknown actions: expected actions of its "
            "vocabulary; train it on such data"
        )
