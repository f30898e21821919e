"""Shadow mode on a real broker: the challenger's blocks go to their own topic exactly once, and decide nothing."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click.testing
import pytest
from kafka import TopicPartition

from detector.cli import main
from detector.contract.alerts import decode_alert
from detector.core.decision import Policy
from detector.model.artifact import ModelRefusedError, load_model, packaged_model_path
from detector.model.at_hand import ModelsAtHand
from detector.runtime.config import DetectorConfig
from detector.runtime.epochs import decided_by_epochs, epoch_of, epochs_of_group
from detector.runtime.processing import challenger_of, processor_of
from detector.runtime.replaying import batches_of_file, batches_of_topic, replay
from tests.model.models import changed_file, random_file, signals_file
from tests.runtime.conftest import SetTopic
from tests.runtime.stack import Stack, alerts_in, alerts_of, without_clock
from tests.runtime.test_end_to_end import records, sessions
from tests.runtime.test_model_watch import put
from tests.runtime.test_redrive import NOW_MS, event, headers_of

FIRST, SECOND = 0.45, 0.2


def test_a_challengers_blocks_go_to_the_shadow_topic_through_a_crash(
    make_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    """Both topics hold what an offline pass gives, after a worker was killed; alerts name the champion only."""
    path = tmp_path / "challenger.onnx"
    path.write_bytes(changed_file(packaged_model_path("seed"), name="challenger", version="2"))
    stack = make_stack(partitions=2, shadow_model=str(path), shadow_threshold=1e-6)
    log = list(records(sessions(330)))
    stack.publish(log[: len(log) // 2])
    worker = stack.start("--batch-max-events", "50")
    stack.wait_until_processed()
    stack.publish(log[len(log) // 2 :])
    worker.kill()
    with stack.worker("--batch-max-events", "80"):
        stack.wait_until_processed()
    champion, challenger = load_model(packaged_model_path("seed")), load_model(path)
    processor = processor_of(champion, stack.config, challenger=challenger_of(challenger, stack.config))
    made = list(replay(batches_of_topic(stack.config), processor))
    expected, shadows = alerts_in(made), [alert for one in made for alert in one.outcome.shadow_alerts]
    assert without_clock(stack.alerts()) == without_clock(expected)
    assert without_clock(alerts_of(stack.config, stack.config.shadow_topic)) == without_clock(shadows)
    assert len(shadows) > len(expected) > 0
    assert {alert.model.name for alert in shadows} == {"challenger"}
    assert {alert.model.name for alert in expected} == {champion.reference.name}


def test_a_challenger_whose_topic_refuses_its_alerts_holds_nothing_up(
    make_stack: Callable[..., Stack], set_topic: SetTopic, tmp_path: Path
) -> None:
    """Its alerts are left out where their topic takes none so large; what is decided goes on, each event once."""
    path = tmp_path / "challenger.onnx"
    path.write_bytes(changed_file(packaged_model_path("seed"), name="challenger", version="2"))
    stack = make_stack(partitions=1, shadow_model=str(path), shadow_threshold=1e-6)
    set_topic(stack.config.shadow_topic, "max.message.bytes", "500")
    stack.publish(records(sessions(66)))
    with stack.worker():
        stack.wait_until_processed()
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0]) != []
    assert alerts_of(stack.config, stack.config.shadow_topic) == []
    assert stack.read(stack.config.dead_letter_topic) == []


def test_a_challenger_of_other_steps_is_refused() -> None:
    """One that reads another vocabulary, window or gaps can't score these sessions: exit code 2, and the way out."""
    told = click.testing.CliRunner().invoke(main, ["run", "--model", "default", "--shadow-model", "seed"])
    assert told.exit_code == 2
    assert "--group" in told.output


@pytest.mark.parametrize("missing", [False, True])
def test_each_part_of_the_log_is_replayed_by_its_model(
    make_stack: Callable[..., Stack], tmp_path: Path, *, missing: bool
) -> None:
    """`replay --models` computes the alerts of a log whose model was changed meanwhile; it says which file it lacks."""
    stack = make_stack(partitions=2, metrics_port=-1)
    folder = tmp_path / "models"
    folder.mkdir()
    path = tmp_path / "model.onnx"
    log = list(records(sessions(220)))
    for number, (threshold, part) in enumerate(
        [(FIRST, log[: len(log) // 2]), (SECOND, log[len(log) // 2 :])]
    ):
        data = changed_file(packaged_model_path("seed"), threshold=threshold, version=str(number))
        put(path, data)
        if not (missing and number):
            (folder / f"{number}.onnx").write_bytes(data)
        stack.publish(part)
        with stack.worker("--model", str(path)):
            stack.wait_until_processed()
    epochs = epochs_of_group(stack.config)
    assert {one.threshold for of_one in epochs.values() for one in of_one} == {FIRST, SECOND}
    out = tmp_path / "expected.jsonl"
    told = stack.replayed(folder, out)
    if missing:
        assert told.exit_code == 1
        assert "expected the file of that SHA-256" in told.output
        return
    assert told.exit_code == 0, told.output
    expected = [decode_alert(line) for line in out.read_bytes().splitlines()]
    assert {alert.model.version for alert in expected} == {"0", "1"}
    assert without_clock(stack.alerts()) == without_clock(expected)


def test_a_replay_ends_where_a_model_of_other_steps_took_over(tmp_path: Path) -> None:
    """State was rebuilt there, which no replay can know: sessions of before would not be known to the one after."""
    files = {"plain": random_file(), "signals": signals_file()}
    for name, data in files.items():
        (tmp_path / f"{name}.onnx").write_bytes(data)
    events = tmp_path / "events.jsonl"
    events.write_bytes(b"".join(value + b"\n" for _, value in records(sessions(5))))
    source, config = TopicPartition(DetectorConfig().input_topic, 0), DetectorConfig(partitions=1)
    models = [load_model(tmp_path / f"{name}.onnx") for name in files]
    epochs = {
        source: [
            epoch_of(source, offset, Policy(model.threshold, model.reference), config)
            for offset, model in zip((0, 7), models, strict=True)
        ]
    }
    made = decided_by_epochs(batches_of_file(events, config), ModelsAtHand(tmp_path), epochs, config)
    assert next(made).records == 7
    with pytest.raises(
        ModelRefusedError,
        match=r"from offset 7 on model signals 1 \([0-9a-f]{12}…\) decided, which reads another",
    ):
        next(made)


def test_each_part_of_the_log_is_replayed_under_the_settings_of_then(
    make_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    """What the group recorded decides, not the flags of the replay: unknown actions, limits and thresholds of each part."""
    stack = make_stack(model="default", partitions=1)
    shutil.copy(packaged_model_path("default"), tmp_path / "default.onnx")
    settings = [
        ("--threshold", "0.01"),
        ("--threshold", "0.00001", "--idle-timeout-ms", "500000", "--review-threshold", "0.000001"),
        ("--max-event-bytes", "100"),
    ]
    for number, flags in enumerate(settings):
        stack.publish(
            event(f"s{number}-{session}", at, action, occurred_at_ms=NOW_MS + 600_000 * at)
            for session in range(10)
            for at, action in enumerate(("LOGIN", "SCRATCH_CARD", "ADD_RECIPIENT", "TRANSFER_LARGE"))
        )
        with stack.worker("--unknown-actions", "token", *flags):
            stack.wait_until_processed()
    out = tmp_path / "expected.jsonl"
    told = stack.replayed(tmp_path, out)
    assert told.exit_code == 0, told.output
    expected = [decode_alert(line) for line in out.read_bytes().splitlines()]
    assert without_clock(stack.alerts()) == without_clock(expected)
    assert len({alert.threshold for alert in expected}) >= 2
    reasons = Counter(headers_of(one)["dlq-reason"] for one in stack.read(stack.config.dead_letter_topic))
    assert reasons == {"too_large": 40}
    assert "dead letters: 40 too_large" in told.output
