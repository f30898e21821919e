"""The backtest command on traffic of the simulator, from a file and from a topic of the real broker."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from broker import Broker
from detector.backtest.running import EXPLAINED
from detector.contract.verdicts import Finding, Verdict, encode_verdict
from detector.model.artifact import packaged_model_path
from tests.commands import run
from tests.conftest import CreateTopic

PATIENCE_S = 120
MODEL = str(packaged_model_path("seed"))
ATTACKS = {"quick_drain", "password_reset"}


def backtest(*arguments: str) -> dict[str, Any]:
    """Run a backtest of the packaged model against itself; return what --json says."""
    done = run("detector", "backtest", "--model", MODEL, "--model", MODEL, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Events of 330 sessions of the seed preset, 30 attacks among them, and their labels."""
    folder = tmp_path_factory.mktemp("history")
    events, labels = str(folder / "events.jsonl.gz"), str(folder / "labels.jsonl.gz")
    done = run(
        "producer", "simulate", "--sessions", "330", "--seed", "5", "--out", events, "--labels", labels
    )
    assert done.returncode == 0, done.stderr
    return events, labels


def test_a_model_against_itself_makes_no_difference(history: tuple[str, str]) -> None:
    """Nobody is newly blocked, nobody no longer, and both block every attack; the log's time is told."""
    said = backtest("--file", history[0], "--labels", history[1])
    assert said["newly"] == said["no_longer"] == []
    attacks = {group["name"]: group for group in said["groups"] if group["label"] == 1}
    assert attacks.keys() == ATTACKS
    assert all(group["blocked"] == [group["sessions"]] * 2 for group in attacks.values())
    assert said["times_real"] == pytest.approx(said["span_ms"] / 1000 / said["elapsed_s"])
    with gzip.open(history[0]) as lines:
        times_ms = [json.loads(line)["occurred_at_ms"] for line in lines]
    assert said["span_ms"] == max(times_ms) - min(times_ms)


def test_rules_are_told_with_how_often_they_held_never_too(history: tuple[str, str], tmp_path: Path) -> None:
    """Who looks for a rule among those that held must find it where it held at nothing."""
    rules = tmp_path / "rules.toml"
    rules.write_text(
        "".join(
            f"[[rule]]\nname = '{name}'\nwhen = '{when}'\nthen = 'REVIEW'\n"
            for name, when in (("always", "score >= 0.0"), ("never", "action_number > 1000"))
        )
    )
    said = backtest("--file", history[0], "--labels", history[1], "--rules", str(rules))
    assert said["rules"] == {"always": said["events"], "never": 0}


def test_a_lower_threshold_blocks_more_and_earlier(history: tuple[str, str], tmp_path: Path) -> None:
    """At next to no threshold lawful sessions are newly blocked, attacks earlier, and a plot is drawn."""
    plot = tmp_path / "difference.png"
    thresholds = ["--threshold", "0.8", "--threshold", "1e-12"]
    said = backtest("--file", history[0], "--labels", history[1], *thresholds, "--plot", str(plot))
    assert said["no_longer"] == []
    groups = {group["name"]: group for group in said["groups"]}
    lawful = [group for group in said["groups"] if group["label"] == 0]
    assert sum(group["newly"] for group in lawful) > 0
    assert groups["quick_drain"]["earlier"] == groups["quick_drain"]["sessions"]
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_challenges_are_counted_beside_the_blocks(history: tuple[str, str]) -> None:
    """Under a challenge threshold each side's challenges are told, by kind; it lies below what blocks."""
    arguments = [
        "--file",
        history[0],
        "--labels",
        history[1],
        "--threshold",
        "0.999999",
        "--threshold",
        "0.5",
    ]
    said = backtest(*arguments, "--challenge-threshold", "0.01")
    attacks = [group for group in said["groups"] if group["label"] == 1]
    first, second = (sum(group["challenged"][side] for group in attacks) for side in (0, 1))
    assert first > second  # a score that blocks at once asks for nothing
    plain = backtest(*arguments)
    assert {tuple(group["challenged"]) for group in plain["groups"]} == {(0, 0)}
    assert [group["blocked"] for group in plain["groups"]] == [group["blocked"] for group in said["groups"]]
    models = ["--model", "seed", "--model", "seed"]
    shown = run("detector", "backtest", *models, *arguments, "--challenge-threshold", "0.01").stdout
    assert "A challenges" in shown
    wrong = run("detector", "backtest", *models, *arguments, "--challenge-threshold", "0.7")
    assert "--challenge-threshold is 0.7: expected less than --threshold, 0.5" in wrong.stderr


def test_the_report_names_kinds_whole_and_what_speaks_against_the_change_first(
    history: tuple[str, str],
) -> None:
    """In a pipe of no width at all: every kind of session, the shares of both labels, lawful sessions newly blocked."""
    arguments = ["--file", history[0], "--labels", history[1], "--threshold", "0.8", "--threshold", "1e-12"]
    done = run("detector", "backtest", "--model", MODEL, "--model", MODEL, *arguments)
    assert done.returncode == 0, done.stderr
    assert all(f" {kind} " in done.stdout for kind in ATTACKS)
    assert not [line for line in done.stdout.splitlines() if "…" in line and "│" in line]
    assert "all attacks, 30: A blocks 30 (100.00%), B blocks 30 (100.00%)" in done.stdout
    first = next(line for line in done.stdout.splitlines() if line.startswith("newly blocked"))
    assert first.startswith("newly blocked: lawful ")


def test_a_topic_gives_what_its_file_gives(
    history: tuple[str, str], kafka: Broker, create_topic: CreateTopic
) -> None:
    """The same events on a topic and in a file, and without labels: the same sessions are blocked."""
    topic = create_topic()
    done = run(
        *("producer", "replay", history[0], "--speed", "max"),
        *("--bootstrap-servers", kafka.bootstrap_servers, "--topic", topic),
    )
    assert done.returncode == 0, done.stderr
    thresholds = ["--threshold", "1", "--threshold", "0.8"]
    of_topic = backtest("--topic", topic, "--bootstrap-servers", kafka.bootstrap_servers, *thresholds)
    of_file = backtest("--file", history[0], *thresholds)
    assert len(of_topic["newly"]) == 30
    assert of_topic["newly"] == of_file["newly"]
    assert [group["name"] for group in of_topic["groups"]] == ["unlabelled"]


def test_verdicts_in_the_history_are_the_labels(history: tuple[str, str], tmp_path: Path) -> None:
    """As the relay has put them there: the one decided last holds. A history without any is told of."""
    thresholds = ["--threshold", "1", "--threshold", "0.8"]
    blocked = [one["session_id"] for one in backtest("--file", history[0], *thresholds)["newly"]]
    judged = tmp_path / "judged.jsonl"
    with gzip.open(history[0]) as lines:
        events = lines.read()
    accounts = {event["session_id"]: event["account_id"] for event in map(json.loads, events.splitlines())}
    found = [(blocked[0], "FRAUD", 5), (blocked[1], "LAWFUL", 5), (blocked[1], "FRAUD", 4)]
    accounts_of = [accounts[session_id] for session_id, _, _ in found]
    found.append((blocked[2], "FRAUD", 5))  # another account's session of that id
    verdicts = [
        encode_verdict(
            Verdict(
                verdict_id=f"{session_id}-{at_ms}",
                account_id=account_id,
                session_id=session_id,
                verdict=Finding(finding),
                by="analyst",
                decided_at_ms=at_ms,
            )
        )
        for account_id, (session_id, finding, at_ms) in zip([*accounts_of, "another"], found, strict=True)
    ]
    judged.write_bytes(b"\n".join([events.strip(), *verdicts]))
    said = backtest("--file", str(judged), *thresholds)
    assert said["verdicts"] == 3
    assert {group["name"]: group["newly"] for group in said["groups"]} == {
        "attack": 1,
        "lawful": 1,
        "unlabelled": len(blocked) - 2,
    }
    assert said["newly"][0]["session_id"] == blocked[1]
    models = ["--model", MODEL, "--model", MODEL]
    for history_of, told in (
        (str(judged), "on 3 sessions; they are the labels"),
        (history[0], "no verdicts in"),
    ):
        assert told in run("detector", "backtest", *models, "--file", history_of, *thresholds).stdout


def test_a_session_without_a_type_is_called_by_its_label_once(
    history: tuple[str, str], tmp_path: Path
) -> None:
    """A file of labels that says 1 or 0 and nothing else: what is blocked newly is an attack session."""
    labels = tmp_path / "labels.jsonl"
    with gzip.open(history[1], "rt") as lines:
        bare = [{key: one[key] for key in ("session_id", "label")} for one in map(json.loads, lines)]
    labels.write_text("\n".join(map(json.dumps, bare)))
    arguments = ["--file", history[0], "--labels", str(labels), "--threshold", "1", "--threshold", "0.8"]
    done = run("detector", "backtest", "--model", MODEL, "--model", MODEL, *arguments)
    assert "newly blocked: attack session " in done.stdout


def test_the_first_of_each_are_told_with_what_weighed_most(history: tuple[str, str]) -> None:
    """Those shown, in words and as JSON, by the model that blocks them."""
    arguments = ["--file", history[0], "--threshold", "1", "--threshold", "0.8"]
    of_file = backtest(*arguments)
    told = [one["explanation"] for one in of_file["newly"]]
    assert all(told[:EXPLAINED])
    assert not any(told[EXPLAINED:])
    words = run("detector", "backtest", "--model", MODEL, "--model", MODEL, *arguments).stdout
    assert words.count(f" | {told[0][0]}") >= 1


def test_sessions_end_as_they_do_in_service(history: tuple[str, str]) -> None:
    """With an --idle-timeout-ms shorter than any gap each action is a session of its own, the first and the last."""
    thresholds = ["--threshold", "1", "--threshold", "0.8"]
    blocked = [
        {one["action_number"] for one in backtest("--file", history[0], *thresholds, *more)["newly"]}
        for more in ([], ["--idle-timeout-ms", "1", "--max-future-ms", "0"])
    ]
    assert blocked[0] == {2}
    assert blocked[1] == {1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", MODEL], "--model was given 1 times"),
        (["--model", MODEL, "--model", MODEL], "in either --file or --topic"),
        (["--model", __file__, "--model", MODEL, "--topic", "t"], "model"),
        (
            ["--model", MODEL, "--model", MODEL, "--topic", "t", "--idle-timeout-ms", "-1"],
            "--idle-timeout-ms",
        ),
        (["--model", MODEL, "--model", MODEL, "--topic", "t", "--unknown-actions", "token"], "unknown"),
    ],
)
def test_wrong_use_is_told(arguments: list[str], message: str) -> None:
    """One message that names what was expected, and no traceback."""
    done = run("detector", "backtest", *arguments)
    assert done.returncode in {1, 2}
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_label_is_named(history: tuple[str, str], tmp_path: Path) -> None:
    """The file and the line of a label that is none."""
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"session_id": "s", "label": 1}\n{"session_id": "s", "label": 7}\n')
    done = run(
        *("detector", "backtest", "--model", MODEL, "--model", MODEL, "--file", history[0]),
        *("--labels", str(labels)),
    )
    assert done.returncode == 1
    assert "labels.jsonl, line 2" in done.stderr
