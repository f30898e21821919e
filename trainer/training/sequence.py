"""The network over (action, gap) steps: in Keras to train it, as an ONNX graph to serve it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.encoding import Encoding
from detector.model.scorer import ACTIONS_INPUT, GAPS_INPUT, SCORE_OUTPUT
from trainer.data.windows import Examples
from trainer.training.export import check_weights, checked_model

Cell = Literal["lstm", "gru"]
_GATE_COUNT: Final = {"lstm": 4, "gru": 3}


class Shape(NamedTuple):
    """Size of a network.

    Attributes:
        cell: the recurrent cell.
        units: of its hidden state.
        embedding_units: of a step's embedding.
    """

    cell: Cell = "lstm"
    units: int = 32
    embedding_units: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How a network is fitted.

    Attributes:
        epochs: at most; ended after `patience` without a better validation loss, whose weights are kept.
        learning_rate: of Adam at the start, falling to 0 along a cosine.
        unknown_share: of the training actions, replaced by the unknown token so that it is learned.
    """

    epochs: int = 10
    patience: int = 3
    batch_size: int = 512
    learning_rate: float = 4e-3
    unknown_share: float = 0.005
    seed: int = 1


class Tensors(NamedTuple):
    """Weights in Keras' layout, all float32.

    Attributes:
        actions: embedding, shape (actions + 2, embedding_units); row 0 pads, the last is the unknown token.
        gaps: embedding, shape (gap buckets, embedding_units); None without time.
        kernel: shape (embedding_units, gates * units).
        recurrent: shape (units, gates * units).
        bias: shape (gates * units,) for an LSTM, (2, gates * units) for a GRU.
        risk_kernel: shape (units, 1).
        risk_bias: shape (1,).
    """

    actions: NDArray[np.float32]
    gaps: NDArray[np.float32] | None
    kernel: NDArray[np.float32]
    recurrent: NDArray[np.float32]
    bias: NDArray[np.float32]
    risk_kernel: NDArray[np.float32]
    risk_bias: NDArray[np.float32]


OnBatch = Callable[[int, int], None]
OnEpoch = Callable[[int, float, float], None]


class Fitted(NamedTuple):
    """A fitted network."""

    tensors: Tensors
    parameters: int
    epochs: int
    best_loss: float
    network: Any
    """The Keras model, from windows to a logit at every step."""


def fit(
    keras: Any,
    shape: Shape,
    encoding: Encoding,
    train: Examples,
    valid: Examples,
    schedule: Schedule,
    on_batch: OnBatch,
    on_epoch: OnEpoch,
) -> Fitted:
    """Fit a network to weighted steps."""
    network = _build(keras, shape, encoding)
    batches = -(-len(train.windows) // schedule.batch_size)
    network.compile(
        optimizer=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(schedule.learning_rate, batches * schedule.epochs),
            clipnorm=1.0,
        ),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        jit_compile=False,  # XLA orders sums as it likes
    )

    class _Reporter(keras.callbacks.Callback):  # type: ignore[misc]
        done = 0
        epochs = 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
            self.done += 1
            on_batch(self.done, batches * schedule.epochs)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.epochs = epoch + 1
            on_epoch(epoch + 1, float(logs["loss"]), float(logs["val_loss"]))

    reporter = _Reporter()
    mean = train.weights.sum() / max(1, (train.weights > 0).sum())
    history = network.fit(
        _inputs(_with_unknowns(train.windows, encoding, schedule), encoding),
        train.targets[..., np.newaxis],
        sample_weight=train.weights / mean,
        validation_data=(
            _inputs(valid.windows, encoding),
            valid.targets[..., np.newaxis],
            valid.weights / (valid.weights.sum() / max(1, (valid.weights > 0).sum())),
        ),
        validation_batch_size=4096,
        epochs=schedule.epochs,
        batch_size=schedule.batch_size,
        callbacks=[
            reporter,
            keras.callbacks.EarlyStopping("val_loss", patience=schedule.patience, restore_best_weights=True),
        ],
        verbose=0,
    )
    tensors = Tensors(
        network.get_layer("actions_embedding").get_weights()[0],
        network.get_layer("gaps_embedding").get_weights()[0] if encoding.gap_bounds_ms else None,
        *network.get_layer("cell").get_weights(),
        *network.get_layer("risk").get_weights(),
    )
    best = float(min(history.history["val_loss"]))
    return Fitted(tensors, int(network.count_params()), reporter.epochs, best, network)


def last_logits(fitted: Fitted, windows: NDArray[np.void], encoding: Encoding) -> NDArray[np.float32]:
    """Return Keras' logit at the last action of each window, to hold the exported graph against; shape (n,)."""
    logits = fitted.network.predict(_inputs(windows, encoding), batch_size=4096, verbose=0)[..., 0]
    last = np.maximum((windows["action"] > 0).sum(axis=1) - 1, 0)
    taken: NDArray[np.float32] = logits[np.arange(len(windows)), last]
    return taken


def build_sequence_graph(
    tensors: Tensors, shape: Shape, window: int, *, slope: float = 1.0, shift: float = 0.0
) -> Any:
    """Build the graph: action codes and gap buckets, each (n, window) int32, to scores (n,) float32.

    The score is the sigmoid of the calibrated logit, slope * logit + shift. Padding is masked by each window's
    length, so that it costs no accuracy; onnxruntime gives the same bits in every batch nevertheless.

    Returns:
        an onnx.ModelProto, checked.

    Raises:
        ValueError: a weight is not finite, or too large.
    """
    from onnx import TensorProto, helper  # noqa: PLC0415  only training has it

    arrays: dict[str, NDArray[Any]] = {
        "action_embedding": tensors.actions,
        **_cell_arrays(tensors, shape),
        "risk_weights": (tensors.risk_kernel * slope).astype(np.float32),
        "risk_bias": (tensors.risk_bias * slope + shift).astype(np.float32),
    }
    nodes = [
        helper.make_node("Transpose", [ACTIONS_INPUT], ["action_steps"], perm=[1, 0]),
        helper.make_node("Gather", ["action_embedding", "action_steps"], ["embedded_actions"]),
    ]
    inputs = [helper.make_tensor_value_info(ACTIONS_INPUT, TensorProto.INT32, ["n", window])]
    embedded = "embedded_actions"
    if tensors.gaps is not None:
        arrays["gap_embedding"] = tensors.gaps
        inputs.append(helper.make_tensor_value_info(GAPS_INPUT, TensorProto.INT32, ["n", window]))
        embedded = "embedded"
        nodes += [
            helper.make_node("Transpose", [GAPS_INPUT], ["gap_steps"], perm=[1, 0]),
            helper.make_node("Gather", ["gap_embedding", "gap_steps"], ["embedded_gaps"]),
            helper.make_node("Add", ["embedded_actions", "embedded_gaps"], [embedded]),
        ]
    check_weights(arrays)
    arrays |= {
        "padding": np.array(0, np.int32),
        "steps_axis": np.array([1], np.int64),
        "directions": np.array([0], np.int64),
        "flat": np.array([-1], np.int64),
    }
    cell = helper.make_node(
        shape.cell.upper(),
        [embedded, "input_weights", "recurrence_weights", "cell_bias", "lengths"],
        ["", "last_hidden"],
        hidden_size=shape.units,
    )
    if shape.cell == "gru":
        cell.attribute.append(helper.make_attribute("linear_before_reset", 1))  # as Keras' reset_after
    nodes += [
        helper.make_node("Greater", [ACTIONS_INPUT, "padding"], ["is_action"]),
        helper.make_node("Cast", ["is_action"], ["counted"], to=TensorProto.INT32),
        helper.make_node("ReduceSum", ["counted", "steps_axis"], ["lengths"], keepdims=0),
        cell,
        helper.make_node("Squeeze", ["last_hidden", "directions"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "risk_weights", "risk_bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["risk"]),
        helper.make_node("Reshape", ["risk", "flat"], [SCORE_OUTPUT]),
    ]
    score = helper.make_tensor_value_info(SCORE_OUTPUT, TensorProto.FLOAT, ["n"])
    return checked_model(nodes, inputs, [score], arrays)


def _build(keras: Any, shape: Shape, encoding: Encoding) -> Any:
    layers = keras.layers
    actions = keras.Input((encoding.window,), dtype="int32")
    inputs = [actions]
    embedded = layers.Embedding(
        len(encoding.vocabulary) + 2, shape.embedding_units, name="actions_embedding"
    )(actions)
    if encoding.gap_bounds_ms:
        gaps = keras.Input((encoding.window,), dtype="int32")
        inputs.append(gaps)
        embedded += layers.Embedding(encoding.gap_buckets, shape.embedding_units, name="gaps_embedding")(gaps)
    cell = layers.LSTM if shape.cell == "lstm" else layers.GRU
    # Unrolled: TensorFlow's loop costs more on a CPU than the steps in it. Beyond, its graph would take minutes.
    unroll = encoding.window <= _LONGEST_UNROLLED
    hidden = cell(shape.units, return_sequences=True, unroll=unroll, name="cell")(embedded)
    return keras.Model(inputs, layers.Dense(1, name="risk")(hidden))


_LONGEST_UNROLLED: Final = 32


def _inputs(windows: NDArray[np.void], encoding: Encoding) -> list[NDArray[np.int32]]:
    inputs = [windows["action"].astype(np.int32)]
    return [*inputs, windows["gap"].astype(np.int32)] if encoding.gap_bounds_ms else inputs


def _with_unknowns(windows: NDArray[np.void], encoding: Encoding, schedule: Schedule) -> NDArray[np.void]:
    rng = np.random.RandomState(schedule.seed)
    changed = windows.copy()
    chosen = (rng.random_sample(windows.shape) < schedule.unknown_share) & (windows["action"] > 0)
    changed["action"][chosen] = len(encoding.vocabulary) + 1
    return changed


def _cell_arrays(tensors: Tensors, shape: Shape) -> dict[str, NDArray[np.float32]]:
    """Return the cell's weights in ONNX' layout and order of gates."""

    def gates(keras_order: NDArray[np.float32]) -> NDArray[np.float32]:
        parts = np.split(keras_order, _GATE_COUNT[shape.cell], axis=-1)
        if shape.cell == "lstm":  # Keras i, f, c, o to ONNX i, o, f, c
            i, f, c, o = parts
            return np.concatenate([i, o, f, c], axis=-1)
        return np.concatenate(parts, axis=-1)  # z, r, h in both

    bias = (
        np.concatenate(
            [gates(tensors.bias), np.zeros_like(tensors.bias)]
        )  # ONNX has one more, of the recurrence
        if shape.cell == "lstm"
        else gates(tensors.bias).reshape(-1)
    )
    return {
        "input_weights": gates(tensors.kernel).T[np.newaxis],
        "recurrence_weights": gates(tensors.recurrent).T[np.newaxis],
        "cell_bias": bias[np.newaxis],
    }
