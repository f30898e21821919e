"""All settings of the detector: one frozen object, parsed once from flags and environment variables."""

import hashlib
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Self

import msgspec

from detector.contract.actions import StepUp
from detector.contract.alerts import ModelReference
from detector.contract.events import MAX_AHEAD_MS
from detector.contract.topics import (
    ACTIONS_TOPIC,
    ALERTS_TOPIC,
    VERDICTS_TOPIC,
    accounts_topic,
    dead_letter_topic,
    shadow_topic,
)
from detector.core.breaker import BreakerLimits
from detector.core.clocks import Clock
from detector.core.decision import Policy
from detector.core.limits import SessionLimits
from detector.formats.wire import FIELD, INPUT_FORMAT, InputFormat, WireFormat
from detector.model.artifact import UnknownActions, resolve_model_path
from detector.runtime.decoding import EventLimits
from detector.runtime.settings import setting
from detector.runtime.validating import DEAD_LETTER, wrong_in

_INT32 = 2**31 - 1
"""Largest number of milliseconds that Kafka's protocol has room for."""
_MAX_PORT = 65_535


class ConfigurationError(ValueError):
    """A setting is out of its bounds, or disarms another. The message says what was seen and what was expected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectorConfig:
    """Settings of `python -m detector run`. The command's flags and the docs' table are made from the fields."""

    bootstrap_servers: str = setting(
        "Kafka bootstrap servers, comma-separated.", "127.0.0.1:9092", env="KAFKA_BOOTSTRAP_SERVERS"
    )
    group: str = setting("Consumer group; also names the state topic, <group>.state.", "session-detector")
    instance_id: str = setting(
        "Stable name of this worker, unique in the group (a StatefulSet's pod name, say). A restarted worker "
        "ends its predecessor's open transaction at once. Up to 200 of A-Z a-z 0-9 . _ -. Empty: a random one.",
        "",
    )
    input_topic: str = setting("Topic of the session events.", ACTIONS_TOPIC)
    input_format: str = setting(INPUT_FORMAT, InputFormat.AUTO.value, decides=True)
    field: tuple[str, ...] = setting(FIELD, (), decides=True)
    alerts_topic: str = setting("Topic of the alerts.", ALERTS_TOPIC)
    verdicts_topic: str = setting(
        "Topic of the verdicts on sessions, which `relay-verdicts` takes into the input topic.",
        VERDICTS_TOPIC,
    )
    create_topics: bool = setting("Create missing topics at the start.", default=True)
    partitions: int = setting(
        "Partitions of topics created here. An input topic that is there counts as what it has.",
        8,
        decides=True,
    )
    replication_factor: int = setting(
        "Replicas of topics created here; -1 takes the broker's default.", -1, minimum=-1
    )
    model: str = setting(
        "Model file, or the name of a packaged one: default, history, seed. Empty: default.", ""
    )
    unknown_actions: str = setting(
        "An action that the model does not know goes to the dead letters (dead-letter), or is scored as the unknown "
        "token that the model has learned (token).",
        UnknownActions.DEAD_LETTER.value,
        decides=True,
    )
    rules: str = setting(
        "File of rules beside the model, in TOML; it takes the extra `rules`. Empty: none.", ""
    )
    model_watch_ms: int = setting(
        "Look so often whether the model file, or the rules', changed, and go on with the new one; 0 never does.",
        10_000,
        unit="ms",
        minimum=0,
    )
    threshold: float = setting(
        "Score that blocks; 0 takes the model's own.", 0.0, minimum=0, maximum=1, decides=True
    )
    review_threshold: float = setting(
        "Score that is published for review, once a session; below the one that blocks. 0 reviews nothing.",
        0.0,
        minimum=0,
        maximum=1,
        decides=True,
    )
    challenge_threshold: float = setting(
        "Score that asks for a second factor, once a session; below the one that blocks. 0 asks for none, -1 takes the "
        "model's own, if it has one.",
        0.0,
        minimum=-1,
        maximum=1,
        decides=True,
    )
    step_up_passed: str = setting(
        "Action of the event that says that a session passed a second factor. One that the model does not know is not "
        "scored. Empty: none says so.",
        "STEP_UP_PASSED",
        decides=True,
    )
    step_up_failed: str = setting("… and that it failed it.", "STEP_UP_FAILED", decides=True)
    shadow_model: str = setting(
        "A challenger, as --model: it scores the same windows, and what it would block goes to the shadow topic, "
        "<alerts-topic>.shadow, only. Empty: none.",
        "",
    )
    shadow_threshold: float = setting(
        "Score that the challenger blocks at; 0 takes its own.", 0.0, minimum=0, maximum=1
    )
    breaker_max_block_share: float = setting(
        "The circuit breaker turns blocks into challenges where more sessions of a partition reach the threshold, of "
        "those that begin: soon while a model is on probation; later where it takes twice the share to hold back scores "
        "near the threshold, and three times to hold back all. A share, below 1: 0.25 is a quarter. 0 switches it off.",
        0.25,
        minimum=0,
        maximum=math.nextafter(1, 0),
        decides=True,
    )
    breaker_probation_sessions: int = setting(
        "So many sessions of a partition have to have begun, a window ago, before a model, or one under other settings, is off "
        "probation.",
        500,
        minimum=0,
        decides=True,
    )
    breaker_min_blocks: int = setting(
        "Off probation the breaker opens if at least so many reach the threshold in its window.",
        100,
        decides=True,
    )
    breaker_window_ms: int = setting("That window, of event time.", 600_000, unit="ms", decides=True)
    idle_timeout_ms: int = setting(
        "A session without an action for longer has ended. 0 takes what the model was trained with.",
        0,
        unit="ms",
        minimum=0,
        decides=True,
    )
    max_sessions: int = setting(
        "Most live sessions of a worker that holds all partitions, of which each has an equal share; beyond, the longest "
        "idle of the partition goes. Some 400 bytes each.",
        2_000_000,
        decides=True,
    )
    max_accounts: int = setting(
        "Most accounts whose history is kept, likewise, if the model reads any; the longest unseen goes. Some 800 bytes "
        "each.",
        2_000_000,
        decides=True,
    )
    account_timeout_ms: int = setting(
        "An account without an event for longer is met as a new one.",
        180 * 24 * 60 * 60 * 1000,
        unit="ms",
        decides=True,
    )
    max_alerted: int = setting(
        "Most sessions with alerts that are remembered, likewise; the one that nothing was told of for longest goes. Some "
        "400 bytes each.",
        200_000,
        decides=True,
    )
    alert_memory_ms: int = setting(
        "For so long a session is remembered after its last alert or verdict: verdicts on it count, and an alert that comes "
        "again is not published again.",
        7 * 24 * 60 * 60 * 1000,
        unit="ms",
        decides=True,
    )
    fraud_listing_ms: int = setting(
        "A verdict of fraud denies the account for so long, by event time. 0 does not.",
        0,
        unit="ms",
        minimum=0,
        decides=True,
    )
    cleared_listing_ms: int = setting(
        "A verdict of lawful allows the account, likewise.", 0, unit="ms", minimum=0, decides=True
    )
    drift_window_ms: int = setting(
        "Drift is measured over the events of so long: of whole days, or a day's hours are drift.",
        86_400_000,
        unit="ms",
    )
    max_event_bytes: int = setting(
        "A larger event is dead-lettered without being decoded.", 65_536, unit="bytes", decides=True
    )
    max_dead_letter_bytes: int = setting(
        "A dead letter's value is cut there; it stays whole on the input topic.",
        11 * 1024 * 1024,
        unit="bytes",
    )
    clock: str = setting(
        "Whose time decides: the event's own within --time-tolerance-ms, else the broker's (bounded); always the event's, "
        "as for a history that is published late and not in its order (event); always the broker's (broker). Where there is "
        "no broker's time (CreateTime, a file), the event's does.",
        Clock.BOUNDED.value,
        decides=True,
    )
    time_tolerance_ms: int = setting(
        "That tolerance; by so much, too, what comes out of order may lengthen a session.",
        30_000,
        unit="ms",
        minimum=0,
        decides=True,
    )
    max_future_ms: int = setting(
        "A verdict further ahead of its record's time is dead-lettered; an event, with --clock event, is scored at the "
        "broker's. Where that is the producer's (CreateTime): the step by which one event may move time.",
        MAX_AHEAD_MS,
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
    batch_max_bytes: int = setting(
        "… and most bytes of their keys, values and headers, unless one event alone has more.",
        16 * 1024 * 1024,
        unit="bytes",
    )
    poll_timeout_ms: int = setting(
        "Longest wait for events before looking after everything else.", 200, unit="ms"
    )
    session_timeout_ms: int = setting(
        "The group gives a silent worker's partitions away.", 10_000, unit="ms", minimum=1_000, maximum=_INT32
    )
    max_poll_interval_ms: int = setting(
        "The same for one stuck in a batch; also the longest that a rebalance waits for anybody.",
        60_000,
        unit="ms",
        maximum=_INT32,
    )
    transaction_timeout_ms: int = setting(
        "The broker aborts a transaction open for longer.", 15_000, unit="ms", maximum=_INT32
    )
    stall_timeout_ms: int = setting(
        "A worker whose loop stands still for longer ends itself.", 90_000, unit="ms"
    )
    snapshot_ratio: int = setting(
        "A snapshot of the state begins, in slices beside the changes, once the log is so many times as large as it.",
        2,
    )
    snapshot_min_bytes: int = setting("… and exceeds this.", 4 * 1024 * 1024, unit="bytes")
    rebuild_from_input: bool = setting(
        "Where the stored state is refused, rebuild it from the input, silently.", default=False
    )
    metrics_host: str = setting("Address of /metrics, /healthz and /readyz.", "127.0.0.1")
    metrics_port: int = setting(
        "Their port; 0 takes a free one, -1 serves none.", 9108, minimum=-1, maximum=_MAX_PORT
    )
    log_level: str = setting(
        "DEBUG, INFO, WARNING or ERROR. DEBUG names each alert, with pseudonyms for its ids.", "INFO"
    )
    pseudonym_key_file: str = setting(
        "File with the key of the pseudonyms that stand for ids in the log: 16 to 64 random bytes. Empty: a key made "
        "up at each start.",
        "",
    )

    def __post_init__(self) -> None:
        """Check the bounds, and that no setting disarms another.

        Raises:
            ConfigurationError: a setting is out of bounds, or does not fit another.
        """
        for wrong in wrong_in(self):
            raise ConfigurationError(wrong)

    def served_with(self, idle_timeout_ms: int) -> Self:
        """Return the settings with what a model was trained with, in place of what they leave to it."""
        if self.idle_timeout_ms:
            return self
        return replace(self, idle_timeout_ms=max(idle_timeout_ms, self.max_future_ms + 1))

    def policy(
        self,
        threshold: float,
        model: ModelReference,
        challenge_threshold: float | None = None,
        blocking: Sequence[str] = (),
    ) -> Policy:
        """Return what decides with a model.

        Args:
            threshold: the model's own, which `--threshold` overrules.
            model: how alerts name it.
            challenge_threshold: the model's own, if it has one.
            blocking: conditions of rules that block beside it.
        """
        breaker = BreakerLimits(
            self.breaker_max_block_share,
            self.breaker_min_blocks,
            self.breaker_window_ms,
            self.breaker_probation_sessions,
        )
        threshold = self.threshold or threshold
        # Of the settings those that move everybody's scores, or who is blocked at them; and who is blocked by rules.
        epoch = [model.sha256, threshold, self.unknown_actions, self.idle_timeout_ms, self.clock, *blocking]
        return Policy(
            threshold,
            model,
            self.review_threshold or None,
            breaker if self.breaker_max_block_share else None,
            challenge_threshold if self.challenge_threshold < 0 else self.challenge_threshold or None,
            hashlib.blake2b(msgspec.json.encode(epoch), digest_size=8).digest(),
            self.step_ups,
        )

    @property
    def step_ups(self) -> dict[str, StepUp]:
        """Actions that say what came of a second factor."""
        step_ups = {self.step_up_passed: StepUp.PASSED, self.step_up_failed: StepUp.FAILED}
        return {action: step_up for action, step_up in step_ups.items() if action}

    def challenger(self, threshold: float, model: ModelReference) -> Policy:
        """Return what judges in shadow: a challenger's own threshold, which `--shadow-threshold` overrules."""
        return Policy(self.shadow_threshold or threshold, model)

    @property
    def worker_name(self) -> str:
        """Transactional id and client id of this worker; another one at each call without an instance id.

        Neither group nor instance id can hold the slash, and no topic's name does, so that no two workers of whatever
        groups, and no worker and another command, share one (ADR 0024).
        """
        return f"{self.group}/{self.instance_id or uuid.uuid4().hex[:12]}"

    @property
    def session_limits(self) -> SessionLimits:
        """What bounds the life and number of the sessions of one partition: its share, whoever holds it."""
        return SessionLimits(
            self.idle_timeout_ms or SessionLimits().idle_timeout_ms,
            max(1, self.max_sessions // self.partitions),
            self.max_future_ms,
            max_accounts=max(1, self.max_accounts // self.partitions),
            account_timeout_ms=self.account_timeout_ms,
            max_alerted=max(1, self.max_alerted // self.partitions),
            alert_memory_ms=self.alert_memory_ms,
            fraud_listing_ms=self.fraud_listing_ms,
            cleared_listing_ms=self.cleared_listing_ms,
            clock=Clock(self.clock),
            tolerance_ms=self.time_tolerance_ms,
        )

    @property
    def event_limits(self) -> EventLimits:
        """What an event may be."""
        return EventLimits(self.max_event_bytes, self.max_dead_letter_bytes, self.max_future_ms)

    @property
    def wire_format(self) -> WireFormat:
        """How the values of the input topic are read."""
        return WireFormat.of(self.input_format, self.field)

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
        """Where a challenger's blocks go, and what rules in shadow would decide."""
        return shadow_topic(self.alerts_topic)

    @property
    def uses_shadow_topic(self) -> bool:
        """Whether anything goes there."""
        return bool(self.shadow_model or self.rules)

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
