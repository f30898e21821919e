"""A sequence model from data file to detector: one command each, the same bytes, and what Keras computed."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from detector.model.artifact import UnknownActions, load_model
from tests.commands import run
from tests.model.models import changed_file
from trainer.cli import main
from trainer.comparing import BASELINES
from trainer.data.sessions import Session, write_sessions

IDLE_MS = 1_800_000
ROOT = Path(__file__).parents[2]
TINY = [
    "--window",
    "6",
    "--units",
    "6",
    "--embedding-units",
    "4",
    "--members",
    "2",
    "--steps",
    "60",
    "--batch-size",
    "32",
    "--seed",
    "3",
]


def _trainer(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return run("trainer", *arguments)


def _shop(count: int) -> list[Session]:
    """Return sessions of a vocabulary of their own, where BUY after PEEK is what gives an attack away."""
    rng = np.random.RandomState(0)
    drawn = []
    for number in range(count):
        actions = rng.choice(["OPEN", "READ", "PEEK", "CLOSE"], rng.randint(2, 9)).tolist()
        label = int(rng.random_sample() < 0.3)
        drawn.append(
            Session(
                session_id=f"s{number}", actions=(*actions, *(("PEEK", "BUY") if label else ())), label=label
            )
        )
    return drawn


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model trained by the command on a data file without times, and the file."""
    folder = tmp_path_factory.mktemp("own")
    data, out = folder / "shop.jsonl.gz", folder / "shop.onnx"
    write_sessions(data, _shop(1_200))
    done = _trainer("train", "--data", str(data), "--out", str(out), *TINY, "--learning-rate", "0.03")
    assert done.returncode == 0, done.stderr
    return out, data


def test_own_data_trains_with_one_command(trained: tuple[Path, Path]) -> None:
    """The file loads with the data's vocabulary, without times, and has learned what tells; a card lies beside it."""
    out, _ = trained
    model = load_model(out)
    assert set(model.encoding.vocabulary) == {"OPEN", "READ", "PEEK", "CLOSE", "BUY"}
    assert model.encoding.gap_bounds_ms == ()
    steps = [model.encoding.steps(actions) for actions in (["OPEN", "PEEK", "BUY"], ["OPEN", "PEEK", "READ"])]
    attack, lawful = model.score(model.encoding.windows(steps)).tolist()
    assert attack > 0.5 > lawful
    assert out.with_suffix(".md").read_text().startswith("# session-")
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "data:image/png" in out.with_suffix(".html").read_text()


def test_sessions_of_one_action_few_of_which_weigh_anything(tmp_path: Path) -> None:
    """Folds whose sessions weigh nothing say when to end by their number, and there are no pairs of actions to read."""
    data, out = tmp_path / "data.jsonl", tmp_path / "m.onnx"
    kinds = [(action, number) for number in range(60) for action in ("READ", "PEEK", "BUY", "STEAL")]
    sessions = [
        {"session_id": f"{action}{number}", "actions": [action], "label": int(action == "STEAL")}
        | {"weight": int(number < 3)}
        for action, number in kinds
    ]
    data.write_text("\n".join(map(json.dumps, sessions)))
    command = ["train", "--data", str(data), "--out", str(out), "--members", "1", "--steps", "30"]
    done = _trainer(*command, "--units", "4", "--learning-rate", "0.03", "--no-report")
    assert done.returncode == 0, done.stderr
    model = load_model(out)
    steal, read = model.score(
        model.encoding.windows([model.encoding.steps([one]) for one in ("STEAL", "READ")])
    )
    assert read < model.threshold <= steal
    data.write_text(data.read_text().replace('"label": 1, "weight": 1', '"label": 1, "weight": 0'))
    refused = _trainer(*command)
    assert "the weights of" in refused.stderr
    assert "attacks to learn from are all 0: expected some above 0" in refused.stderr


def test_the_same_command_writes_the_same_bytes(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """Another process writes the file again, byte for byte."""
    again = tmp_path / "again.onnx"
    command = ["train", "--data", str(trained[1]), "--out", str(again), *TINY, "--learning-rate", "0.03"]
    done = subprocess.run(
        [sys.executable, "-m", "trainer", *command, "--no-report"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert again.read_bytes() == trained[0].read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again.onnx"]


def test_a_model_can_be_trained_to_take_anothers_place(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """With --like the new model reads the very steps of the other, whatever its own data would have chosen.

    Its sessions end after the same silence.
    """
    data, out = tmp_path / "part.jsonl", tmp_path / "next.onnx"
    write_sessions(data, [one for one in _shop(900) if "READ" not in one.actions])
    tiny = TINY[TINY.index("--units") :]  # the window is the other's
    patient = tmp_path / "patient.onnx"
    patient.write_bytes(changed_file(trained[0], idle_timeout_ms=7_200_000))
    done = _trainer(
        *("train", "--data", str(data), "--like", str(patient), "--out", str(out), "--no-report", *tiny)
    )
    assert done.returncode == 0, done.stderr
    assert load_model(out).idle_timeout_ms == 7_200_000
    assert load_model(out).encoding.fingerprint == load_model(trained[0]).encoding.fingerprint
    assert load_model(out).sha256 != load_model(trained[0]).sha256


def test_evaluate_gives_what_the_training_said(trained: tuple[Path, Path]) -> None:
    """`evaluate --json` on the held-out part gives the figures in the model file."""
    done = _trainer("evaluate", "--model", str(trained[0]), "--data", str(trained[1]), "--json")
    assert done.returncode == 0, done.stderr
    said, kept = json.loads(done.stdout), load_model(trained[0]).metadata.metrics
    for name, estimate in said["estimates"].items():
        assert estimate["value"] == pytest.approx(kept[name]), name
    assert said["base_rate"] == kept["base_rate"]
    assert kept["roc_auc"] > 0.95


@pytest.mark.parametrize(
    ("part", "said"), [("test", "held out"), ("train", "of the part train, "), ("all", "of all parts, ")]
)
def test_the_part_is_named_truly(trained: tuple[Path, Path], part: str, said: str) -> None:
    """The first line of the figures says which sessions they are of."""
    model, data = (str(one) for one in trained)
    done = CliRunner().invoke(main, ["evaluate", "--model", model, "--data", data, "--split", part])
    assert done.exit_code == 0, done.output
    assert f"on the sessions {said}" in done.output
    assert ("held out" in done.output) == (part == "test")


@pytest.mark.parametrize(("part", "said"), [("test", "the part test of "), ("all", "")])
def test_of_other_data_nothing_is_called_held_out(
    trained: tuple[Path, Path], tmp_path: Path, part: str, said: str
) -> None:
    """A later day was neither learned from nor held out: the figures name it, and what the model was trained on."""
    model, data = trained
    later = tmp_path / "later.jsonl.gz"
    later.write_bytes(data.read_bytes())
    done = CliRunner().invoke(
        main, ["evaluate", "--model", str(model), "--data", str(later), "--split", part]
    )
    assert done.exit_code == 0, done.output
    assert f"on the sessions of {said}later.jsonl.gz, by a model trained on {data.name}" in done.output


def test_a_model_of_whole_sessions_is_judged_at_their_end(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """With --no-prefixes training and evaluation know one score a session, that after its last action; it is told."""
    data, out = str(trained[1]), str(tmp_path / "whole.onnx")
    done = _trainer("train", "--data", data, "--out", out, "--no-prefixes", "--no-report", *TINY)
    assert done.returncode == 0, done.stderr
    assert "judged by the score after the last action alone" in done.stdout
    said = json.loads(_trainer("evaluate", "--model", out, "--data", data, "--json").stdout)
    kept = load_model(tmp_path / "whole.onnx").metadata.metrics
    for name in ("roc_auc", "recall", "false_alarm_rate", "served_recall", "served_false_alarm_rate"):
        assert said["estimates"][name]["value"] == pytest.approx(kept[name]), name


def test_evaluate_compares_edits_and_exports(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """Beside the figures: a second model on the same sessions, what escapes by which edit, and the scores as tables."""
    sessions, events = tmp_path / "sessions.parquet", tmp_path / "events.csv"
    edits = tmp_path / "edits.toml"
    edits.write_text('[[edit]]\nname = "reads on"\ninsert = ["READ"]\n')
    model = str(trained[0])
    done = _trainer(
        *(
            "evaluate",
            "--model",
            model,
            "--data",
            str(trained[1]),
            "--compare",
            model,
            "--at-k",
            "5",
            "--json",
        ),
        *("--evasion", str(edits), "--scores", str(sessions), "--event-scores", str(events)),
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["base_rate_from"] == "the model's own"
    assert said["compared"]["roc_auc"]["second_less_first"]["value"] == 0
    assert said["at_k"]["5"]["precision"] > 0
    assert said["evasions"][-1]["edit"] == "reads on"
    assert all(0 <= one["share"]["value"] <= 1 for one in said["evasions"])
    assert not [name for name in said["estimates"] if "money" in name], "a shop's words move none"
    assert pl.read_parquet(sessions)["label"].sum() == said["attacks"]
    assert len(pl.read_csv(events)) == pl.read_parquet(sessions)["actions"].sum()


@pytest.mark.parametrize(
    "arguments",
    [["evaluate", "--model", "default"], ["train", "--like", "default", "--out", "{folder}/m.onnx"]],
)
def test_a_model_of_other_words_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    """Data of whose actions the packaged model knows none: neither figures nor a training, but what both are named."""
    write_sessions(data := tmp_path / "shop.jsonl", _shop(300))
    done = CliRunner().invoke(
        main, [*(one.format(folder=tmp_path) for one in arguments), "--data", str(data)]
    )
    assert done.exit_code == 1
    assert "the model knows 0 of " in done.output
    assert "BUY" in done.output
    assert "LOGIN" in done.output
    assert list(tmp_path.iterdir()) == [data]


def test_both_models_are_told_of(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """With --compare what the second model doesn't know is said too, by the option's name."""
    model, _ = trained
    renamed = [msgspec.structs.replace(one, actions=("PRY", *one.actions)) for one in _shop(300)]
    write_sessions(data := tmp_path / "shop.jsonl", renamed)
    done = CliRunner().invoke(
        main,
        [
            "evaluate",
            *("--model", str(model), "--compare", str(model), "--data", str(data), "--split", "all"),
        ],
    )
    assert done.exit_code == 0, done.output
    told = [line for line in done.stderr.splitlines() if "beyond the model's vocabulary" in line]
    assert len(told) == 2
    assert told[1] == f"--compare: {told[0]}"


def test_compare_gives_the_spread_over_seeds(tmp_path: Path) -> None:
    """Of two trainings on the same sessions: a row for each baseline and the network, a mean within its lowest and highest.

    The regression knows no seed and has no spread; the network's differ by it. Whether the network beats each baseline
    is said of each run.
    """
    data = tmp_path / "shop.jsonl.gz"
    drawn = _shop(500)
    for number in range(0, len(drawn), 5):  # some labels are wrong: else all is learned, whatever the seed
        drawn[number] = msgspec.structs.replace(drawn[number], label=1 - drawn[number].label)
    write_sessions(data, drawn)
    done = _trainer("compare", "--data", str(data), "--seeds", "2", "--window", "6", "--steps", "40")
    assert done.returncode == 0, done.stderr
    header, _, *lines = done.stdout.splitlines()
    lines, told = [[one for one in lines if one.startswith("|") is is_row] for is_row in (True, False)]
    assert [line.partition(":")[0] for line in told] == ["run 1", "run 1", "run 2", "run 2"]
    assert header.startswith("| mean of 2 runs, lowest to highest | ROC-AUC | PR-AUC |")
    rows = {name: figures for name, *figures in (line.strip("| ").split(" | ") for line in lines)}
    assert list(rows) == [*BASELINES, "default"]
    for figures in rows.values():
        for mean, low, high in (re.findall(r"[\d.]+", one) for one in figures):
            assert float(low) <= float(mean) <= float(high)
    spread = {name: [re.findall(r"[\d.]+", one)[1:] for one in figures] for name, figures in rows.items()}
    assert all(low == high for low, high in spread[BASELINES[0]])
    assert any(low != high for low, high in spread["default"])


@pytest.mark.parametrize("owners", ["accounts", "sessions"])
def test_compare_says_what_its_folds_are_of(tmp_path: Path, owners: str) -> None:
    """By account where there are some: before anything is trained, and also where there are too few."""
    path = tmp_path / "few.csv"
    account = "account_id" if owners == "accounts" else "colour"
    path.write_text(f"session_id,{account},action,label\na,x,A,0\nb,y,A,1\n")
    done = CliRunner().invoke(main, ["compare", "--data", str(path), "--folds", "3"])
    assert f"3 folds of {owners} at random" in done.stderr
    assert "1 of the rarer kind, attacks or lawful, for 3 folds" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["evaluate", "--model", "seed"], "expected one of --preset, --data, --topic"),
        (["evaluate", "--model", "nowhere.onnx", "--preset", "realistic"], "nowhere.onnx"),
        (["train", "--data", "nowhere.jsonl", "--out", "{out}"], "nowhere.jsonl cannot be read"),
        (["train", "--preset", "realistic", "--cost-fn", "5", "--out", "{out}"], "expected both"),
        (
            [
                "train",
                "--data",
                "d",
                *["--cost-fn", "5", "--cost-fp", "1", "--target-fpr", "0.01", "--out", "{out}"],
            ],
            "--cost-fn and --target-fpr each decide",
        ),
        (
            ["train", "--topic", "t", "--data", "d", "--out", "{out}"],
            "expected one of --preset, --data, --topic",
        ),
        (["train", "--data", "d", "--column", "when=ts", "--out", "{out}"], "says columns.when"),
        (["compare", "--data", "d", "--seeds", "2", "--folds", "2"], "expected one of the three"),
        *(
            ([*command, *ignored], f"{ignored[0]} given, of which {by} takes nothing")
            for by, command, ignored in [
                ("the preset seed", ["train", "--out", "{out}"], ["--description", "shop.toml"]),
                ("the preset seed", ["train", "--out", "{out}"], ["--split-by", "time"]),
                ("the preset seed", ["train", "--out", "{out}", "--preset", "seed"], ["--units", "64"]),
                ("--data", ["train", "--out", "{out}", "--data", "d"], ["--sessions", "500"]),
                ("--data", ["train", "--out", "{out}", "--data", "d"], ["--bootstrap-servers", "h:1"]),
                ("--topic", ["train", "--out", "{out}", "--topic", "t"], ["--leave-out", "bot"]),
                (
                    "simulated traffic",
                    ["train", "--out", "{out}", "--preset", "lives"],
                    ["--column", "time=ts"],
                ),
                (
                    "simulated traffic",
                    ["evaluate", "--model", "seed", "--preset", "realistic"],
                    ["--split", "all"],
                ),
                (
                    "--split all",
                    ["evaluate", "--model", "seed", "--data", "d", "--split", "all"],
                    ["--split-by", "id"],
                ),
                ("--data", ["evaluate", "--model", "seed", "--data", "d"], ["--seed", "7"]),
                ("--folds", ["compare", "--data", "d", "--folds", "3"], ["--split-by", "time"]),
                ("--folds", ["compare", "--data", "d", "--folds", "3"], ["--test-share", "0.2"]),
                ("--leave-one-out", ["compare", "--leave-one-out"], ["--only", "default"]),
                ("simulated traffic", ["compare"], ["--unlabelled", "lawful"]),
                ("--data", ["compare", "--data", "d"], ["--sessions", "5000"]),
            ]
        ),
        (
            ["train", "--preset", "realistic", "--like", "default", "--window", "5", "--out", "{out}"],
            "--like",
        ),
        (
            ["train", "--preset", "realistic", "--like", "seed", "--out", "{out}"],
            "it has no token for unknown actions, which what is trained in its place would have",
        ),
    ],
)
def test_what_cannot_be_done_is_one_message(tmp_path: Path, arguments: list[str], wanted: str) -> None:
    """Exit code not 0, a message that says what was expected, no traceback, no file."""
    done = CliRunner().invoke(main, [one.format(out=tmp_path / "m.onnx") for one in arguments])
    assert done.exit_code in {1, 2}
    assert wanted in done.stderr
    assert isinstance(done.exception, SystemExit), "no traceback"
    assert list(tmp_path.iterdir()) == []


def test_unknown_actions_have_a_learned_row(trained: tuple[Path, Path]) -> None:
    """With the token an action never seen is scored; the token's own row was trained, not left as drawn."""
    model = load_model(trained[0], UnknownActions.TOKEN)
    windows = model.encoding.windows([model.encoding.steps(["OPEN", "FLY", "PEEK", "BUY"])])
    assert float(model.score(windows)[0]) > 0.3


@pytest.mark.parametrize(
    "changed",
    [{"idle_timeout_ms": -5}, {"base_rate": 5}, {"test_share": 7}, {"split_by": "luck"}, {"unit": "week"}],
)
def test_a_record_of_a_training_that_cannot_be_is_refused(
    trained: tuple[Path, Path], tmp_path: Path, changed: dict[str, Any]
) -> None:
    """What a model file says of its training decides how data is split and cut: out of bounds, it is told by its key."""
    path = tmp_path / "model.onnx"
    record = load_model(trained[0]).metadata.training
    path.write_bytes(changed_file(trained[0], training=record | changed))
    done = CliRunner().invoke(main, ["evaluate", "--model", str(path), "--data", str(trained[1])])
    assert done.exit_code == 1
    assert "the model's record of its training is not one that the trainer writes" in done.output
    assert f"$.{next(iter(changed))}" in done.output
