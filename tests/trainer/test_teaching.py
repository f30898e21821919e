"""The teacher of small data: what it says of a window is what its regression weighs, and labels take its place."""

import numpy as np
import pytest

from detector.core.encoding import Encoding
from trainer.data.sessions import Session, Sessions
from trainer.data.windows import Weighing, examples, pack
from trainer.training.teaching import Teacher

ENCODING = Encoding("ABCD", 5, unknown_token=True)


def _sessions(count: int) -> Sessions:
    """Return sessions of which attacks have more D after C, anywhere."""
    rng = np.random.RandomState(1)
    made = []
    for number in range(count):
        label = number % 2
        actions: list[str] = []
        while len(actions) < 12:
            actions += ["C", "D"] if rng.random_sample() < 0.1 + 0.3 * label else [rng.choice(list("ABCD"))]
        made.append(Session(session_id=str(number), actions=tuple(actions), label=label))
    return Sessions.of(made)


def test_it_says_what_pairs_of_actions_weigh() -> None:
    """More after each pair that attacks have, by window and step; padding and unknown actions weigh nothing."""
    sessions = _sessions(200)
    teacher = Teacher(sessions, ENCODING, 1)
    shown = examples(pack(sessions, ENCODING, 1_000), 5, Weighing(), 1)
    teacher.look_at(shown)
    some = shown._replace(
        windows=np.stack(
            [ENCODING.windows([ENCODING.steps(one)])[0] for one in ("ABCD", "ABDC", "ABCZ", "AB")]
        )
    )
    zero = np.zeros((4, 5), np.float32)
    said = teacher.mixed_into(some._replace(targets=zero, weights=zero), 1.0).targets
    assert said[0, 3] > max(said[0, 2], said[1, 3])
    assert said[0, :3].tolist() == said[2, :3].tolist()
    assert said[2, 3] == pytest.approx(said[2, 2])
    assert said[3, 2:].tolist() == [0.0] * 3


def test_labels_take_its_place() -> None:
    """At a share of 0 targets and weights are the labels', at 1 the teacher's alone; between, the loss is a mean of both."""
    sessions = _sessions(60)
    teacher = Teacher(sessions, ENCODING, 1)
    shown = examples(pack(sessions, ENCODING, 1_000), 5, Weighing(), 1)
    teacher.look_at(shown)
    labelled, taught, both = (teacher.mixed_into(shown, share) for share in (0.0, 1.0, 0.25))
    assert labelled.weights.tolist() == shown.weights.tolist()
    weighed = shown.weights > 0
    assert labelled.targets[weighed] == pytest.approx(shown.targets[weighed])
    np.testing.assert_allclose(taught.weights.sum(axis=1), 1, rtol=1e-5)
    assert taught.targets[shown.windows["action"] > 0].min() > 0
    np.testing.assert_allclose(
        both.weights * both.targets,
        0.25 * taught.weights * taught.targets + 0.75 * shown.weights * shown.targets,
        atol=1e-5,
    )
    np.testing.assert_allclose(both.weights, 0.25 * taught.weights + 0.75 * shown.weights, rtol=1e-5)
