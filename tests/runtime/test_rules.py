"""Rules on a real broker: in shadow first, reloaded, refused, replayed; exactly once through a kill."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click.testing
import msgspec
import pytest

from detector.cli import main
from detector.contract.alerts import Alert, decode_alert
from detector.model.artifact import packaged_model_path
from detector.runtime.epochs import epochs_of_group
from tests.model.models import changed_file
from tests.runtime.stack import Stack, Worker, alerts_of, exposed, without_clock
from tests.runtime.test_end_to_end import records, sessions
from tests.runtime.test_model_watch import put
from tests.waiting import wait_for

FIRST = """
[[rule]]
name = "many steps"
when = 'action == "TRANSFER_SMALL" && action_number > 2'
then = "CHALLENGE"
shadow = false

[[rule]]
name = "on trial"
when = 'action == "CHANGE_PASSWORD"'
then = "BLOCK"
"""
SECOND = FIRST.replace("CHALLENGE", "BLOCK").replace("> 2", "> 2 && score < 0.99999")
REFUSED = FIRST.replace("action_number", "number")


def counted(worker: Worker, name: str, **labels: str) -> float:
    """Return what a worker has counted."""
    found = [one.value for one in exposed(worker, name) if labels.items() <= one.labels.items()]
    return sum(found)


def ruled(alerts: list[Alert]) -> Counter[tuple[str, str]]:
    """Count alerts by decision and rule, those of none left out."""
    return Counter((one.decision.value, one.rule.name) for one in alerts if one.rule is not msgspec.UNSET)


def halves(count: int) -> tuple[list[Any], list[Any]]:
    """Return the two halves of a log of sessions."""
    log = list(records(sessions(count)))
    return log[: len(log) // 2], log[len(log) // 2 :]


def test_rules_decide_exactly_once_through_kills_and_reloads(
    make_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    """Each part of the log is decided by the rules of then, after a kill, a refused file and a reload of the model too.

    `replay --models` gives the alerts of the topic bit for bit with no rules file at hand: the epochs have them.
    """
    rules, model, folder = tmp_path / "rules.toml", tmp_path / "model.onnx", tmp_path / "models"
    folder.mkdir()
    files = [
        changed_file(packaged_model_path("seed"), version=version, threshold=threshold)
        for version, threshold in (("1", 0.95), ("2", 0.6))
    ]
    for number, data in enumerate(files):
        (folder / f"{number}.onnx").write_bytes(data)
    put(rules, FIRST.encode())
    put(model, files[0])
    stack = make_stack(partitions=2, metrics_port=0, rules=str(rules), model=str(model), model_watch_ms=100)
    first, second = halves(330)
    stack.publish(first)
    worker = stack.start("--batch-max-events", "50")
    worker.wait_until_logged("holding partitions")
    stack.wait_until_processed()
    stack.publish(second[: len(second) // 3])
    worker.kill()
    put(rules, SECOND.encode())
    with stack.worker("--batch-max-events", "80") as after:
        stack.wait_until_processed()
        put(rules, REFUSED.encode())
        wait_for(
            lambda: counted(after, "detector_rules_reloads_total", outcome="refused") == 1, "the refusal"
        )
        put(model, files[1])
        wait_for(lambda: counted(after, "detector_model_reloads_total", outcome="loaded") == 1, "the model")
        stack.publish(second[len(second) // 3 : 2 * len(second) // 3])
        stack.wait_until_processed()
        put(rules, b"")  # all of them off
        wait_for(lambda: counted(after, "detector_rules_reloads_total", outcome="loaded") == 1, "the reload")
        assert "undeclared reference to 'number'" in after.log.read_text()
        stack.publish(second[2 * len(second) // 3 :])
        stack.wait_until_processed()
    assert {one.rules for each in epochs_of_group(stack.config).values() for one in each} == {
        FIRST,
        SECOND,
        "",
    }
    out = tmp_path / "expected.jsonl"
    told = stack.replayed(folder, out)
    assert told.exit_code == 0, told.output
    expected = [decode_alert(line) for line in out.read_bytes().splitlines()]
    found = stack.alerts()
    assert without_clock(found) == without_clock(expected)
    assert {decision for decision, _ in ruled(found)} == {"CHALLENGE", "BLOCK"}
    assert {name for _, name in ruled(found)} == {"many steps"}
    shadows = alerts_of(stack.config, stack.config.shadow_topic)
    assert {name for _, name in ruled(shadows)} == {"on trial"}
    assert max(Counter((one.session_id, one.action_number) for one in shadows).values()) == 1


def test_rules_are_counted_by_name_decision_and_shadow(
    make_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    """From 0 at the start; after a reload those that are gone are no longer told of."""
    rules = tmp_path / "rules.toml"
    put(rules, FIRST.encode())
    stack = make_stack(partitions=1, metrics_port=0, rules=str(rules), model_watch_ms=100)
    name = "detector_rule_matches_total"
    with stack.worker() as worker:
        worker.wait_until_logged("holding partitions")
        assert {one.labels["rule"]: one.value for one in exposed(worker, name)} == {
            "many steps": 0,
            "on trial": 0,
        }
        log = list(records(sessions(66)))
        stack.publish(log)
        stack.wait_until_processed()
        changes = sum(b'"CHANGE_PASSWORD"' in value for _, value in log)
        on_trial = partial(counted, worker, name, rule="on trial", decision="BLOCK", shadow="true")
        wait_for(lambda: on_trial() == changes, "all matches")
        assert counted(worker, name, rule="many steps", shadow="false") > 0
        assert counted(worker, "detector_shadow_alerts_total") == 0  # there is no challenger
        put(rules, FIRST.replace("on trial", "renamed").encode())
        wait_for(
            lambda: {one.labels["rule"] for one in exposed(worker, name)} == {"many steps", "renamed"},
            "the rules of now",
        )
    put(rules, FIRST.encode())
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0])


@pytest.mark.parametrize("command", ["run", "replay", "backtest", "score"])
def test_rules_that_do_not_fit_are_refused_at_the_start(tmp_path: Path, command: str) -> None:
    """Exit code 2, as for other settings, with rule, line and reason; before a broker is asked for anything."""
    path = tmp_path / "rules.toml"
    path.write_text(REFUSED)
    events = tmp_path / "events.jsonl"
    events.write_bytes(b"".join(value + b"\n" for _, value in records(sessions(3))))
    arguments = {
        "run": ["--model", "seed"],
        "replay": ["--model", "seed", "--file", str(events), "--out", str(tmp_path / "out")],
        "backtest": ["--model", "seed", "--model", "seed", "--file", str(events)],
        "score": ["--model", "seed", "LOGIN"],
    }
    told = click.testing.CliRunner().invoke(main, [command, "--rules", str(path), *arguments[command]])
    assert told.exit_code == 2, told.output
    for text in (str(path), "line 4", "'many steps'", "undeclared reference to 'number'"):
        assert text in told.output


def test_a_replay_by_epochs_wants_no_rules() -> None:
    """They are in the epochs; others would decide nothing."""
    told = click.testing.CliRunner().invoke(
        main, ["replay", "--models", ".", "--rules", "x.toml", "--out", "out"]
    )
    assert told.exit_code == 2
    assert "--rules decides nothing beside --models" in told.output
