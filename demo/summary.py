"""What a run came to: alerts held against the truth. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from detector.contract.alerts import Alert
from detector.contract.labels import SessionLabel


@dataclass(frozen=True, slots=True)
class Received:
    """An alert, and the time from its deciding action on the broker to its arrival here."""

    alert: Alert
    latency_ms: int


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a run.

    Attributes:
        sessions, attacks: how many there were.
        caught, missed: attacks with and without a block.
        false_alarms: blocks of lawful sessions.
        doubled: blocks beyond the first of a session.
        caught_by_type, attacks_by_type: by kind of attack.
        actions_until_block: blocks by the number of the deciding action.
        latency_ms: percentiles 50, 95 and 99 of action to alert; empty without alerts.
    """

    sessions: int
    attacks: int
    caught: int
    missed: int
    false_alarms: int
    doubled: int
    caught_by_type: Mapping[str, int]
    attacks_by_type: Mapping[str, int]
    actions_until_block: Mapping[int, int]
    latency_ms: Mapping[int, float]

    @property
    def flawless(self) -> bool:
        """Whether every attack was blocked once, and nothing else was."""
        return not (self.missed or self.false_alarms or self.doubled)


def summarise(truths: Iterable[SessionLabel], received: Iterable[Received]) -> Summary:
    """Hold the alerts against the truth."""
    by_session = {truth.session_id: truth for truth in truths}
    received = list(received)
    blocked = Counter(one.alert.session_id for one in received)
    attacks = [truth for truth in by_session.values() if truth.label]
    caught = [truth for truth in attacks if blocked[truth.session_id]]
    latencies = [one.latency_ms for one in received]
    return Summary(
        sessions=len(by_session),
        attacks=len(attacks),
        caught=len(caught),
        missed=len(attacks) - len(caught),
        false_alarms=len(blocked) - len(caught),
        doubled=len(received) - len(blocked),
        caught_by_type=Counter(truth.type for truth in caught),
        attacks_by_type=Counter(truth.type for truth in attacks),
        actions_until_block=Counter(one.alert.action_number for one in received),
        latency_ms={p: float(np.percentile(latencies, p)) for p in (50, 95, 99)} if latencies else {},
    )
