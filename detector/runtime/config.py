"""All settings of the detector: one frozen object, parsed once from flags and environment variables."""

import re
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from detector.contract.alerts import ModelReference
from detector.contract.topics import (
    ACTIONS_TOPIC,
    ALERTS_TOPIC,
    accounts_topic,
    dead_letter_topic,
    shadow_topic,
)
from detector.core.breaker import BreakerLimits
from detector.core.decision import Policy
from detector.core.staging import SessionLimits
from detector.model.artifact import UnknownActions, resolve_model_path
from detector.runtime.decoding import EventLimits


class ConfigurationError(ValueError):
    """A setting is out of its bounds. The message says what was seen and what was expected."""


DEAD_LETTER, STOP = "dead-letter", "stop"
"""What becomes of a record that can't be processed, though it is sound."""
_CHOICES = {
    "unknown_actions": tuple(UnknownActions),
    "on_processing_failure": (DEAD_LETTER, STOP),
    "log_level": ("DEBUG", "INFO", "WARNING", "ERROR"),
}


def setting(
    help_text: str,
    default: Any,
    *,
    env: str | None = None,
    unit: str = "",
    minimum: int = 1,
    decides: bool = False,
) -> Any:
    """Declare one setting: a dataclass field that also knows its help text, unit and environment variable.

    What `decides` on alerts is recorded in the model epochs, under the same name.
    """
    metadata = {"help": help_text, "env": env, "unit": unit, "minimum": minimum, "decides": decides}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectorConfig:
    """Settings of `python -m detector run`. The command's flags and the docs' table are made from the fields."""

    bootstrap_servers: str = setting(
        "Kafka bootstrap servers, comma-separated.", "127.0.0.1:9092", env="KAFKA_BOOTSTRAP_SERVERS"
    )
    group: str = setting("Consumer group; also names the state topic, <group>.state.", "session-detector")
    instance_id: str = setting(
        "Stable name of this worker, unique in the group (a StatefulSet's pod name, say). A restarted worker "
        "ends its predecessor's open transaction at once. Empty: a random one.",
        "",
    )
    input_topic: str = setting("Topic of the session events.", ACTIONS_TOPIC)
    alerts_topic: str = setting("Topic of the alerts.", ALERTS_TOPIC)
    create_topics: bool = setting("Create missing topics at the start.", default=True)
    partitions: int = setting("Partitions of topics created here.", 8)
    replication_factor: int = setting(
        "Replicas of topics created here; -1 takes the broker's default.", -1, minimum=-1
    )
    model: str = setting("Model file, or the name of a packaged one: default, seed. Empty: default.", "")
    unknown_actions: str = setting(
        "An action that the model does not know goes to the dead letters (dead-letter), or is scored as the unknown "
        "token that the model has learned (token).",
        UnknownActions.DEAD_LETTER.value,
        decides=True,
    )
    model_watch_ms: int = setting(
        "Look so often whether the model file changed, and go on with the new one; 0 never does.",
        10_000,
        unit="ms",
        minimum=0,
    )
    threshold: float = setting("Score that blocks; 0 takes the model's own.", 0.0, minimum=0, decides=True)
    review_threshold: float = setting(
        "Score that is published for review, once a session; below the one that blocks. 0 reviews nothing.",
        0.0,
        minimum=0,
        decides=True,
    )
    shadow_model: str = setting(
        "A challenger, as --model: it scores the same windows, and what it would block goes to the shadow topic, "
        "<alerts-topic>.shadow, only. Empty: none.",
        "",
    )
    shadow_threshold: float = setting("Score that the challenger blocks at; 0 takes its own.", 0.0, minimum=0)
    breaker_max_block_share: float = setting(
        "The circuit breaker turns blocks into reviews while more sessions of a partition reach the threshold, of "
        "those that begin; it closes at half of it. 0 switches it off.",
        0.25,
        minimum=0,
        decides=True,
    )
    breaker_min_blocks: int = setting("… and at least so many in its window.", 20, decides=True)
    breaker_window_ms: int = setting("Its sliding window, of event time.", 600_000, unit="ms", decides=True)
    idle_timeout_ms: int = setting(
        "A session without an action for longer has ended.", 1_800_000, unit="ms", decides=True
    )
    max_sessions: int = setting(
        "Most live sessions a partition; beyond, the longest idle goes.", 1_000_000, decides=True
    )
    max_event_bytes: int = setting(
        "A larger event is dead-lettered without being decoded.", 65_536, unit="bytes", decides=True
    )
    max_dead_letter_bytes: int = setting(
        "A dead letter's value is cut there; it stays whole on the input topic.",
        11 * 1024 * 1024,
        unit="bytes",
    )
    max_future_ms: int = setting(
        "An event further ahead of the broker's time is dead-lettered.",
        300_000,
        unit="ms",
        minimum=0,
        decides=True,
    )
    on_processing_failure: str = setting(
        "A sound record that the detector or its model fails on goes to the dead letters alone (dead-letter), or ends "
        "the worker (stop).",
        DEAD_LETTER,
    )
    batch_max_events: int = setting("Most events a transaction.", 2_000)
    poll_timeout_ms: int = setting(
        "Longest wait for events before looking after everything else.", 200, unit="ms"
    )
    session_timeout_ms: int = setting("The group gives a silent worker's partitions away.", 10_000, unit="ms")
    max_poll_interval_ms: int = setting(
        "The same for one stuck in a batch; also the longest that a rebalance waits for anybody.",
        60_000,
        unit="ms",
    )
    transaction_timeout_ms: int = setting(
        "The broker aborts a transaction open for longer.", 15_000, unit="ms"
    )
    stall_timeout_ms: int = setting(
        "A worker whose loop stands still for longer ends itself.", 90_000, unit="ms"
    )
    snapshot_ratio: int = setting(
        "The state is written whole once the changes since exceed it so many times.", 3
    )
    snapshot_min_bytes: int = setting("… and exceed this.", 4 * 1024 * 1024, unit="bytes")
    rebuild_from_input: bool = setting(
        "Where the stored state is refused, rebuild it by replaying the input silently.", default=False
    )
    metrics_host: str = setting("Address of /metrics, /healthz and /readyz.", "127.0.0.1")
    metrics_port: int = setting("Their port; 0 takes a free one, -1 serves none.", 9108, minimum=-1)
    log_level: str = setting(
        "DEBUG, INFO, WARNING or ERROR. DEBUG names each alert, with pseudonyms for its ids.", "INFO"
    )
    pseudonym_key_file: str = setting(
        "File with the key of the pseudonyms that stand for ids in the log: 16 to 64 random bytes. Empty: a key made "
        "up at each start.",
        "",
    )

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            ConfigurationError: a setting is out of bounds.
        """
        for one in fields(self):
            value, minimum = getattr(self, one.name), one.metadata["minimum"]
            if isinstance(value, int | float) and not isinstance(value, bool) and value < minimum:
                raise ConfigurationError(
                    f"{flag_of(one)} is {value}: expected at least {minimum} {one.metadata['unit']}".strip()
                )
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name.endswith("threshold") and not 0 <= value <= 1:
                raise ConfigurationError(f"{flag_of(one)} is {value}: expected above 0 and at most 1, or 0")
        if 0 < self.threshold <= self.review_threshold:
            raise ConfigurationError(
                f"--review-threshold is {self.review_threshold}: expected less than --threshold, {self.threshold}, or 0"
            )
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                flag = f"--{name.replace('_', '-')}"
                raise ConfigurationError(
                    f"{flag} is {getattr(self, name)!r}: expected {' or '.join(choices)}"
                )
        for topic in (self.input_topic, self.alerts_topic, self.group):
            if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", topic):
                raise ConfigurationError(
                    f"{topic!r} names no topic: expected up to 200 of the characters A-Z a-z 0-9 . _ -"
                )

    def policy(self, threshold: float, model: ModelReference) -> Policy:
        """Return what decides with a model.

        Args:
            threshold: the model's own, which `--threshold` overrules.
            model: how alerts name it.
        """
        breaker = BreakerLimits(self.breaker_max_block_share, self.breaker_min_blocks, self.breaker_window_ms)
        return Policy(
            self.threshold or threshold,
            model,
            self.review_threshold or None,
            breaker if self.breaker_max_block_share else None,
        )

    def challenger(self, threshold: float, model: ModelReference) -> Policy:
        """Return what judges in shadow: a challenger's own threshold, which `--shadow-threshold` overrules."""
        return Policy(self.shadow_threshold or threshold, model)

    @property
    def session_limits(self) -> SessionLimits:
        """What bounds the life and number of sessions."""
        return SessionLimits(self.idle_timeout_ms, self.max_sessions)

    @property
    def event_limits(self) -> EventLimits:
        """What an event may be."""
        return EventLimits(self.max_event_bytes, self.max_dead_letter_bytes, self.max_future_ms)

    @property
    def accounts_topic(self) -> str:
        """Where the listed accounts are kept."""
        return accounts_topic(self.input_topic)

    @property
    def dead_letter_topic(self) -> str:
        """Where what could not be scored goes."""
        return dead_letter_topic(self.input_topic)

    @property
    def state_topic(self) -> str:
        """Where the live sessions are kept, partition by partition of the input."""
        return f"{self.group}.state"

    @property
    def shadow_topic(self) -> str:
        """Where a challenger's blocks go."""
        return shadow_topic(self.alerts_topic)

    @property
    def models_topic(self) -> str:
        """Where it is kept from which offset on which model decides."""
        return f"{self.group}.models"

    @property
    def model_path(self) -> Path | None:
        """The model file, or None for the packaged one."""
        return resolve_model_path(self.model) if self.model else None


DECIDING = tuple(one.name for one in fields(DetectorConfig) if one.metadata["decides"])
"""Names of the settings that decide, beside the model and the log."""


def flag_of(one: Field[Any]) -> str:
    """Return the command-line flag of a setting."""
    return "--" + one.name.replace("_", "-")


def environment_variable_of(one: Field[Any]) -> str:
    """Return the environment variable of a setting: DETECTOR_ and its name, unless it has one of its own."""
    return one.metadata["env"] or f"DETECTOR_{one.name.upper()}"
