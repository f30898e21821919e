"""Arguments that several studies take."""

from functools import partial

import click

from detector.model.artifact import Model, ModelRefusedError, load_model, resolve_model_path


def _loaded(_context: click.Context, _parameter: click.Parameter, model: str) -> Model:
    try:
        return load_model(resolve_model_path(model or "default"))
    except ModelRefusedError as error:
        raise click.BadParameter(str(error)) from error


model_argument = partial(
    click.argument,
    "model",
    callback=_loaded,
    help="Model file, or a packaged model: default, history, seed.",
)
"""The argument MODEL, which the command gets loaded."""
rounds_argument = partial(
    click.argument,
    "rounds",
    type=click.IntRange(min=1),
    default=5,
    help="Repetitions of what is timed, 5 unless given.",
)
