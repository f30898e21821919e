"""The network over steps of action, gap and signals, in Keras, and its weights as arrays."""

from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.encoding import Encoding

Cell = Literal["lstm", "gru"]
GATES: Final = {"lstm": 4, "gru": 3}
ARCHITECTURE: Final = 2
"""Raised where the same shape builds another network: a checkpoint of the one is not gone on with as the other."""
_LONGEST_UNROLLED: Final = 32
_BATCH: Final = 4_096
_BATCH_STEPS: Final = 131_072
"""Of a window of more than 32 actions fewer windows are a batch: one of 4,096 took 2 GB for 1,024 actions."""


class Shape(NamedTuple):
    """Size of a network.

    Attributes:
        cell: the recurrent cell.
        units: of its hidden state.
        embedding_units: of a step's embedding.
        dropout: share of the hidden units left out in training.
        masked: a window's last action gives the score; otherwise its last place, padding read as such.
    """

    cell: Cell = "lstm"
    units: int = 32
    embedding_units: int = 16
    dropout: float = 0.0
    masked: bool = True

    def of(self, tensors: "Tensors") -> "Shape":
        """Return the shape of a network with these weights."""
        return self._replace(units=len(tensors.recurrent), embedding_units=tensors.actions.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Tensors:
    """Weights in Keras' layout, all float32. An LSTM's gates come in the order i, f, c, o, a GRU's z, r, h.

    Attributes:
        actions: embedding, shape (codes, embedding_units); row 0 pads, the last is that of the unknown token, if any.
        gaps: embedding, shape (gap buckets, embedding_units); None without time.
        kernel: shape (embedding_units, gates * units).
        recurrent: shape (units, gates * units).
        bias: shape (gates * units,) for an LSTM, (2, gates * units) for a GRU.
        risk_kernel: shape (units, 1).
        risk_bias: shape (1,).
        signals: embedding of each signal, shape (its codes, embedding_units).
    """

    actions: NDArray[np.float32]
    gaps: NDArray[np.float32] | None
    kernel: NDArray[np.float32]
    recurrent: NDArray[np.float32]
    bias: NDArray[np.float32]
    risk_kernel: NDArray[np.float32]
    risk_bias: NDArray[np.float32]
    signals: tuple[NDArray[np.float32], ...] = ()

    @property
    def cell(self) -> Cell:
        """The recurrent cell, by how many gates it has."""
        return "lstm" if self.recurrent.shape[1] == GATES["lstm"] * len(self.recurrent) else "gru"

    @property
    def parameters(self) -> int:
        """How many numbers these are."""
        return sum(one.size for one in (*self._embeddings().values(), *self._cell(), *self._risk()))

    @classmethod
    def of(cls, network: Any, encoding: Encoding) -> "Tensors":
        """Take the weights out of what `build_network` returned for an encoding."""
        weights = {layer.name: layer.get_weights() for layer in network.layers}
        (kernel, recurrent, bias), (risk_kernel, risk_bias) = weights["cell"], weights["risk"]
        ends = np.cumsum(encoding.signals.codes)[:-1]
        return cls(
            weights["actions"][0],
            weights["gaps"][0] if "gaps" in weights else None,
            kernel,
            recurrent,
            bias,
            risk_kernel,
            risk_bias,
            tuple(np.split(weights["signals"][0], ends)) if encoding.signals else (),
        )

    def put_into(self, network: Any) -> Any:
        """Give these weights to what `build_network` returned, and return it."""
        weights = {name: [table] for name, table in self._embeddings().items()}
        weights |= {"cell": self._cell(), "risk": self._risk()}
        for name, arrays in weights.items():
            network.get_layer(name).set_weights(arrays)
        return network

    def _embeddings(self) -> dict[str, NDArray[np.float32]]:
        """Return the embeddings by the names of their layers."""
        gaps = {} if self.gaps is None else {"gaps": self.gaps}
        signals = {"signals": np.concatenate(self.signals)} if self.signals else {}
        return {"actions": self.actions} | gaps | signals

    def _cell(self) -> list[NDArray[np.float32]]:
        return [self.kernel, self.recurrent, self.bias]

    def _risk(self) -> list[NDArray[np.float32]]:
        return [self.risk_kernel, self.risk_bias]


def build_network(keras: Any, shape: Shape, encoding: Encoding) -> Any:
    """Build a causal network from what `inputs_of` returns to a logit at every step.

    What is embedded of a step is summed; where signals are among it, the cell reads the sum's positive part.
    """
    layers = keras.layers
    actions = keras.Input((encoding.window,), dtype="int32")
    inputs = [actions]
    codes = 1 + len(encoding.vocabulary) + encoding.unknown_token
    embedded = layers.Embedding(codes, shape.embedding_units, name="actions")(actions)
    if encoding.gap_bounds_ms:
        gaps = keras.Input((encoding.window,), dtype="int32")
        inputs.append(gaps)
        embedded += layers.Embedding(encoding.gap_buckets, shape.embedding_units, name="gaps")(gaps)
    if encoding.signals:
        signals = keras.Input((encoding.window, len(encoding.signals)), dtype="int32")
        inputs.append(signals)
        # As ones and zeros times one kernel, which is all tables one under the other: twice as fast as gathering rows.
        hot = [keras.ops.one_hot(signals[..., at], count) for at, count in enumerate(encoding.signals.codes)]
        tables = layers.Dense(
            shape.embedding_units, use_bias=False, kernel_initializer="uniform", name="signals"
        )
        embedded += tables(keras.ops.concatenate(hot, axis=-1))
        # A hidden layer over all of a step's codes: what is harmless alone, and not together, is seen before the cell.
        embedded = keras.ops.relu(embedded)
    cell = layers.LSTM if shape.cell == "lstm" else layers.GRU
    # Unrolled: TensorFlow's loop costs more on a CPU than the steps in it. Beyond, its graph would take minutes.
    unroll = encoding.window <= _LONGEST_UNROLLED
    hidden = cell(shape.units, return_sequences=True, unroll=unroll, name="cell")(embedded)
    if shape.dropout:
        hidden = layers.Dropout(shape.dropout, name="dropout")(hidden)
    return keras.Model(inputs, layers.Dense(1, name="risk")(hidden))


def inputs_of(windows: NDArray[np.void], encoding: Encoding) -> list[NDArray[np.int32]]:
    """Return what the network reads of some windows: codes of actions, of gaps and of signals, int32.

    Returns:
        shape (n, window) each, and (n, window, signals); those that the encoding has.
    """
    read = [
        "action",
        *(["gap"] if encoding.gap_bounds_ms else []),
        *(["signals"] if encoding.signals else []),
    ]
    return [windows[name].astype(np.int32) for name in read]


def scoring_place(windows: NDArray[np.void], *, masked: bool) -> NDArray[np.int64]:
    """Return the place in each window whose logit is its score's; shape (n,)."""
    if not masked:
        return np.full(len(windows), windows.shape[1] - 1)
    last: NDArray[np.int64] = np.maximum(np.count_nonzero(windows["action"], axis=1) - 1, 0)
    return last


def last_logits(
    network: Any, windows: NDArray[np.void], encoding: Encoding, *, masked: bool = True
) -> NDArray[np.float32]:
    """Return Keras' logit of each window, to hold the exported graph against; shape (n,)."""
    batch = max(1, min(_BATCH, _BATCH_STEPS // encoding.window))
    logits = network.predict(inputs_of(windows, encoding), batch_size=batch, verbose=0)[..., 0]
    taken: NDArray[np.float32] = logits[np.arange(len(windows)), scoring_place(windows, masked=masked)]
    return taken
