"""A worker with a fault built in: `python -m tests.chaos.launcher FAULT N run …`.

A deadly fault kills the worker, by SIGKILL, the N-th time it gets to a point. A broken build breaks a promise on
purpose, from the N-th time on: the harness must notice. The product has no hooks for this: its classes and its
client's are changed from outside, in this process.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from kafka import KafkaProducer, TopicPartition
from kafka.producer.transaction_manager import TransactionManager
from kafka.structs import OffsetAndMetadata

from detector.cli import main
from detector.client.producer import Producer
from detector.contract.dead_letters import Reason
from detector.core.pipeline import Outcome, Pipeline, Share
from detector.runtime.link import KafkaLink
from detector.runtime.processing import Processed, Processor
from detector.runtime.restoring import StateReader
from detector.runtime.service import Detector
from detector.runtime.state_writer import StateWriter
from detector.runtime.transaction import Transactor

_UNREAD = {Reason.BATCH_TOO_LARGE, Reason.DESERIALIZATION}


def _die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop_broker(*_: Any) -> None:
    """Freeze the broker, so that the call that follows hangs."""
    os.kill(int(os.environ["CHAOS_BROKER_PID"]), signal.SIGSTOP)


def _before(owner: type, name: str, nth: int, act: Callable[..., None] = _die) -> None:
    """Act before the N-th call of a method."""
    original, calls = getattr(owner, name), 0

    def changed(self: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            act()
        return original(self, *arguments, **named)

    setattr(owner, name, changed)


def _after(owner: type, name: str, nth: int) -> None:
    """Die after the N-th call of a method."""
    original, calls = getattr(owner, name), 0

    def changed(self: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        result = original(self, *arguments, **named)
        if calls == nth:
            _die()
        return result

    setattr(owner, name, changed)


def _in_commit(nth: int) -> None:
    """Die while the N-th commit is under way: asked for, not answered; a little later each time."""
    original, calls = TransactionManager.begin_commit, 0

    def changed(self: TransactionManager) -> Any:
        nonlocal calls
        calls += 1
        result = original(self)
        if calls == nth:
            time.sleep(nth / 1000)  # the sender's thread is at it
            _die()
        return result

    TransactionManager.begin_commit = changed


def _in_restore(nth: int) -> None:
    """Die while restoring, N records into the log, or at its end."""
    original = StateReader._committed_values

    def changed(self: StateReader, target: TopicPartition) -> Iterator[tuple[int, bytes]]:
        for number, record in enumerate(original(self, target)):
            if number == nth:
                _die()
            yield record
        _die()

    StateReader._committed_values = changed  # type: ignore[method-assign]


def _in_snapshot(nth: int) -> None:
    """Die in the transaction that carries the N-th slice of a snapshot, before it commits."""
    values, commit, snapshots = StateWriter.values, KafkaProducer.commit_transaction, 0

    def counted(self: StateWriter, *arguments: Any) -> Any:
        nonlocal snapshots
        snapshot, delta = values(self, *arguments)
        snapshots += bool(snapshot)
        return snapshot, delta

    def changed(self: KafkaProducer) -> None:
        if snapshots >= nth:
            _die()
        commit(self)

    StateWriter.values = counted  # type: ignore[method-assign, assignment]
    KafkaProducer.commit_transaction = changed


def _alerts_apart(nth: int) -> None:
    """Broken: offsets and state are committed in a transaction without the alerts, and the worker dies after it."""
    original, calls = Detector._commit, 0

    def changed(self: Detector, link: Any, processed: Any, member: Any) -> None:
        nonlocal calls
        calls += 1
        if calls >= nth and any(one.outcome.alerts for one in processed):
            silent = [one._replace(outcome=replace(one.outcome, alerts=[])) for one in processed]
            original(self, link, silent, member)
            _die()
        original(self, link, processed, member)

    Detector._commit = changed  # type: ignore[method-assign]


def _offsets_first(nth: int) -> None:
    """Broken: the N-th batch's offsets are committed by the consumer, before the transaction, and the worker dies."""
    original, calls = Detector._commit, 0

    def changed(self: Detector, link: Any, processed: Any, member: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == nth:
            link.membership.consumer.commit(
                {one.source: OffsetAndMetadata(one.outcome.delta.next_offset) for one in processed}
            )
            _die()
        original(self, link, processed, member)

    Detector._commit = changed  # type: ignore[method-assign]


def _no_state(nth: int) -> None:
    """Broken: from the N-th batch on, deltas forget the sessions they touched."""
    values, calls = StateWriter.values, 0

    def changed(self: StateWriter, partition: Any, delta: Any) -> Any:
        nonlocal calls
        calls += 1
        return values(self, partition, delta._replace(touched={}) if calls >= nth else delta)

    StateWriter.values = changed  # type: ignore[method-assign]


def _silent_model(_: int) -> None:
    """Broken: no model or rules but the first are announced with the first batch that they decide."""
    original, calls = Detector._use, 0

    def changed(self: Detector, model: Any, rules: Any) -> None:
        nonlocal calls
        calls += 1
        original(self, model, rules)
        if calls > 1:
            for held in self._held.values():
                held.processor = self._processor

    Detector._use = changed  # type: ignore[method-assign]


def _alerts_twice(nth: int) -> None:
    """Broken: from the N-th on, alerts and dead letters are published again, as by a blind retry after a commit."""
    commit, calls = Transactor.commit, 0

    def changed(self: Transactor, records: Any, offsets: Any, member: Any) -> Any:
        nonlocal calls
        calls += 1
        published = commit(self, records, offsets, member)
        if calls >= nth:
            commit(self, [one for one in records if one.partition is None], offsets, member)
        return published

    Transactor.commit = changed  # type: ignore[method-assign]


def _skips_unread(_: int) -> None:
    """Broken: what can't be read is passed over without a word."""
    process = Processor.process

    def changed(self: Processor, *arguments: Any, **named: Any) -> list[Processed]:
        return [
            one._replace(letters=[letter for letter in one.letters if letter.reason not in _UNREAD])
            for one in process(self, *arguments, **named)
        ]

    Processor.process = changed  # type: ignore[method-assign]


def _failures_leave_traces(_: int) -> None:
    """Broken: an event that can't be processed is dead-lettered, and counts in its session all the same."""
    isolated = Pipeline._isolated

    def changed(self: Pipeline, share: Share) -> Outcome:
        outcome = isolated(self, share)
        if len(share.entries) != 1 or not outcome.failures:
            return outcome
        unfailing = replace(self, score=lambda candidates: [0.0] * len(candidates))
        return replace(isolated(unfailing, share), failures=outcome.failures)

    Pipeline._isolated = changed  # type: ignore[method-assign]


DEADLY: dict[str, Callable[[int], None]] = {
    "before-offsets": lambda nth: _before(Producer, "send_offsets", nth),
    "before-produce": lambda nth: _after(Producer, "send_offsets", nth),
    "before-commit": lambda nth: _before(KafkaProducer, "commit_transaction", nth),
    "in-commit": _in_commit,
    "after-commit": lambda nth: _after(KafkaProducer, "commit_transaction", nth),
    "in-restore": _in_restore,
    "in-snapshot": _in_snapshot,
    "before-cutting-the-log": lambda nth: _before(KafkaLink, "cut_state_log", nth),
}
BROKEN: dict[str, Callable[[int], None]] = {
    "alerts-apart": _alerts_apart,
    "offsets-first": _offsets_first,
    "no-state": _no_state,
    "silent-model": _silent_model,
    "alerts-twice": _alerts_twice,
    "skips-unread": _skips_unread,
    "failures-leave-traces": _failures_leave_traces,
}
HANGING: dict[str, Callable[[int], None]] = {
    "hang-in-commit": lambda nth: _before(KafkaProducer, "commit_transaction", nth, _stop_broker),
}


if __name__ == "__main__":
    (DEADLY | BROKEN | HANGING)[sys.argv[1]](int(sys.argv[2]))
    main(sys.argv[3:], prog_name="python -m detector")
