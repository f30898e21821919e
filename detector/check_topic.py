"""The command `python -m detector check-topic`."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final

import click
import msgspec
from kafka.errors import KafkaError

from detector.model.artifact import ModelRefusedError, UnknownActions, load_model, resolve_model_path
from detector.options import config_of, settings
from detector.runtime.checking import Report, check_topic
from detector.runtime.processing import processor_of
from detector.runtime.recovery import TopicsUnfitError
from detector.terminal import printable

_FOUND: Final = 1
_DAY_MS: Final = 86_400_000


class NotCheckedError(click.ClickException):
    """Nothing could be checked, and so nothing is known to be well."""

    exit_code = 2


@click.command(name="check-topic")
@settings()
@click.option(
    "--max-events",
    "most",
    type=click.IntRange(min=1),
    default=100_000,
    show_default=True,
    help="Most records that are looked at, the latest of each partition.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of words.")
def check_topic_command(*, most: int, as_json: bool, **given: Any) -> None:
    """Look at the input topic as the detector would: keys, partitioners, settings, and what would be dead letters.

    Nothing is written, nor committed. Ends with exit code 0 if all is well, 1 with findings, each with what to do, and 2 if
    nothing could be checked. Settings that touch neither are ignored.
    """
    config = config_of(given)
    logging.getLogger("kafka").setLevel(logging.ERROR)
    try:
        unknown_actions = UnknownActions(config.unknown_actions)
        model = load_model(resolve_model_path(config.model_path or "default"), unknown_actions)
        config = config.served_with(model.idle_timeout_ms)
        report = check_topic(config, processor_of(model, config), most)
    except (ModelRefusedError, TopicsUnfitError, KafkaError) as error:
        raise NotCheckedError(str(error)) from error
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        for line in _lines(report, config.account_timeout_ms if model.encoding.signals.of_history else 0):
            click.echo(printable(line))
    if report.findings:
        click.get_current_context().exit(_FOUND)


def _lines(report: Report, remembered_ms: int) -> Iterator[str]:
    yield (
        f"{report.topic}: {report.partitions} partitions, the latest {report.records:,} records, {report.events:,} of them events"
    )
    yield f"  keys          {_counts(report.keys)}"
    yield f"  accounts      {report.accounts:,}, {report.split_accounts:,} of them in several partitions"
    yield f"  sessions      {report.sessions:,}, {report.split_sessions:,} of them in several partitions"
    shares = ", ".join(f"{share:.1%} by {name}" for name, share in report.partitioners.items())
    yield f"  partitioners  keys where each would put them: {shares or 'too few keys or partitions to tell'}"
    yield f"  dead letters  {_counts(report.dead_letters)}"
    yield f"  settings      {', '.join(f'{name}={value}' for name, value in report.settings.items())}"
    retention_ms = int(report.settings["retention.ms"])
    if 0 <= retention_ms < remembered_ms:
        yield (
            f"  rebuild       finds {retention_ms / _DAY_MS:.3g} days of what is kept of accounts for {remembered_ms / _DAY_MS:.3g} "
            "(--account-timeout-ms)"
        )
    yield f"{len(report.findings)} findings" if report.findings else "nothing to mend"
    for one in report.findings:
        yield f"- {one.about}: {one.seen}. Expected {one.expected}"


def _counts(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())) or "none"
