"""What the data decides of a model, and the graph that comes of it: padding, window and gap buckets."""

import numpy as np
import pytest

from detector.model.scorer import Scorer
from tests.model.models import metadata, with_canaries
from trainer.data.simulated import simulate
from trainer.training.defaults import encoding_for
from trainer.training.export import build_graph, model_file
from trainer.training.network import Tensors

IDLE_MS = 1_800_000


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_graph_masks_padding_and_keeps_its_bits(cell: str) -> None:
    """Random networks of either cell: a window's score has one value in every batch, and padding changes none."""
    rng = np.random.RandomState(1)
    units, width, gates = 12, 6, 4 if cell == "lstm" else 3

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.6, shape).astype(np.float32)

    tensors = Tensors(
        draw(10, width), draw(5, width), draw(width, gates * units), draw(units, gates * units),
        draw(gates * units) if cell == "lstm" else draw(2, gates * units), draw(units, 1), draw(1),
    )  # fmt: skip
    told = metadata(window=9, gap_bounds_ms=[10, 100], unknown_token=True)
    scorers = {window: Scorer(build_graph(tensors, window).SerializeToString()) for window in (5, 9)}
    file = model_file(graph := build_graph(tensors, 9), with_canaries(graph, told))
    assert file
    sessions = [rng.randint(1, 10, rng.randint(1, 6)) for _ in range(300)]
    windows = {}
    for window in scorers:
        made = np.zeros((300, window), [("action", "<u2"), ("gap", "u1")])
        for row, codes in enumerate(sessions):
            made["action"][row, : len(codes)] = codes
            made["gap"][row, : len(codes)] = 1 + codes % 4
        windows[window] = made
    short, long = (scorers[window].score(windows[window]) for window in scorers)
    np.testing.assert_allclose(short, long, atol=1e-6)
    alone = np.concatenate([scorers[9].score(windows[9][row : row + 1]) for row in range(300)])
    assert alone.view(np.uint32).tolist() == long.view(np.uint32).tolist()
    assert len(np.unique(long)) > 200


def test_a_window_and_buckets_are_chosen_from_the_data() -> None:
    """Unless told: a window that most sessions fit into, at most 24, and bounds of equal ratio over most gaps."""
    sessions = simulate(300, 50, 5)
    encoding = encoding_for(sessions)
    assert 10 <= encoding.window <= 24
    ratios = np.diff(np.log(encoding.gap_bounds_ms))
    assert len(encoding.gap_bounds_ms) == 23
    assert ratios.max() < 1.2 * ratios.min()
    assert encoding_for(sessions, 7, 0).window == 7
