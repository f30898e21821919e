"""What a run came to: what is on the topics, held against the oracle."""

import signal
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from kafka import TopicPartition

from detector.contract.alerts import Alert
from detector.contract.dead_letters import Reason
from detector.core.partition import Partition
from detector.core.session import (
    CARRIED_BYTES,
    HEAD_BYTES,
    RULE_SHADOWED,
    SHADOW_CARRIED,
    SHADOWED,
    head,
    pack,
    session_key,
    touched_ms,
)
from detector.model.artifact import Model, load_model
from detector.runtime.restored_state import RestoredState
from tests.chaos.cluster import Cluster, Notes, Stretch
from tests.chaos.oracle import Expected, Refused, expect
from tests.chaos.producers import WILD
from tests.runtime.stack import alerts_of, read_committed

_MAY_END_WITH = {0, -signal.SIGKILL, -signal.SIGTERM, 70}
"""SIGTERM ends a worker by itself until Python is up and it listens."""
Letter = tuple[Any, dict[str, str]]
"""A record of the dead-letter topic, and its headers."""
_EXPLANATION = Alert.__struct_fields__[Alert.__struct_fields__.index("cause") + 1 :]
"""What explains an alert, and differs between versions of the detector."""


@dataclass(slots=True)
class Report:
    """What a run came to.

    Attributes:
        faults: how many of each kind.
        recovery_s: by kind, seconds from the end of a fault until all input published by then was committed.
        events: records on the input topic.
        alerts: on the alerts topic.
        dead_letters: on the dead-letter topic.
        lost: alerts that the oracle has and the topic has not.
        doubled: alerts that the topic has more often than the oracle.
        wrong: alerts that only the topic has.
        disordered: sessions whose alerts lie in another order than the oracle's.
        dead_letters_off: dead letters lost, doubled or wrong.
        models: how many decided.
        by_rules: alerts that rules asked for.
        shadow_alerts: of the challenger, on the shadow topic.
        shadows_off: of them lost, doubled or wrong.
        states_off: partitions whose state log leads to other sessions than the oracle's.
        unaccounted: records of the input beyond the committed offsets, or short of them.
        endings: exit codes of workers that ended.
        failures: the last line of each worker that failed.
        refusals: workers that refused to go on, as they should, by what they said.
        failed: dead letters of sound events that a model failed on.
        refused: dead letters of events whose alert was refused by its topic, and letters that went without content.
        rebuilds: partitions rebuilt from the input.
        wild_clocks: stretches of the input in which some clocks were wild.
        alerts_beside_wild_clocks: of them, on sessions whose clocks were not.
    """

    faults: Counter[str] = field(default_factory=Counter)
    recovery_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    events: int = 0
    alerts: int = 0
    dead_letters: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    disordered: int = 0
    dead_letters_off: int = 0
    models: int = 0
    by_rules: int = 0
    shadow_alerts: int = 0
    shadows_off: int = 0
    states_off: int = 0
    unaccounted: int = 0
    endings: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    refused: int = 0
    rebuilds: int = 0
    wild_clocks: int = 0
    alerts_beside_wild_clocks: int = 0

    @property
    def sound(self) -> bool:
        """Whether every promise was kept, and no worker ended but as it should."""
        off = self.lost + self.doubled + self.wrong + self.disordered
        off += self.dead_letters_off + self.shadows_off + self.states_off + self.unaccounted
        silenced = self.wild_clocks and not self.alerts_beside_wild_clocks
        return off == 0 and not silenced and set(self.endings) <= _MAY_END_WITH


def judge(cluster: Cluster, report: Report) -> None:
    """Hold what is on the topics against the oracle. Everything published must have been committed."""
    config, notes = cluster.config, cluster.notes
    model = load_model(cluster.challenger_path)
    letters: list[Letter] = [
        (record, {name: value.decode() for name, value in record.headers})
        for record in read_committed(config, config.dead_letter_topic)
    ]
    expected = expect(cluster, model, _refused(letters))
    found = alerts_of(config)
    report.endings, report.failures, report.refusals = cluster.endings, cluster.failures, cluster.refusals
    ends, committed = cluster.ends(), cluster.committed()
    report.events, report.alerts, report.dead_letters = sum(ends.values()), len(found), len(letters)
    report.unaccounted = sum(abs(end - committed[source]) for source, end in ends.items())
    report.by_rules = sum(alert.rule is not msgspec.UNSET for alert in found)
    report.models = len({alert.model.sha256 for alert in found})
    _judge_alerts(found, expected, notes, report)
    shadows = alerts_of(config, config.shadow_topic)
    _judge_shadows(shadows, expected, notes, report, by_account=bool(model.encoding.signals))
    _judge_letters(letters, expected, notes, report)
    report.states_off = _states_off(cluster, model, expected)
    report.wild_clocks, report.rebuilds = len(notes.wild), len(notes.rebuilds)
    report.alerts_beside_wild_clocks = sum(
        not alert.session_id.startswith(WILD)
        and _within(
            TopicPartition(config.input_topic, alert.source.partition), alert.source.offset, notes.wild
        )
        for alert in found
    )


def _judge_alerts(found: Sequence[Alert], expected: Expected, notes: Notes, report: Report) -> None:
    wanted, seen = (_counted(alerts, notes) for alerts in (expected.alerts, found))
    report.lost = sum((wanted - seen).values())
    report.doubled = sum(count - wanted[one] for one, count in seen.items() if 0 < wanted[one] < count)
    report.wrong = sum(count for one, count in seen.items() if not wanted[one])
    orders, wanted_orders = _by_session(found), _by_session(expected.alerts)
    report.disordered = sum(orders[session] != wanted_orders.get(session) for session in orders)


def _judge_shadows(
    found: Sequence[Alert], expected: Expected, notes: Notes, report: Report, *, by_account: bool
) -> None:
    """Hold the challenger's alerts against the oracle's, but for those that a rebuild may have made it tell again."""

    def known(alert: Alert) -> bool:
        source, far = alert.source, alert.source.offset + 1
        key = session_key(alert.account_id, alert.session_id) if by_account else alert.session_id
        return source.offset < expected.rebuilt.get((source.partition, key), far)

    of_topic, of_oracle = (
        _counted([alert for alert in alerts if known(alert)], notes)
        for alerts in (found, expected.shadow_alerts)
    )
    report.shadow_alerts = of_topic.total()
    report.shadows_off = (of_topic - of_oracle).total() + (of_oracle - of_topic).total()


def _judge_letters(letters: Sequence[Letter], expected: Expected, notes: Notes, report: Report) -> None:
    """Hold the dead letters against the oracle's; what a topic refused must be for a reason, and at its time."""
    of_topic = Counter(
        (said["dlq-source-partition"], said["dlq-source-offset"], said["dlq-reason"], record.value)
        for record, said in letters
    )
    of_oracle = Counter(
        (str(one.partition), str(one.offset), one.reason.value, one.value) for one in expected.letters
    )
    report.dead_letters_off = (of_topic - of_oracle).total() + (of_oracle - of_topic).total()
    refused = _refused(letters)
    report.dead_letters_off += expected.needless + sum(
        offset is not None and not _within(source, offset, notes.narrow) for source, offset in refused
    )
    report.refused = len(refused)
    report.failed = sum(said["dlq-reason"] == Reason.PROCESSING.value for _, said in letters)


def _refused(letters: Iterable[Letter]) -> Refused:
    """Return what a topic refused, by the dead letters alone: an event's alert, or the content of another letter."""
    return {
        (
            TopicPartition(said["dlq-source-topic"], int(said["dlq-source-partition"])),
            int(said["dlq-source-offset"]),
        ): said["dlq-detail"]
        for record, said in letters
        if said["dlq-reason"] == Reason.PRODUCTION.value
        or (record.value is None and said.get("dlq-value-bytes", "null") != "null")
    }


def _states_off(cluster: Cluster, model: Model, expected: Expected) -> int:
    """Count the partitions whose state log leads to other live sessions or profiles than the oracle's."""
    config, partitions = cluster.config, expected.partitions
    restored = {source.partition: RestoredState(model.encoding.fingerprint) for source in partitions}
    for record in read_committed(config, config.state_topic):
        restored[record.partition].add(record.offset, record.value)
    for each in restored.values():
        each.end()

    def live(source: TopicPartition, partition: Partition) -> tuple[object, ...]:
        """Return stream time, live sessions and profiles in order; one that expired may be gone already or about to."""
        oldest_ms = partition.stream_time_ms - config.idle_timeout_ms
        sessions = [
            (name, _without_challenger(packed))
            if (source.partition, name) in expected.rebuilt
            else (name, packed)
            for name, packed in partition.sessions.items()
            if touched_ms(packed) >= oldest_ms
        ]
        longest_unseen_ms = partition.stream_time_ms - config.account_timeout_ms
        profiles = [one for one in partition.profiles.items() if touched_ms(one[1]) >= longest_unseen_ms]
        return partition.stream_time_ms, sessions, profiles

    return sum(
        live(source, oracle) != live(source, restored[source.partition].partition)
        for source, oracle in partitions.items()
    )


def _without_challenger(packed: bytes) -> bytes:
    """Return a packed session without what a challenger, or a rule in shadow, left in it."""
    last_ms, touched, actions, _, hashes_at, flags = head(packed)
    end = hashes_at - CARRIED_BYTES if flags & SHADOW_CARRIED else hashes_at
    bare = pack(last_ms, touched, actions, flags & ~(SHADOWED | RULE_SHADOWED | SHADOW_CARRIED), b"", b"")
    return bare + packed[HEAD_BYTES:end] + packed[hashes_at:]


def _within(source: TopicPartition, offset: int, stretches: Sequence[Stretch]) -> bool:
    """Tell whether an offset of the input lies in one of some stretches."""
    return any(begin.get(source, 0) <= offset < end.get(source, 0) for begin, end in stretches)


def _counted(alerts: Iterable[Alert], notes: Notes) -> Counter[bytes]:
    """Make alerts comparable: without the detector's clock, and where the old version decided, without explanations."""
    return Counter(msgspec.json.encode(_comparable(alert, notes)) for alert in alerts)


def _comparable(alert: Alert, notes: Notes) -> dict[str, Any]:
    known: dict[str, Any] = msgspec.to_builtins(alert)  # without what is not set
    known["detected_at_ms"] = 0
    source = TopicPartition(alert.source.topic, alert.source.partition)
    if alert.source.offset < notes.of_old_version.get(source, 0):
        return {name: value for name, value in known.items() if name not in _EXPLANATION}
    return known


def _by_session(alerts: Iterable[Alert]) -> dict[tuple[int, str], list[str]]:
    """Return the ids of alerts by partition and session, in the order of the partition."""
    orders: dict[tuple[int, str], list[str]] = defaultdict(list)
    for alert in alerts:
        orders[alert.source.partition, alert.session_id].append(alert.alert_id)
    return orders
