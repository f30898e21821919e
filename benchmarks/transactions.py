"""What a transaction costs: with two back-offs, and with the live sessions packed or one record each.

    PYTHONPATH=. python benchmarks/transactions.py [TRANSACTIONS] [SESSIONS]

All kinds take turns on one broker, so that each meets the same load. A transaction publishes what a batch of that
many touched sessions comes to: one packed record, or one record a session as a changelog would have it.
"""

import secrets
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain

from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic
from rich.console import Console
from rich.table import Table

from broker import EmbeddedBroker
from detector.core.partition import Delta, Partition
from detector.runtime.state_writer import StateWriter

_TOPIC = "state"
_SESSION_BYTES = 133  # a full window of the packaged model
_WARM_UP = 20


def producer(bootstrap_servers: str, name: str, retry_backoff_ms: int) -> KafkaProducer:
    """Return a transactional producer, ready to begin."""
    made = KafkaProducer(
        bootstrap_servers=bootstrap_servers,
        transactional_id=name,
        retry_backoff_ms=retry_backoff_ms,
        linger_ms=1_000,
        batch_size=1024 * 1024,
        max_request_size=16 * 1024 * 1024,
    )
    made.init_transactions()
    return made


def commit(with_: KafkaProducer, values: Sequence[tuple[bytes | None, bytes]]) -> float:
    """Publish (key, value) in one transaction; return how long it took, in ms."""
    began_s = time.perf_counter()
    with_.begin_transaction()
    for key, value in values:
        with_.send(_TOPIC, key=key, value=value, partition=0)
    with_.flush()
    with_.commit_transaction()
    return (time.perf_counter() - began_s) * 1_000


def main(transactions: int, sessions: int) -> None:
    """Measure and print the table."""
    touched = {secrets.token_hex(16): secrets.token_bytes(_SESSION_BYTES) for _ in range(sessions)}
    _, delta = StateWriter(1, 1, b"encoding", Partition(), None).values(Partition(), Delta(1, 1, [], touched))
    packed = [(None, value) for value in delta]
    single = [(session_id.encode(), session) for session_id, session in touched.items()]
    kinds = {
        "packed, back-off 2 ms (ours)": (2, packed),
        "packed, back-off 100 ms (the client's default)": (100, packed),
        "one record a session, back-off 2 ms": (2, single),
    }
    with EmbeddedBroker() as broker, ExitStack() as stack:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        admin.create_topics([NewTopic(_TOPIC, 1, 1)])
        admin.close()
        producers = {}
        for number, (kind, (backoff_ms, _)) in enumerate(kinds.items()):
            producers[kind] = producer(broker.bootstrap_servers, f"transactions-{number}", backoff_ms)
            stack.callback(producers[kind].close)
        times_ms: dict[str, list[float]] = {kind: [] for kind in kinds}
        for kind in chain.from_iterable([kinds] * (_WARM_UP + transactions)):
            # Two in a row, of which the second waits for the first one's markers, as the loop under load does.
            commit(producers[kind], kinds[kind][1])
            times_ms[kind].append(commit(producers[kind], kinds[kind][1]))
    base = statistics.median(next(iter(times_ms.values()))[_WARM_UP:])
    table = Table("transaction", "p50", "p99", "p50 against ours", title=f"{sessions:,} sessions touched")
    for kind, taken_ms in times_ms.items():
        hundredths = statistics.quantiles(taken_ms[_WARM_UP:], n=100)
        table.add_row(
            kind, f"{hundredths[49]:.1f} ms", f"{hundredths[98]:.1f} ms", f"{hundredths[49] / base:.1f}"
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    arguments = [int(one) for one in sys.argv[1:]]
    main(*(arguments + [200, 2_000][len(arguments) :]))
