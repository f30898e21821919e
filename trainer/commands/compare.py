"""`compare`: models and baselines that must be beaten, on the same sessions."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import click
from rich.console import Console

from detector.core.encoding import EncodingError
from producer.behaviour.attacks import ATTACK_FAMILIES
from producer.behaviour.lives.attackers import SCHEMES
from trainer.commands.lives import lives_parts
from trainer.commands.options import (
    IDLE_MS,
    MOST_SEED,
    data_options,
    description_of,
    has_data,
    network_options,
    own_data,
    refuse_ignored,
    refuse_ignored_by_source,
    splits_of,
    words_of,
)
from trainer.comparing import (
    VARIANTS,
    folded,
    leave_one_out,
    split_in_folds,
    table,
    variants_of,
    verdicts,
)
from trainer.comparing import compare as compare_models
from trainer.data.declared import DEFAULT_SIGNALS
from trainer.data.sessions import DataError, Splits
from trainer.data.simulated import BASE_RATE, realistic_splits
from trainer.evaluation.report import Section, markdown_table
from trainer.progress import Terminal
from trainer.training.backend import BackendMissingError
from trainer.training.calibration import TrainingError
from trainer.training.config import TrainingConfig
from trainer.training.defaults import Schedule
from trainer.training.network import Shape

MOST_RUNS: Final = 20


@click.command()
@click.option(
    "--preset",
    type=click.Choice(["realistic", "lives"]),
    help="Simulated traffic.  [default: realistic, without data]",
)
@data_options
@click.option(
    "--sessions",
    type=click.IntRange(min=1_000),
    default=30_000,
    show_default=True,
    help="Simulated sessions to train on.",
)
@click.option(
    "--folds",
    type=click.IntRange(2, MOST_RUNS),
    help="Of one's own data, at random by account where there are some, each tested on once.",
)
@click.option(
    "--seeds",
    type=click.IntRange(2, MOST_RUNS),
    help="Trainings of each on the same sessions: the spread between them.",
)
@click.option(
    "--steps", type=click.IntRange(min=1), help="Of each training, at most.  [default: from the data]"
)
@click.option("--window", type=click.IntRange(1, 4_096), help="Actions read.  [default: from the data]")
@click.option("--seed", type=click.IntRange(0, MOST_SEED - MOST_RUNS), default=1, show_default=True)
@click.option(
    "--only",
    type=click.Choice([variant.name for variant in VARIANTS]),
    multiple=True,
    help="Beside the baselines, train these; may be repeated.  [default: default with data, else all]",
)
@network_options
@click.option("--leave-one-out", "families", is_flag=True, help="Compare left-out families, not models.")
def compare(
    *,
    sessions: int,
    folds: int | None,
    seeds: int | None,
    steps: int | None,
    window: int | None,
    seed: int,
    only: tuple[str, ...],
    families: bool,
    **options: Any,
) -> None:
    """Train and evaluate models, ablations and baselines on the same sessions; print Markdown tables.

    Baselines are logistic regression on how often each action and each pair of actions came, and gradient-boosted trees
    on the window and its signals. A network that does not beat both is not worth its trouble: the lines below the
    table say so.
    """
    own = has_data(options)
    lives = options["preset"] == "lives"
    if (own and families) or (folds and not own) or (seeds and (folds or families)):
        raise click.UsageError(
            "--leave-one-out is of simulated traffic, --folds of data, --seeds of either: expected one of the three"
        )
    refuse_ignored_by_source(options, ("sessions",))
    if folds:
        refuse_ignored("--folds", ("split_by", "test_share"))
    if families:
        refuse_ignored("--leave-one-out", ("only",))
    try:
        config = TrainingConfig(
            schedule=Schedule(seed=seed, steps=steps),
            shape=Shape(units=options["units"], embedding_units=options["embedding_units"]),
            window=window,
            idle_timeout_ms=options["idle_timeout_ms"] or IDLE_MS,
            base_rate=options["base_rate"] or (None if own else BASE_RATE),
            **words_of(options),
            signals=DEFAULT_SIGNALS if lives else description_of(options).signals,
            preset="data" if own else options["preset"] or "realistic",
        )
        wanted = only or (["default"] if own else [one.name for one in VARIANTS])
        chosen = [one for one in variants_of(config) if one.name in wanted]
        with Terminal(Console(stderr=True)) as progress:
            if families:
                names = [one.name for one in (SCHEMES if lives else ATTACK_FAMILIES)]
                _print(leave_one_out(config, names, partial(_simulated, config, sessions)))
                return
            if folds:
                own_sessions = own_data(options, idle_timeout_ms=config.idle_timeout_ms).sessions()
                each = split_in_folds(own_sessions, folds, options["split_seed"] or 0)
                of = "sessions" if own_sessions.accounts is None else "accounts"
                click.echo(
                    f"{folds} folds of {of} at random, attacked ones spread over all: each is tested on once",
                    err=True,
                )
                runs = ((config, parts) for parts in each)
            else:
                whole = _parts(options, config, sessions)
                seeded = (replace(config.schedule, seed=seed + more) for more in range(seeds or 1))
                runs = ((replace(config, schedule=one), whole) for one in seeded)
            found = [list(compare_models(*run, chosen, progress)) for run in runs]
        _print(folded(found) if len(found) > 1 else table(found[0]))
        for number, rows in enumerate(found, 1):
            for line in verdicts(rows, config.base_rate):
                click.echo(f"run {number}: {line}" if len(found) > 1 else line)
    except (BackendMissingError, TrainingError, DataError, EncodingError) as error:
        raise click.ClickException(str(error)) from error


def _parts(options: dict[str, Any], config: TrainingConfig, sessions: int) -> Splits:
    if has_data(options):
        return splits_of(options, own_data(options, idle_timeout_ms=config.idle_timeout_ms))[0]
    return _simulated(config, sessions)


def _simulated(config: TrainingConfig, sessions: int, left_out: Sequence[str] = ()) -> Splits:
    if config.preset == "lives":
        return lives_parts(sessions, config.schedule.seed, config.signals, config.idle_timeout_ms, left_out)
    return realistic_splits(sessions, config.schedule.seed, left_out)


def _print(section: Section) -> None:
    for line in markdown_table(section.header, section.rows):
        click.echo(line)
