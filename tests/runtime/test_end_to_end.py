"""The service on a real broker: what is on its topics is what an offline pass over the same log gives."""

import json
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.parser import text_string_to_metric_families

from detector.contract.alerts import decode_alert
from detector.contract.dead_letters import Reason
from detector.contract.events import encode_event
from producer.behaviour import seed
from producer.behaviour.interleave import interleave, schedule
from producer.behaviour.session import SimulatedSession, stream
from tests.runtime.stack import Stack, exposed, without_clock

Records = list[tuple[bytes | None, bytes | None]]
NOW_MS = 1_790_000_000_000


def sessions(count: int, number: int = 7) -> list[SimulatedSession]:
    """Simulate sessions of the seed preset."""
    return list(seed.sessions(count, number))


def records(of: list[SimulatedSession]) -> Iterator[tuple[bytes, bytes]]:
    """Interleave sessions and encode their events, keyed by session."""
    planned = schedule(iter(of), live_sessions=50, rng=stream(1, "schedule"))
    for event in interleave(planned, start_ms=NOW_MS):
        yield event.session_id.encode(), encode_event(event)


def test_the_alerts_are_those_of_an_offline_pass(make_stack: Callable[..., Stack]) -> None:
    """Interleaved sessions give exactly the oracle's alerts: one for each attack, none for anybody else."""
    stack = make_stack()
    simulated = sessions(660)
    stack.publish(records(simulated))
    with stack.worker("--batch-max-events", "100"):
        stack.wait_until_processed()
    found = stack.alerts()
    expected, letters = stack.expected()
    assert without_clock(found) == without_clock(expected)
    assert sorted(alert.session_id for alert in found) == sorted(
        one.session_id for one in simulated if one.is_attack
    )
    assert letters == []


def test_alerts_carry_cloudevents_headers_and_their_session_as_key(make_stack: Callable[..., Stack]) -> None:
    """An alert lies in its session's partition, with CloudEvents headers in binary mode."""
    stack = make_stack()
    stack.publish(records(sessions(22)))
    with stack.worker():
        stack.wait_until_processed()
    published = stack.read(stack.config.alerts_topic)
    assert len(published) == 2
    for record in published:
        alert, headers = decode_alert(record.value), dict(record.headers)
        assert record.key == alert.session_id.encode()
        assert record.partition == alert.source.partition
        assert (headers["ce_id"], headers["ce_specversion"]) == (alert.alert_id.encode(), b"1.0")
        assert headers["content-type"] == b"application/json"


def test_several_workers_give_the_alerts_of_one(make_stack: Callable[..., Stack]) -> None:
    """The same log gives the same alerts, bit for bit, with three workers that join one after the other."""
    stack = make_stack(partitions=6)
    stack.publish(records(sessions(440)))
    with stack.worker("--batch-max-events", "20") as first, stack.worker(), stack.worker():
        first.wait_until_logged("holding partitions")
        stack.publish(records(sessions(440, 8)))
        stack.wait_until_processed()
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0])


def test_a_killed_worker_loses_and_doubles_nothing(make_stack: Callable[..., Stack]) -> None:
    """Sessions half read by a worker that is killed are blocked by its successor, once each."""
    stack = make_stack()
    log = list(records(sessions(660)))
    half = len(log) // 2
    for number, part in enumerate((log[:half], log[half:])):
        stack.publish(part)
        worker = stack.start("--batch-max-events", "50", "--instance-id", "steady")
        worker.wait_until_logged("holding partitions")
        if number == 0:
            worker.kill()
        else:
            stack.wait_until_processed()
            assert worker.terminate() == 0
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0])


def test_a_restarted_worker_goes_on_from_snapshots(make_stack: Callable[..., Stack]) -> None:
    """With a snapshot in nearly every transaction the state still comes back, and its log stays short."""
    stack = make_stack(partitions=2)
    frequent = ("--snapshot-min-bytes", "1", "--snapshot-ratio", "1", "--batch-max-events", "50")
    log = list(records(sessions(220)))
    third = len(log) // 3
    for part in (log[:third], log[third : 2 * third], log[2 * third :]):
        stack.publish(part)
        with stack.worker(*frequent):
            stack.wait_until_processed()
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0])
    kept = stack.read(stack.config.state_topic)
    assert min(record.offset for record in kept) > 0, "no snapshot cut the log"


def valid(session: str, number: int, action: str = "LOGIN", **changes: object) -> bytes:
    """Encode a valid event, but for the changes."""
    event = {"event_id": f"{session}-{number}", "session_id": session, "account_id": "a", "action": action}
    return json.dumps(event | {"occurred_at_ms": NOW_MS + number} | changes).encode()


def test_what_an_attacker_writes_into_his_user_agent_hides_nothing(make_stack: Callable[..., Stack]) -> None:
    """Half a surrogate pair, a byte of another encoding, NaN, a number of 400 digits: the attack is blocked all the same."""
    hostile = [b'"\\ud83d"', b'"caf\xe9"', b"NaN", b"9" * 400, b'"a\x00b"']
    actions = ("LOGIN", "ADD_RECIPIENT", "TRANSFER_LARGE")
    stack = make_stack(partitions=2)
    stack.publish(
        (
            b"a",
            valid(f"s{at}", number, action)[:-1]
            + b', "attributes": {"agent": %s}, "amount": %s}' % (one, one),
        )
        for at, one in enumerate(hostile)
        for number, action in enumerate(actions)
    )
    with stack.worker():
        stack.wait_until_processed()
    assert sorted(one.session_id for one in stack.alerts()) == [f"s{at}" for at in range(len(hostile))]
    assert stack.read(stack.config.dead_letter_topic) == []


def test_bad_input_never_stops_the_service(make_stack: Callable[..., Stack]) -> None:
    """Every record is scored, a counted duplicate, or in the dead-letter topic whole; and their sum is the input.

    One whose clock is years ahead is scored, at the broker's time, and counted; one that tells seconds is refused.
    """
    stack = make_stack(partitions=2, metrics_port=0)
    bad: list[tuple[Reason, bytes | None, bytes | None]] = [
        (Reason.MALFORMED, b"k", b"not JSON"),
        (Reason.MALFORMED, b"k", b""),
        (Reason.MALFORMED, b"k", b"\xff\xfe\x00"),
        (Reason.MALFORMED, b"k", b"[1, 2]"),
        (Reason.MALFORMED, b"k", valid("", 1)),
        (Reason.MALFORMED, b"k", valid("s", 1, occurred_at_ms="soon")),
        (Reason.MALFORMED, b"k", valid("s", 1, account_id=None)),
        (Reason.MALFORMED, None, b'{"event_id": "e"}'),
        (Reason.MALFORMED, b"k", valid("s", 1)[:-1] + b',"attributes":' + b"[" * 5_000 + b"]" * 5_000 + b"}"),
        (Reason.UNKNOWN_ACTION, b"k", valid("s", 1, "FLY")),
        (Reason.UNKNOWN_ACTION, b"k", valid("s", 1, "login")),
        (Reason.NULL_VALUE, b"k", None),
        (Reason.TIME_UNIT, b"k", valid("s", 1, occurred_at_ms=NOW_MS // 1_000)),
        (Reason.TIME_UNIT, b"k", valid("s", 1, occurred_at_ms=NOW_MS * 1_000)),
        (Reason.TOO_LARGE, b"k", b"x" * 10 * 1024 * 1024),
        (Reason.TOO_LARGE, b"k", valid("s", 1, attributes={"x": "y" * 70_000})),
    ]
    good: Records = [
        (b"s", valid("s", 1, "LOGIN", occurred_at_ms=NOW_MS - 99)),
        (b"s", valid("s", 2, "ADD_RECIPIENT", occurred_at_ms=NOW_MS, unknown_field=[1])),
        (b"s", valid("s", 3, "TRANSFER_LARGE", occurred_at_ms=NOW_MS - 5)),
        (b"s", valid("s", 4, "LOGOUT", amount=12.5, attributes={"device": None})),
    ]
    repeated: Records = [good[1], good[1]]
    ahead: Records = [(b"s", valid("ahead", 1, occurred_at_ms=4_000_000_000_000))]
    log: Records = [(key, value) for _, key, value in bad] + good + repeated + ahead
    with stack.worker() as worker:
        stack.publish(log)
        stack.wait_until_processed()
        assert worker.process.poll() is None
        corrected = {
            one.labels["how"]: one.value for one in exposed(worker, "detector_corrected_times_total")
        }
        said = worker.log.read_text()
    assert corrected == {"ahead": 1, "late": 0}
    for reason in {reason for reason, _, _ in bad}:
        assert (
            said.count(f"comes to a dead letter: {reason.value}.") == 1
        )  # whoever looks at the log alone learns of it
    letters = stack.read(stack.config.dead_letter_topic)
    assert Counter(dict(one.headers)["dlq-reason"].decode() for one in letters) == Counter(
        reason.value for reason, _, _ in bad
    )
    assert Counter((one.key, one.value) for one in letters) == Counter((key, value) for _, key, value in bad)
    at = {(one.partition, one.offset): one.value for one in stack.read(stack.config.input_topic)}
    for one in letters:
        headers = {name: value.decode() for name, value in one.headers}
        assert headers["dlq-source-topic"] == stack.config.input_topic
        source = int(headers["dlq-source-partition"]), int(headers["dlq-source-offset"])
        assert at[source] == one.value
        assert headers["dlq-detail"]
    assert [alert.session_id for alert in stack.alerts()] == ["s"]
    expected, expected_letters = stack.expected()
    assert without_clock(stack.alerts()) == without_clock(expected)
    assert len(expected_letters) == len(bad)


def test_the_metrics_account_for_every_record(make_stack: Callable[..., Stack]) -> None:
    """Scored, duplicates and dead letters add up to the input; and the service says that it is well."""
    stack = make_stack(partitions=2, metrics_port=0)
    log: Records = list(records(sessions(33)))
    published = stack.publish([*log, log[0], log[1], (b"k", b"nonsense"), (None, b"more nonsense")])
    with stack.worker() as worker:
        worker.wait_until_logged("/metrics")
        port = int(worker.log.read_text().split("/metrics")[0].rsplit(":", 1)[1])
        stack.wait_until_processed()

        def get(path: str) -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
                text: str = answer.read().decode()
            return text

        assert get("readyz") == "ready\n"
        assert get("healthz").startswith("the loop last made progress")
        samples = [one for family in text_string_to_metric_families(get("metrics")) for one in family.samples]
    events = {one.labels["outcome"]: one.value for one in samples if one.name == "detector_events_total"}
    others = {"unscored": 0, "listing": 0, "verdict": 0}
    assert events == {"scored": len(log), "duplicate": 2, "dead_letter": 2} | others
    assert sum(events.values()) == published
    identifiers = {"session", "account", "event"}
    assert not any(word in label for one in samples for label in one.labels for word in identifiers)
