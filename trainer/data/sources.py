"""Where labelled sessions come from: a data file, the realistic preset, or events with a label file beside them."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from kafka.errors import KafkaError

from detector.client.reading import committed_span, log_reader, read
from detector.contract.events import MalformedEventError, SessionEvent, decode_event
from detector.contract.labels import LabelsRefusedError, SessionLabel, labels_of
from producer.behaviour.attacks import ATTACK_FAMILIES
from producer.behaviour.realistic import RealisticBehaviour
from producer.recording import Recording, RecordingError
from trainer.data.sessions import DataError, Session, Sessions, Splits, lines_of, simulate

REALISTIC_SESSIONS: Final = 150_000
TRAIN_ATTACKS: Final = 0.2
"""Share of attacks among the sessions trained on, far above any real one: the model has to see enough of them."""
VALID_LAWFUL: Final = 4 / 15
VALID_ATTACKS: Final = 2 / 75
TEST_LAWFUL: Final = 2 / 5
TEST_ATTACKS: Final = 1 / 25
BASE_RATE: Final = RealisticBehaviour().attack_rate


def realistic_splits(sessions: int, seed: int, left_out: Sequence[str] = ()) -> Splits:
    """Simulate the realistic preset: three simulations of their own, of customers who share nothing.

    Args:
        sessions: to train on; those for the threshold and the figures come on top, in proportion.
        seed: of all three.
        left_out: attack families that are in the test part alone.

    Raises:
        DataError: a family has no such name, or none is left.
    """
    names = {family.name for family in ATTACK_FAMILIES}
    if not set(left_out) < names and left_out:
        raise DataError(
            f"families {sorted(left_out)} to leave out: expected some, but not all, of {sorted(names)}"
        )
    seen = RealisticBehaviour(
        attack_families=tuple(family for family in ATTACK_FAMILIES if family.name not in left_out)
    )
    attacks = round(TRAIN_ATTACKS * sessions)
    return Splits(
        simulate(sessions - attacks, attacks, 1_000 * seed + 1, seen),
        simulate(round(VALID_LAWFUL * sessions), round(VALID_ATTACKS * sessions), 1_000 * seed + 2, seen),
        simulate(round(TEST_LAWFUL * sessions), round(TEST_ATTACKS * sessions), 1_000 * seed + 3),
    )


def read_labels(path: Path) -> dict[str, SessionLabel]:
    """Read a label file, gzip by the suffix .gz.

    Raises:
        DataError: the file cannot be read, or a line is no label.
    """
    try:
        return labels_of(lines_of(path), str(path))
    except LabelsRefusedError as error:
        raise DataError(str(error)) from error


def events_of_file(path: Path) -> Iterator[SessionEvent]:
    """Yield the events of a recording.

    Raises:
        DataError: it cannot be read, or a line is no event.
    """
    try:
        with Recording(path) as recording:
            for record in recording.records():
                yield record.event
    except (OSError, RecordingError) as error:
        raise DataError(f"events cannot be read: {error}") from error


def events_of_topic(bootstrap_servers: str, topic: str) -> Iterator[SessionEvent]:
    """Yield the committed events that are on a topic now, each partition's in order; others are passed over.

    Raises:
        DataError: the topic cannot be read.
    """
    try:
        with closing(log_reader(bootstrap_servers)) as consumer:
            spans = committed_span(consumer, topic)
            if not spans:
                raise DataError(
                    f"topic {topic} is not on {bootstrap_servers}: expected the topic of the events"
                )
            for batch in read(consumer, spans):
                for record in itertools.chain.from_iterable(batch.values()):
                    try:
                        yield decode_event(record.value or b"")
                    except MalformedEventError:
                        continue  # a dead letter when serving; no session is made of it
    except KafkaError as error:
        raise DataError(f"topic {topic} on {bootstrap_servers} cannot be read: {error}") from error


def labelled_sessions(events: Iterable[SessionEvent], labels: dict[str, SessionLabel]) -> Sessions:
    """Put events together into sessions, in the order they come; a repeated event counts once.

    Raises:
        DataError: a session has no label, or there is none.
    """
    actions: dict[str, list[tuple[str, int]]] = {}
    seen: set[str] = set()
    for event in events:
        if event.event_id in seen:
            continue
        seen.add(event.event_id)
        actions.setdefault(event.session_id, []).append((event.action, event.occurred_at_ms))
    missing = sorted(actions.keys() - labels.keys())
    if missing or not actions:
        raise DataError(
            f"{len(missing):,} of {len(actions):,} sessions have no label ({', '.join(missing[:3])}): expected a line of "
            "the label file for each session of the events"
        )
    return Sessions.of(
        [
            Session(
                session_id=session_id,
                actions=tuple(action for action, _ in done),
                timestamps_ms=tuple(at_ms for _, at_ms in done),
                label=labels[session_id].label,
                type=labels[session_id].type,
                customer_type=labels[session_id].customer_type,
                # An attacked session that was cut short may end before the attack.
                attack_from=min(at, len(done) - 1)
                if (at := labels[session_id].attack_from) is not None
                else None,
            )
            for session_id, done in actions.items()
        ]
    )
