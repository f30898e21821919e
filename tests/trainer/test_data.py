"""The training data: what is simulated, how it is split, and the windows it becomes."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.core.encoding import Encoding
from producer.behaviour import seed as seed_preset
from trainer.training.seed_data import Dataset, LabelledSession, labels, last_windows, prefixes, simulate_seed

VOCABULARY = ("LOGIN", "VIEW_BALANCE", "LOGOUT")
SESSIONS = st.lists(
    st.builds(
        LabelledSession,
        st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=25).map(tuple),
        st.integers(0, 1),
        st.just("any"),
    ),
    min_size=1,
    max_size=20,
)


def test_the_split_takes_every_session_once() -> None:
    """Train and test together are the preset's sessions, each once, with a fifth held out."""
    data = simulate_seed(1_100, 42, 0.2)
    simulated = Counter(
        (tuple(session.actions), session.label, session.kind) for session in seed_preset.sessions(1_100, 42)
    )
    assert Counter(map(tuple, data.train + data.test)) == simulated
    assert (len(data.train), len(data.test)) == (880, 220)
    assert Counter(session.kind for session in data.train + data.test) == {
        "normal": 1_000,
        "quick_drain": 50,
        "password_reset": 50,
    }
    assert {session.label for session in data.train if session.kind != "normal"} == {1}


def test_the_split_is_scikit_learns() -> None:
    """The order is that of `train_test_split(range(10), test_size=0.2, random_state=42)`: 8 and 1 are held out."""
    sessions = [tuple(session.actions) for session in seed_preset.sessions(10, 42)]
    data = simulate_seed(10, 42, 0.2)
    assert [session.actions for session in data.test] == [sessions[index] for index in (8, 1)]
    assert [session.actions for session in data.train] == [
        sessions[index] for index in (5, 0, 7, 2, 9, 4, 3, 6)
    ]


def test_the_data_hash_tells_data_apart() -> None:
    """The same data hashes alike; another seed, another part or another label does not."""
    data = simulate_seed(110, 1, 0.2)
    relabelled = (data.train[0]._replace(label=1 - data.train[0].label), *data.train[1:])
    others = [
        simulate_seed(110, 2, 0.2),
        Dataset(data.vocabulary, data.train + data.test[:1], data.test[1:]),
        Dataset(data.vocabulary, relabelled, data.test),
    ]
    assert simulate_seed(110, 1, 0.2).sha256 == data.sha256
    assert len({data.sha256, *(other.sha256 for other in others)}) == 4


@pytest.mark.parametrize(("count", "fraction"), [(1, 0.2), (10, 0.0), (10, 1.0)])
def test_a_split_with_an_empty_part_is_refused(count: int, fraction: float) -> None:
    """Nothing to train or to test on is an error that says so."""
    with pytest.raises(ValueError, match="expected some to train and some to test on"):
        simulate_seed(count, 1, fraction)


@given(SESSIONS, st.integers(1, 12))
def test_windows_are_the_last_actions_padded_at_the_end(sessions: list[LabelledSession], window: int) -> None:
    """The last `window` codes come in order, zeros after them; labels lie beside them."""
    windows = last_windows(sessions, Encoding(VOCABULARY, window))
    for row, session in zip(windows["action"].tolist(), sessions, strict=True):
        codes = [VOCABULARY.index(action) + 1 for action in session.actions][-window:]
        assert row == codes + [0] * (window - len(codes))
    assert labels(sessions).tolist() == [session.label for session in sessions]


@given(SESSIONS, st.integers(1, 12))
def test_prefixes_are_what_serving_scores(sessions: list[LabelledSession], window: int) -> None:
    """Each session starts where `starts` says, with one window for each of its actions, shortest first."""
    encoding = Encoding(VOCABULARY, window)
    every = prefixes(sessions, encoding)
    split = np.split(every.windows, every.starts[1:])
    assert [len(part) for part in split] == [len(session.actions) for session in sessions]
    for part, session in zip(split, sessions, strict=True):
        for end, row in enumerate(part, start=1):
            shorter = session._replace(actions=session.actions[:end])
            assert row.tobytes() == last_windows([shorter], encoding)[0].tobytes()
