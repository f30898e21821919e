"""The scorer's scores, and that their bits do not depend on the batch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.core.encoding import STEP_DTYPE, Encoding
from detector.model.artifact import packaged_model_path
from detector.model.scorer import CHUNK_WINDOWS, GraphError, Scorer
from tests.model.models import (
    SIGNALS,
    gap_graph,
    of_whole_windows,
    random_graph,
    random_windows,
    signals_graph,
)

WINDOWS = random_windows(7, 3_000, signals=SIGNALS)
RANDOM = Scorer(random_graph().SerializeToString())
PACKAGED = Scorer(packaged_model_path("seed").read_bytes())
OF_SIGNALS = Scorer(signals_graph().SerializeToString())
SCORERS = [
    pytest.param(RANDOM, id="random-weights"),
    pytest.param(PACKAGED, id="packaged"),
    pytest.param(OF_SIGNALS, id="signals"),
]


def _bits(scores: NDArray[np.float32]) -> list[int]:
    bits: list[int] = scores.view(np.uint32).tolist()
    return bits


@pytest.mark.parametrize("scorer", SCORERS)
def test_every_batch_size_of_a_chunk_gives_the_same_bits(scorer: Scorer) -> None:
    """Each batch of 1 to a chunk's windows and one more scores as the 3,000 windows scored one by one."""
    alone = np.concatenate([scorer.score(WINDOWS[index : index + 1]) for index in range(len(WINDOWS))])
    rng = np.random.RandomState(0)
    for size in range(1, CHUNK_WINDOWS + 2):
        start = rng.randint(0, len(WINDOWS) - size + 1)
        together = scorer.score(WINDOWS[start : start + size])
        assert _bits(together) == _bits(alone[start : start + size]), f"batch of {size} from {start}"


@pytest.mark.parametrize("scorer", SCORERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_batch_up_to_3000_gives_the_same_bits(scorer: Scorer, data: st.DataObject) -> None:
    """Any choice of windows, in any order and with repeats, scores as each window scores elsewhere."""
    seed = data.draw(st.integers(0, 2**32 - 1))
    size = data.draw(st.integers(1, 3_000))
    picked = np.random.RandomState(seed).randint(0, len(WINDOWS), size)
    assert _bits(scorer.score(WINDOWS[picked])) == _bits(scorer.score(WINDOWS)[picked])


@pytest.mark.parametrize("size", [2, 16, 64, 511])
def test_a_window_scores_the_same_at_every_place_of_a_batch(size: int) -> None:
    """Moving one window through a batch of others changes none of its bits."""
    wanted = _bits(RANDOM.score(WINDOWS[:1]))
    for place in range(size):
        batch = WINDOWS[1 : size + 1].copy()
        batch[place] = WINDOWS[0]
        assert _bits(RANDOM.score(batch))[place] == wanted[0]


@pytest.mark.parametrize("scorer", SCORERS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_windows_that_begin_others_give_the_same_bits(scorer: Scorer, data: st.DataObject) -> None:
    """Beginnings of windows, whole ones and copies, shuffled, score as each does alone: also the one without any step."""
    rng = np.random.RandomState(data.draw(st.integers(0, 2**32 - 1)))
    windows = WINDOWS[rng.randint(0, len(WINDOWS), data.draw(st.integers(1, 60)))]
    windows = windows[rng.randint(0, len(windows), 3 * len(windows))].copy()
    for row, length in enumerate(rng.randint(0, windows.shape[1] + 1, len(windows))):
        windows[row, length:] = np.zeros((), windows.dtype)
    alone = np.concatenate([scorer.score(windows[row : row + 1]) for row in range(len(windows))])
    assert _bits(scorer.score(windows)) == _bits(alone)


def test_a_window_costs_nothing_on_the_way_to_one_that_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """All beginnings of a window are computed with it, as one."""
    computed: list[int] = []

    def counting(self: Scorer, windows: NDArray[np.void]) -> NDArray[np.float32]:
        computed.append(len(windows))
        return whole(self, windows)

    whole = Scorer._score_chunk
    monkeypatch.setattr(Scorer, "_score_chunk", counting)
    longest = WINDOWS[np.count_nonzero(WINDOWS["action"], axis=1) == WINDOWS.shape[1]][:2]
    beginnings = np.repeat(longest, WINDOWS.shape[1], axis=0)
    for row in range(len(beginnings)):
        beginnings[row, row % WINDOWS.shape[1] + 1 :] = np.zeros((), WINDOWS.dtype)
    OF_SIGNALS.score(beginnings)
    assert sum(computed) == 2


def test_a_graph_of_whole_windows_is_scored_as_one_of_each_step() -> None:
    """A file as detectors made it before, of windows of one length, gives what today's graph gives."""
    before = Scorer(of_whole_windows(signals_graph()).SerializeToString())
    assert (before.tells_each_step, OF_SIGNALS.tells_each_step) == (False, True)
    assert _bits(before.score(WINDOWS)) == _bits(OF_SIGNALS.score(WINDOWS))


def test_random_weights_do_spread_the_scores() -> None:
    """The bits compared above are of scores all over 0 to 1, not of a flat end of the sigmoid."""
    scores = RANDOM.score(WINDOWS)
    assert len(np.unique(scores)) > 2_000
    assert ((scores > 0.2) & (scores < 0.8)).sum() > 1_000


@given(size=st.integers(0, 1_100))
@settings(max_examples=30, deadline=None)
def test_one_risk_for_each_window(size: int) -> None:
    """Each window gets one float32 score between 0 and 1; no windows get none."""
    assert OF_SIGNALS.score(WINDOWS[:0]).shape == (0,)
    scores = RANDOM.score(WINDOWS[:size])
    assert scores.shape == (size,)
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()


def test_gaps_reach_a_graph_that_reads_them() -> None:
    """A graph with gaps gives the sigmoid of its two tables' sum, gap buckets included."""
    graph = gap_graph()
    tables = {
        tensor.name: np.frombuffer(tensor.raw_data, np.float32) for tensor in graph.graph.initializer[:2]
    }
    encoding = Encoding(["A", "B"], 10, [1_000, 60_000])
    windows = encoding.windows([encoding.steps(["A", "B", "A"], [0, 500, 100_500]), encoding.steps(["B"])])
    logits = (tables["action_risk"][windows["action"]] + tables["gap_risk"][windows["gap"]]).sum(axis=1)
    scores = Scorer(graph.SerializeToString()).score(windows)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_tables_end_where_accepts_says() -> None:
    """`accepts` is true up to the last row of each table and false beyond it."""
    gaps = Scorer(gap_graph(actions=2, buckets=5).SerializeToString())
    assert [gaps.accepts(action_code=code, gap_bucket=4) for code in range(5)] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert [gaps.accepts(action_code=2, gap_bucket=bucket) for bucket in (3, 4, 5, 6)] == [
        True,
        True,
        False,
        False,
    ]
    assert RANDOM.accepts(action_code=8, gap_bucket=999)
    assert not RANDOM.accepts(action_code=9, gap_bucket=0)


def test_windows_are_not_written_to() -> None:
    """Scoring leaves its windows as they were, read-only ones too."""
    windows = np.zeros((4, 10), STEP_DTYPE)
    windows["action"] = 3
    before = windows.tobytes()
    windows.setflags(write=False)
    RANDOM.score(windows)
    assert windows.tobytes() == before


def test_a_code_beyond_the_vocabulary_is_an_error() -> None:
    """A code that the graph has no row for raises; it doesn't score as something else."""
    windows = np.zeros((1, 10), STEP_DTYPE)
    windows["action"] = 9
    with pytest.raises(GraphError, match="Gather"):
        RANDOM.score(windows)
