"""The commands of the detector: run, alerts, score, replay, redrive, schemas, and those of the modules beside."""

import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec
from kafka.errors import AuthorizationError, KafkaError

from detector.accounts import accounts
from detector.backtest.command import backtest_command
from detector.check_topic import check_topic_command
from detector.console.command import console
from detector.contract.alerts import Alert
from detector.contract.dead_letters import DeadLetter, Reason
from detector.contract.schemas import write_schemas
from detector.contract.topics import ALERTS_TOPIC
from detector.core.pipeline import ProcessingError
from detector.core.shadowing import Challenger
from detector.explain import explain
from detector.formats.registry import registry_in_use
from detector.model.artifact import (
    Model,
    ModelRefusedError,
    UnknownActions,
    load_model,
    resolve_model_path,
)
from detector.model.at_hand import ModelMissingError, ModelsAtHand
from detector.model.rules import Rules, RulesRefusedError
from detector.options import config_of, settings
from detector.rules import rules_command, rules_of
from detector.runtime.config import ConfigurationError, DetectorConfig
from detector.runtime.epochs import decided_by_epochs, epochs_of_group
from detector.runtime.garbage import relax_garbage_collection
from detector.runtime.health import Heartbeat, Watchdog
from detector.runtime.metrics import DetectorMetrics
from detector.runtime.notices import Absences
from detector.runtime.processing import challenger_of, needless, processor_of
from detector.runtime.pseudonyms import KeyRefusedError, Pseudonyms
from detector.runtime.recovery import TRANSACTION_FAILURES, StateRefusedError, TopicsUnfitError
from detector.runtime.redriving import REDRIVABLE, Redriver
from detector.runtime.reloading import ModelWatch, RulesWatch
from detector.runtime.repeats import Repeats
from detector.runtime.replaying import batches_of_file, batches_of_topic
from detector.runtime.replaying import replay as replay_log
from detector.runtime.service import Detector
from detector.runtime.subscription import subscribe
from detector.runtime.topics import fitted
from detector.scoring import score
from detector.security import permissions, pseudonym
from detector.stopping import stop_on_signals
from detector.terminal import because, printable
from detector.verdicts import relay_verdicts, verdict
from detector.version import VERSION
from detector.watching import watched
from detector.writing import keep_apart, written_whole

_LOG = logging.getLogger("detector")
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True}


@click.group(context_settings=_CONTEXT)
@click.version_option(VERSION)
def main() -> None:
    """Detect account takeovers in streams of session actions, and publish block alerts exactly once."""


@main.command()
@settings()
def run(**given: Any) -> None:
    """Score the sessions of the input topic and publish block alerts, until SIGTERM or SIGINT."""
    config = config_of(given)
    logging.basicConfig(level=config.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(Repeats())
    logging.getLogger("kafka").setLevel(max(logging.WARNING, logging.getLevelName(config.log_level)))
    model = _load(config.model_path, config.unknown_actions)  # before anything is consumed
    for wrong in needless(model, config):
        raise click.UsageError(wrong)
    challenger, rules = _challenger(config, model), rules_of(config.rules, model)
    pseudonyms = _pseudonyms(config)
    stop = stop_on_signals()
    metrics, heartbeat = DetectorMetrics(), Heartbeat()
    if challenger is not None:
        metrics.shadow_model.info(msgspec.structs.asdict(challenger.policy.model))
    _LOG.info(
        "model %s, threshold %s, group %s",
        model.reference,
        config.threshold or model.threshold,
        config.group,
    )
    if rules is not None:
        _LOG.info("%s beside it", rules.told)
    if (signals := model.encoding.signals).of_history:
        _LOG.info("it reads %d signals, the history of accounts among them: key = account id", len(signals))
    relax_garbage_collection()
    try:
        registry_in_use()  # what it needs is there, or nothing is consumed
        with (
            watched(config, metrics.registry, heartbeat),
            _watch(config, model, rules, metrics) as fresh,
        ):
            Detector(
                config,
                model,
                metrics,
                heartbeat,
                challenger=challenger,
                rules=rules,
                pseudonym=pseudonyms.of,
                **fresh,
            ).run(stop)
    except AuthorizationError as error:
        raise click.ClickException(
            f"{error}. Expected the broker to allow what `python -m detector permissions` lists"
        ) from error
    except KafkaError as error:
        raise click.ClickException(str(error)) from error
    except ProcessingError as error:
        raise click.ClickException(
            f"{error}. Nothing of the batch was committed: mend the model or update the detector, or go on without the "
            "record, with --on-processing-failure dead-letter"
        ) from error
    except (StateRefusedError, TopicsUnfitError) as error:
        raise click.ClickException(f"{type(error).__name__}: {error}") from error
    _LOG.info("stopped")


@main.command()
@click.option(
    "--bootstrap-servers", default="127.0.0.1:9092", envvar="KAFKA_BOOTSTRAP_SERVERS", show_envvar=True
)
@click.option("--topic", default=ALERTS_TOPIC, envvar="DETECTOR_ALERTS_TOPIC", show_envvar=True)
@click.option(
    "--from-beginning", is_flag=True, help="Start with the oldest alert kept, not with the next one."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document a line, as on the topic.")
@click.option("--max", "most", type=click.IntRange(min=1), help="End after so many alerts.")
def alerts(
    *, bootstrap_servers: str, topic: str, from_beginning: bool, as_json: bool, most: int | None
) -> None:
    """Subscribe to the alerts and print each as it is committed, until SIGTERM or SIGINT."""
    logging.getLogger("kafka").setLevel(logging.ERROR)
    stop = stop_on_signals()
    try:
        arriving = subscribe(bootstrap_servers, topic, from_beginning=from_beginning, stop=stop.is_set)
        for alert in itertools.islice(filter(None, arriving), most):
            click.echo(msgspec.json.encode(alert) if as_json else describe(alert))
    except KafkaError as error:
        raise click.ClickException(f"no alerts from {bootstrap_servers}, topic {topic}: {error}") from error


main.add_command(score)


@main.command()
@settings()
@click.option(
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Replay a file of JSON lines (.gz too) instead of the input topic.",
)
@click.option(
    "--models",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of every model that was in service: each part of the topic is decided by the one of then, under its "
    "thresholds, as <group>.models has it.",
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Alerts as JSON lines."
)
def replay(*, path: Path | None, folder: Path | None, out: Path, **given: Any) -> None:
    """Compute offline, with the same core, the alerts that the detector must publish for a log.

    `detected_at_ms` is 0 in each. Settings that touch neither the log nor the decisions are ignored.
    """
    config = config_of(given)
    model = _load(config.model_path, config.unknown_actions)
    logging.getLogger("kafka").setLevel(logging.ERROR)
    dead_letters: Counter[str] = Counter()
    if path and folder:
        raise click.UsageError(
            "--models goes with the input topic, not with --file: a file has no history of models"
        )
    keep_apart({"--out": out}, {"--file": path})
    for name in ("model", "rules") if folder else ():
        if click.get_current_context().get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name} decides nothing beside --models: expected one of the two")
    count, absences, firsts = 0, Absences(), dict[str, DeadLetter]()
    try:
        config = fitted(config) if path is None else config
        batches = batches_of_topic(config) if path is None else batches_of_file(path, config)
        replayed = (
            replay_log(batches, processor_of(model, config, rules=rules_of(config.rules, model)))
            if folder is None
            else decided_by_epochs(batches, ModelsAtHand(folder), epochs_of_group(config), config)
        )
        with written_whole(out) as file:
            for processed in replayed:
                absences.add(processed)
                dead_letters.update(letter.reason.value for letter in processed.letters)
                for letter in processed.letters:
                    firsts.setdefault(letter.reason.value, letter)
                for alert in processed.outcome.alerts:
                    file.write(msgspec.json.encode(alert) + b"\n")
                    count += 1
    except (
        TopicsUnfitError,
        ModelMissingError,
        ModelRefusedError,
        RulesRefusedError,
        ProcessingError,
        ConfigurationError,  # an epoch's, of before such settings were refused
        KafkaError,
        OSError,
    ) as error:
        raise click.ClickException(str(error)) from error
    if told := absences.told():
        click.echo(f"Warning: {told}", err=True)
    for reason, first in firsts.items():
        click.echo(f"The first that is {reason}, at offset {first.offset}: {first.detail}", err=True)
    click.echo(f"{count} alerts, dead letters: {_counts(dead_letters)}")


@main.command()
@settings()
@click.option(
    "--reason",
    "reasons",
    type=click.Choice([reason.value for reason in REDRIVABLE]),
    multiple=True,
    help="Only dead letters of this reason; may be given more than once.  [default: all of them]",
)
@click.option("--dry-run", is_flag=True, help="Count what would be redriven; publish nothing.")
@click.option("--max", "most", type=click.IntRange(min=1), help="End after so many events.")
def redrive(*, reasons: tuple[str, ...], dry_run: bool, most: int | None, **given: Any) -> None:
    """Publish dead-lettered events to the input topic again, once each, after what was wrong is fixed.

    Each run goes on where the last one for the same reason ended, and ends where the dead letters ended when it
    began. It may be interrupted at any time.
    """
    config = config_of(given)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("kafka").setLevel(logging.ERROR)
    heartbeat = Heartbeat()
    redriver = Redriver(
        config,
        [Reason(reason) for reason in reasons] or REDRIVABLE,
        dry_run=dry_run,
        most=most,
        alive=heartbeat.beat,
    )
    try:
        with Watchdog(heartbeat, config.stall_timeout_ms / 1000):
            outcome = redriver.run()
    except (*TRANSACTION_FAILURES, TopicsUnfitError, KafkaError) as error:
        then = (
            "Nothing was published; run it again"
            if dry_run
            else "What was committed before stays so; run it again to go on from there"
        )
        raise click.ClickException(f"{type(error).__name__}: {error}. {then}") from error
    verb = "would be redriven" if dry_run else "redriven"
    click.echo(f"{outcome.redriven.total()} {verb} to {config.input_topic}: {_counts(outcome.redriven)}")
    if outcome.kept:
        click.echo(f"{outcome.kept.total()} kept on {config.dead_letter_topic}: {_counts(outcome.kept)}")


main.add_command(check_topic_command)
main.add_command(explain)
main.add_command(accounts)
main.add_command(verdict)
main.add_command(relay_verdicts)
main.add_command(console)
main.add_command(permissions)
main.add_command(pseudonym)


@main.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def schemas(folder: Path) -> None:
    """Write the contract into FOLDER: JSON Schemas of events and alerts, and an AsyncAPI document."""
    for path in write_schemas(folder):
        click.echo(path.name)


main.add_command(backtest_command)
main.add_command(rules_command)


def _counts(counter: Mapping[Any, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counter.items())) or "none"


def describe(alert: Alert) -> str:
    """Put an alert into one line, with what mattered most."""
    actions = " → ".join(alert.window)
    latency_ms = alert.detected_at_ms - alert.received_at_ms
    return printable(
        f"{alert.decision} session {alert.session_id} account {alert.account_id} score {alert.score:.4f} "
        f"{'≥' if alert.score >= alert.threshold else '<'} {alert.threshold:g} after {latency_ms} ms: {actions}{because(alert.explanation)}"
        f" (alert {alert.alert_id})"
    )


def _load(path: Path | None, unknown_actions: str = UnknownActions.DEAD_LETTER) -> Model:
    try:
        return load_model(resolve_model_path(path or "default"), UnknownActions(unknown_actions))
    except ModelRefusedError as error:
        raise click.ClickException(str(error)) from error


def _challenger(config: DetectorConfig, champion: Model) -> Challenger | None:
    if not config.shadow_model:
        return None
    model = _load(resolve_model_path(config.shadow_model), config.unknown_actions)
    if model.encoding.fingerprint != champion.encoding.fingerprint:
        raise click.UsageError(
            f"--shadow-model {config.shadow_model} has another vocabulary, window, gap buckets, signals or ends of sessions "
            "than the model that decides, in whose steps the live sessions are kept: expected the same ones. A model of other steps runs "
            "beside as a detector of its own, with another --group and --alerts-topic"
        )
    return challenger_of(model, config)


def _pseudonyms(config: DetectorConfig) -> Pseudonyms:
    try:
        return Pseudonyms.from_file(Path(config.pseudonym_key_file) if config.pseudonym_key_file else None)
    except KeyRefusedError as error:
        raise click.UsageError(f"--pseudonym-key-file: {error}") from error


@contextmanager
def _watch(
    config: DetectorConfig, model: Model, rules: Rules | None, metrics: DetectorMetrics
) -> Iterator[dict[str, Any]]:
    """Watch the files of model and rules for the block, if they are to be watched; yields what asks for a new one of each."""
    fresh: dict[str, Any] = {}
    with ExitStack() as stack:
        if interval_s := config.model_watch_ms / 1000:
            path = config.model_path or resolve_model_path("default")
            count = metrics.model_reloads.labels
            watch = stack.enter_context(ModelWatch(path, model, interval_s, lambda one: count(one).inc()))
            fresh["fresh_model"] = watch.take
            if rules is not None:
                counted = metrics.rules_reloads.labels
                of_rules = RulesWatch(Path(config.rules), rules, interval_s, lambda one: counted(one).inc())
                fresh["fresh_rules"] = stack.enter_context(of_rules).take
        yield fresh
