"""A worker with a fault built in: `python -m tests.chaos.launcher FAULT N run …`.

A deadly fault kills the worker, by SIGKILL, the N-th time it gets to a point. A broken build breaks a promise on
purpose, from the N-th time on: the harness must notice.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from detector.cli import main
from detector.runtime.restoring import StateReader
from detector.runtime.state_writer import StateWriter
from detector.runtime.transaction import Transactor

DEADLY = (
    "before-produce",
    "before-offsets",
    "before-commit",
    "in-commit",
    "after-commit",
    "in-restore",
    "in-snapshot",
)
BROKEN = ("offsets-outside", "no-state", "alerts-twice")


def die_at(owner: type, name: str, nth: int, *, after: bool = False) -> None:
    """Make the N-th call of a method deadly, before it or after it."""
    original = getattr(owner, name)
    calls = 0

    def deadly(self: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(self, *arguments, **named)
        if calls == nth and after:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, deadly)


def install(fault: str, nth: int) -> None:
    """Build a fault in."""
    from kafka import KafkaProducer  # noqa: PLC0415

    points: dict[str, Callable[[], None]] = {
        "before-produce": lambda: die_at(KafkaProducer, "begin_transaction", nth, after=True),
        "before-offsets": lambda: die_at(KafkaProducer, "send_offsets_to_transaction", nth),
        "before-commit": lambda: die_at(KafkaProducer, "commit_transaction", nth),
        "in-commit": lambda: _die_in_commit(nth),
        "after-commit": lambda: die_at(KafkaProducer, "commit_transaction", nth, after=True),
        "in-restore": lambda: die_at(StateReader, "_committed_values", 1 + nth % 2, after=True),
        "in-snapshot": lambda: _die_in_snapshot(nth),
        "offsets-outside": lambda: _offsets_outside(nth),
        "no-state": lambda: _no_state(nth),
        "alerts-twice": lambda: _alerts_twice(nth),
    }
    points[fault]()


def _die_in_commit(nth: int) -> None:
    """Die once the commit is under way: asked for, not answered."""
    from kafka.producer.transaction_manager import TransactionManager  # noqa: PLC0415

    original = TransactionManager.begin_commit
    calls = 0

    def deadly(self: Any) -> Any:
        nonlocal calls
        calls += 1
        result = original(self)
        if calls == nth:
            import time  # noqa: PLC0415

            time.sleep(0.002)  # the sender's thread is at it
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    TransactionManager.begin_commit = deadly


def _die_in_snapshot(nth: int) -> None:
    """Die in the transaction that carries the N-th snapshot, before it commits."""
    from kafka import KafkaProducer  # noqa: PLC0415

    values, commit = StateWriter.values, KafkaProducer.commit_transaction
    snapshots = 0

    def counted(self: StateWriter, *arguments: Any) -> Any:
        nonlocal snapshots
        snapshot, delta = values(self, *arguments)
        snapshots += bool(snapshot)
        return snapshot, delta

    def deadly(self: KafkaProducer) -> None:
        if snapshots >= nth:
            os.kill(os.getpid(), signal.SIGKILL)
        commit(self)

    StateWriter.values = counted  # type: ignore[method-assign, assignment]
    KafkaProducer.commit_transaction = deadly


def _offsets_outside(nth: int) -> None:
    """Broken: the N-th batch commits its offsets on its own, before its transaction, and the worker dies between."""
    from detector.runtime.service import Detector  # noqa: PLC0415

    original = Detector._commit
    calls = 0

    def broken(self: Detector, link: Any, decoded: Any, decided: Any, member: Any) -> None:
        nonlocal calls
        calls += 1
        if any(outcome.alerts for outcome in decided) and calls >= nth:
            from kafka.structs import OffsetAndMetadata  # noqa: PLC0415

            stripped = [type(one)([], one.suppressed, one.delta) for one in decided]
            original(self, link, decoded, stripped, member)  # offsets and state first …
            link.membership.consumer.commit(
                {one.source: OffsetAndMetadata(one.next_offset) for one in decoded}
            )
            os.kill(os.getpid(), signal.SIGKILL)  # … and the alerts never
        original(self, link, decoded, decided, member)

    Detector._commit = broken  # type: ignore[method-assign]


def _no_state(nth: int) -> None:
    """Broken: from the N-th batch on, deltas forget the sessions they touched."""
    values = StateWriter.values
    calls = 0

    def broken(self: StateWriter, partition: Any, delta: Any) -> Any:
        nonlocal calls
        calls += 1
        return values(self, partition, delta._replace(touched={}) if calls >= nth else delta)

    StateWriter.values = broken  # type: ignore[method-assign]


def _alerts_twice(nth: int) -> None:
    """Broken: the N-th transaction with records is published twice, as a blind retry after a commit would."""
    commit = Transactor.commit
    calls = 0

    def broken(self: Transactor, records: Any, offsets: Any, member: Any) -> Any:
        nonlocal calls
        calls += 1
        published = commit(self, records, offsets, member)
        if calls >= nth:
            commit(self, [one for one in records if one.partition is None], offsets, member)
        return published

    Transactor.commit = broken  # type: ignore[method-assign]


if __name__ == "__main__":
    fault_name, number = sys.argv[1], int(sys.argv[2])
    install(fault_name, number)
    main(sys.argv[3:], prog_name="python -m detector")
