"""Recordings and the command line, as far as they need no broker."""

import gzip
import hashlib
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from detector.contract.events import decode_event, encode_event
from detector.contract.labels import labels_of
from producer.behaviour import seed
from producer.behaviour.interleave import interleave, schedule
from producer.behaviour.lives.hours import DAY_MS
from producer.behaviour.session import stream
from producer.cli import main
from producer.recording import Recording, RecordingError

START = ("--start-time", "2026-01-02T03:04:05")
START_MS = 1_767_323_045_000


def run(*arguments: str | int | Path) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


SESSIONS = ("--sessions", "200")
LIVES = ("--days", "2", "--customers", "100")


@pytest.mark.parametrize(
    ("preset", "amount"), [("seed", SESSIONS), ("realistic", SESSIONS), ("realistic", LIVES)]
)
@pytest.mark.parametrize("name", ["events.jsonl", "events.jsonl.gz"])
def test_a_recording_is_reproducible_byte_for_byte(
    preset: str, amount: tuple[str, ...], name: str, tmp_path: Path
) -> None:
    """The same seed and start time give the same files, names and times of writing aside; another seed others."""
    digests = []
    for folder, chosen in (("a", 7), ("b", 7), ("c", 8)):
        (tmp_path / folder).mkdir()
        out, labels = tmp_path / folder / name, tmp_path / folder / "labels.jsonl"
        result = run(
            "simulate",
            "--preset",
            preset,
            *amount,
            "--seed",
            chosen,
            *START,
            "--out",
            out,
            "--labels",
            labels,
        )
        assert result.exit_code == 0, result.output
        digests.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in (out, labels)])
    assert digests[0] == digests[1]
    assert digests[0][0] != digests[2][0]
    assert digests[0][1] != digests[2][1]


@pytest.mark.parametrize(
    ("preset", "events", "truth"),
    [
        ("seed", "12299ce678a715f5", "059e46a852a00e7d"),
        ("realistic", "4c5f46656581f554", "77b4f2978997445e"),
    ],
)
def test_the_presets_keep_their_bytes(preset: str, events: str, truth: str, tmp_path: Path) -> None:
    """Without --days a preset gives what it gave when the packaged models were trained on it, truth included."""
    out, labels = tmp_path / "events.jsonl", tmp_path / "labels.jsonl"
    run(
        "simulate",
        "--preset",
        preset,
        "--sessions",
        300,
        "--seed",
        7,
        *START,
        "--out",
        out,
        "--labels",
        labels,
    )
    digests = [hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in (out, labels)]
    assert digests == [events, truth]


def test_lives_are_recorded_with_what_tells_an_attack_over_sessions(tmp_path: Path) -> None:
    """Each session has its label; those of attackers name the attack and its stage, and read as any label does."""
    out, labels = tmp_path / "events.jsonl", tmp_path / "labels.jsonl"
    lives = (
        "--preset",
        "realistic",
        "--days",
        "6",
        "--customers",
        "200",
        "--attack-rate",
        "0.1",
        "--seed",
        "3",
    )
    result = run("simulate", *lives, *START, "--out", out, "--labels", labels)
    assert result.exit_code == 0, result.output
    events = [decode_event(line) for line in out.read_bytes().splitlines()]
    assert [event.occurred_at_ms for event in events] == sorted(event.occurred_at_ms for event in events)
    assert events[0].occurred_at_ms >= START_MS
    counts = Counter(event.session_id for event in events)
    accounts = {event.session_id: event.account_id for event in events}
    told = [json.loads(line) for line in labels.read_bytes().splitlines()]
    read = labels_of(labels.read_bytes().splitlines(), "labels")
    assert {label["session_id"]: label["actions"] for label in told} == counts
    stages: dict[str, list[str]] = {}
    attacked: dict[str, set[str]] = {}
    for label in told:
        assert read[label["session_id"]].label == label["label"] == int(label["attack_from"] is not None)
        assert ("attack_id" in label) == ("stage" in label)
        if label["label"]:
            stages.setdefault(label["attack_id"], []).append(label["stage"])
            attacked.setdefault(label["attack_id"], set()).add(accounts[label["session_id"]])
    assert ["look", "take"] in stages.values()
    assert all(len(those) == 1 for those in attacked.values())


def test_simulated_days_are_those_of_the_calendar_that_are_over(tmp_path: Path) -> None:
    """Without a start time, days of lives begin at a midnight (UTC), and all of them are over."""
    out = tmp_path / "events.jsonl"
    result = run("simulate", "--preset", "realistic", "--days", 3, "--customers", 80, "--out", out)
    assert result.exit_code == 0, result.output
    times_ms = [decode_event(line).occurred_at_ms for line in out.read_bytes().splitlines()]
    midnight_ms = time.time() * 1_000 // DAY_MS * DAY_MS
    assert midnight_ms - 4 * DAY_MS <= min(times_ms) < midnight_ms - 3 * DAY_MS
    assert max(times_ms) < midnight_ms


def test_a_recording_holds_the_events_as_published(tmp_path: Path) -> None:
    """Line by line it is the interleaved simulation, encoded by the contract."""
    out = tmp_path / "events.jsonl"
    run("simulate", "--sessions", 60, "--seed", 3, "--live-sessions", 9, *START, "--out", out)
    scheduled = schedule(seed.sessions(60, 3), live_sessions=9, rng=stream(3, "schedule"))
    assert out.read_bytes().splitlines() == [
        encode_event(event) for event in interleave(scheduled, start_ms=START_MS)
    ]


def test_labels_tell_the_truth_and_events_do_not(tmp_path: Path) -> None:
    """Each session has one label line, right by its actions; no event has a field or a value that comes from it."""
    out, labels = tmp_path / "events.jsonl", tmp_path / "labels.jsonl.gz"
    run("simulate", "--sessions", 1_100, "--seed", 5, "--out", out, "--labels", labels)
    events = [json.loads(line) for line in out.read_text().splitlines()]
    with gzip.open(labels, "rt") as file:
        truth = {line["session_id"]: line for line in map(json.loads, file)}
    assert Counter(line["type"] for line in truth.values()) == {
        "normal": 1_000,
        "quick_drain": 50,
        "password_reset": 50,
    }
    actions: dict[str, list[str]] = {}
    for event in events:
        assert set(event) <= {"event_id", "session_id", "account_id", "action", "occurred_at_ms", "amount"}
        actions.setdefault(event["session_id"], []).append(event["action"])
    assert actions.keys() == truth.keys()
    for session_id, done in actions.items():
        line = truth[session_id]
        sensitive = bool({"ADD_RECIPIENT", "CHANGE_PASSWORD"} & set(done))
        assert (line["label"], line["actions"]) == (int(sensitive), len(done))
    text = out.read_text()
    assert not any(word in text for word in ("normal", "drain", "reset", "label", "attack"))


def test_simulated_time_ends_now_and_not_later(tmp_path: Path) -> None:
    """Without a start time the last event is at the present: none lies in the future, none long ago."""
    out = tmp_path / "events.jsonl"
    before_ms = time.time() * 1_000
    run("simulate", "--sessions", 50, "--out", out)
    last_ms = max(decode_event(line).occurred_at_ms for line in out.read_bytes().splitlines())
    assert before_ms - 1 <= last_ms <= time.time() * 1_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--real-time", "--rate", "5"), "--real-time sets the pace"),
        (("--out", "x.jsonl", "--rate", "5"), "--rate paces publishing"),
        (("--attack-rate", "0.5"), "--attack-rate is for --preset realistic"),
        (("--start-time", "2099-01-01"), "in the future"),
        (("--sessions", "0"), "0 is not in the range"),
        (("--days", "3"), "--days is for --preset realistic"),
        (("--preset", "realistic", "--days", "3", "--sessions", "9"), "seen --preset realistic, --sessions"),
        (("--preset", "realistic", "--customers", "3"), "--customers is for --days"),
        (("--preset", "realistic", "--days", "2", "--start-time", "2099-01-01"), "fewer --days"),
        (("--start-time", "1999-12-31", "--out", "x.jsonl"), "begin before 2000"),
        (("--start-time", "2099-12-31T23:59:59", "--out", "x.jsonl"), "end after 2099"),
        (
            ("--preset", "realistic", "--days", "9", "--start-time", "2099-12-30", "--out", "x"),
            "end after 2099",
        ),
        (("--preset", "realistic", "--days", "4000000"), "begin before 2000"),
        (("--rate", "0"), "0.0 is not in the range"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A combination that can't be meant ends with exit code 2 and says why, before anything is written."""
    monkeypatch.chdir(tmp_path)
    result = run("simulate", *arguments)
    assert list(tmp_path.iterdir()) == []
    assert result.exit_code == 2
    assert message in result.output


def test_options_come_from_the_environment_too(tmp_path: Path) -> None:
    """PRODUCER_… variables stand for the options."""
    out = tmp_path / "events.jsonl"
    environment = {"PRODUCER_SESSIONS": "22", "PRODUCER_SEED": "1", "PRODUCER_OUT": str(out)}
    result = CliRunner().invoke(main, ["simulate"], env=environment)
    assert result.exit_code == 0, result.output
    assert len({decode_event(line).session_id for line in out.read_bytes().splitlines()}) == 22


def test_a_file_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    """No traceback: exit code 1, the path and the reason."""
    result = run("simulate", "--sessions", 5, "--out", tmp_path / "missing" / "events.jsonl")
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith("Error: [Errno 2] No such file or directory")


def test_writing_ends_on_a_signal_with_whole_lines(tmp_path: Path) -> None:
    """SIGTERM ends a long recording with exit code 143; all that is in the file is whole events."""
    out = tmp_path / "events.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "producer", "simulate", "--sessions", "60000", "--out", str(out)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not any(one.stat().st_size > 100_000 for one in tmp_path.glob("events.jsonl.*.partial")):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143
    assert "stopped by SIGTERM: wrote" in errors
    lines = out.read_bytes()
    assert lines.endswith(b"\n")
    for line in lines.splitlines():
        decode_event(line)


def event_line(number: int) -> bytes:
    """Return one event as a recording holds it, with a field of the future that must survive."""
    return json.dumps(
        {
            "event_id": f"e{number}",
            "session_id": "s",
            "account_id": "a",
            "action": "LOGIN",
            "occurred_at_ms": number,
            "later": [1, 2],
        }
    ).encode()


BAD_LINES = [b"", b"not json", b"[]", b'{"event_id": "x"}', event_line(1).replace(b'"s"', b'""'), b"\xff\xfe"]


def test_a_recording_is_read_byte_for_byte(tmp_path: Path) -> None:
    """Lines come back as they are, unknown fields and all, plain or packed, with any line ending."""
    lines = [event_line(number) for number in range(50)]
    for name, content in (
        ("plain.jsonl", b"\n".join(lines)),
        ("dos.jsonl", b"\r\n".join(lines) + b"\r\n"),
        ("packed.jsonl.gz", gzip.compress(b"\n".join(lines) + b"\n", mtime=0)),
    ):
        (tmp_path / name).write_bytes(content)
        with Recording(tmp_path / name) as recording:
            assert [record.value for record in recording.records()] == lines
            assert recording.position_bytes == recording.size_bytes
            assert recording.skipped_count == 0


@pytest.mark.parametrize("bad", BAD_LINES)
def test_a_bad_line_stops_the_reading_where_it_is(bad: bytes, tmp_path: Path) -> None:
    """All before it comes, then an error that names the file and the line."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join([event_line(1), event_line(2), bad, event_line(4)]))
    with Recording(path) as recording:
        records = recording.records()
        assert [next(records).event.event_id, next(records).event.event_id] == ["e1", "e2"]
        with pytest.raises(RecordingError, match=r"events\.jsonl, line 3: "):
            next(records)


def test_bad_lines_are_skipped_on_request_and_counted(tmp_path: Path) -> None:
    """Everything else comes, and the number and places of what was left out are kept."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join([event_line(1), *BAD_LINES, event_line(2)]))
    with Recording(path, skip_bad_lines=True) as recording:
        assert [record.event.event_id for record in recording.records()] == ["e1", "e2"]
        assert recording.skipped_count == len(BAD_LINES)
        assert recording.skipped == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("damage", ["cut", "foreign", "flipped"])
def test_damaged_gzip_is_an_error_that_says_so(damage: str, tmp_path: Path) -> None:
    """A cut, foreign or corrupted .gz file ends in an error that names it, not in fewer events."""
    packed = gzip.compress(b"\n".join(event_line(number) for number in range(2_000)))
    path = tmp_path / "events.jsonl.gz"
    middle = len(packed) // 2
    path.write_bytes(
        {
            "cut": packed[:middle],
            "foreign": event_line(1),
            "flipped": packed[:middle] + bytes([packed[middle] ^ 0xFF]) + packed[middle + 1 :],
        }[damage]
    )
    with (
        Recording(path) as recording,
        pytest.raises(RecordingError, match=r"events\.jsonl\.gz, (after )?line"),
    ):
        for _ in recording.records():
            pass


@pytest.mark.parametrize("speed", ["0", "-1", "fast", "nan"])
def test_an_impossible_speed_is_refused(speed: str, tmp_path: Path) -> None:
    """A speed is a number above 0, or max."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(event_line(1))
    result = run("replay", path, "--speed", speed)
    assert result.exit_code == 2
    assert "expected a number above 0, or max" in result.output
