"""The embedded broker under its Java options against Java's own choice, side by side on this machine.

    python benchmarks/broker_java_options.py [ROUNDS]

Each round starts a broker of each kind in turn and prints, for both and as medians over the rounds: seconds from
`start()` to the first answered metadata request, then of the same workload (100,000 idempotent records of 200 bytes
produced, then 200 transactions of one record) its wall time, the broker's processor time, and its memory after it.
The clients share the cores with the broker, as in tests and in the demonstration.
"""

import statistics
import sys
import time

import psutil
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from broker import EmbeddedBroker, embedded

_RECORDS = 100_000
_TRANSACTIONS = 200
_VALUE = bytes(range(200))
_KINDS = {"ours": embedded._JAVA_OPTIONS, "Java's own choice": ()}  # noqa: SLF001 - no user has use for a setting


def _measure(options: tuple[str, ...]) -> dict[str, float]:
    embedded._JAVA_OPTIONS = options  # noqa: SLF001 - as above
    began_s = time.perf_counter()
    with EmbeddedBroker() as broker:
        figures = {"start, s": time.perf_counter() - began_s}
        java = psutil.Process(broker.pid)
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        admin.create_topics([NewTopic("load", 4, 1)])
        admin.close()
        busy_s, began_s = sum(java.cpu_times()[:2]), time.perf_counter()
        producer = KafkaProducer(
            bootstrap_servers=broker.bootstrap_servers, enable_idempotence=True, linger_ms=5
        )
        for n in range(_RECORDS):
            producer.send("load", _VALUE, key=b"%d" % (n % 997))
        producer.close()
        figures["produce, s"] = time.perf_counter() - began_s
        began_s = time.perf_counter()
        producer = KafkaProducer(
            bootstrap_servers=broker.bootstrap_servers, transactional_id="load", retry_backoff_ms=2
        )
        producer.init_transactions()
        for _ in range(_TRANSACTIONS):
            producer.begin_transaction()
            producer.send("load", _VALUE)
            producer.commit_transaction()
        producer.close()
        figures["transactions, s"] = time.perf_counter() - began_s
        figures["broker's processor time, s"] = sum(java.cpu_times()[:2]) - busy_s
        figures["resident memory, MiB"] = java.memory_info().rss / 2**20
    return figures


def main(rounds: int) -> None:
    """Measure and print the table."""
    seen: dict[str, list[dict[str, float]]] = {kind: [] for kind in _KINDS}
    for _ in range(rounds):
        for kind, options in _KINDS.items():
            seen[kind].append(_measure(options))
    ours, other = seen.values()
    print(f"{'median of ' + str(rounds):28} {'ours':>8} {'Java':>8} {'ratio':>6}")
    for figure in ours[0]:
        a, b = (statistics.median(row[figure] for row in rows) for rows in (ours, other))
        print(f"{figure:28} {a:8.2f} {b:8.2f} {a / b:6.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
