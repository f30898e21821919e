"""Guard rails on a real broker: a bad model is held back and recovers, listed accounts are, and the oracle agrees."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from kafka import TopicPartition

from detector.client.reading import Batch, Span
from detector.contract.alerts import Alert, Cause, Decision
from detector.contract.events import SessionEvent, encode_event
from detector.contract.listings import Listing
from detector.core.partition import Partition
from detector.model.artifact import load_model, packaged_model_path
from detector.runtime.processing import processor_of
from detector.runtime.replaying import batches_of_topic, replay
from tests.commands import run
from tests.model.models import metadata, random_weights, with_canaries
from tests.runtime.stack import Stack, alerts_in, exposed, without_clock
from trainer.training.export import build_graph, model_file

NOW_MS = 1_790_000_000_000
EVERY_MS = 2_000
ATTACK = ["LOGIN", "ADD_RECIPIENT", "TRANSFER_LARGE"]
NORMAL = ["LOGIN", "VIEW_BALANCE", "VIEW_TRANSACTIONS"]


def session(number: int, actions: list[str]) -> Iterator[tuple[bytes, bytes]]:
    """Encode a session; one begins every two seconds."""
    name = f"s{number}"
    for at, action in enumerate(actions):
        event = SessionEvent(
            event_id=f"{name}-{at}",
            session_id=name,
            account_id=f"account-{number}",
            action=action,
            occurred_at_ms=NOW_MS + number * EVERY_MS + at,
        )
        yield name.encode(), encode_event(event)


def sessions(begin: int, end: int) -> list[tuple[bytes, bytes]]:
    """Encode sessions, each tenth an attack."""
    return [one for number in range(begin, end) for one in session(number, NORMAL if number % 10 else ATTACK)]


def write_bad_model(path: Path) -> None:
    """Write a model that is sound in every check, and wants to block whoever logs in."""
    weights = replace(random_weights(1), risk_bias=np.full(1, 20, np.float32))
    graph = build_graph(weights, metadata().window)
    path.write_bytes(model_file(graph, with_canaries(graph, metadata())))


def test_a_bad_model_is_held_back_through_a_crash(make_stack: Callable[..., Stack], tmp_path: Path) -> None:
    """A model that blocks everybody locks nine customers of a partition out, through a crash in its probation.

    The model that replaces it is on probation, and blocks what it should.
    """
    write_bad_model(tmp_path / "bad.onnx")
    stack = make_stack(partitions=1)
    bad = ("--model", str(tmp_path / "bad.onnx"), "--batch-max-events", "7")
    stack.publish(sessions(0, 5))
    worker = stack.start(*bad)
    stack.wait_until_processed()
    worker.kill()  # with half of the evidence in the state
    stack.publish(sessions(5, 200))
    worker = stack.start(*bad)
    worker.wait_until_logged("circuit breaker opened")
    worker.kill()
    with stack.worker(*bad) as again:
        stack.publish(sessions(200, 400))
        stack.wait_until_processed()
        assert "circuit breaker closed" not in again.log.read_text()
    of_bad = list(stack.alerts())
    spans: dict[TopicPartition, Span] = {TopicPartition(stack.config.input_topic, 0): (0, 400 * 3)}
    stack.publish(sessions(400, 1_300))
    with stack.worker() as mended:
        stack.wait_until_processed()
        mended.wait_until_logged("circuit breaker closed")

    partitions: dict[TopicPartition, Partition] = {}
    bad_model, good_model = (
        processor_of(load_model(path), stack.config)
        for path in (tmp_path / "bad.onnx", packaged_model_path("seed"))
    )
    expected = alerts_in(replay(batches_of_topic(stack.config, spans), bad_model, partitions))
    expected += alerts_in(replay(after(stack, 400 * 3), good_model, partitions))
    found = stack.alerts()
    assert without_clock(found) == without_clock(expected)
    assert not partitions[TopicPartition(stack.config.input_topic, 0)].breaker.on_probation

    assert len(of_bad) == 400  # one for each session
    assert [alert.decision for alert in of_bad] == [Decision.BLOCK] * 9 + [Decision.CHALLENGE] * 391
    assert all(alert.cause is Cause.CIRCUIT_BREAKER for alert in of_bad[9:])
    assert [alert.decision for alert in found[400:]] == [Decision.BLOCK] * 90  # each tenth session


def test_a_wave_is_blocked_by_a_proven_model_through_a_crash(make_stack: Callable[..., Stack]) -> None:
    """Three of ten sessions are attacks, twenty of them in a row: all are blocked, whoever reads on."""
    stack = make_stack(partitions=1)
    stack.publish(sessions(0, 900))
    with stack.worker():
        stack.wait_until_processed()
    wave = [*range(900, 920), *(number for number in range(920, 1_900) if number % 10 < 3)]
    attacks = set(wave)
    stack.publish(
        [
            one
            for number in range(900, 1_900)
            for one in session(number, ATTACK if number in attacks else NORMAL)
        ]
    )
    worker = stack.start("--batch-max-events", "200")
    worker.wait_until_logged("holding partitions")
    worker.kill()
    with stack.worker():
        stack.wait_until_processed()
    found = stack.alerts()
    assert {alert.decision for alert in found} == {Decision.BLOCK}
    assert {f"s{number}" for number in wave} <= {alert.session_id for alert in found}
    assert without_clock(found) == without_clock(stack.expected()[0])


def test_second_factors_clear_and_block_exactly_once_through_a_crash(
    make_stack: Callable[..., Stack],
) -> None:
    """A challenge, and what came of it in the log: passed, failed, or told of sessions that nobody asked."""
    threshold, challenge = 0.999_999, 0.01
    settings = (
        "--threshold",
        str(threshold),
        "--challenge-threshold",
        str(challenge),
        "--batch-max-events",
        "3",
    )
    stack = make_stack(partitions=2, threshold=threshold, challenge_threshold=challenge, metrics_port=0)
    asked = ["LOGIN", "CHANGE_PASSWORD", "ADD_RECIPIENT"]
    published = {
        "passed": [*asked, "STEP_UP_PASSED", "TRANSFER_SMALL"],
        "failed": [*asked, "STEP_UP_FAILED", "TRANSFER_SMALL"],
        "ahead": ["LOGIN", "STEP_UP_PASSED", *asked[1:]],
        "lawful": ["LOGIN", "STEP_UP_PASSED", "VIEW_BALANCE", "STEP_UP_FAILED"],
    }
    numbers = {name: range(10 * at, 10 * at + 5) for at, name in enumerate(published)}
    logs = [list(session(number, actions)) for name, actions in published.items() for number in numbers[name]]
    stack.publish([one for log in logs for one in log[:3]])
    worker = stack.start(*settings)
    stack.wait_until_processed()
    worker.kill()
    stack.publish([one for log in logs for one in [*log[3:], log[-1]]])  # the last comes twice
    with stack.worker(*settings) as again:
        stack.wait_until_processed()
        step_ups = {one.labels["outcome"]: one.value for one in exposed(again, "detector_step_ups_total")}
        events = {one.labels["outcome"]: one.value for one in exposed(again, "detector_events_total")}
    found = stack.alerts()
    assert without_clock(found) == without_clock(stack.expected()[0])
    told: dict[str, list[tuple[str, str]]] = {}
    for alert in found:
        told.setdefault(alert.session_id, []).append((alert.decision.value, alert.cause.value))
    challenged = ("CHALLENGE", "score")
    assert told == {
        **{f"s{number}": [challenged] for number in (*numbers["passed"], *numbers["ahead"])},
        **{f"s{number}": [challenged, ("BLOCK", "step_up_failed")] for number in numbers["failed"]},
    }
    assert step_ups == {"passed": 5, "failed": 5}
    assert (events["unscored"], events["duplicate"], events["dead_letter"]) == (
        15,
        20,
        0,
    )  # ten by the worker before
    assert stack.read(stack.config.dead_letter_topic) == []


def after(stack: Stack, offset: int) -> Iterator[Batch]:
    """Read the input from an offset on."""
    for batch in batches_of_topic(stack.config):
        yield {source: [one for one in records if one.offset >= offset] for source, records in batch.items()}


def accounts(stack: Stack, *arguments: str) -> str:
    """Run `python -m detector accounts …`; return what it printed."""
    where = ["--bootstrap-servers", stack.config.bootstrap_servers, "--input-topic", stack.config.input_topic]
    ended = run("detector", "accounts", arguments[0], *where, *arguments[1:])
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def by_account(alerts: list[Alert]) -> dict[str, tuple[str, str]]:
    """Return decision and cause by account; no account has two alerts."""
    decided = {alert.account_id: (alert.decision.value, alert.cause.value) for alert in alerts}
    assert len(decided) == len(alerts)
    return decided


def test_listed_accounts_are_allowed_and_denied_from_their_listing_on(
    make_stack: Callable[..., Stack],
) -> None:
    """A listing reaches every partition, survives a crash and a snapshot, and ends when it is cleared."""
    stack = make_stack(partitions=3)
    frequent = ("--snapshot-min-bytes", "1", "--snapshot-ratio", "1", "--batch-max-events", "20")

    def attacks_and_normals(begin: int) -> list[tuple[bytes, bytes]]:
        attacks = [one for number in range(begin, begin + 6) for one in session(number, ATTACK)]
        return attacks + [one for number in range(begin + 6, begin + 12) for one in session(number, NORMAL)]

    with stack.worker(*frequent):
        stack.publish(attacks_and_normals(0))
        said = accounts(stack, "allow", *(f"account-{number}" for number in (20, 21, 22)))
        assert said == "3 accounts listed as ALLOW, in 3 partitions of the input\n"
        accounts(stack, "deny", "account-26", "account-27", "account-28")
        stack.wait_until_processed()
    worker = stack.start(*frequent)
    worker.wait_until_logged("holding partitions")
    worker.kill()
    with stack.worker(*frequent):
        accounts(stack, "clear", "account-22", "account-28")
        stack.publish(attacks_and_normals(20))
        stack.wait_until_processed()
    block = {f"account-{number}": ("BLOCK", "score") for number in (*range(6), 22, 23, 24, 25)}
    denied = {f"account-{number}": ("BLOCK", "deny_list") for number in (26, 27)}
    assert by_account(stack.alerts()) == block | denied
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0])

    listed = [msgspec.json.decode(line) for line in accounts(stack, "list").splitlines()]
    assert {one["account_id"]: Listing(one["listing"]) for one in listed} == {
        "account-20": Listing.ALLOW,
        "account-21": Listing.ALLOW,
        "account-26": Listing.DENY,
        "account-27": Listing.DENY,
    }
    before = len(stack.read(stack.config.input_topic))
    assert accounts(stack, "sync") == "4 accounts to 3 partitions: 2 allow, 2 deny\n"
    assert len(stack.read(stack.config.input_topic)) == before + 4 * 3


def test_a_wrong_listing_is_a_dead_letter(make_stack: Callable[..., Stack]) -> None:
    """What is meant as a listing and is none is kept with the reason, and nothing is listed."""
    stack = make_stack(partitions=1)
    wrong: list[dict[str, Any]] = [
        {"kind": "account_listing", "account_id": "account-1", "listing": "MAYBE"},
        {"kind": "account_listing", "account_id": "", "listing": "ALLOW"},
        {"kind": "account_listing", "account_id": "account-1"},
    ]
    stack.publish([*((b"k", msgspec.json.encode(one)) for one in wrong), *session(1, ATTACK)])
    with stack.worker():
        stack.wait_until_processed()
    letters = [dict(one.headers) for one in stack.read(stack.config.dead_letter_topic)]
    assert [one["dlq-reason"] for one in letters] == [b"malformed"] * 3
    assert all(one["dlq-detail"].startswith(b"account listing: ") for one in letters)
    assert by_account(stack.alerts()) == {"account-1": ("BLOCK", "score")}
