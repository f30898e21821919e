"""Whether settings are in their bounds, and fit each other."""

import math
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from detector.connection import AddressError, addresses
from detector.contract.topics import (
    MAX_RECORD_BYTES,
    dead_letter_topic,
    explanations_topic,
    redriven_topic,
)
from detector.core.clocks import Clock
from detector.formats.wire import InputFormat, WireFormat
from detector.model.artifact import UnknownActions
from detector.runtime.settings import flag_of

DEAD_LETTER, STOP = "dead-letter", "stop"
"""What becomes of a record that can't be processed, though it is sound."""
_CHOICES = {
    "input_format": tuple(InputFormat),
    "unknown_actions": tuple(UnknownActions),
    "clock": tuple(Clock),
    "on_processing_failure": (DEAD_LETTER, STOP),
    "log_level": ("DEBUG", "INFO", "WARNING", "ERROR"),
}


BELOW = (
    (
        "max_future_ms",
        "idle_timeout_ms",
        "where events' own times decide (CreateTime, --clock event), one so far ahead would end every session",
    ),
    (
        "session_timeout_ms",
        "max_poll_interval_ms",
        "a worker that is alive would be given up before a dead one",
    ),
    ("poll_timeout_ms", "max_poll_interval_ms", "a worker that waits for events would lose its partitions"),
    (
        "transaction_timeout_ms",
        "max_poll_interval_ms",
        "who waits for a dead worker's transaction would be next",
    ),
    ("poll_timeout_ms", "stall_timeout_ms", "a worker that waits for events would end itself"),
    (
        "transaction_timeout_ms",
        "stall_timeout_ms",
        "who waits for a dead worker's transaction would end itself",
    ),
)
"""Settings of which the first has to be below the second, and what would happen else."""


def wrong_in(config: Any) -> Iterator[str]:
    """Yield what is wrong with a `DetectorConfig`: what was seen, and what was expected."""
    yield from _out_of_bounds(config)
    yield from _misnamed(config)
    yield from _disarmed(config)


def _out_of_bounds(config: Any) -> Iterator[str]:
    for one in fields(config):
        value, bounds = getattr(config, one.name), one.metadata
        minimum, maximum, unit = bounds["minimum"], bounds["maximum"], bounds["unit"]
        if isinstance(value, bool | str | tuple):
            continue
        if not minimum <= value < math.inf:  # not a number is in no bounds
            yield f"{flag_of(one)} is {value}: expected at least {minimum} {unit}".strip()
        elif maximum is not None and value > maximum:
            told = f"{maximum:.10g}"
            most = f"at most {told}" if float(told) == maximum else f"less than {told}"
            yield f"{flag_of(one)} is {value}: expected {most} {unit}".strip()
    if -1 < config.challenge_threshold < 0:
        yield (
            f"--challenge-threshold is {config.challenge_threshold}: expected a score, 0 for none or -1 for the model's own"
        )
    if config.replication_factor == 0:
        yield "--replication-factor is 0: expected at least 1, or -1 for the broker's default"
    for name, choices in _CHOICES.items():
        if (value := getattr(config, name)) not in choices:
            yield f"--{name.replace('_', '-')} is {value!r}: expected {' or '.join(choices)}"
    try:
        WireFormat.of(InputFormat.JSON, config.field)
    except ValueError as error:
        yield f"--field is {error}"


def _misnamed(config: Any) -> Iterator[str]:
    """Tell of addresses and names that Kafka does not take, and of topics that are one."""
    try:
        addresses(config.bootstrap_servers)
    except AddressError as error:
        yield error.args[0]
    for flag, name in (
        ("input-topic", config.input_topic),
        ("alerts-topic", config.alerts_topic),
        ("verdicts-topic", config.verdicts_topic),
        ("group", config.group),
        ("instance-id", config.instance_id or "none"),
    ):
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", name) or name in {".", ".."}:
            yield (
                f"--{flag} is {name!r}, which Kafka takes as no name: expected up to 200 of the characters "
                "A-Z a-z 0-9 . _ -"
            )
    named: dict[str, str] = {}
    for use, topic in (
        ("events", config.input_topic),
        ("alerts", config.alerts_topic),
        ("dead letters", config.dead_letter_topic),
        ("redriven dead letters", redriven_topic(config.input_topic)),
        ("listed accounts", config.accounts_topic),
        ("live sessions", config.state_topic),
        ("models", config.models_topic),
        ("challenger's alerts", config.shadow_topic),
        ("explanations", explanations_topic(config.alerts_topic)),
        ("verdicts", config.verdicts_topic),
        ("dead letters of verdicts", dead_letter_topic(config.verdicts_topic)),
    ):
        other = named.setdefault(
            topic.replace(".", "_"), use
        )  # the same to Kafka's metrics, so it refuses both
        if other != use:
            yield (
                f"topic {topic} would be that of the {other} and of the {use}: expected topics of their own; "
                "change --input-topic, --alerts-topic, --verdicts-topic or --group"
            )


def _disarmed(config: Any) -> Iterator[str]:
    """Tell of settings that make others do nothing, or harm."""
    known = {one.name: one for one in fields(config)}
    for low, high, otherwise in BELOW:
        if getattr(config, low) >= getattr(config, high) > 0:  # 0 is left to the model
            yield (
                f"{flag_of(known[low])} is {getattr(config, low)}: expected less than {flag_of(known[high])}, "
                f"{getattr(config, high)}; {otherwise}"
            )
    for flag, value in (
        ("--challenge-threshold", config.challenge_threshold),
        ("--review-threshold", config.review_threshold),
    ):
        if 0 < config.threshold <= value:
            yield f"{flag} is {value}: expected less than --threshold, {config.threshold}, or 0"
    if 0 < config.challenge_threshold <= config.review_threshold:
        yield (
            f"--review-threshold is {config.review_threshold}: expected less than --challenge-threshold, "
            f"{config.challenge_threshold}, or 0"
        )
    if config.step_up_passed and config.step_up_passed == config.step_up_failed:
        yield (
            f"--step-up-passed and --step-up-failed are both {config.step_up_passed!r}: expected two actions, since one "
            "clears a session and the other blocks it"
        )
    if config.shadow_threshold and not config.shadow_model:
        yield f"--shadow-threshold is {config.shadow_threshold}: expected --shadow-model, whose scores it is for"
    if config.max_dead_letter_bytes + config.max_event_bytes > MAX_RECORD_BYTES:
        yield (
            f"--max-dead-letter-bytes and --max-event-bytes are {config.max_dead_letter_bytes} and "
            f"{config.max_event_bytes}: expected at most {MAX_RECORD_BYTES} together, since a dead letter has a value "
            "of the one and a key of the other"
        )
