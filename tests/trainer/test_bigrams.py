"""Bigrams as a graph score what their table says, and become the model where a network does no better."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.encoding import Encoding
from detector.model.scorer import Scorer
from trainer.data.sessions import Session, Sessions
from trainer.data.windows import pack
from trainer.training.bigrams import Bigrams, bigram_graph, fit_bigrams, mean_of
from trainer.training.calibration import Line

ENCODING = Encoding("ABC", 4, [10, 100], unknown_token=True)


def _bigrams(*, timed: bool) -> Bigrams:
    rng = np.random.RandomState(1)
    return Bigrams(
        rng.normal(size=(5, 5)).astype(np.float32), rng.normal(size=5).astype(np.float32) if timed else None
    )


@settings(max_examples=60, deadline=None)
@given(
    sessions=st.lists(
        st.lists(st.tuples(st.sampled_from("ABCX"), st.sampled_from([0, 50, 500])), min_size=1, max_size=7),
        min_size=1,
        max_size=150,
    ),
    timed=st.booleans(),
)
def test_the_graph_scores_the_last_pair(sessions: list[list[tuple[str, int]]], *, timed: bool) -> None:
    """A window's score is the table's entry for its last two actions and the gap between, alone or in any batch."""
    encoding = ENCODING if timed else Encoding("ABC", 4, unknown_token=True)
    bigrams = _bigrams(timed=timed)
    scorer = Scorer(bigram_graph(bigrams, 4).SerializeToString())
    steps = [
        encoding.steps([action for action, _ in one], np.cumsum([gap for _, gap in one]).tolist())
        for one in sessions
    ]
    windows = encoding.windows(steps)
    scores = scorer.score(windows)
    for window, score in zip(windows, scores, strict=True):
        last = int(np.count_nonzero(window["action"])) - 1
        before = window["action"][last - 1] if last else 0
        logit = float(bigrams.pairs[before, window["action"][last]])
        logit += float(bigrams.gaps[window["gap"][last]]) if bigrams.gaps is not None else 0.0
        assert score == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)
        assert scorer.score(window[np.newaxis])[0] == score


def test_codes_beyond_the_table_are_refused() -> None:
    """As of every graph: the model file is held against its own vocabulary and buckets."""
    scorer = Scorer(bigram_graph(_bigrams(timed=True), 4).SerializeToString())
    assert scorer.accepts(action_code=4, gap_bucket=4)
    assert not scorer.accepts(action_code=5, gap_bucket=4)
    assert not scorer.accepts(action_code=4, gap_bucket=5)


def test_the_pair_that_tells_weighs_most() -> None:
    """Where B after A is what attacks do, that entry is the largest; the mean of equals is the same again."""
    rng = np.random.RandomState(2)
    sessions = Sessions.of(
        [
            Session(
                session_id=str(number),
                actions=(*rng.choice(list("ABC"), 6), *(("A", "B") * 3 if number % 2 else ("B", "A") * 3)),
                label=number % 2,
            )
            for number in range(400)
        ]
    )
    encoding = Encoding("ABC", 4, unknown_token=True)
    packed = pack(sessions, encoding, 1_000)
    bigrams = fit_bigrams(packed, sessions.targets, encoding, 1)
    assert bigrams.pairs.argmax() == 1 * len(bigrams.pairs) + 2
    assert np.array_equal(mean_of([bigrams, bigrams]).pairs, bigrams.pairs)


def test_bigrams_on_a_line_say_as_much_at_another_scale() -> None:
    """Calibrated, each logit is slope times what it was, and the shift."""
    bigrams, sessions = _bigrams(timed=True), [["A"], ["A", "B"], ["X", "C", "C"]]
    windows = ENCODING.windows([ENCODING.steps(one, list(range(0, 50 * len(one), 50))) for one in sessions])
    before, after = (
        np.log(score) - np.log1p(-score)
        for one in (bigrams, bigrams.on(Line(0.5, -1.0)))
        for score in [Scorer(bigram_graph(one, 4).SerializeToString()).score(windows).astype(np.float64)]
    )
    assert after == pytest.approx(0.5 * before - 1.0, abs=1e-5)
