"""`compare`: models and baselines on the same sessions."""

import click

from trainer.comparing import CANDIDATES, HEADER, LEFT_OUT_HEADER, leave_one_out
from trainer.comparing import compare as compare_models
from trainer.data.sources import BASE_RATE, realistic_splits
from trainer.evaluation.report import markdown_table
from trainer.training.backend import BackendMissingError
from trainer.training.calibration import TrainingError
from trainer.training.defaults import Schedule
from trainer.training.pipeline import TrainingConfig


@click.command()
@click.option("--sessions", type=click.IntRange(min=1_000), default=30_000, show_default=True)
@click.option(
    "--steps", type=click.IntRange(min=1), help="Of each training, at most.  [default: from the data]"
)
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
    *, sessions: int, steps: int | None, window: int, seed: int, only: tuple[str, ...], families: bool
) -> None:
    """Train and evaluate models, ablations and baselines on the same realistic sessions; print Markdown tables."""
    config = TrainingConfig(
        schedule=Schedule(seed=seed, steps=steps), window=window, base_rate=BASE_RATE, preset="realistic"
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
