"""Drift, as metrics: computed when they are asked for, from what was counted of late."""

from collections.abc import Iterator

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from detector.contract.dead_letters import Reason
from detector.core.drift import RARE, UNKNOWN, DriftWindow, Tally, Watched, drifted, measures
from detector.runtime.processing import Processed


class Drift(Collector):
    """How far this worker's traffic lies from what its model was trained on; nothing without a reference."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._watching: tuple[Watched, DriftWindow] | None = None  # both at once: another thread collects
        registry.register(self)

    def watch(self, watched: Watched | None, window_ms: int) -> None:
        """Begin anew, with a model's reference; an event counts for `window_ms` of event time."""
        self._watching = (watched, DriftWindow(window_ms)) if watched else None

    def add(self, processed: Processed) -> None:
        """Count one partition's share of a committed batch."""
        if self._watching is None:
            return
        _, window = self._watching
        counted = processed.outcome.tally
        if refused := sum(letter.reason is Reason.UNKNOWN_ACTION for letter in processed.letters):
            counted += Tally(refused, {UNKNOWN: np.array([0, refused])})
        if counted.events:
            window.add(processed.outcome.delta.stream_time_ms, counted)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Expose the measures."""
        index = GaugeMetricFamily(
            "detector_drift_index",
            "Population stability index of the traffic of late, by what the model was trained on",
            labels=["distribution"],
        )
        share = GaugeMetricFamily("detector_drift_share", "Of the events of late", labels=["share"])
        expected = GaugeMetricFamily(
            "detector_drift_expected_share", "… and of those it was trained on", labels=["share"]
        )
        events = GaugeMetricFamily("detector_drift_events", "Events of late, that these rest on")
        beyond = GaugeMetricFamily(
            "detector_drifted", "1 where that is beyond what the alert rules take for chance", labels=["of"]
        )
        if (watching := self._watching) is not None:
            (reference, _), window = watching
            total = window.total
            measured = dict(measures(total, reference))
            shares = {name: reference.shares[name][1] for name in RARE}
            changed = drifted(measured, shares, total.events)
            events.add_metric([], total.events)
            for name, measure in measured.items():
                (share if name in RARE else index).add_metric([name], measure)
                beyond.add_metric([name], name in changed)
            for name, one in shares.items():
                expected.add_metric([name], one)
        yield from (index, share, expected, events, beyond)
