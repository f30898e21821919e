"""A remembered score is the one that would be computed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.core.encoding import MAX_WINDOW, STEP_BYTES, Encoding
from detector.core.memo import ScoreMemo
from tests.core.strategies import ACTIONS, ENCODING
from tests.core.strategies import score as hashed

WINDOWS = st.lists(st.sampled_from(ACTIONS), max_size=ENCODING.window).map(
    lambda actions: ENCODING.steps(actions, range(0, 60_000 * len(actions), 60_000))
)
BATCHES = st.lists(st.lists(WINDOWS, max_size=12), max_size=12)


@given(BATCHES, st.integers(1, 4_000))
def test_scores_are_the_models_whatever_is_remembered(batches: list[list[bytes]], most: int) -> None:
    """However small the memo and however windows repeat, scores are those of the model, by steps or by windows."""
    memo = ScoreMemo(ENCODING, hashed, most)
    for batch in batches:
        expected = hashed(ENCODING.windows(batch)).tolist()
        assert memo.scores(batch) == expected
        assert memo(ENCODING.windows(batch)).tolist() == expected


@given(BATCHES)
def test_no_window_is_scored_twice_while_there_is_room(batches: list[list[bytes]]) -> None:
    """Each distinct window reaches the model once, within a batch and across batches."""
    asked: list[bytes] = []

    def counting(windows: NDArray[np.void]) -> NDArray[np.float32]:
        asked.extend(window.tobytes() for window in windows)
        return hashed(windows)

    memo = ScoreMemo(ENCODING, counting)
    for batch in batches:
        memo.scores(batch)
    assert len(asked) == len(set(asked)) == len({window for batch in batches for window in batch})


@given(st.lists(WINDOWS, unique=True, min_size=8, max_size=20))
def test_a_full_memo_forgets(windows: list[bytes]) -> None:
    """With room for four windows, counted in bytes, the first ones are scored again after eight others."""
    scored: list[int] = []

    def counting(batch: NDArray[np.void]) -> NDArray[np.float32]:
        scored.append(len(batch))
        return hashed(batch)

    memo = ScoreMemo(ENCODING, counting, 4 * 172)
    for window in (*windows, windows[0]):
        memo.scores([window])
    assert sum(scored) == len(windows) + 1


def test_long_windows_take_the_room_of_many_short_ones() -> None:
    """Windows of the longest that a model may read stay within the bound, at which some ten of them are remembered."""
    encoding = Encoding(ACTIONS, window=MAX_WINDOW)
    scored: list[int] = []

    def counting(batch: NDArray[np.void]) -> NDArray[np.float32]:
        scored.append(len(batch))
        return hashed(batch)

    memo = ScoreMemo(encoding, counting, 10 * MAX_WINDOW * STEP_BYTES)
    windows = [encoding.steps([ACTIONS[0]] * (MAX_WINDOW - one)) for one in range(20)]
    for window in (*windows, *windows):
        memo.scores([window])
    assert sum(scored) >= 2 * len(windows) - 10
