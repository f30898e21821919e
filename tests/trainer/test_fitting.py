"""Fitting: batches by the step's number alone, checkpoints that are gone on from, plans that follow the data."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.core.encoding import Encoding
from trainer.data.sessions import Session, Sessions, together_in
from trainer.data.windows import Examples, Weighing, examples, pack
from trainer.training.backend import keras_on
from trainer.training.checkpoint import Checkpoint, CheckpointError, Progress
from trainer.training.defaults import Schedule, plan_for
from trainer.training.fitting import Fitted, Observer, fit
from trainer.training.network import Shape

ENCODING = Encoding("ABC", 4, unknown_token=True)
IDLE_MS = 1_000


def _sessions(count: int, longest: int = 12) -> Sessions:
    """Return sessions of which those with a C after a B are attacks."""
    rng = np.random.RandomState(5)
    made = []
    for number in range(count):
        actions = rng.choice(["A", "B"], rng.randint(2, longest)).tolist()
        label = int(rng.random_sample() < 0.3)
        start = len(actions) if label else None
        actions += ["B", "C"] * label
        made.append(Session(session_id=str(number), actions=tuple(actions), label=label, attack_from=start))
    return Sessions.of(made)


@pytest.fixture(scope="module")
def keras() -> Any:
    """Keras on the CPU."""
    return keras_on("cpu", 1)


class _Ended(Exception):  # noqa: N818  it stands for Ctrl-C, which is none either
    pass


class _EndsAt(Observer):
    def __init__(self, step: int) -> None:
        self._step = step

    def on_part(self, done: int, of: int) -> None:  # noqa: ARG002
        if done == self._step:
            raise _Ended


def _fit(
    keras: Any, schedule: Schedule, kept: Path | None = None, ends_at: int = -1, run: str = "one"
) -> Fitted:
    packed = pack(_sessions(300), ENCODING, IDLE_MS)
    train = Examples(packed, 4, Weighing())
    valid = examples(packed, 4, Weighing(), 0)
    checkpoint = None if kept is None else Checkpoint(kept, run)
    shape = Shape(units=6, embedding_units=4, dropout=0.2)
    plan = plan_for(schedule, train, 4)
    return fit(keras, shape, ENCODING, train, valid, plan, _EndsAt(ends_at), checkpoint)


def _bytes(fitted: Fitted) -> list[bytes]:
    tensors = fitted.tensors
    return [
        array.tobytes() for array in (tensors.actions, tensors.kernel, tensors.recurrent, tensors.risk_kernel)
    ]


@pytest.mark.parametrize("stops_early", [True, False])
def test_a_fit_that_was_ended_and_gone_on_with_is_one_that_was_not(
    keras: Any, tmp_path: Path, *, stops_early: bool
) -> None:
    """Bit for bit, dropout and all; and it begins where the last validation was, not anew."""
    schedule = Schedule(steps=100, batch_size=32, learning_rate=0.01, stops_early=stops_early)
    whole = _fit(keras, schedule)
    kept = tmp_path / "kept.npz"
    with pytest.raises(_Ended):
        _fit(keras, schedule, kept, ends_at=61)
    seen = Checkpoint(kept, "one").load()
    assert seen is not None
    assert seen.step == 60
    again = _fit(keras, schedule, kept, ends_at=60)  # which would raise, were that step taken again
    assert _bytes(again) == _bytes(whole)
    assert (again.step, again.valid_loss) == (whole.step, whole.valid_loss)


def test_it_learns(keras: Any) -> None:
    """What tells an attack is learned in a few hundred steps; the loss is far below that of chance."""
    fitted = _fit(keras, Schedule(steps=300, batch_size=64, learning_rate=0.02))
    assert fitted.valid_loss < 0.3


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    """Both name the file and say to train without --resume; none is there before the first."""
    kept = tmp_path / "folder" / "kept.npz"
    assert Checkpoint(kept, "one").load() is None
    progress = Progress(3, 2, 0.5, [np.zeros(2)], [np.ones(3), np.arange(2)])
    Checkpoint(kept, "one").save(progress)
    loaded = Checkpoint(kept, "one").load()
    assert loaded is not None
    assert [loaded.step, loaded.best_step, loaded.best_loss, len(loaded.best), len(loaded.current)] == [
        3,
        2,
        0.5,
        1,
        2,
    ]
    with pytest.raises(CheckpointError, match=r"kept.npz is of another training.*without --resume"):
        Checkpoint(kept, "two").load()
    kept.write_bytes(kept.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"kept.npz is no checkpoint.*without --resume"):
        Checkpoint(kept, "one").load()


@pytest.mark.parametrize(
    ("count", "longest", "batch_size", "steps"),
    [(140, 5, 32, 3_000), (2_000, 12, 128, 3_000), (500, 2_000, 512, 3_000), (60_000, 5, 512, 3_000)],
)
def test_plans_follow_the_data(count: int, longest: int, batch_size: int, steps: int) -> None:
    """Batches grow with the windows that there are, of few long sessions as of many short ones."""
    lengths = np.full(count, longest - 1)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    sessions = _columns(starts)
    plan = plan_for(Schedule(), Examples(pack(sessions, ENCODING, IDLE_MS), 4, Weighing()), 4)
    assert (plan.batch_size, plan.steps) == (batch_size, steps)
    assert plan.at_least <= plan.steps
    assert plan.patience is not None


def _columns(starts: NDArray[np.int64]) -> Sessions:
    one = Sessions.of([Session(session_id="s", actions=("A",), label=0)])
    count = len(starts) - 1
    picked = one.take(np.zeros(count, np.int64))
    index = np.zeros(int(starts[-1]), np.int64)
    return type(one)(
        ids=picked.ids, starts=starts, names=one.names, actions=one.actions[index], times_ms=None,
        targets=one.targets[index], types=picked.types, customer_types=picked.customer_types,
    )  # fmt: skip


def test_sessions_put_together_are_those_of_their_parts() -> None:
    """Whatever names the parts have, in whatever order."""
    first = Sessions.of([Session(session_id="a", actions=("A", "B"), label=0, type="x")])
    second = Sessions.of([Session(session_id="b", actions=("C", "A"), label=1, type="y")])
    assert list(together_in(first, second).rows()) == [*first.rows(), *second.rows()]
