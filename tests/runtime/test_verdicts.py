"""Verdicts on a real broker: from their topic into every partition of the input, each once, and into the state."""

import json
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaProducer

from detector.contract.alerts import Decision
from detector.contract.control import decode_control, is_control
from detector.contract.dead_letters import DeadLetter, Reason
from detector.contract.verdicts import Finding, MalformedVerdictError, Verdict, decode_verdict, encode_verdict
from detector.runtime.config import DetectorConfig
from detector.runtime.decoding import decode, decode_verdict_record
from tests import commands
from tests.fuzzing.records import KNOWN, FuzzedRecord
from tests.runtime.stack import Stack, Worker, exposed, without_clock
from tests.runtime.test_end_to_end import records, sessions
from tests.runtime.test_redrive import headers_of
from tests.runtime.test_state_refused import damage
from tests.waiting import PATIENCE_S, wait_for

MakeStack = Callable[..., Stack]


def verdict(number: int) -> Verdict:
    """Make a verdict on one of a few sessions."""
    return Verdict(
        verdict_id=f"v{number}",
        account_id=f"account-{number % 7}",
        session_id=f"session-{number % 11}",
        verdict=Finding.FRAUD if number % 3 else Finding.LAWFUL,
        by="analyst",
        decided_at_ms=number,
        why="told on the phone",
    )


def publish(config: DetectorConfig, values: Iterable[tuple[bytes, bytes]]) -> None:
    """Publish to the verdicts topic as another system would."""
    producer = KafkaProducer(bootstrap_servers=config.bootstrap_servers)
    sent = [producer.send(config.verdicts_topic, key=key, value=value) for key, value in values]
    producer.flush()
    for one in sent:
        one.get(timeout=PATIENCE_S)
    producer.close()


def where(config: DetectorConfig, *names: str) -> list[str]:
    """Return the flags that name broker and topics."""
    flags = []
    for name in ("bootstrap_servers", "verdicts_topic", *names):
        flags += [f"--{name.replace('_', '-')}", str(getattr(config, name))]
    return flags


def run(command: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of the detector to its end."""
    return commands.run("detector", command, *arguments)


def relay(config: DetectorConfig, log: Path, *arguments: str) -> Worker:
    """Start a relay."""
    flags = [
        *where(config, "input_topic"),
        "--session-timeout-ms",
        "6000",
        "--transaction-timeout-ms",
        "6000",
    ]
    return Worker([*flags, *arguments], log, command="relay-verdicts")


def relayed(stack: Stack) -> Counter[tuple[int, str]]:
    """Count the verdicts on the input topic, by partition and id."""
    return Counter(
        (record.partition, decode_control(record.value).verdict_id)  # type: ignore[union-attr]
        for record in stack.read(stack.config.input_topic)
        if is_control(record.value)
    )


def test_each_verdict_lies_once_in_every_partition_through_kills(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    """Two relays, one of which is killed again and again, lose nothing and repeat nothing; what is no verdict is told.

    What was written for people stays on the verdicts topic.
    """
    stack, rng = make_stack(), random.Random(17)
    config, count = stack.config, 400
    malformed = [b"nonsense", b"{}", encode_verdict(verdict(1)).replace(b"FRAUD", b"MAYBE")]
    steady = relay(config, tmp_path / "steady.log")
    try:
        for begin in range(0, count, 50):
            killed = relay(config, tmp_path / "killed.log")
            publish(
                config,
                [
                    *(
                        (one.account_id.encode(), encode_verdict(one))
                        for one in map(verdict, range(begin, begin + 50))
                    ),
                    *((b"k", one) for one in malformed),
                ],
            )
            time.sleep(rng.uniform(0.5, 4))
            killed.kill()
        everywhere = {(number, f"v{one}"): 1 for number in range(4) for one in range(count)}
        wait_for(lambda: relayed(stack) == everywhere, "all verdicts in all partitions")
        wait_for(lambda: len(stack.read(f"{config.verdicts_topic}.dlq")) >= 24, "all dead letters")
        assert steady.terminate() == 0
    finally:
        steady.kill()
    letters = stack.read(f"{config.verdicts_topic}.dlq")
    assert Counter(record.value for record in letters) == dict.fromkeys(malformed, 8)
    assert {headers_of(record)["dlq-reason"] for record in letters} == {"malformed"}
    assert not any(b"phone" in record.value for record in stack.read(config.input_topic))


def test_no_record_of_the_verdicts_topic_ends_the_relay(make_stack: MakeStack, tmp_path: Path) -> None:
    """What is far larger than its topic takes, once expanded, is a dead letter without its end; verdicts behind it arrive."""
    stack = make_stack()
    config, good = stack.config, verdict(1)
    assert (
        run("verdict", *where(config), "--session", "s", "--account", "a", "--by", "x", "fraud").returncode
        == 0
    )
    producer = KafkaProducer(
        bootstrap_servers=config.bootstrap_servers, compression_type="gzip", max_request_size=2**23
    )
    headers, telling = [("trace", bytes(400_000))], encode_verdict(good).replace(b"FRAUD", b"account-1")
    for value, read in ((bytes(3_000_000), []), (bytes(1_000_000), headers), (telling, headers * 3)):
        producer.send(config.verdicts_topic, key=bytes(200_000), value=value, headers=read).get(PATIENCE_S)
    producer.send(config.verdicts_topic, key=b"a", value=encode_verdict(good)).get(PATIENCE_S)
    producer.close()
    running = relay(config, tmp_path / "relay.log")
    try:
        wait_for(lambda: len(relayed(stack)) == 2 * 4, "both verdicts in all partitions")
        assert running.terminate() == 0
    finally:
        running.kill()
    reasons = Counter(headers_of(one)["dlq-reason"] for one in stack.read(f"{config.verdicts_topic}.dlq"))
    assert reasons == {"too_large": 2, "malformed": 1}
    assert "account-1" not in (tmp_path / "relay.log").read_text()


def test_a_verdict_of_the_future_is_a_dead_letter() -> None:
    """On its topic and in the input: no verdict that anybody gives by a right clock could take its place."""
    limits, now_ms = DetectorConfig().event_limits, 1_790_000_000_000
    for ahead_ms, is_one in ((0, True), (limits.max_future_ms, True), (limits.max_future_ms + 1, False)):
        value = encode_verdict(msgspec.structs.replace(verdict(1), decided_at_ms=now_ms + ahead_ms))
        record = FuzzedRecord(value, b"k", [], now_ms)
        for found in (decode_verdict_record(record, limits), decode(record, KNOWN.__contains__, limits)):
            assert isinstance(found, Verdict if is_one else DeadLetter)
            assert isinstance(found, Verdict) or found.reason is Reason.TIME_IN_FUTURE
        with nullcontext() if is_one else pytest.raises(MalformedVerdictError, match="ahead of its record"):
            decode_verdict(value, now_ms)  # as training and the console have it


@pytest.mark.parametrize(
    "said", ["--alert a --session s", "--session s", "--alert a --session s --account b", ""]
)
def test_a_verdict_is_on_an_alert_or_on_a_session_of_an_account(said: str) -> None:
    """What is said of both might contradict itself."""
    done = run("verdict", *said.split(), "--by", "x", "fraud")
    assert (done.returncode, "expected --alert, or --session and --account" in done.stderr) == (2, True)


def test_what_is_no_text_is_no_verdict() -> None:
    """A byte of another encoding on the command line is told of, and nothing is published."""
    done = run("verdict", "--session", "s", "--account", "a", "--by", "\udcff", "fraud")
    assert done.returncode == 2
    assert "surrogates not allowed" in done.stderr
    assert "Traceback" not in done.stderr


def figures_of(worker: Worker, window: str = "week") -> dict[tuple[str, str], float]:
    """Return how many sessions were alerted, by decision and verdict."""
    found: Counter[tuple[str, str]] = Counter()
    for one in exposed(worker, "detector_alerted_sessions"):
        if one.labels["window"] == window:
            assert one.labels["model"].startswith(("seed-lstm:", "session-lstm:"))
            found[one.labels["decision"], one.labels["verdict"]] += int(one.value)
    assert {verdict for _, verdict in found} == ({"FRAUD", "LAWFUL", "NONE"} if found else set())
    return {labels: count for labels, count in found.items() if count}


def test_verdicts_come_back_into_the_state_and_stay_there(make_stack: MakeStack) -> None:
    """Given by alert or by session, undone by a later one; the figures outlast a kill and a rebuild.

    The alerts of an account that was denied by them are those of an offline pass.
    """
    stack = make_stack(metrics_port=0, breaker_max_block_share=0.0, fraud_listing_ms=10**9)
    config, of_all = stack.config, sessions(60)
    stack.publish(records(of_all))
    with stack.worker():
        stack.wait_until_processed()
    alerts = stack.alerts()
    first, second, third, *_ = {one.account_id: one for one in alerts}.values()
    named = where(config, "alerts_topic")
    for arguments in (
        ("--alert", first.alert_id, "fraud", "--why", "confirmed by phone", "--type", "quick_drain"),
        ("--session", second.session_id, "--account", second.account_id, "FRAUD"),
        ("--alert", third.alert_id, "fraud"),
        ("--alert", third.alert_id, "lawful"),
    ):
        done = run("verdict", *named, "--by", "analyst", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
    assert "no alert nowhere" in run("verdict", *named, "--by", "x", "--alert", "nowhere", "fraud").stderr
    mistyped = run("verdict", *named, "--by", "x", "--session", first.session_id, "--account", "who", "fraud")
    assert mistyped.returncode == 0
    assert "no alert on" in mistyped.stderr
    for most in (2, 3):  # not one more, though a poll brings all
        done = run("relay-verdicts", *where(config, "input_topic"), "--max", str(most))
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{most} verdicts relayed, 0 refused\n"
    undated = run(
        "verdict", *named, "--by", "x", "--alert", first.alert_id, "--since", "2026-11-26T14:00:00", "fraud"
    )
    assert undated.returncode == 2
    assert "expected a time with its zone, such as 2026-11-26T14:00:00+01:00" in undated.stderr
    again = {
        json.dumps({
            "event_id": f"again-{one.account_id}", "session_id": "next", "account_id": one.account_id,
            "action": "LOGIN", "occurred_at_ms": max(alert.occurred_at_ms for alert in alerts),
        }).encode(): one.account_id.encode()
        for one in (first, third)
    }  # fmt: skip
    stack.publish((key, value) for value, key in again.items())
    expected = {("BLOCK", "FRAUD"): 2, ("BLOCK", "LAWFUL"): 1, ("BLOCK", "NONE"): len(alerts) - 3}
    worker = stack.start()
    stack.wait_until_processed()
    assert figures_of(worker) == expected
    taken = {one.labels["outcome"]: one.value for one in exposed(worker, "detector_verdicts_total")}
    assert taken == {"applied": 4, "superseded": 0, "unknown": 5 * config.partitions - 4}
    worker.kill()
    with stack.worker() as worker:
        wait_for(lambda: figures_of(worker) == expected, "the figures of before")
    found = stack.alerts()
    denied = [alert for alert in found if alert.session_id == "next"]
    assert [(one.account_id, one.decision) for one in denied] == [(first.account_id, Decision.BLOCK)]
    assert without_clock(found) == without_clock(stack.expected()[0])
    damage(stack)
    with stack.worker("--rebuild-from-input") as worker:
        wait_for(lambda: figures_of(worker) == expected, "the figures of before")
