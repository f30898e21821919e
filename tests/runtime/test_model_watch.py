"""A changed model file takes the old one's place if it is sound and reads the same steps; else the old one stays."""

from collections import Counter
from pathlib import Path

import pytest

from detector.model.artifact import load_model
from detector.runtime.reloading import LOADED, REFUSED, ModelWatch
from tests.model.models import random_file
from tests.waiting import wait_for


def put(path: Path, data: bytes) -> None:
    """Replace a file in one step, as an operator should."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(data)
    fresh.replace(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A model file in service."""
    path = tmp_path / "model.onnx"
    put(path, random_file(0))
    return path


def test_a_sound_file_is_handed_over_once(path: Path) -> None:
    """The new model is taken once, whole; looking again at the same file finds nothing."""
    counted: Counter[str] = Counter()
    watch = ModelWatch(path, load_model(path), 3600, lambda outcome: counted.update([outcome]))
    watch.look()
    assert watch.take() is None
    put(path, random_file(1, version="2"))
    watch.look()
    taken = watch.take()
    assert taken is not None
    assert taken.sha256 == load_model(path).sha256
    assert taken.reference.version == "2"
    watch.look()
    assert watch.take() is None
    assert counted == {LOADED: 1}


def test_a_file_that_changed_before_it_was_watched_is_noticed(path: Path) -> None:
    """Between loading a model and watching its file lie seconds, in which others are loaded."""
    model = load_model(path)
    put(path, random_file(1))
    watch = ModelWatch(path, model, 3600)
    watch.look()
    taken = watch.take()
    assert taken is not None
    assert taken.sha256 == load_model(path).sha256


def test_the_newest_of_two_is_taken_and_a_rollback_is_a_reload(path: Path) -> None:
    """Two changes between two batches come to the last; the first model's file put back puts it back in service."""
    first = load_model(path)
    watch = ModelWatch(path, first, 3600)
    for number in (1, 2):
        put(path, random_file(number))
        watch.look()
    taken = watch.take()
    assert taken is not None
    assert taken.sha256 == load_model(path).sha256
    put(path, random_file(0))
    watch.look()
    back = watch.take()
    assert back is not None
    assert back.sha256 == first.sha256


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (random_file(1)[:-100], "does not match|do not match|bear no seal"),
        (b"no model", "bear no seal"),
        (random_file(1, vocabulary=[f"A{number}" for number in range(8)]), "canary"),
    ],
)
def test_a_bad_file_is_refused_once_and_changes_nothing(
    path: Path, data: bytes, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The cause is logged, the refusal counted once, and a sound file that follows is taken."""
    counted: Counter[str] = Counter()
    watch = ModelWatch(path, load_model(path), 3600, lambda outcome: counted.update([outcome]))
    put(path, data)
    watch.look()
    watch.look()
    assert watch.take() is None
    assert counted == {REFUSED: 1}
    assert len(caplog.records) == 1
    assert caplog.records[0].getMessage().endswith("stays in service")
    assert any(part in caplog.text for part in message.split("|"))
    put(path, random_file(2))
    watch.look()
    assert watch.take() is not None


def test_a_file_that_is_gone_is_told_once_and_changes_nothing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Who takes a file away learns that what it held still decides; between two renames nothing is told."""
    watch = ModelWatch(path, load_model(path), 3600)
    path.unlink()
    watch.look()
    assert not caplog.records
    for _ in range(3):
        watch.look()
    assert len(caplog.records) == 1
    assert caplog.records[0].getMessage().startswith(f"{path} is gone. model ")
    assert watch.take() is None
    put(path, random_file(1))
    watch.look()
    assert watch.take() is not None


def test_a_model_of_other_steps_is_refused(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A sound model whose steps the live sessions are not kept in is no successor."""
    in_service = load_model(path)
    in_service.encoding.gap_bounds_ms = (1_000,)
    watch = ModelWatch(path, in_service, 3600)
    put(path, random_file(1))
    watch.look()
    assert watch.take() is None
    assert "another vocabulary, window, gap buckets, signals or ends" in caplog.text


def test_a_missing_file_is_waited_for(path: Path) -> None:
    """Between two renames the file may be gone: the model in service stays, and what comes next is taken."""
    watch = ModelWatch(path, load_model(path), 3600)
    path.unlink()
    watch.look()
    assert watch.take() is None
    put(path, random_file(1))
    watch.look()
    assert watch.take() is not None


def test_it_looks_by_itself(path: Path) -> None:
    """Inside the block a change is noticed without being asked for."""
    with ModelWatch(path, load_model(path), 0.05) as watch:
        put(path, random_file(1))
        wait_for(lambda: watch.take() is not None, "the new model")


def test_a_file_that_fails_in_a_way_nobody_foresaw_ends_no_watch(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a library raises, the file is refused and counted, and the next one is looked at."""
    counted: Counter[str] = Counter()
    watch = ModelWatch(path, load_model(path), 3600, lambda outcome: counted.update([outcome]))
    with monkeypatch.context() as patch:
        patch.setattr("detector.runtime.reloading.load_model", lambda *_: 1 // 0)
        put(path, random_file(1))
        watch.look()
    assert watch.take() is None
    put(path, random_file(2))
    watch.look()
    assert watch.take() is not None
    assert counted == {REFUSED: 1, LOADED: 1}
