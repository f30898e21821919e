"""The network, in Keras, and its weights as arrays."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from trainer.training.config import TrainingConfig

_EMBEDDING, _LSTM, _RISK = "embedding", "lstm", "risk"


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of a network in Keras' layout, all float32. The LSTM's gates come in the order i, f, c, o.

    Attributes:
        embedding: shape (actions + 1, embedding_units).
        kernel: of the LSTM's input, shape (embedding_units, 4 * lstm_units).
        recurrent: of its hidden state, shape (lstm_units, 4 * lstm_units).
        bias: shape (4 * lstm_units,).
        risk_kernel: shape (lstm_units, 1).
        risk_bias: shape (1,).
    """

    embedding: NDArray[np.float32]
    kernel: NDArray[np.float32]
    recurrent: NDArray[np.float32]
    bias: NDArray[np.float32]
    risk_kernel: NDArray[np.float32]
    risk_bias: NDArray[np.float32]

    @classmethod
    def of(cls, network: Any) -> Self:
        """Take the weights out of what `build_network` returned."""
        return cls(
            *network.get_layer(_EMBEDDING).get_weights(),
            *network.get_layer(_LSTM).get_weights(),
            *network.get_layer(_RISK).get_weights(),
        )


def build_network(keras: Any, actions: int, config: TrainingConfig) -> Any:
    """Build and compile the notebook's network: Embedding, LSTM, Dropout, Dense with a sigmoid.

    It reads action codes of shape (n, window), int32, where 0 pads at the end and is not masked, and returns
    risks of shape (n, 1). With 8 actions and the default config it has 25,185 parameters.
    """
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((config.window,), dtype="int32"),
            layers.Embedding(actions + 1, config.embedding_units, name=_EMBEDDING),
            layers.LSTM(config.lstm_units, name=_LSTM),
            layers.Dropout(config.dropout),
            layers.Dense(1, activation="sigmoid", name=_RISK),
        ]
    )
    network.compile(
        optimizer="adam",
        loss="binary_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,  # XLA orders sums as it likes
    )
    return network
