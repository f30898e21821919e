"""Evidence on a real broker: what long sessions carry over outlasts kills, rebalances, rebuilds and other models."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from detector.contract.actions import Action
from detector.contract.alerts import decode_alert
from detector.core.evidence import Evidence
from detector.model.artifact import load_model, packaged_model_path
from detector.model.at_hand import ModelsAtHand
from detector.runtime.processing import challenger_of, processor_of
from detector.runtime.replaying import batches_of_topic, replay
from tests.model.models import changed_file
from tests.runtime.stack import Stack, alerts_in, alerts_of, without_clock
from tests.runtime.test_model_watch import put
from tests.runtime.test_redrive import event
from tests.runtime.test_state_refused import damage

SLOW = Evidence(window_weight=0, bias=-3, logit_weight=0.015, drift=0.12, floor=-0.5)
"""No window blocks by itself: only what scores of dozens of actions have come to does."""
QUICK = Evidence(window_weight=0.1, bias=-1, logit_weight=0.02, drift=0.32, floor=0, scale_actions=200)
SESSIONS, ACTIONS = 12, 90


def model_file(path: Path, name: str, **changes: Any) -> Path:
    """Write the packaged model of the seed preset with changes, and return where."""
    path.write_bytes(changed_file(packaged_model_path("seed"), name=name, **{"threshold": 0.5} | changes))
    return path


def parts(count: int, seed: int) -> Iterator[list[tuple[bytes, bytes]]]:
    """Yield the events of long interleaved sessions that do anything at all, in so many parts."""
    rng = random.Random(seed)
    names = [one.value for one in Action if one is not Action.LOGOUT]
    log = [
        event(f"s{session}", number, rng.choice(names))
        for number in range(ACTIONS)
        for session in range(SESSIONS)
    ]
    for at in range(count):
        yield log[at * len(log) // count : (at + 1) * len(log) // count]


def test_long_sessions_outlast_a_kill_and_a_rebalance(
    make_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    """Blocks far beyond the window, and a challenger's with evidence of its own, are those of an offline pass."""
    path, rival = model_file(tmp_path / "m.onnx", "m", evidence=SLOW), tmp_path / "rival.onnx"
    model_file(rival, "rival", evidence=QUICK)
    stack = make_stack(partitions=3, model=str(path), shadow_model=str(rival))
    frequent = ("--snapshot-min-bytes", "1", "--snapshot-ratio", "1", "--batch-max-events", "20")
    first, second, third = parts(3, seed=3)
    stack.publish(first)
    killed = stack.start(*frequent)
    stack.wait_until_processed()
    with stack.worker("--batch-max-events", "33"):
        stack.publish(second)
        killed.kill()
        stack.wait_until_processed()
        with stack.worker("--batch-max-events", "7") as joined:
            joined.wait_until_logged("holding partitions")
            stack.publish(third)
            stack.wait_until_processed()
    champion, challenging = load_model(path), load_model(rival)
    processor = processor_of(champion, stack.config, challenger=challenger_of(challenging, stack.config))
    made = list(replay(batches_of_topic(stack.config), processor))
    shadows = [alert for one in made for alert in one.outcome.shadow_alerts]
    assert without_clock(stack.alerts()) == without_clock(alerts_in(made))
    assert without_clock(alerts_of(stack.config, stack.config.shadow_topic)) == without_clock(shadows)
    numbers = [alert.action_number for alert in alerts_in(made)]
    assert max(numbers) > ACTIONS / 3 > champion.encoding.window, numbers
    assert len(shadows) > 0
    assert all(isinstance(alert.carried, float) for alert in stack.alerts())


def test_a_rebuild_brings_back_what_was_carried(make_stack: Callable[..., Stack], tmp_path: Path) -> None:
    """With the state lost, the input gives it back: the blocks that follow are those of a worker that lost nothing."""
    stack = make_stack(partitions=2, model=str(model_file(tmp_path / "m.onnx", "m", evidence=SLOW)))
    first, second, third = parts(3, seed=4)
    stack.publish(first)
    with stack.worker():
        stack.wait_until_processed()
    before = len(stack.alerts())
    damage(stack)
    stack.publish([*second, *third])
    with stack.worker("--rebuild-from-input"):
        stack.wait_until_processed()
    expected = stack.expected()[0]
    assert without_clock(stack.alerts()) == without_clock(expected)
    assert len(expected) > before + 3


def test_models_with_and_without_evidence_follow_each_other(
    make_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    """Each begins with nothing carried, and goes on with its own after a rebuild; `replay --models` computes the same."""
    stack, folder = make_stack(partitions=2), tmp_path / "models"
    folder.mkdir()
    path = tmp_path / "model.onnx"
    told: dict[str, Any] = {
        "plain": {"threshold": 1.0},
        "slow": {"evidence": SLOW},
        "quick": {"evidence": QUICK},
    }
    models = {name: model_file(folder / f"{name}.onnx", name, **changes) for name, changes in told.items()}
    for name, part in zip(("slow", "plain", "quick", "slow", "slow"), parts(5, seed=5), strict=True):
        put(path, models[name].read_bytes())
        stack.publish(part)
        with stack.worker("--model", str(path), "--rebuild-from-input") as worker:
            stack.wait_until_processed()
        damage(stack)
    assert "rebuilt" in worker.log.read_text()
    out = tmp_path / "expected.jsonl"
    done = stack.replayed(folder, out)
    assert done.exit_code == 0, done.output
    expected = [decode_alert(line) for line in out.read_bytes().splitlines()]
    assert without_clock(stack.alerts()) == without_clock(expected)
    assert {alert.model.name for alert in expected} >= {"slow", "quick"}
    at_hand = ModelsAtHand(folder)
    for alert in stack.alerts():
        explained = at_hand.explain(alert)
        assert explained.score == alert.score
        assert isinstance(explained.carried_value, float) == (alert.model.name != "plain")
