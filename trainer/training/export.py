"""Export: the network as an ONNX graph, built operator by operator, and the model file around it."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from detector.model.artifact import METADATA_KEY, ModelMetadata, format_of, seal
from detector.model.scorer import ACTIONS_INPUT, SCORE_OUTPUT
from trainer.training.network import Weights

OPSET = 14
IR_VERSION = 8
"""Of ONNX 1.10 (2021): every onnxruntime since 1.9 reads both."""
LARGEST_WEIGHT = 1e4
"""Far beyond a trained weight, and far below where a sum of their products in float32 could overflow to NaN."""


def build_graph(weights: Weights, window: int) -> Any:
    """Build the graph: action codes (n, window) int32 to scores (n,) float32.

    Returns:
        an onnx.ModelProto, checked.

    Raises:
        ValueError: a weight is not finite, or larger than LARGEST_WEIGHT.
    """
    from onnx import TensorProto, helper  # noqa: PLC0415

    units = len(weights.recurrent)
    tensors = {
        "embedding": weights.embedding,
        "lstm_input_weights": _gates(weights.kernel).T[np.newaxis],
        "lstm_recurrence_weights": _gates(weights.recurrent).T[np.newaxis],
        # ONNX adds a bias for the input and one for the recurrence, Keras has one.
        "lstm_bias": np.concatenate([_gates(weights.bias), np.zeros_like(weights.bias)])[np.newaxis],
        "risk_weights": weights.risk_kernel,
        "risk_bias": weights.risk_bias,
        "directions": np.array([0], np.int64),
        "flat": np.array([-1], np.int64),
    }
    check_weights(tensors)
    return checked_model(
        [
            helper.make_node("Transpose", [ACTIONS_INPUT], ["steps"], perm=[1, 0]),
            helper.make_node("Gather", ["embedding", "steps"], ["embedded"]),
            helper.make_node(
                "LSTM",
                ["embedded", "lstm_input_weights", "lstm_recurrence_weights", "lstm_bias"],
                ["", "last_hidden"],
                hidden_size=units,
            ),
            helper.make_node("Squeeze", ["last_hidden", "directions"], ["hidden"]),
            helper.make_node("Gemm", ["hidden", "risk_weights", "risk_bias"], ["logit"]),
            helper.make_node("Sigmoid", ["logit"], ["risk"]),
            helper.make_node("Reshape", ["risk", "flat"], [SCORE_OUTPUT]),
        ],
        [helper.make_tensor_value_info(ACTIONS_INPUT, TensorProto.INT32, ["n", window])],
        [helper.make_tensor_value_info(SCORE_OUTPUT, TensorProto.FLOAT, ["n"])],
        tensors,
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
        [onnx.numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in tensors.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="trainer"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


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


def _gates(keras_order: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reorder the gates of the last axis from Keras' i, f, c, o to ONNX' i, o, f, c."""
    i, f, c, o = np.split(keras_order, 4, axis=-1)
    return np.concatenate([i, o, f, c], axis=-1)
