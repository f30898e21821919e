"""Metrics of the service. No ids as labels: what is high in cardinality or personal stays out."""

from collections import Counter as Counts
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from msgspec import UNSET
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from detector.contract.actions import StepUp
from detector.contract.alerts import Decision
from detector.contract.dead_letters import Reason
from detector.contract.verdicts import Finding
from detector.core.alerted import WINDOWS_MS, Standing, standings
from detector.core.decision import Suppression
from detector.core.judging import Taken
from detector.core.partition import Partition
from detector.core.ruling import Rule
from detector.runtime.drift import Drift
from detector.runtime.processing import Processed

_BATCH_BUCKETS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_000, 5_000, 10_000)
_SCORE_BUCKETS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_STAGE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_RESTORE_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0)


_OF_RULE = ("rule", "decision", "shadow")


def _labels(rule: Rule) -> tuple[str, ...]:
    return rule.reference.name, rule.then.value, str(rule.shadow).lower()


class ScoreDistribution(Collector):
    """A histogram of scores that takes a batch at a time: one by one would cost as much as the scoring."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counts = np.zeros(len(_SCORE_BUCKETS), np.int64)
        self._sum = 0.0
        registry.register(self)

    def observe(self, scores: Sequence[float]) -> None:
        """Count scores, each in 0 … 1."""
        buckets = np.searchsorted(_SCORE_BUCKETS, scores)
        self._counts += np.bincount(buckets, minlength=len(_SCORE_BUCKETS))
        self._sum += sum(scores)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Expose the histogram."""
        family = HistogramMetricFamily("detector_score", "Distribution of the scores")
        counts = np.cumsum(self._counts).tolist()
        bounds = [*(str(bound) for bound in _SCORE_BUCKETS[:-1]), "+Inf"]
        family.add_metric([], list(zip(bounds, counts, strict=True)), self._sum)
        yield family


class Judged(Collector):
    """The sessions with alerts of the last day and week, by what they were found to be; counted when somebody asks.

    Attributes:
        partitions: that are this worker's.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.partitions: dict[int, Partition] = {}
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Expose the counts; windows end at each partition's stream time."""
        counts: Counts[tuple[str, Standing]] = Counts()
        for partition in list(self.partitions.values()):
            alerted = list(partition.alerted.values())  # at once: the loop goes on beside this
            for window, window_ms in WINDOWS_MS.items():
                found = standings(alerted, partition.stream_time_ms, window_ms)
                counts.update({(window, one): count for one, count in found.items()})
        family = GaugeMetricFamily(
            "detector_alerted_sessions",
            "Sessions alerted in the last day or week of event time, by model, decision and verdict",
            labels=("window", "model", "decision", "verdict"),
        )
        # All verdicts, those that nobody gave at 0: a share of a series that is not there would be none.
        known = {
            (window, one._replace(finding=finding)) for window, one in counts for finding in (None, *Finding)
        }
        for window, one in sorted(known, key=str):
            labels = window, one.model, one.decision, one.finding or "NONE"
            family.add_metric(labels, counts[window, one])
        yield family


class DetectorMetrics:
    """The detector's metrics, on a registry of their own so that a process can hold more than one."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"detector_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"detector_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"detector_{name}", text, labels, buckets=buckets, registry=registry)

        self.events = counter(
            "events", "Input records of committed batches, by what became of them", "outcome"
        )
        self.scores = counter("scores", "Windows scored and committed")
        self.alerts = counter("alerts", "Alerts committed", "decision")
        self.suppressed = counter(
            "suppressed", "Scores at or above a threshold that were not published", "reason"
        )
        self.breaker_open = gauge("breaker_open", "1 while blocks are turned into challenges", "partition")
        self.breaker_probation = gauge(
            "breaker_probation", "1 while the model that decides is on probation", "partition"
        )
        self.breaker_trips = counter("breaker_trips", "How often the circuit breaker opened")
        self.step_ups = counter(
            "step_ups", "Second factors that sessions were asked for, by what came of them", "outcome"
        )
        self.verdicts = counter(
            "verdicts",
            "Verdicts read, each in every partition, by whether the session's alert is known there",
            "outcome",
        )
        self.shadow_alerts = counter("shadow_alerts", "Sessions that the challenger would have blocked")
        self.shadow_scores = counter(
            "shadow_scores",
            "Scored events, by whether each model's score reached its threshold",
            "champion",
            "challenger",
        )
        self.rule_matches = counter(
            "rule_matches",
            "Events at which a rule held, by what would follow and whether it is in shadow",
            *_OF_RULE,
        )
        self._rules: set[tuple[str, ...]] = set()
        self.listed_accounts = gauge("listed_accounts", "Accounts that are allowed or denied", "partition")
        self.dead_letters = counter("dead_letters", "Records committed to the dead-letter topic", "reason")
        self.clamped = counter(
            "clamped_times", "Events before their session's last one, which count as after it"
        )
        self.corrected = counter(
            "corrected_times",
            "Events decided at the broker's time, since their own was too far from it",
            "how",
        )
        self.expired = counter("expired_sessions", "Sessions dropped: idle too long")
        self.evicted = counter("evicted_sessions", "Sessions dropped: too many were live")
        self.expired_accounts = counter("expired_accounts", "Histories dropped: account unseen for too long")
        self.evicted_accounts = counter("evicted_accounts", "Histories dropped: too many were kept")
        self.keyed_otherwise = counter(
            "keyed_otherwise",
            "Events under another key than their account's id; or their session's, if the model reads no history",
        )
        self.absent_fields = counter(
            "absent_fields", "Events without a field that the model's signals read", "field"
        )
        self.lost_offsets = counter(
            "lost_offsets", "Input offsets that retention deleted before they were read"
        )
        self.batch_events = histogram("batch_events", "Input records a transaction", _BATCH_BUCKETS)
        self.score, self.judged = ScoreDistribution(registry), Judged(registry)
        self.drift = Drift(registry)
        self.stage_seconds = histogram("stage_seconds", "Time by stage of the loop", _STAGE_BUCKETS, "stage")
        self.alert_latency_seconds = histogram(
            "alert_latency_seconds",
            "From the deciding event on the broker to its alert committed",
            _LATENCY_BUCKETS,
        )
        self.live_sessions = gauge("live_sessions", "Sessions in memory", "partition")
        self.live_accounts = gauge("live_accounts", "Accounts whose history is in memory", "partition")
        self.lag = gauge(
            "lag_events", "Input records that could be read and are not yet committed", "partition"
        )
        self.open_transaction_events = gauge(
            "open_transaction_events",
            "Input records that wait for a producer's open transaction",
            "partition",
        )
        self.open_transaction_seconds = gauge(
            "open_transaction_seconds",
            "Time for which the same open transaction has held them back",
            "partition",
        )
        self.lags = self.lag, self.open_transaction_events, self.open_transaction_seconds
        self.transactions = counter("transactions", "Transactions, by outcome", "outcome")
        self.recoveries = counter("recoveries", "Recoveries, by kind", "kind")
        self.state_bytes = counter("state_bytes", "Written to the state topic", "kind")
        self.restore_seconds = histogram("restore_seconds", "Time to restore a partition", _RESTORE_BUCKETS)
        self.assigned_partitions = gauge("assigned_partitions", "Input partitions held by this worker")
        self.shadow_model = Info("detector_shadow_model", "The challenger in shadow", registry=registry)
        self.model = Info("detector_model", "The model that decides", registry=registry)
        self.model_reloads = counter(
            "model_reloads", "Changed model files, by what became of them", "outcome"
        )
        self.rules_reloads = counter(
            "rules_reloads", "Changed rules files, by what became of them", "outcome"
        )
        # Known labels exist from the start, at 0: a rate sees no increase in a series' first value.
        known: tuple[tuple[Counter, Iterable[str]], ...] = (
            (self.transactions, ("committed",)),
            (self.dead_letters, Reason),
            (self.corrected, ("ahead", "late")),
            (self.alerts, Decision),
            (self.step_ups, StepUp),
            (self.verdicts, Taken),
            (self.suppressed, Suppression),
            (self.model_reloads, ("loaded", "refused")),
            (self.rules_reloads, ("loaded", "refused")),
            (self.recoveries, ("retry", "rejoin", "restore")),
            (self.state_bytes, ("delta", "snapshot")),
            (self.events, ("scored", "unscored", "duplicate", "listing", "verdict", "dead_letter")),
        )
        for family, labels in known:
            for label in labels:
                family.labels(label)

    def rules(self, rules: Iterable[Rule]) -> None:
        """Expose these rules, each from 0, and no others any more: they are at most as many as a file may have."""
        now = {_labels(one) for one in rules}
        for gone in self._rules - now:
            self.rule_matches.remove(*gone)
        for one in now:
            self.rule_matches.labels(*one)
        self._rules = now

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of the block to the stage's histogram."""
        with self.stage_seconds.labels(stage).time():
            yield

    def batch(self, records: int) -> None:
        """Count a committed batch."""
        self.batch_events.observe(records)

    def partition_batch(self, processed: Processed) -> None:
        """Count one partition's share of a committed batch."""
        outcome, letters = processed.outcome, processed.letters
        self.drift.add(processed)
        self.scores.inc(len(outcome.scores))
        self.score.observe(outcome.scores)
        self.events.labels("scored").inc(len(outcome.scores))
        self.events.labels("unscored").inc(outcome.unscored)
        self.events.labels("duplicate").inc(outcome.duplicates)
        self.events.labels("listing").inc(outcome.listings)
        self.events.labels("verdict").inc(outcome.verdicts.total())
        for taken, count in outcome.verdicts.items():
            self.verdicts.labels(taken).inc(count)
        self.events.labels("dead_letter").inc(len(letters))
        self.clamped.inc(outcome.clamped)
        self.corrected.labels("ahead").inc(outcome.ahead)
        self.corrected.labels("late").inc(outcome.late)
        self.expired.inc(outcome.expired)
        self.evicted.inc(outcome.evicted)
        self.expired_accounts.inc(outcome.expired_accounts)
        self.evicted_accounts.inc(outcome.evicted_accounts)
        self.keyed_otherwise.inc(processed.keyed_otherwise)
        for field, count in processed.absent.items():
            self.absent_fields.labels(field).inc(count)
        for suppression, count in outcome.suppressed.items():
            self.suppressed.labels(suppression.value).inc(count)
        self.breaker_trips.inc(outcome.trips)
        for step_up, count in outcome.step_ups.items():
            self.step_ups.labels(step_up.value).inc(count)
        for alert in outcome.alerts:
            self.alerts.labels(alert.decision.value).inc()
        for letter in letters:
            self.dead_letters.labels(letter.reason.value).inc()
        for rule, count in outcome.matches.items():
            self.rule_matches.labels(*_labels(rule)).inc(count)
        self.shadow_alerts.inc(sum(one.rule is UNSET for one in outcome.shadow_alerts))
        for verdicts, count in outcome.agreement.items():
            self.shadow_scores.labels(*("reached" if one else "below" for one in verdicts)).inc(count)

    def partition(self, number: int, partition: Partition) -> None:
        """Expose the state of a partition that is this worker's."""
        self.judged.partitions[number] = partition
        self.live_sessions.labels(number).set(len(partition.sessions))
        self.live_accounts.labels(number).set(len(partition.profiles))
        self.listed_accounts.labels(number).set(len(partition.listed))
        self.breaker_open.labels(number).set(partition.breaker.is_open)
        self.breaker_probation.labels(number).set(partition.breaker.on_probation)

    def forget(self, partition: int) -> None:
        """Stop exposing a partition that is another worker's now."""
        self.judged.partitions.pop(partition, None)
        for one in (
            self.live_sessions,
            self.live_accounts,
            self.breaker_open,
            self.breaker_probation,
            self.listed_accounts,
        ):
            one.remove(str(partition))


class RelayMetrics:
    """A relay's metrics, on a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"detector_relay_{name}", text, ("partition",), registry=registry)

        self.verdicts = Counter(
            "detector_relay_verdicts", "Verdicts committed into the input", registry=registry
        )
        self.dead_letters = Counter(
            "detector_relay_dead_letters",
            "Records of the verdicts topic that are none, committed to its dead letters",
            ("reason",),
            registry=registry,
        )
        self.lags = (
            gauge("lag_verdicts", "Verdicts that could be read and are not yet committed"),
            gauge("open_transaction_verdicts", "Verdicts that wait for a producer's open transaction"),
            gauge("open_transaction_seconds", "Time for which the same open transaction has held them back"),
        )
        for reason in (Reason.MALFORMED, Reason.TIME_IN_FUTURE, Reason.TOO_LARGE, Reason.NULL_VALUE):
            self.dead_letters.labels(reason)
