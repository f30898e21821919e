"""Bigrams: logistic regression on how often actions, pairs of them and gaps came, as a graph that evidence adds up.

With few sessions, or where all that tells is in pairs of actions, a network does no better than this or worse; so the
two are held against each other, and the better one is the model. The graph reads a window's last two actions and the
gap between them, and `detector.core.evidence` adds up what they come to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detector.core.encoding import Encoding
from detector.model.scorer import ACTIONS_INPUT, GAPS_INPUT, SCORE_OUTPUT
from trainer.data.sessions import UNLABELLED
from trainer.data.windows import Packed
from trainer.evaluation.baselines import regression_on_shares, some_of
from trainer.training.calibration import Line
from trainer.training.export import check_weights, checked_model

MOST_ACTIONS: Final = 300
"""Of a vocabulary: the table has a weight for each pair."""


@dataclass(frozen=True, slots=True, eq=False)
class Bigrams:
    """The logit of each action, by the one before.

    Attributes:
        pairs: shape (codes, codes), float32; before a sitting's first action is code 0, and nothing ends with it.
        gaps: shape (gap buckets,), float32, added to it; None without time.
    """

    pairs: NDArray[np.float32]
    gaps: NDArray[np.float32] | None

    @property
    def parameters(self) -> int:
        """How many weights there are."""
        return self.pairs.size + (0 if self.gaps is None else self.gaps.size)

    def on(self, line: Line) -> "Bigrams":
        """Return the bigrams whose logits lie on a line over these."""
        slope, shift = np.float32(line.slope), np.float32(line.shift)
        return Bigrams(slope * self.pairs + shift, None if self.gaps is None else slope * self.gaps)


def fit_bigrams(packed: Packed, targets: NDArray[np.int8], encoding: Encoding, seed: int) -> Bigrams:
    """Fit to sittings; of more than two million actions, to a random choice.

    Args:
        packed: steps and where sittings begin.
        targets: of the actions.
        encoding: of the steps, with at most MOST_ACTIONS actions.
        seed: of the choice.
    """
    lengths = np.diff(packed.sittings)
    some = some_of(lengths, seed)
    at = np.concatenate([np.arange(*packed.sittings[one : one + 2]) for one in some.tolist()])
    starts = np.concatenate([[0], np.cumsum(lengths[some])]).astype(np.int64)
    action, gap = packed.steps["action"][at].astype(np.int64), packed.steps["gap"][at].astype(np.int64)
    size = 1 + len(encoding.vocabulary) + encoding.unknown_token
    before = np.concatenate([[0], action[:-1]])
    before[starts[:-1]] = 0
    codes = [action, size + before * size + action]
    if encoding.gap_bounds_ms:
        codes.append(size + size * size + gap)
    found, weights, _ = regression_on_shares(np.stack(codes), starts, targets[at])
    table = np.zeros(size + size * size + encoding.gap_buckets)
    table[found] = weights[:-1]
    single, pairs, gaps = np.split(table, [size, size + size * size])
    pairs = pairs.reshape(size, size) + single
    each = pairs[before, action] + gaps[gap]
    labelled = targets[at] != UNLABELLED
    scale = float(each[labelled].std()) or 1.0  # so that no window says so much that the scorer cuts it off
    pairs, gaps = (pairs - each[labelled].mean()) / scale, gaps / scale
    return Bigrams(pairs.astype(np.float32), gaps.astype(np.float32) if encoding.gap_bounds_ms else None)


def mean_of(members: Sequence[Bigrams]) -> Bigrams:
    """Return the bigrams whose logits are the members' mean."""
    gaps = [one.gaps for one in members if one.gaps is not None]
    return Bigrams(
        np.mean([one.pairs for one in members], axis=0, dtype=np.float32),
        np.mean(gaps, axis=0, dtype=np.float32) if gaps else None,
    )


def bigram_graph(bigrams: Bigrams, window: int) -> Any:
    """Build the graph: action codes and gap buckets, each (n, window) int32, to scores (n,) float32.

    Each score is looked up and added, so that it has the same bits in every batch.

    Returns:
        an onnx.ModelProto, checked.

    Raises:
        ValueError: a weight is not finite, or too large.
    """
    from onnx import TensorProto, helper  # noqa: PLC0415  only training has it

    node = helper.make_node
    arrays: dict[str, NDArray[Any]] = {
        "pair_weights": bigrams.pairs.reshape(-1),
        "padding": np.array([0], np.int32),
        "one": np.array([1], np.int64),
        "steps_axis": np.array([1], np.int64),
        "begin": np.array([0, 1, 0, 0], np.int64),
        "codes": np.array([len(bigrams.pairs)], np.int32),
        "flat": np.array([-1], np.int64),
    }
    inputs = [helper.make_tensor_value_info(ACTIONS_INPUT, TensorProto.INT32, ["n", window])]
    nodes = [
        node("Greater", [ACTIONS_INPUT, "padding"], ["is_action"]),
        node("Cast", ["is_action"], ["counted"], to=TensorProto.INT64),
        node("ReduceSum", ["counted", "steps_axis"], ["last"], keepdims=1),
        node("Sub", ["last", "one"], ["before_last"]),
        node("Pad", [ACTIONS_INPUT, "begin"], ["codes_from_nothing"]),
        node("GatherElements", ["codes_from_nothing", "last"], ["action"], axis=1),
        node("GatherElements", ["codes_from_nothing", "before_last"], ["action_before"], axis=1),
        node("Mul", ["action_before", "codes"], ["row"]),
        node("Add", ["row", "action"], ["pair"]),
        node("Gather", ["pair_weights", "pair"], ["of_pair"]),
    ]
    logit = "of_pair"
    if bigrams.gaps is not None:
        arrays["gap_weights"] = bigrams.gaps
        inputs.append(helper.make_tensor_value_info(GAPS_INPUT, TensorProto.INT32, ["n", window]))
        logit = "logit"
        nodes += [
            node("GatherElements", [GAPS_INPUT, "before_last"], ["gap"], axis=1),
            node("Gather", ["gap_weights", "gap"], ["of_gap"]),
            node("Add", ["of_pair", "of_gap"], [logit]),
        ]
    nodes += [node("Sigmoid", [logit], ["risk"]), node("Reshape", ["risk", "flat"], [SCORE_OUTPUT])]
    check_weights(arrays)
    score = helper.make_tensor_value_info(SCORE_OUTPUT, TensorProto.FLOAT, ["n"])
    return checked_model(nodes, inputs, [score], arrays)
