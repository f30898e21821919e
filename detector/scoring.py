"""The command: `python -m detector score`."""

import itertools
import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import click
import msgspec

from detector.client.reading import opened
from detector.contract.alerts import Decision
from detector.contract.events import MalformedEventError, SessionEvent, decode_event
from detector.contract.fields import Value
from detector.core.decision import Policy, wanted_by
from detector.core.encoding import Encoding, UnknownActionError
from detector.core.limits import SessionLimits
from detector.core.memo import ScoreMemo
from detector.core.partition import Partition
from detector.core.pipeline import Pipeline
from detector.core.reasons import Case, reasons_of
from detector.core.ruling import acting
from detector.core.staging import Candidate, Entry, stage
from detector.formats.options import format_options, wire_format_of
from detector.formats.wire import WireFormat
from detector.model.artifact import Model, ModelRefusedError, load_model, resolve_model_path
from detector.ranges import NumberRange
from detector.rules import rules_of
from detector.runtime.config import ConfigurationError, DetectorConfig
from detector.runtime.processing import needless

_LONGEST_MS: Final = 10**12
_FOREVER_MS: Final = 10**15
_ATTRIBUTE: Final = "attributes."
_SAID: Final = {
    Decision.BLOCK: "BLOCKED",
    Decision.CHALLENGE: "CHALLENGED",
    Decision.REVIEW: "REVIEWED",
}
_SESSION: Final = "the session to score"


@click.command()
@click.option(
    "--model",
    "path",
    type=click.Path(path_type=Path),
    help="Model file, or a packaged model: default, history, seed.  [default: default]",
)
@click.option("--threshold", type=NumberRange(0, 1, min_open=True), help="[default: the model's own]")
@click.option(
    "--challenge-threshold",
    type=NumberRange(-1, 1),
    help="Score that asks for a second factor; 0 asks for none, -1 takes the model's own.  [default: none]",
)
@click.option(
    "--gaps-s",
    "gaps",
    help="Seconds before each action but the first, such as 12,40,6; for a model that reads times.  "
    "[default: 0 before each]",
)
@click.option(
    "--amounts",
    help="Amount of each action, nothing for none, such as ,,950; for a model that reads amounts.",
)
@click.option(
    "--attribute",
    "attributes",
    metavar="NAME=VALUE[,…]",
    multiple=True,
    help="An attribute that the model reads: one value for all actions, or one for each, nothing for none. May be "
    "given more than once.",
)
@click.option(
    "--history",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What the account did before: its events as JSON lines (.gz too), in the order of time.  [default: nothing]",
)
@format_options
@click.option(
    "--after-s",
    type=NumberRange(min=0, max=1e9),
    default=86_400,
    show_default=True,
    help="Seconds from the last event of the history to the first action.",
)
@click.option(
    "--rules",
    "rules_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Rules file: those that hold at the last action are told, and decide with the score if they act.",
)
@click.option("--why", is_flag=True, help="Tell what weighed most, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of words.")
@click.argument("actions", nargs=-1, required=True)
def score(
    *,
    path: Path | None,
    threshold: float | None,
    challenge_threshold: float | None,
    gaps: str | None,
    amounts: str | None,
    attributes: tuple[str, ...],
    history: Path | None,
    input_format: str,
    field: tuple[str, ...],
    after_s: float,
    rules_path: Path | None,
    why: bool,
    as_json: bool,
    actions: tuple[str, ...],
) -> None:
    """Score one session, given its ACTIONS in order, and say BLOCKED, CHALLENGED or ALLOWED.

    Signals are computed as in service, over the history and then the session: what would be blocked teaches nothing.
    """
    try:
        model = load_model(resolve_model_path(path or "default"))
    except ModelRefusedError as error:
        raise click.ClickException(str(error)) from error
    policy = _policy(model, threshold, challenge_threshold)
    fields = _fields(model, amounts, attributes, len(actions))
    wire = wire_format_of(input_format, field)
    before = [] if history is None else _history(history, model.encoding, wire, policy.step_ups)
    try:
        partition = _partition(model, policy, before)
        candidates = _candidates(
            actions, _times_ms(gaps, len(actions)), fields, before, after_s, partition, model
        )
    except UnknownActionError as error:
        raise click.UsageError(f"{error}: expected {', '.join(model.encoding.vocabulary)}") from error
    steps = b"".join(one.steps[-model.encoding.step_bytes :] for one in candidates)
    begins = len(actions) - len(steps) // model.encoding.step_bytes
    if begins:
        click.echo(f"{actions[begins - 1]} ends a session: scored are the actions after it", err=True)
    risk = model.session_scores(steps)[-1]
    rules = rules_of(rules_path, model)
    ruled = rules.of(candidates[-1:], [risk]) if rules else {}
    held = [rule for found in ruled.values() for rule in found]
    wanted = wanted_by(risk, policy, next(iter(acting(ruled).values()), None))
    verdict = _SAID[wanted.decision] if wanted else "ALLOWED"
    reasons = [f"{one.told}: {one.then.value}{' in shadow' if one.shadow else ''}" for one in held]
    reasons += _reasons(model, steps) if why else []
    if as_json:
        answer = {
            "risk": risk,
            "threshold": policy.threshold,
            "decision": verdict,
            "actions": actions[begins:][-model.encoding.window :],
            **({"explanation": reasons} if why or held else {}),
        }
        click.echo(msgspec.json.encode(answer))
    else:
        click.echo("\n  ".join([f"{verdict}  risk {risk:.6f}, threshold {policy.threshold:g}", *reasons]))


def _policy(model: Model, threshold: float | None, challenge_threshold: float | None) -> Policy:
    """Return what decides, of options that are read as `run` reads them."""
    try:
        config = DetectorConfig(threshold=threshold or 0.0, challenge_threshold=challenge_threshold or 0.0)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    for wrong in needless(model, config):
        raise click.UsageError(wrong)
    policy = config.policy(model.threshold, model.reference, model.challenge_threshold)
    return replace(policy, breaker=None)


def _limits(model: Model) -> SessionLimits:
    """Whatever the gaps: it is said to be one session. The account learns as it would in service."""
    return SessionLimits(_FOREVER_MS, account_timeout_ms=_FOREVER_MS, over_after_ms=model.idle_timeout_ms)


def _partition(model: Model, policy: Policy, entries: Sequence[Entry]) -> Partition:
    """Return what is left of some events: what the detector has of them, whose policy it is."""
    memo = ScoreMemo(model.encoding, model.score)
    pipeline = Pipeline(
        encoding=model.encoding, score=memo.of, policy=policy, limits=_limits(model), evidence=model.evidence
    )
    partition = Partition()
    deque(pipeline.over(partition, entries, ("history", 0)), maxlen=0)
    return partition


def _candidates(
    actions: Sequence[str],
    times_ms: Sequence[int],
    fields: Sequence[tuple[Value, ...]],
    before: Sequence[Entry],
    after_s: float,
    partition: Partition,
    model: Model,
) -> list[Candidate]:
    """Return the session that the last action lies in, staged behind what the account did before."""
    begin_ms, account_id = 0, "account"
    if before:
        account_id = before[-1].event.account_id
        begin_ms = max(one.event.occurred_at_ms for one in before if isinstance(one.event, SessionEvent))
        begin_ms += round(1_000 * after_s)
    entries = [
        Entry(
            len(before) + at,
            begin_ms + time_ms,
            SessionEvent(
                event_id=str(at),
                session_id=_SESSION,
                account_id=account_id,
                action=action,
                occurred_at_ms=begin_ms + time_ms,
            ),
            fields=of_action,
        )
        for at, (action, time_ms, of_action) in enumerate(zip(actions, times_ms, fields, strict=True))
    ]
    candidates = stage(partition, entries, model.encoding, _limits(model)).candidates
    return candidates[-candidates[-1].action_number :]


def _history(path: Path, encoding: Encoding, wire: WireFormat, step_ups: Collection[str]) -> list[Entry]:
    try:
        with opened(path) as lines:
            return list(_entries(lines, encoding, wire, step_ups))
    except OSError as error:
        raise click.UsageError(f"--history, {path} can't be read: {error}") from error


def _entries(
    lines: Iterable[bytes], encoding: Encoding, wire: WireFormat, step_ups: Collection[str]
) -> Iterator[Entry]:
    """Read the events of one account; those that the detector would refuse for their action teach nothing."""
    account_id, latest_ms = None, 0
    for number, line in enumerate(lines, start=1):
        try:
            json = wire.json(line)
            event = decode_event(json)
        except MalformedEventError as error:
            raise click.UsageError(f"--history, line {number}: {error}: expected an event") from error
        account_id = account_id or event.account_id
        if event.account_id != account_id:
            raise click.UsageError(f"--history, line {number} is of another account: expected those of one")
        if event.occurred_at_ms < latest_ms:
            raise click.UsageError(
                f"--history, line {number} is of {event.occurred_at_ms}, before the line above: expected the order of time"
            )
        latest_ms = event.occurred_at_ms
        if encoding.knows(event.action) or event.action in step_ups:
            yield Entry(number, event.occurred_at_ms, event, fields=encoding.signals.read(json))


def _fields(
    model: Model, amounts: str | None, attributes: Sequence[str], actions: int
) -> list[tuple[Value, ...]]:
    """Return the values of the fields that the model's signals read, for each action."""
    readable = model.encoding.signals.fields
    given = {} if amounts is None else {"amount": amounts}
    for one in attributes:
        name, is_given, values = one.partition("=")
        if not is_given:
            raise click.UsageError(f"--attribute {one}: expected NAME=VALUE")
        if name == "amount" and _ATTRIBUTE + name not in readable:
            raise click.UsageError(
                f"--attribute {one}: the amount is no attribute: expected --amounts {values}"
            )
        if _ATTRIBUTE + name in given:
            raise click.UsageError(f"--attribute {one}: {name} was given before: expected each once")
        given[_ATTRIBUTE + name] = values
    if unread := sorted(given.keys() - set(readable)):
        expected = ", ".join(one.removeprefix(_ATTRIBUTE) for one in readable) or "actions and times alone"
        raise click.UsageError(
            f"model {model.reference.name} does not read {unread[0].removeprefix(_ATTRIBUTE)}: expected {expected}"
        )
    columns = [_column(name, given, actions) for name in readable]
    if "amount" in readable:
        at = readable.index("amount")
        columns[at] = [_amount(one) for one in columns[at]]
    return list(zip(*columns, strict=True)) if columns else [()] * actions


def _column(name: str, given: Mapping[str, str], actions: int) -> list[Value]:
    values: list[Value] = [one or None for one in given.get(name, "").split(",")]
    if len(values) == 1:
        values *= actions
    if len(values) != actions:
        raise click.UsageError(
            f"{name.removeprefix(_ATTRIBUTE)} has {len(values)} values: expected one, or {actions} with commas between, "
            "one for each action"
        )
    return values


def _amount(text: Value) -> Value:
    """Return an amount as an event may have it."""
    try:
        number = None if text is None else float(text)
    except ValueError:
        number = math.nan
    if number is not None and not 0 <= number < math.inf:
        raise click.UsageError(
            f"--amounts has {text}: expected numbers of 0 or more, or nothing, with commas between"
        )
    return number


def _reasons(model: Model, steps: bytes) -> list[str]:
    """Return what weighed most in a session's last score."""
    encoding, carried, number = model.encoding, None, len(steps) // model.encoding.step_bytes
    if model.evidence is not None:
        ends = range(encoding.step_bytes, len(steps), encoding.step_bytes)
        windows = [steps[max(0, end - encoding.window_bytes) : end] for end in ends]
        carried = 0.0
        for at, one in enumerate(model.score(encoding.windows(windows)).tolist() if windows else (), start=1):
            carried = model.evidence.weigh(one, carried, at)[1]
    case = Case(steps[-encoding.window_bytes :], number, carried)
    return reasons_of([case], encoding, model.score, model.evidence)[0].words


def _times_ms(gaps: str | None, actions: int) -> list[int]:
    """Return when each action happens, from the seconds before each but the first."""
    try:
        seconds = [float(gap) for gap in gaps.split(",")] if gaps else [0.0] * (actions - 1)
        times_ms = [round(1000 * at_s) for at_s in itertools.accumulate(seconds, initial=0.0)]
    except (ValueError, OverflowError):
        seconds, times_ms = [], []
    if len(times_ms) != actions or min(seconds, default=0.0) < 0 or times_ms[-1] > _LONGEST_MS:
        raise click.UsageError(
            f"--gaps-s is {gaps!r}: expected {actions - 1} numbers of seconds of 0 or more, separated by commas, one "
            "for each action but the first, and 1e9 together at most"
        )
    return times_ms
