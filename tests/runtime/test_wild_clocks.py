"""An input topic with its producers' times: one wild clock among them changes nothing for anybody else."""

import itertools
from collections.abc import Callable, Iterable
from contextlib import closing

import pytest
from kafka import KafkaProducer

from detector.contract.events import SessionEvent, decode_event, encode_event
from tests.runtime.conftest import SetTopic
from tests.runtime.stack import Stack, exposed, without_clock
from tests.runtime.test_end_to_end import NOW_MS, records, sessions
from tests.runtime.test_lag import total
from tests.waiting import wait_for

YEAR_2099_MS = 4_102_358_400_000


def publish(stack: Stack, events: Iterable[SessionEvent]) -> None:
    """Publish events under their own times."""
    with closing(KafkaProducer(bootstrap_servers=stack.config.bootstrap_servers, linger_ms=5)) as producer:
        for event in events:
            key, value = event.session_id.encode(), encode_event(event)
            producer.send(stack.config.input_topic, key=key, value=value, timestamp_ms=event.occurred_at_ms)
        producer.flush()


def wild(number: int) -> SessionEvent:
    """Return an event of the year 2099."""
    return SessionEvent(
        event_id=f"wild-{number}",
        session_id="wild",
        account_id="wild",
        action="LOGIN",
        occurred_at_ms=YEAR_2099_MS + number,
    )


@pytest.mark.parametrize("position", ["first", "in the middle"])
def test_a_record_of_the_year_2099_ends_nobodys_session(
    make_stack: Callable[..., Stack], set_topic: SetTopic, position: str
) -> None:
    """Each attack is found, with its whole window, wherever the record lies; and what is over after it expires."""
    stack = make_stack(partitions=1, metrics_port=0, idle_timeout_ms=600_000)
    topic = stack.config.input_topic
    set_topic(topic, "message.timestamp.type", "CreateTime")
    set_topic(topic, "message.timestamp.after.max.ms", str(2**63 - 1))
    simulated = sessions(220)
    events = [decode_event(value) for _, value in records(simulated) if value]
    at = 0 if position == "first" else len(events) // 2
    publish(stack, [*events[:at], wild(1), wild(2), *events[at:]])
    with stack.worker() as worker:
        stack.wait_until_processed()
        found = stack.alerts()
        assert without_clock(found) == without_clock(stack.expected()[0])
        assert sorted(one.session_id for one in found) == sorted(
            one.session_id for one in simulated if one.is_attack
        )
        late_ms = max(event.occurred_at_ms for event in events) + 2 * stack.config.idle_timeout_ms
        late = [decode_event(value) for _, value in records(sessions(30, 99)) if value]
        ahead_ms = late_ms - NOW_MS
        moved = [
            SessionEvent(
                event_id=f"late-{event.event_id}",
                session_id=f"late-{event.session_id}",
                account_id=event.account_id,
                action=event.action,
                occurred_at_ms=event.occurred_at_ms + ahead_ms,
            )
            for event in late
        ]
        publish(stack, moved)
        publish(stack, itertools.islice(moved, 1))  # again: what expired leaves memory with the next batch
        wait_for(
            lambda: (total(worker, "detector_expired_sessions_total") or 0) >= 220, "what is over to expire"
        )
        assert exposed(worker, "detector_live_sessions")[0].value <= 31
