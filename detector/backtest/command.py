"""The command: `python -m detector backtest`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec
from kafka.errors import KafkaError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from detector.backtest.comparing import Blocked, Group
from detector.backtest.report import draw, show
from detector.backtest.running import Backtest, Side, backtest, read_labels
from detector.contract.labels import LabelsRefusedError
from detector.contract.topics import ACTIONS_TOPIC
from detector.model.artifact import ModelRefusedError, UnknownActions, load_model, resolve_model_path
from detector.model.rules import RulesRefusedError, load_rules
from detector.options import config_of, settings
from detector.ranges import NumberRange
from detector.runtime.config import ConfigurationError
from detector.runtime.recovery import TopicsUnfitError
from detector.runtime.replaying import batches_of_file, batches_of_topic
from detector.runtime.topics import fitted
from detector.writing import keep_apart

_TWO = 2


class _Summary(msgspec.Struct, kw_only=True):
    """What --json prints."""

    models: list[str]
    events: int
    verdicts: int
    span_ms: int
    elapsed_s: float
    times_real: float
    groups: list[Group]
    totals: list[Group]
    newly: list[Blocked]
    no_longer: list[Blocked]
    rules: Mapping[str, int]


@click.command("backtest")
@click.option(
    "--model",
    "paths",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="Model file, or a packaged model: default, history, seed. Twice: the one in service, and the other. The same twice "
    "compares two thresholds.",
)
@click.option(
    "--threshold",
    "thresholds",
    type=NumberRange(0, 1, min_open=True),
    multiple=True,
    help="Score that blocks; once for both, or twice.  [default: each model's own]",
)
@click.option(
    "--rules",
    "rules_paths",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="Rules file: once for the other model, or twice. Of the other one all rules act, those in shadow too.",
)
@click.option(
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="History: JSON lines of events (.gz too).",
)
@click.option("--topic", help="History: a topic, from its start to its end as of now.")
@settings(
    "bootstrap_servers",
    "input_format",
    "field",
    "unknown_actions",
    "challenge_threshold",
    "step_up_passed",
    "step_up_failed",
    "idle_timeout_ms",
    "max_sessions",
    "max_accounts",
    "account_timeout_ms",
    "max_event_bytes",
    "max_future_ms",
    "clock",
    "time_tolerance_ms",
)
@click.option(
    "--labels",
    "labels_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The truth: JSON lines of session_id, label 0 or 1, and type, as the producer writes them.  [default: the verdicts "
    "in the history]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of tables.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the difference as PNG.")
def backtest_command(
    *,
    paths: tuple[Path, ...],
    thresholds: tuple[float, ...],
    rules_paths: tuple[Path, ...],
    path: Path | None,
    topic: str | None,
    labels_path: Path | None,
    as_json: bool,
    plot: Path | None,
    **given: Any,
) -> None:
    """Replay history through two models: who is newly blocked, who no longer, by family where labels exist.

    Nothing is published. Give what the detector in service was given: its variables count here too.
    """
    config = config_of({"input_topic": topic or ACTIONS_TOPIC, **given})
    sides = _sides(paths, thresholds, rules_paths, UnknownActions(config.unknown_actions))
    keep_apart({"--plot": plot}, {"--file": path, "--labels": labels_path})
    if (path is None) == (topic is None):
        raise click.UsageError("expected the history in either --file or --topic")
    try:
        labels = read_labels(labels_path) if labels_path else {}
        config = config if path else fitted(config)
        batches = batches_of_file(path, config) if path else batches_of_topic(config)
        with _progress(as_json=as_json) as progress:
            task = progress.add_task("replaying", total=None)
            outcome = backtest(
                batches, sides, config, labels, advance=lambda count: progress.advance(task, count)
            )
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    except (LabelsRefusedError, TopicsUnfitError, KafkaError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if outcome.told:
        click.echo(f"Warning: {outcome.told}", err=True)
    names = (sides[0].name, sides[1].name)
    if plot:
        try:
            draw(outcome.comparison, names, plot)
        except ImportError as error:
            raise click.ClickException(
                "--plot needs matplotlib: expected it installed, as the extra 'train' does"
            ) from error
    if as_json:
        click.echo(msgspec.json.encode(_summary(outcome, sides)))
    else:
        show(outcome, names, _told_of_verdicts(outcome, labelled=bool(labels)))


def _sides(
    paths: tuple[Path, ...],
    thresholds: tuple[float, ...],
    rules_paths: tuple[Path, ...],
    unknown_actions: UnknownActions,
) -> tuple[Side, Side]:
    if len(paths) != _TWO or len(thresholds) > _TWO or len(rules_paths) > _TWO:
        raise click.UsageError(
            f"--model was given {len(paths)} times, --threshold {len(thresholds)} times and --rules {len(rules_paths)} "
            "times: expected --model twice, the one in service first, and the others at most twice"
        )
    try:
        models = [load_model(resolve_model_path(path), unknown_actions) for path in paths]
        of_both = [None] * (_TWO - len(rules_paths)) + [*rules_paths]
        rules = [
            None if path is None else load_rules(path, model.encoding, acts=other)
            for path, model, other in zip(of_both, models, (False, True), strict=True)
        ]
    except ModelRefusedError as error:
        raise click.ClickException(str(error)) from error
    except RulesRefusedError as error:
        raise click.UsageError(str(error)) from error
    limits = thresholds * (_TWO // len(thresholds)) if thresholds else [model.threshold for model in models]
    first, second = (Side(*each) for each in zip(models, limits, rules, strict=True))
    return first, second


def _told_of_verdicts(outcome: Backtest, *, labelled: bool) -> str:
    if not outcome.verdicts:
        return (
            "no verdicts in the history, as `relay-verdicts` takes them there: none clears a session, lists an account or makes "
            "one forget" + ("" if labelled else ", and nothing says who is rightly blocked (--labels)")
        )
    labels = "--labels says what each was" if labelled else "they are the labels"
    return f"verdicts in the history: on {outcome.verdicts:,} sessions; {labels}"


def _progress(*, as_json: bool) -> Progress:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} events"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, disable=as_json or not console.is_terminal, transient=True)


def _summary(outcome: Backtest, sides: tuple[Side, Side]) -> _Summary:
    return _Summary(
        models=[side.name for side in sides],
        events=outcome.events,
        verdicts=outcome.verdicts,
        span_ms=outcome.span_ms,
        elapsed_s=outcome.elapsed_s,
        times_real=outcome.times_real,
        groups=outcome.comparison.groups,
        totals=outcome.comparison.totals,
        newly=outcome.comparison.newly,
        no_longer=outcome.comparison.no_longer,
        rules=outcome.matches,
    )
