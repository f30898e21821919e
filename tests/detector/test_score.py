"""Scoring by hand with what a model of signals reads: amounts, attributes and what the account did before."""

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from detector.cli import main
from detector.model.artifact import Model, load_model, packaged_model_path
from detector.runtime.config import DetectorConfig
from detector.runtime.processing import processor_of
from detector.runtime.replaying import batches_of_file, replay
from tests.model.models import device_file, signals_file

DAY_MS = 86_400_000
FIRST_DAY = 20_000
ACTIONS = ("LOGIN", "ADD_RECIPIENT", "TRANSFER_LARGE")
GIVEN = (
    "--gaps-s",
    "5,8",
    "--amounts",
    ",,950",
    "--attribute",
    "device=other",
    "--attribute",
    "channel=app,app,web",
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a model that reads amount, device and channel."""
    file = tmp_path_factory.mktemp("model") / "signals.onnx"
    file.write_bytes(signals_file())
    return file


@pytest.fixture(scope="module")
def model(path: Path) -> Model:
    """The same, loaded."""
    return load_model(path)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five days of an account, a session each with its device."""
    file = tmp_path_factory.mktemp("history") / "events.jsonl"
    file.write_text(
        "".join(
            event(
                f"{day}",
                action,
                DAY_MS * (FIRST_DAY + day) + 1_000 * at,
                amount=20.0,
                device="phone",
                channel="app",
            )
            for day in range(5)
            for at, action in enumerate(["LOGIN", "TRANSFER_SMALL", "LOGOUT"])
        )
    )
    return file


def event(session: str, action: str, at_ms: int, *, amount: float | None, **attributes: str) -> str:
    """Return an event's line."""
    told = {
        "event_id": f"{session}-{at_ms}", "session_id": session, "account_id": "a", "action": action,
        "occurred_at_ms": at_ms, "amount": amount, "attributes": attributes,
    }  # fmt: skip
    return json.dumps(told) + "\n"


def score(path: Path, *arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["score", "--model", str(path), *arguments])


def test_signals_are_those_of_service(path: Path, model: Model, history: Path, tmp_path: Path) -> None:
    """Behind a history a session has after each action the score that the detector gives it for the very same events."""
    events = tmp_path / "events.jsonl"
    begin_ms = DAY_MS * (FIRST_DAY + 4) + 2_000 + 3_600_000
    columns = (0, 5_000, 13_000), (None, None, 950.0), ("app", "app", "web")
    lines = [
        event("s", action, begin_ms + at_ms, amount=amount, device="other", channel=channel)
        for action, at_ms, amount, channel in zip(ACTIONS, *columns, strict=True)
    ]
    events.write_text(history.read_text() + "".join(lines))
    config = DetectorConfig(partitions=1, max_future_ms=0, threshold=1.0)  # no block: what was, teaches
    (processed,) = replay(batches_of_file(events, config), processor_of(model, config))
    behind = ["--history", str(history), "--after-s", "3600", "--json", "--attribute", "device=other"]
    prefixes = [
        ("", "", "channel=app"),
        ("5", ",", "channel=app"),
        ("5,8", ",,950", "channel=app,app,web"),
    ]
    risks = [
        json.loads(
            score(
                path,
                *behind,
                "--gaps-s",
                gaps,
                "--amounts",
                amounts,
                "--attribute",
                channel,
                *ACTIONS[:count],
            ).output
        )["risk"]
        for count, (gaps, amounts, channel) in enumerate(prefixes, start=1)
    ]
    assert risks == processed.outcome.scores[-3:]
    assert len(processed.outcome.scores) == 18


def test_the_history_counts(path: Path, history: Path, model: Model) -> None:
    """The same session scores otherwise with and without what came before, whose device it does not have."""
    with_it = json.loads(score(path, "--json", "--history", str(history), *GIVEN, *ACTIONS).output)
    without = json.loads(score(path, "--json", *GIVEN, *ACTIONS).output)
    assert with_it["risk"] != without["risk"]
    assert with_it["threshold"] == model.threshold
    assert "explanation" not in with_it


def test_what_was_blocked_in_the_history_is_not_known(tmp_path: Path) -> None:
    """As in service: a device of a blocked session is as new in the next one, that of a session that went well is known."""
    model, history = tmp_path / "device.onnx", tmp_path / "events.jsonl"
    model.write_bytes(device_file())
    sessions = [("1", "phone", ("LOGIN", "LOGOUT")), ("2", "stranger", ("LOGIN", "TRANSFER_LARGE"))]
    history.write_text(
        "".join(
            event(session, action, DAY_MS * int(session) + at, amount=None, device=device)
            for session, device, actions in sessions
            for at, action in enumerate(actions)
        )
    )
    asked = ("--history", str(history), "LOGIN", "TRANSFER_LARGE", "--attribute")
    assert score(model, *asked, "device=stranger").output.startswith("BLOCKED")
    assert score(model, *asked, "device=phone").output.startswith("ALLOWED")
    assert score(model, "--threshold", "0.9", *asked, "device=stranger").output.startswith("ALLOWED")


def test_a_history_may_be_compressed(path: Path, history: Path, tmp_path: Path) -> None:
    """A .gz gives the score of what is in it; one that is none is refused by its name."""
    packed, broken = tmp_path / "events.jsonl.gz", tmp_path / "broken.jsonl.gz"
    packed.write_bytes(gzip.compress(history.read_bytes()))
    plain, same = (score(path, "--history", str(one), *GIVEN, *ACTIONS) for one in (history, packed))
    assert same.output == plain.output
    for content in (b"{}", packed.read_bytes()[:-9]):
        broken.write_bytes(content)
        ended = score(path, "--history", str(broken), *ACTIONS)
        assert ended.exit_code == 2
        assert "can't be read" in ended.output


def test_reasons_are_told_below_the_verdict(path: Path, history: Path) -> None:
    """One a line, the weightiest first, as in the explanation of the JSON."""
    arguments = ["--history", str(history), *GIVEN, "--why", *ACTIONS]
    verdict, *told = score(path, *arguments).output.splitlines()
    assert verdict.split()[0] in ("BLOCKED", "ALLOWED")
    assert [one.strip() for one in told] == json.loads(score(path, "--json", *arguments).output)[
        "explanation"
    ]
    assert told


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        (("--amounts", "1,2"), "amount has 2 values: expected one, or 3 with commas between"),
        (("--amounts", ",,abc"), "--amounts has abc: expected numbers of 0 or more"),
        (("--amounts", "nan"), "--amounts has nan: expected numbers of 0 or more"),
        (("--amounts", ",,-5"), "--amounts has -5: expected numbers of 0 or more"),
        (("--attribute", "device"), "--attribute device: expected NAME=VALUE"),
        (
            ("--attribute", "device=a", "--attribute", "device=b"),
            "device was given before: expected each once",
        ),
        (("--after-s", "nan"), "nan is not in the range 0<=x<=1000000000.0"),
        (("--gaps-s", "1e300,1"), "and 1e9 together at most"),
        (("--threshold", "nan"), "nan is not in the range 0<x<=1"),
        (("--attribute", "amount=3"), "the amount is no attribute: expected --amounts 3"),
        (
            ("--attribute", "colour=red"),
            "model signals does not read colour: expected channel, amount, device",
        ),
        (
            ("--model", "seed", "--amounts", "5"),
            "model seed-lstm does not read amount: expected actions and times alone",
        ),
    ],
)
def test_what_the_model_does_not_read_is_refused(path: Path, arguments: tuple[str, ...], seen: str) -> None:
    """Exit code 2, with what was seen and what was expected."""
    ended = score(path, *arguments, *ACTIONS)
    assert ended.exit_code == 2
    assert seen in " ".join(ended.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("{}\n", "line 2: "),
        (event("s", "LOGIN", 1, amount=None).replace('"a"', '"b"'), "line 2 is of another account"),
        (
            event("s", "LOGIN", 0, amount=None),
            "line 2 is of 0, before the line above: expected the order of time",
        ),
    ],
)
def test_a_history_is_of_one_account_in_order(path: Path, tmp_path: Path, line: str, seen: str) -> None:
    """A line that is no event, another account's, or earlier than the one above is told by its number."""
    file = tmp_path / "history.jsonl"
    file.write_text(event("s", "LOGIN", 1, amount=None) + line)
    ended = score(path, "--history", str(file), *ACTIONS)
    assert ended.exit_code == 2
    assert seen in ended.output


@pytest.mark.parametrize(
    ("threshold", "challenge", "verdict"),
    [("0.999999", "0.5", "CHALLENGED"), ("0.8", "0.5", "BLOCKED"), ("0.999999", "0.99999", "ALLOWED")],
)
def test_a_score_between_the_thresholds_is_challenged(threshold: str, challenge: str, verdict: str) -> None:
    """As the service does under the same thresholds; without a challenge threshold there is no such answer."""
    flags = ["--model", "seed", "--threshold", threshold]
    said = CliRunner().invoke(
        main, ["score", *flags, "--challenge-threshold", challenge, "LOGIN", "CHANGE_PASSWORD"]
    )
    assert said.output.split()[0] == verdict
    plain = CliRunner().invoke(main, ["score", *flags, "LOGIN", "CHANGE_PASSWORD"]).output.split()[0]
    assert plain == ("BLOCKED" if verdict == "BLOCKED" else "ALLOWED")


def test_the_challenge_threshold_of_a_score_is_read_as_the_services() -> None:
    """-1 takes the model's own, 0 asks for none: the same words as `run` has."""
    model = load_model(packaged_model_path("history"))
    own = model.challenge_threshold
    assert own is not None
    actions = ["LOGIN", "CHANGE_PASSWORD", "TRANSFER_LARGE"]
    for asked, least in (("-1", own), ("0", None)):
        flags = ["--model", "history", "--threshold", "1", "--json", "--challenge-threshold", asked]
        answer = json.loads(CliRunner().invoke(main, ["score", *flags, *actions]).stdout)
        assert own <= answer["risk"] < 1, "the case tells nothing"
        assert answer["decision"] == ("ALLOWED" if least is None else "CHALLENGED")


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--model", "seed", "--challenge-threshold", "-1"], "has none of its own"),
        (
            ["--model", "seed", "--threshold", "0.5", "--challenge-threshold", "0.9"],
            "expected less than --threshold, 0.5",
        ),
    ],
)
def test_a_challenge_threshold_that_would_do_nothing_is_refused(flags: list[str], why: str) -> None:
    """As `run` refuses it."""
    said = CliRunner().invoke(main, ["score", *flags, "LOGIN"])
    assert said.exit_code == 2
    assert why in said.output


def test_what_a_second_factor_cleared_in_a_history_teaches(tmp_path: Path) -> None:
    """A challenged session of the history that passed is the owner's: its device is known afterwards, else it is new."""
    days = {"h": ["LOGIN", "VIEW_BALANCE", "LOGOUT"], "c": ["LOGIN", "CHANGE_PASSWORD", "TRANSFER_LARGE"]}
    risks = []
    for came in (["VIEW_BALANCE"], ["STEP_UP_PASSED"]):
        events = [
            {
                "event_id": f"{session}{at}",
                "session_id": session,
                "account_id": "a",
                "action": action,
                "occurred_at_ms": 1_700_000_000_000 + 86_400_000 * day + 20_000 * at,
                "attributes": {"device": "phone" if session == "h" else "laptop"},
            }
            for day, session in enumerate("hc")
            for at, action in enumerate([*days[session], *(came if session == "c" else []), "LOGOUT"])
        ]
        history = tmp_path / "history.jsonl"
        history.write_text("\n".join(map(json.dumps, events)))
        flags = ["--model", "history", "--threshold", "1", "--challenge-threshold", "0.004", "--json"]
        flags += ["--history", str(history), "--after-s", "86400", "--attribute", "device=laptop"]
        said = CliRunner().invoke(main, ["score", *flags, "LOGIN"])
        risks.append(json.loads(said.stdout)["risk"])
    assert risks[1] < risks[0] / 2
