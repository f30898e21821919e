"""The notebook's training as a configuration: its data, split as it splits them, its network, and what is kept of it."""

from collections import Counter

import pytest

from detector.contract.actions import Action
from producer.behaviour import seed
from trainer.data.simulated import seed_preset
from trainer.training.backend import keras_on
from trainer.training.network import build_network
from trainer.training.notebook import NOTEBOOK


def test_the_split_takes_every_session_once() -> None:
    """Train and test together are the preset's sessions, each once, without times, and a fifth is held out."""
    parts = seed_preset(1_100, 42, 0.2)
    simulated = Counter(
        (tuple(session.actions), session.label, session.kind) for session in seed.sessions(1_100, 42)
    )
    taken = [row for part in parts for row in part.rows()]
    assert Counter((row.actions, row.label, row.type) for row in taken) == simulated
    assert [len(part) for part in parts] == [880, 0, 220]
    assert {row.timestamps_ms for row in taken} == {None}


def test_the_split_is_scikit_learns() -> None:
    """The order is that of `train_test_split(range(10), test_size=0.2, random_state=42)`: 8 and 1 are held out."""
    sessions = [tuple(session.actions) for session in seed.sessions(10, 42)]
    parts = seed_preset(10, 42, 0.2)
    assert [row.actions for row in parts.test.rows()] == [sessions[index] for index in (8, 1)]
    assert [row.actions for row in parts.train.rows()] == [
        sessions[index] for index in (5, 0, 7, 2, 9, 4, 3, 6)
    ]


@pytest.mark.parametrize(("count", "fraction"), [(1, 0.2), (10, 0.0), (10, 1.0)])
def test_a_split_with_an_empty_part_is_refused(count: int, fraction: float) -> None:
    """Nothing to train or to test on is an error that says so."""
    with pytest.raises(ValueError, match="expected some to train and some to test on"):
        seed_preset(count, 1, fraction)


def test_the_notebooks_network() -> None:
    """It has 25,185 parameters: Embedding 288, LSTM 24,832, Dense 65; a fifth of the LSTM's units drop out."""
    assert NOTEBOOK.encoding is not None
    assert NOTEBOOK.encoding.vocabulary == tuple(action.value for action in Action)
    network = build_network(keras_on("cpu", 1), NOTEBOOK.shape, NOTEBOOK.encoding)
    assert [layer.count_params() for layer in network.layers] == [0, 288, 24_832, 0, 65]
    assert network.count_params() == 25_185
    assert network.get_layer("dropout").rate == 0.2
