"""Profiles of accounts on a real broker: what a model knows of an account outlasts whatever happens to workers."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner
from kafka import TopicPartition

from detector.cli import main
from detector.core.partition import Partition
from detector.core.session import touched_ms
from detector.model.artifact import load_model
from detector.runtime.config import DetectorConfig
from detector.runtime.processing import processor_of
from detector.runtime.replaying import batches_of_topic, replay
from detector.runtime.restored_state import RestoredState
from tests.model.models import device_file, random_file, signals_file
from tests.runtime.stack import Stack, exposed, without_clock
from tests.runtime.test_model_watch import put
from tests.runtime.test_redrive import NOW_MS
from tests.runtime.test_state_refused import damage

MakeStack = Callable[..., Stack]
Record = tuple[bytes, bytes]
MINUTE_MS: Final = 60_000
KEYED: Final = "detector_keyed_otherwise_total"
ABSENT: Final = "detector_absent_fields_total"
BEGIN_MS: Final = NOW_MS - 24 * 60 * MINUTE_MS
FREQUENT: Final = ("--snapshot-min-bytes", "1", "--snapshot-ratio", "1", "--breaker-max-block-share", "0")
"""Snapshots all the time, and blocks however many there are."""


def event(account: str, session: str, at_ms: int, action: str, **more: Any) -> Record:
    """Encode an event under its account's id."""
    named = {"event_id": f"{session}-{at_ms}", "session_id": session, "account_id": account, "action": action}
    return account.encode(), json.dumps(named | {"occurred_at_ms": BEGIN_MS + at_ms} | more).encode()


def lives(seed: int, events: int) -> list[Record]:
    """Return what a few accounts do in an afternoon: session after session, with devices, channels and amounts."""
    rng, sessions = random.Random(seed), Counter[str]()
    actions = ("LOGIN", "VIEW_BALANCE", "TRANSFER_SMALL", "TRANSFER_LARGE", "CHANGE_PASSWORD", "LOGOUT")
    log = []
    for number in range(events):
        account = f"account-{rng.randrange(8)}"
        sessions[account] += rng.random() < 0.2
        log.append(
            event(
                account,
                f"{account}-{sessions[account] - rng.randrange(2)}",
                number * 15_000,
                rng.choice(actions),
                amount=rng.choice([None, 12.5, 900, "70.00", "much"]),
                attributes={
                    "device": rng.choice(["phone", "laptop", None]),
                    "channel": rng.choice(["app", "atm"]),
                },
            )
        )
    return log


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that reads every kind of signal, and blocks some sessions."""
    path = tmp_path / "signals.onnx"
    path.write_bytes(signals_file())
    return path


def offline(config: DetectorConfig) -> tuple[list[tuple[str, ...]], dict[int, Partition]]:
    """Return the alerts that must come of the input, and the partitions that it leads to."""
    processor = processor_of(load_model(Path(config.model)), config)
    partitions: dict[TopicPartition, Partition] = {}
    made = replay(batches_of_topic(config), processor, partitions)
    alerts = [alert for one in made for alert in one.outcome.alerts]
    return without_clock(alerts), {source.partition: one for source, one in partitions.items()}


def stored(stack: Stack) -> dict[int, Partition]:
    """Return the partitions that the state log leads to."""
    fingerprint = load_model(Path(stack.config.model)).encoding.fingerprint
    restored = {number: RestoredState(fingerprint) for number in range(stack.config.partitions)}
    for record in stack.read(stack.config.state_topic):
        restored[record.partition].add(record.offset, record.value)
    return {number: one.partition for number, one in restored.items() if one.end() is not None}


def tables(partitions: dict[int, Partition]) -> dict[int, tuple[object, ...]]:
    """Return the live sessions and the profiles of each partition, in their order; what has expired may be there or not."""
    return {
        number: (
            [
                (key, packed)
                for key, packed in one.sessions.items()
                if one.stream_time_ms - touched_ms(packed) <= 30 * MINUTE_MS
            ],
            list(one.profiles.items()),
        )
        for number, one in partitions.items()
    }


def parts(log: list[Record], count: int) -> Iterator[list[Record]]:
    """Cut a log."""
    for at in range(count):
        yield log[at * len(log) // count : (at + 1) * len(log) // count]


def test_profiles_outlast_a_kill_and_a_hand_over(make_stack: MakeStack, model: Path) -> None:
    """Alerts, and what the log keeps of sessions and accounts, are those of an offline pass, bit for bit.

    Snapshots carry both in slices meanwhile, and workers with other batches go on with them.
    """
    stack = make_stack(partitions=3, model=str(model), breaker_max_block_share=0.0)
    first, second, third = parts(lives(1, 900), 3)
    stack.publish(first)
    killed = stack.start(*FREQUENT, "--batch-max-events", "20")
    stack.wait_until_processed()
    with stack.worker(*FREQUENT, "--batch-max-events", "33"):
        stack.publish(second)
        killed.kill()
        stack.wait_until_processed()
        with stack.worker(*FREQUENT, "--batch-max-events", "7") as joined:
            joined.wait_until_logged("holding partitions")
            stack.publish(third)
            stack.wait_until_processed()
    alerts, partitions = offline(stack.config)
    assert without_clock(stack.alerts()) == alerts
    assert len(alerts) > 20
    assert tables(stored(stack)) == tables(partitions)
    assert sum(len(one.profiles) for one in partitions.values()) == 8
    assert stack.read(stack.config.state_topic)[0].offset > 0  # cut behind a whole snapshot


def test_a_rebuild_brings_profiles_back(make_stack: MakeStack, model: Path) -> None:
    """With the state lost, the input gives back what accounts had taught, and not what blocked sessions had."""
    stack = make_stack(partitions=2, model=str(model), breaker_max_block_share=0.0)
    first, second = parts(lives(2, 600), 2)
    stack.publish(first)
    with stack.worker(*FREQUENT):
        stack.wait_until_processed()
    damage(stack)
    stack.publish(second)
    with stack.worker(*FREQUENT, "--rebuild-from-input") as worker:
        stack.wait_until_processed()
    assert " accounts; the next transaction" in worker.log.read_text()
    alerts, partitions = offline(stack.config)
    assert without_clock(stack.alerts()) == alerts
    kept = stored(stack)
    assert {number: one.profiles for number, one in kept.items()} == {
        number: one.profiles for number, one in partitions.items()
    }


def stolen(seconds: int, session: str, device: str, *actions: str) -> list[Record]:
    """Return a session of the one account on a device."""
    return [
        event("account", session, seconds * 1_000 + number, action, attributes={"device": device})
        for number, action in enumerate(actions)
    ]


@pytest.mark.parametrize("batch_max_events", [1, 4, 2_000])
def test_what_was_blocked_does_not_become_known(
    make_stack: MakeStack, tmp_path: Path, batch_max_events: int
) -> None:
    """A device of a blocked session is as new in the next session; one of a session that went well is known.

    So it is whether block and next session come in one batch or in several.
    """
    path = tmp_path / "model.onnx"
    path.write_bytes(device_file())
    stack = make_stack(partitions=1, model=str(path), batch_max_events=batch_max_events)
    stack.publish(
        [
            *stolen(0, "s1", "phone", "LOGIN", "VIEW_BALANCE", "LOGOUT"),
            *stolen(3_000, "s2", "stranger", "LOGIN", "TRANSFER_LARGE", "TRANSFER_LARGE"),
            *stolen(6_000, "s3", "stranger", "LOGIN", "TRANSFER_LARGE"),
            *stolen(9_000, "s4", "laptop", "LOGIN", "VIEW_BALANCE", "LOGOUT"),
            *stolen(12_000, "s5", "laptop", "LOGIN", "TRANSFER_LARGE"),
        ]
    )
    with stack.worker():
        stack.wait_until_processed()
    assert [(one.session_id, one.action_number) for one in stack.alerts()] == [("s2", 2), ("s3", 2)]
    assert without_clock(stack.alerts()) == offline(stack.config)[0]


def test_records_keyed_otherwise_are_counted_and_told_once(make_stack: MakeStack, model: Path) -> None:
    """Whose history a model reads lies in one partition only if the key is the account's id."""
    stack = make_stack(partitions=2, model=str(model), metrics_port=0)
    stack.publish(lives(3, 50))
    with stack.worker() as worker:
        stack.wait_until_processed()
        assert [one.value for one in exposed(worker, KEYED)] == [0]
        for _ in range(2):
            stack.publish((b"session", value) for _, value in lives(4, 20))
            stack.wait_until_processed()
        assert [one.value for one in exposed(worker, KEYED)] == [40]
        live = sum(one.value for one in exposed(worker, "detector_live_accounts"))
        assert live == sum(len(one.profiles) for one in stored(stack).values()) >= 8
    text = worker.log.read_text()
    assert text.count("keyed otherwise") == 1
    assert "has the key" in text
    assert "account-" not in text


def test_fields_that_no_event_has_are_counted_and_told_once(make_stack: MakeStack, model: Path) -> None:
    """Of those that the model's signals read: each is at 0 from the start, and named in the log after 1,000 events."""
    stack = make_stack(partitions=1, model=str(model), metrics_port=0)

    def publish(seed: int, events: int) -> dict[str, float]:
        stack.publish((key, value.replace(b'"channel"', b'"kanal"')) for key, value in lives(seed, events))
        stack.wait_until_processed()
        return {one.labels["field"]: one.value for one in exposed(worker, ABSENT)}

    with stack.worker() as worker:
        absent = publish(3, 900)
        assert absent["attributes.channel"] == 900
        assert absent.keys() == {"amount", "attributes.device", "attributes.channel"}
        assert 0 < absent["amount"] < 900
        assert "none of" not in worker.log.read_text()
        assert publish(4, 200)["attributes.channel"] == 1_100
        publish(5, 200)
    told = [line for line in worker.log.read_text().splitlines() if "none of" in line]
    assert len(told) == 1
    assert "events has attributes.channel, which" in told[0]


def test_offline_passes_tell_of_fields_that_no_event_has(model: Path, tmp_path: Path) -> None:
    """A replay and a backtest say so at their end, and say nothing of a log that has them all."""
    file = tmp_path / "events.jsonl"
    for renamed, told in ((b'"channel"', 0), (b'"kanal"', 1)):
        file.write_bytes(b"".join(value.replace(b'"channel"', renamed) + b"\n" for _, value in lives(6, 50)))
        for arguments in (
            ["replay", "--model", str(model), "--out", str(tmp_path / "alerts.jsonl")],
            ["backtest", "--model", str(model), "--model", "seed"],
        ):
            done = CliRunner().invoke(main, [*arguments, "--file", str(file)])
            assert done.exit_code == 0, done.output
            assert done.stderr.count("none of 50 events has attributes.channel, which") == told


def test_a_model_without_signals_takes_the_session_for_the_key(make_stack: MakeStack) -> None:
    """Sessions under the session's id are as good as under the account's; nothing is counted, no account is kept."""
    stack = make_stack(partitions=2, metrics_port=0)
    stack.publish((json.loads(value)["session_id"].encode(), value) for _, value in lives(5, 200))
    with stack.worker() as worker:
        stack.wait_until_processed()
        assert [one.value for one in exposed(worker, KEYED)] == [0]
        assert {one.value for one in exposed(worker, "detector_live_accounts")} == {0}
    assert "keyed otherwise" not in worker.log.read_text()
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0]) != []


def test_too_many_accounts_are_bounded_and_counted(make_stack: MakeStack, model: Path) -> None:
    """Beyond the most that may be, the account longest unseen is forgotten; alerts are those of an offline pass."""
    stack = make_stack(
        partitions=1, model=str(model), max_accounts=3, breaker_max_block_share=0.0, metrics_port=0
    )
    stack.publish(lives(6, 200))
    with stack.worker(*FREQUENT) as worker:
        stack.wait_until_processed()
        assert [one.value for one in exposed(worker, "detector_live_accounts")] == [3]
        assert exposed(worker, "detector_evicted_accounts_total")[0].value > 50
    alerts, partitions = offline(stack.config)
    assert without_clock(stack.alerts()) == alerts
    assert tables(stored(stack)) == tables(partitions)


def test_signals_are_of_the_steps_that_state_is_kept_in(make_stack: MakeStack, model: Path) -> None:
    """State of a model without signals is refused by one that reads them; a rebuild brings their accounts back."""
    stack = make_stack(partitions=1, model=str(model), breaker_max_block_share=0.0)
    log = lives(7, 300)
    stack.publish(log[:200])
    with stack.worker("--model", "seed", "--threshold", "1"):
        stack.wait_until_processed()
    stack.publish(log[200:])
    worker = stack.start()
    assert "another model's vocabulary, window, gap buckets, signals or ends" in worker.last_words()
    with stack.worker("--rebuild-from-input", *FREQUENT, "--threshold", "1"):
        stack.wait_until_processed()
    assert stack.alerts() == []
    assert tables(stored(stack)) == tables(offline(replace(stack.config, threshold=1.0))[1])


def test_no_model_of_other_signals_takes_over_or_runs_in_shadow(
    make_stack: MakeStack, model: Path, tmp_path: Path
) -> None:
    """Its steps are not those that are kept: a reload is refused and told, and a challenger refused at the start."""
    stack = make_stack(partitions=1, metrics_port=0)
    path = tmp_path / "served.onnx"
    put(path, model.read_bytes())
    worker = stack.start("--model", "seed", "--shadow-model", str(model))
    assert worker.process.wait(60) == 2
    assert "gap buckets, signals or ends of sessions" in worker.log.read_text()
    with stack.worker("--model", str(path), "--model-watch-ms", "100") as reloaded:
        reloaded.wait_until_logged("holding partitions")
        put(path, random_file())
        reloaded.wait_until_logged("gap buckets, signals or ends of sessions")
