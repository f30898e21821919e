"""What keeping the live sessions in the transaction costs: the whole service with and without its state log.

    PYTHONPATH=. python benchmarks/state_overhead.py [EVENTS] [ROUNDS]

Each round reads the same topic twice with one worker, exactly once, in groups of their own: as shipped, and with a
worker whose deltas and snapshots are not written. The ratio of the two throughputs is taken round by round.
"""

import statistics
import sys
import threading
import time
import uuid
from unittest.mock import patch

from kafka import KafkaAdminClient, KafkaProducer
from rich.console import Console
from rich.table import Table

from broker import EmbeddedBroker
from detector.contract.events import encode_event
from detector.model.artifact import default_model_path, load_model
from detector.runtime.config import DetectorConfig
from detector.runtime.health import Heartbeat
from detector.runtime.metrics import DetectorMetrics
from detector.runtime.service import Detector
from detector.runtime.state_writer import StateWriter
from detector.runtime.topics import ensure_topics
from producer.behaviour import seed
from producer.behaviour.interleave import interleave, schedule
from producer.behaviour.session import stream

INPUT = "benchmark-actions"
LIVE_SESSIONS = 20_000


def config_of(bootstrap_servers: str) -> DetectorConfig:
    """Return settings with a group, and so a state log, of its own."""
    return DetectorConfig(
        bootstrap_servers=bootstrap_servers,
        group=f"b-{uuid.uuid4().hex[:8]}",
        input_topic=INPUT,
        metrics_port=-1,
    )


def publish(bootstrap_servers: str, events: int) -> int:
    """Publish about so many simulated events; return how many."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
    ensure_topics(admin, config_of(bootstrap_servers))
    admin.close()
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers, linger_ms=20, batch_size=256 * 1024)
    simulated = seed.sessions(events // 5, 1)
    scheduled = schedule(simulated, live_sessions=LIVE_SESSIONS, rng=stream(1, "schedule"))
    start_ms = time.time_ns() // 1_000_000 - 3_600_000
    count = 0
    for count, event in enumerate(interleave(scheduled, start_ms=start_ms), start=1):
        producer.send(INPUT, encode_event(event), key=event.account_id.encode())
        if count % 20_000 == 0:
            producer.flush()
    producer.flush()
    producer.close()
    return count


def run(bootstrap_servers: str, events: int) -> float:
    """Read the topic from its start with one worker; return events a second, from the first batch to the last."""
    metrics, stop = DetectorMetrics(), threading.Event()
    detector = Detector(config_of(bootstrap_servers), load_model(default_model_path()), metrics, Heartbeat())
    thread = threading.Thread(target=detector.run, args=(stop,))
    thread.start()

    def scored() -> float:
        return metrics.registry.get_sample_value("detector_events_total", {"outcome": "scored"}) or 0.0

    while not (first := scored()):
        time.sleep(0.001)
    began_s = time.monotonic()
    while scored() < events:
        time.sleep(0.001)
    elapsed_s = time.monotonic() - began_s
    stop.set()
    thread.join()
    return (events - first) / elapsed_s


def main() -> None:
    """Measure and print the table."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 300_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5  # noqa: PLR2004
    with EmbeddedBroker() as broker:
        servers = broker.bootstrap_servers
        events = publish(servers, wanted)
        table = Table("round", "with state", "without", "ratio", title=f"{events:,} events, events/s")
        ratios = []
        for number in range(rounds):
            with_state = run(servers, events)
            with patch.object(StateWriter, "values", lambda *_: ([], [])):
                without = run(servers, events)
            ratios.append(with_state / without)
            table.add_row(str(number + 1), f"{with_state:,.0f}", f"{without:,.0f}", f"{ratios[-1]:.2f}")
        Console(width=100).print(
            table, f"ratio: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
        )


if __name__ == "__main__":
    main()
