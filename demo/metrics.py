"""The detector's own figures, read as Prometheus would read them."""

import urllib.error
import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What the detector has done so far.

    Attributes:
        ready: it is in the consumer group and holds its partitions.
        events: input records of committed batches.
        dead_letters: those of them that could not be scored.
        alerts: committed.
        lag: input records not yet read.
    """

    ready: bool = False
    events: int = 0
    dead_letters: int = 0
    alerts: int = 0
    lag: int = 0


def read(port: int) -> Reading:
    """Read the figures from the detector's metrics port on loopback; zeros while it does not answer yet."""
    try:
        text = _get(port, "metrics")
    except OSError:
        return Reading()
    try:
        _get(port, "readyz")
        ready = True
    except OSError:
        ready = False
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def total(name: str, **labels: str) -> int:
        return int(sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items()))

    return Reading(
        ready=ready,
        events=total("detector_events_total"),
        dead_letters=total("detector_events_total", outcome="dead_letter"),
        alerts=total("detector_alerts_total"),
        lag=total("detector_lag_events"),
    )


def _get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=_TIMEOUT_S) as answer:
        text: str = answer.read().decode()
    return text
