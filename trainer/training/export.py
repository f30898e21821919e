"""Export: the network as an ONNX graph, built operator by operator, and the model file around it."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from detector.core.encoding import Encoding
from detector.core.signals import ABSENT
from detector.model.artifact import METADATA_KEY, seal
from detector.model.metadata import Canary, ModelMetadata, format_of
from detector.model.scorer import ACTIONS_INPUT, GAPS_INPUT, SCORE_OUTPUT, SIGNALS_INPUT, Scorer
from trainer.training.network import GATES, Tensors

OPSET = 14
IR_VERSION = 8
"""Of ONNX 1.10 (2021): every onnxruntime since 1.9 reads both."""
CANARIES = 16
_CANARY_POOL = 2_000
LARGEST_WEIGHT = 1e4
"""Far beyond a trained weight, and far below where a sum of their products in float32 could overflow to NaN."""


def build_graph(
    tensors: Tensors, window: int, *, masked: bool = True, slope: float = 1.0, shift: float = 0.0
) -> Any:
    """Build the graph: codes of actions, gaps and signals, (n, steps) and (n, steps, signals) int32, to scores float32.

    The score is the sigmoid of the calibrated logit, slope * logit + shift. If `masked`, windows have any length, and
    there is a score after each of their steps, (n, steps): a window that begins another one costs nothing. Otherwise they
    have `window` steps and one score each, (n,), after their padding. Padding is masked by each window's length, so that
    it costs no accuracy; onnxruntime gives the same bits in every batch nevertheless.

    Returns:
        an onnx.ModelProto, checked.

    Raises:
        ValueError: a weight is not finite, or larger than LARGEST_WEIGHT.
    """
    from onnx import TensorProto, helper  # noqa: PLC0415  only training has it

    steps = "steps" if masked else window
    arrays: dict[str, NDArray[Any]] = {
        "action_embedding": tensors.actions,
        **_cell_arrays(tensors),
        "risk_weights": (tensors.risk_kernel * slope).astype(np.float32),
        "risk_bias": (tensors.risk_bias * slope + shift).astype(np.float32),
    }
    nodes = [
        helper.make_node("Transpose", [ACTIONS_INPUT], ["action_steps"], perm=[1, 0]),
        helper.make_node("Gather", ["action_embedding", "action_steps"], ["embedded_actions"]),
    ]
    inputs = [helper.make_tensor_value_info(ACTIONS_INPUT, TensorProto.INT32, ["n", steps])]
    embedded = ["embedded_actions"]
    if tensors.gaps is not None:
        arrays["gap_embedding"] = tensors.gaps
        inputs.append(helper.make_tensor_value_info(GAPS_INPUT, TensorProto.INT32, ["n", steps]))
        embedded.append("embedded_gaps")
        nodes += [
            helper.make_node("Transpose", [GAPS_INPUT], ["gap_steps"], perm=[1, 0]),
            helper.make_node("Gather", ["gap_embedding", "gap_steps"], ["embedded_gaps"]),
        ]
    if tensors.signals:
        width = len(tensors.signals)
        inputs.append(helper.make_tensor_value_info(SIGNALS_INPUT, TensorProto.INT32, ["n", steps, width]))
        nodes.append(helper.make_node("Transpose", [SIGNALS_INPUT], ["signal_steps"], perm=[2, 1, 0]))
    for place, table in enumerate(tensors.signals):
        arrays |= {f"signal_embedding_{place}": table, f"place_{place}": np.array(place, np.int64)}
        embedded.append(f"embedded_{place}")
        nodes += [
            helper.make_node("Gather", ["signal_steps", f"place_{place}"], [f"signal_{place}"]),
            helper.make_node(
                "Gather", [f"signal_embedding_{place}", f"signal_{place}"], [f"embedded_{place}"]
            ),
        ]
    if len(embedded) > 1:
        nodes.append(helper.make_node("Sum", embedded, ["embedded"]))
        embedded = ["embedded"]
    if tensors.signals:
        nodes.append(helper.make_node("Relu", embedded, ["combined"]))
        embedded = ["combined"]
    check_weights(arrays)
    cell_inputs = [*embedded, "input_weights", "recurrence_weights", "cell_bias"]
    if masked:
        arrays |= {
            "padding": np.array([0], np.int32),
            "steps_axis": np.array([1], np.int64),
            "hidden_shape": np.array([-1, len(tensors.recurrent)], np.int64),
        }
        cell_inputs.append("lengths")
        nodes += [
            helper.make_node("Greater", [ACTIONS_INPUT, "padding"], ["is_action"]),
            helper.make_node("Cast", ["is_action"], ["counted"], to=TensorProto.INT32),
            helper.make_node("ReduceSum", ["counted", "steps_axis"], ["lengths"], keepdims=0),
        ]
        told = [
            helper.make_node("Shape", ["action_steps"], ["risk_shape"]),
            helper.make_node("Reshape", ["risk", "risk_shape"], ["risk_steps"]),
            helper.make_node("Transpose", ["risk_steps"], [SCORE_OUTPUT], perm=[1, 0]),
        ]
    else:
        arrays |= {"directions": np.array([0], np.int64), "flat": np.array([-1], np.int64)}
        told = [helper.make_node("Reshape", ["risk", "flat"], [SCORE_OUTPUT])]
    cell_outputs = ["each_hidden"] if masked else ["", "last_hidden"]
    cell = helper.make_node(
        tensors.cell.upper(), cell_inputs, cell_outputs, hidden_size=len(tensors.recurrent)
    )
    if tensors.cell == "gru":
        cell.attribute.append(helper.make_attribute("linear_before_reset", 1))  # as Keras' reset_after
    nodes += [
        cell,
        helper.make_node("Reshape", ["each_hidden", "hidden_shape"], ["hidden"])
        if masked
        else helper.make_node("Squeeze", ["last_hidden", "directions"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "risk_weights", "risk_bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["risk"]),
        *told,
    ]
    score = helper.make_tensor_value_info(
        SCORE_OUTPUT, TensorProto.FLOAT, ["n", "steps"] if masked else ["n"]
    )
    return checked_model(nodes, inputs, [score], arrays)


def model_file(graph: Any, metadata: ModelMetadata) -> bytes:
    """Return the model file of a graph that `build_graph` returned; the same input gives the same bytes.

    Its format is the oldest that it can have, whatever the metadata says.
    """
    import onnx  # noqa: PLC0415  only training has it

    model = onnx.ModelProto()
    model.CopyFrom(graph)
    document = msgspec.json.encode(msgspec.structs.replace(metadata, format=format_of(metadata))).decode()
    model.metadata_props.append(onnx.StringStringEntryProto(key=METADATA_KEY, value=document))
    return seal(model.SerializeToString(deterministic=True))


def canaries(scorer: Scorer, encoding: Encoding, seed: int) -> list[Canary]:
    """Draw sessions whose scores spread evenly from 0 to 1, as far as there are such.

    By chance, from what the encoding knows, and never from the data: a model file goes where customers' sessions may not.
    Such sessions also score between 0 and 1, where the sigmoid hides nothing of what went wrong before it.
    """
    rng = np.random.RandomState(seed)
    pool = [_drawn(encoding, rng) for _ in range(_CANARY_POOL)]
    scores = scorer.score(encoding.windows([one.steps(encoding) for one in pool]))
    spread = np.linspace(0, 1, CANARIES)[:, np.newaxis]
    picked = np.unique(np.abs(scores - spread).argmin(axis=1)).tolist()
    return [msgspec.structs.replace(pool[index], score=float(scores[index])) for index in picked]


def _drawn(encoding: Encoding, rng: np.random.RandomState) -> Canary:
    """Draw actions, gaps between them, and signals."""
    count = rng.randint(1, encoding.window + 3)
    gaps_ms = rng.choice([0, *encoding.gap_bounds_ms], count)
    codes = rng.randint(len(encoding.vocabulary), size=count).tolist()
    many = encoding.signals.codes
    return Canary(
        actions=[encoding.vocabulary[code] for code in codes],
        times_ms=(np.cumsum(gaps_ms) - gaps_ms[0]).tolist() if encoding.gap_bounds_ms else None,
        signals=rng.randint(ABSENT, many, (count, len(many))).tolist() if many else None,
        score=0.0,
    )


def check_weights(tensors: Mapping[str, NDArray[Any]]) -> None:
    """Check that weights are finite and of a size that single precision can sum.

    Raises:
        ValueError: one is not finite, or larger than LARGEST_WEIGHT.
    """
    for name, tensor in tensors.items():
        if not (np.abs(tensor) <= LARGEST_WEIGHT).all():
            raise ValueError(
                f"{name} has a weight that is not finite or beyond {LARGEST_WEIGHT:g}: expected a training that "
                "converges; train with other parameters"
            )


def checked_model(
    nodes: list[Any], inputs: list[Any], outputs: list[Any], tensors: Mapping[str, NDArray[Any]]
) -> Any:
    """Put a graph together; return it as an onnx.ModelProto, checked."""
    import onnx  # noqa: PLC0415  only training has it
    from onnx import helper  # noqa: PLC0415

    graph = helper.make_graph(
        nodes,
        "session-risk",
        inputs,
        outputs,
        [onnx.numpy_helper.from_array(array.copy(), name) for name, array in tensors.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="trainer"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _cell_arrays(tensors: Tensors) -> dict[str, NDArray[np.float32]]:
    """Return the cell's weights in ONNX' layout and order of gates."""

    def gates(keras_order: NDArray[np.float32]) -> NDArray[np.float32]:
        parts = np.split(keras_order, GATES[tensors.cell], axis=-1)
        if tensors.cell == "lstm":  # Keras i, f, c, o to ONNX i, o, f, c
            i, f, c, o = parts
            return np.concatenate([i, o, f, c], axis=-1)
        return np.concatenate(parts, axis=-1)  # z, r, h in both

    bias = gates(tensors.bias).reshape(-1)
    if tensors.cell == "lstm":  # ONNX has one more, of the recurrence
        bias = np.concatenate([bias, np.zeros_like(bias)])
    return {
        "input_weights": gates(tensors.kernel).T[np.newaxis],
        "recurrence_weights": gates(tensors.recurrent).T[np.newaxis],
        "cell_bias": bias[np.newaxis],
    }
