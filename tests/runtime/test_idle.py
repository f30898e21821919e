"""After which silence a session ends: as its model was trained, unless the settings say otherwise."""

from collections.abc import Callable
from pathlib import Path

import pytest

from detector.core.limits import SessionLimits
from detector.model.artifact import Model, ModelRefusedError, load_model
from detector.runtime.config import DetectorConfig
from detector.runtime.epochs import epochs_of_group
from detector.runtime.processing import processor_of
from tests.model.models import random_file
from tests.runtime.stack import Stack, without_clock
from tests.runtime.test_end_to_end import records, sessions

HOUR_MS = 3_600_000


def model_of(folder: Path, **changes: int) -> Model:
    """A model file in a folder, loaded."""
    path = folder / "model.onnx"
    path.write_bytes(random_file(**changes))
    return load_model(path)


@pytest.mark.parametrize(
    ("trained", "said", "served"),
    [
        ({}, 0, SessionLimits().idle_timeout_ms),
        ({"idle_timeout_ms": 12 * HOUR_MS}, 0, 12 * HOUR_MS),
        ({"idle_timeout_ms": 12 * HOUR_MS}, HOUR_MS, HOUR_MS),
        ({"idle_timeout_ms": 5}, 0, DetectorConfig().max_future_ms + 1),
    ],
)
def test_sessions_end_as_the_model_was_trained(
    tmp_path: Path, trained: dict[str, int], said: int, served: int
) -> None:
    """The setting wins; without one the model's own, and more than one event may be ahead."""
    processor = processor_of(model_of(tmp_path, **trained), DetectorConfig(idle_timeout_ms=said))
    assert processor.pipeline.limits.idle_timeout_ms == served


def test_a_silence_that_is_none_is_refused(tmp_path: Path) -> None:
    """A file whose sessions would never live."""
    with pytest.raises(
        ModelRefusedError, match="sessions end after 0 ms without an action: expected 1 or more"
    ):
        model_of(tmp_path, idle_timeout_ms=0)


def test_epochs_say_what_was_served(make_stack: Callable[..., Stack], tmp_path: Path) -> None:
    """On a real broker: recorded is the model's own, and a replay by the epochs gives the same alerts."""
    model = tmp_path / "patient.onnx"
    model.write_bytes(random_file(idle_timeout_ms=2 * HOUR_MS))
    stack = make_stack(model=str(model), idle_timeout_ms=0)
    stack.publish(records(sessions(60)))
    with stack.worker():
        stack.wait_until_processed()
    recorded = {one.idle_timeout_ms for epochs in epochs_of_group(stack.config).values() for one in epochs}
    assert recorded == {2 * HOUR_MS}
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0])
