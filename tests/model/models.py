"""Model files made for a test: random weights, and a graph that reads gaps."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from detector.contract.actions import Action
from detector.core.encoding import Encoding
from detector.core.signals import ABSENT, FIRST, Kind, Signal
from detector.model.artifact import METADATA_KEY
from detector.model.metadata import FORMAT, Canary, ModelMetadata
from detector.model.scorer import Scorer
from tests.core.strategies import SIGNALS as EVERY_KIND
from trainer.training.export import OPSET, build_graph, model_file
from trainer.training.network import Tensors

VOCABULARY = tuple(action.value for action in Action)
WINDOW = 10
SIGNALS = (
    Signal(name="amount", kind=Kind.MAGNITUDE, of="amount", bounds=(10, 100, 1_000)),
    Signal(name="device", kind=Kind.NOVELTY, of="attributes.device", bounds=(86_400_000,)),
    Signal(name="channel", kind=Kind.LEVEL, of="attributes.channel", values=("app", "web")),
)


DEVICE = Signal(name="device", kind=Kind.NOVELTY, of="attributes.device", bounds=(86_400_000,))


def random_weights(
    seed: int,
    *,
    actions: int = 8,
    embedding: int = 32,
    units: int = 64,
    spread: float = 0.4,
    signals: Sequence[Signal] = (),
) -> Tensors:
    """Draw weights that spread scores over 0 to 1, where no sigmoid is flat and every bit of a sum shows."""
    rng = np.random.RandomState(seed)

    def draw(*shape: int) -> NDArray[np.float32]:
        return (rng.standard_normal(shape) * spread).astype(np.float32)

    return Tensors(
        actions=draw(actions + 1, embedding),
        gaps=None,
        kernel=draw(embedding, 4 * units),
        recurrent=draw(units, 4 * units),
        bias=draw(4 * units),
        risk_kernel=draw(units, 1),
        risk_bias=draw(1),
        signals=tuple(draw(one.codes, embedding) for one in signals),
    )


def random_windows(
    seed: int, count: int, *, window: int = WINDOW, actions: int = 8, signals: Sequence[Signal] = ()
) -> NDArray[np.void]:
    """Draw windows of every length, padded at the end as serving pads them."""
    rng = np.random.RandomState(seed)
    encoding = Encoding([str(code) for code in range(1, actions + 1)], window, signals=signals)

    def draw() -> bytes:
        codes = rng.randint(1, actions + 1, rng.randint(1, window + 1))
        of_signals = [bytes(rng.randint(ABSENT, encoding.signals.codes).tolist()) for _ in codes if signals]
        return encoding.steps([str(code) for code in codes], signals=of_signals or None)

    return encoding.windows([draw() for _ in range(count)])


def normal_prefixes() -> list[list[str]]:
    """List every prefix that a normal session of the seed preset can have."""
    draws = ["VIEW_BALANCE", "VIEW_TRANSACTIONS", "TRANSFER_SMALL"]
    going_on = [["LOGIN", *drawn] for count in range(9) for drawn in product(draws, repeat=count)]
    return going_on + [[*session, "LOGOUT"] for session in going_on if len(session) <= 8]


def seed_windows() -> NDArray[np.void]:
    """Return the window of every prefix that a session of the seed preset can have, each once."""
    attacks = [
        ["LOGIN", how, "TRANSFER_LARGE", "LOGOUT"][:end]
        for how in ("ADD_RECIPIENT", "CHANGE_PASSWORD")
        for end in (2, 3, 4)
    ]
    encoding = Encoding(VOCABULARY, WINDOW)
    return encoding.windows([encoding.steps(actions) for actions in normal_prefixes() + attacks])


def random_graph(seed: int = 0) -> Any:
    """Build the graph of the notebook's kind, which reads padding, over random weights."""
    return build_graph(random_weights(seed), WINDOW, masked=False)


def signals_graph() -> Any:
    """Build a graph that reads signals, over random weights."""
    return build_graph(random_weights(0, signals=SIGNALS), WINDOW)


def of_whole_windows(graph: Any) -> Any:
    """Return a graph that tells the score after each step as one that tells it of whole windows alone."""
    whole = onnx.ModelProto()
    whole.CopyFrom(graph)
    for one in whole.graph.input:
        one.type.tensor_type.shape.dim[1].dim_value = WINDOW
    nodes = [one for one in whole.graph.node if one.output[0] not in {"risk_shape", "risk_steps", "score"}]
    for node in nodes:
        if node.op_type == "LSTM":
            node.output[:] = ["", "each_hidden"]
    nodes.append(helper.make_node("Reshape", ["risk", "flat"], ["score"]))
    whole.graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), "flat"))
    del whole.graph.node[:], whole.graph.output[:]
    whole.graph.node.extend(nodes)
    whole.graph.output.append(helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"]))
    return whole


def gap_graph(actions: int = 2, buckets: int = 5, window: int = WINDOW) -> Any:
    """Build a graph that reads gaps: the sigmoid of a sum of one weight an action and one a gap bucket."""
    rng = np.random.RandomState(0)
    action_risk = (rng.standard_normal(actions + 1) * 0.2).astype(np.float32)
    gap_risk = (rng.standard_normal(buckets) * 0.2).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["action_risk", "actions"], ["of_actions"]),
            helper.make_node("Gather", ["gap_risk", "gaps"], ["of_gaps"]),
            helper.make_node("Add", ["of_actions", "of_gaps"], ["of_steps"]),
            helper.make_node("ReduceSum", ["of_steps", "steps_axis"], ["logit"], keepdims=0),
            helper.make_node("Sigmoid", ["logit"], ["score"]),
        ],
        "gaps",
        [
            helper.make_tensor_value_info("actions", TensorProto.INT32, ["n", window]),
            helper.make_tensor_value_info("gaps", TensorProto.INT32, ["n", window]),
        ],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
        [
            numpy_helper.from_array(action_risk, "action_risk"),
            numpy_helper.from_array(gap_risk, "gap_risk"),
            numpy_helper.from_array(np.array([1], np.int64), "steps_axis"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def device_graph() -> Any:
    """Build a graph that blocks a large transfer from a device that the account has not known for a day.

    Sums of halves, so that no order of adding changes a bit.
    """
    action_risk, device_risk = np.zeros(len(VOCABULARY) + 1, np.float32), np.zeros(DEVICE.codes, np.float32)
    action_risk[1 + VOCABULARY.index("TRANSFER_LARGE")] = 4
    device_risk[FIRST] = 0.5
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["action_risk", "actions"], ["of_actions"]),
            helper.make_node("Gather", ["device_risk", "signals"], ["of_each"]),
            helper.make_node("Squeeze", ["of_each", "signals_axis"], ["of_devices"]),
            helper.make_node("Add", ["of_actions", "of_devices"], ["of_steps"]),
            helper.make_node("ReduceSum", ["of_steps", "steps_axis"], ["sum"], keepdims=0),
            helper.make_node("Sub", ["sum", "limit"], ["logit"]),
            helper.make_node("Sigmoid", ["logit"], ["score"]),
        ],
        "device",
        [
            helper.make_tensor_value_info("actions", TensorProto.INT32, ["n", WINDOW]),
            helper.make_tensor_value_info("signals", TensorProto.INT32, ["n", WINDOW, 1]),
        ],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
        [
            numpy_helper.from_array(action_risk, "action_risk"),
            numpy_helper.from_array(device_risk, "device_risk"),
            numpy_helper.from_array(np.array([2], np.int64), "signals_axis"),
            numpy_helper.from_array(np.array([1], np.int64), "steps_axis"),
            numpy_helper.from_array(np.array(4.5, np.float32), "limit"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def metadata(**changes: Any) -> ModelMetadata:
    """Return valid metadata of `random_graph`, but for its canaries, with changes."""
    valid = ModelMetadata(
        format=FORMAT,
        name="test",
        version="1",
        preset="seed",
        vocabulary=list(VOCABULARY),
        window=WINDOW,
        gap_bounds_ms=[],
        threshold=0.8,
        training={"seed": 0},
        metrics={},
        data_sha256="",
        libraries={"onnx": onnx.__version__},
        canaries=[],
    )
    return msgspec.structs.replace(valid, **changes)


def with_canaries(graph: Any, told: ModelMetadata, times_ms: list[int] | None = None) -> ModelMetadata:
    """Return the metadata with canaries as the graph scores them now."""
    encoding = Encoding(told.vocabulary, told.window, told.gap_bounds_ms, signals=told.signals)
    scorer = Scorer(graph.SerializeToString())
    sessions = [list(told.vocabulary[: count + 1]) for count in range(len(told.vocabulary))]
    canaries = []
    for actions in sessions:
        times = None if times_ms is None else times_ms[: len(actions)]
        score = scorer.score(encoding.windows([encoding.steps(actions, times)]))[0]
        canaries.append(Canary(actions=actions, times_ms=times, score=float(score)))
    return msgspec.structs.replace(told, canaries=canaries)


def changed_file(path: Path, **changes: Any) -> bytes:
    """Return a model file that is another one's but for some of its metadata: its threshold or version, say."""
    graph = onnx.load(str(path))
    properties = {one.key: one.value for one in graph.metadata_props}
    del graph.metadata_props[:]
    known = msgspec.json.decode(properties[METADATA_KEY], type=ModelMetadata)
    return model_file(graph, msgspec.structs.replace(known, **changes))


def random_file(seed: int = 0, **changes: Any) -> bytes:
    """Return a model file with random weights; its metadata changed after the canaries were taken."""
    graph = random_graph(seed)
    return model_file(graph, msgspec.structs.replace(with_canaries(graph, metadata()), **changes))


def signals_file(seed: int = 0, **changes: Any) -> bytes:
    """Return a model file with random weights that reads signals of every kind, and blocks one window in some."""
    graph = build_graph(random_weights(seed, signals=EVERY_KIND), WINDOW)
    told = metadata(name="signals", signals=EVERY_KIND, threshold=0.88)
    return model_file(graph, msgspec.structs.replace(with_canaries(graph, told), **changes))


def device_file() -> bytes:
    """Return a model file of `device_graph`."""
    graph = device_graph()
    return model_file(graph, with_canaries(graph, metadata(name="device", signals=(DEVICE,), threshold=0.6)))
