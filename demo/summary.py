"""What a run came to: alerts held against the truth. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import msgspec
import numpy as np

from demo.traffic import looks_like_an_attack
from detector.contract.alerts import Alert, Decision, encode_alert
from detector.contract.labels import SessionLabel


@dataclass(frozen=True, slots=True)
class Received:
    """An alert, and the time from its deciding action on the broker to its arrival here."""

    alert: Alert
    latency_ms: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one model came to.

    Attributes:
        caught, missed: attackers' sessions with and without a block.
        false_alarms: blocks of lawful sessions.
        alike_blocked: those of them that look like attacks.
        doubled: blocks beyond the first of a session.
        caught_by_type: by kind of attack.
        blocked: the sessions.
    """

    caught: int
    missed: int
    false_alarms: int
    alike_blocked: int
    doubled: int
    caught_by_type: Mapping[str, int]
    blocked: AbstractSet[str]

    @property
    def flawless(self) -> bool:
        """Whether every attack was blocked once, and nothing else was."""
        return not (self.missed or self.false_alarms or self.doubled)


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a run.

    Attributes:
        truths: of the sessions shown.
        alike: actions of the lawful sessions that look like attacks, by session.
        attacks_by_type: by kind of attack.
        service: the model that decided.
        beside: another on the same traffic, if there was one.
        actions_until_block: blocks by the number of the deciding action.
        latency_ms: percentiles 50, 95 and 99 of action to alert; empty without alerts.
        as_offline: whether the topic holds the alerts that a replay of the log gives.
    """

    truths: Mapping[str, SessionLabel]
    alike: Mapping[str, Sequence[str]]
    attacks_by_type: Mapping[str, int]
    service: Outcome
    beside: Outcome | None
    actions_until_block: Mapping[int, int]
    latency_ms: Mapping[int, float]
    as_offline: bool


def outcome(truths: Mapping[str, SessionLabel], alike: AbstractSet[str], alerts: Iterable[Alert]) -> Outcome:
    """Hold one model's alerts on these sessions against the truth.

    Args:
        truths: by session; alerts on others are not counted.
        alike: lawful sessions that look like attacks.
        alerts: any.
    """
    blocks = Counter(
        one.session_id for one in alerts if one.decision is Decision.BLOCK and one.session_id in truths
    )
    attacks = [truth for truth in truths.values() if truth.label]
    caught = [truth for truth in attacks if truth.session_id in blocks]
    return Outcome(
        caught=len(caught),
        missed=len(attacks) - len(caught),
        false_alarms=len(blocks) - len(caught),
        alike_blocked=len(alike & blocks.keys()),
        doubled=blocks.total() - len(blocks),
        caught_by_type=Counter(truth.type for truth in caught),
        blocked=blocks.keys(),
    )


def summarise(
    truths: Mapping[str, SessionLabel],
    actions: Mapping[str, Sequence[str]],
    received: Sequence[Received],
    offline: Iterable[Alert],
    beside: Iterable[Alert] | None,
) -> Summary:
    """Hold a run's alerts against the truth, and against what they must be.

    Args:
        truths: of the sessions shown.
        actions: the same sessions'.
        received: all alerts of the topic, those of the warm-up too.
        offline: what a replay of the log by the same model gives.
        beside: the same by another model.
    """
    alike = {
        id_: done for id_, done in actions.items() if not truths[id_].label and looks_like_an_attack(done)
    }
    shown = [one for one in received if one.alert.session_id in truths]
    latencies = [one.latency_ms for one in shown]
    return Summary(
        truths=truths,
        alike=alike,
        attacks_by_type=Counter(truth.type for truth in truths.values() if truth.label),
        service=outcome(truths, alike.keys(), [one.alert for one in received]),
        beside=None if beside is None else outcome(truths, alike.keys(), beside),
        actions_until_block=Counter(one.alert.action_number for one in shown),
        latency_ms={p: float(np.percentile(latencies, p)) for p in (50, 95, 99)} if latencies else {},
        as_offline=_comparable(one.alert for one in received) == _comparable(offline),
    )


def _comparable(alerts: Iterable[Alert]) -> list[bytes]:
    """Return the alerts in one order, without the only field that is read from a clock."""
    return sorted(encode_alert(msgspec.structs.replace(one, detected_at_ms=0)) for one in alerts)
