"""Several networks as one: their logits' mean, computed by one network that is as wide as all of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.training.network import GATES, Tensors


def together(members: Sequence[Tensors]) -> Tensors:
    """Return the network whose logit is the mean of the members', which have one shape.

    Embeddings and hidden states lie side by side, and no weight leads from one member to another. The mean of some
    networks errs less than one of them (Hansen and Salamon 1990).
    """
    if len(members) == 1:
        return members[0]
    gaps = [one.gaps for one in members if one.gaps is not None]
    return Tensors(
        np.concatenate([one.actions for one in members], axis=1),
        np.concatenate(gaps, axis=1) if gaps else None,
        _apart([one.kernel for one in members], members[0]),
        _apart([one.recurrent for one in members], members[0]),
        _beside([one.bias for one in members], members[0]),
        (np.concatenate([one.risk_kernel for one in members]) / len(members)).astype(np.float32),
        np.mean([one.risk_bias for one in members], axis=0).astype(np.float32),
    )


def _beside(arrays: Sequence[NDArray[np.float32]], like: Tensors) -> NDArray[np.float32]:
    """Put the last axes side by side, gate by gate."""
    gates = [np.split(array, GATES[like.cell], axis=-1) for array in arrays]
    return np.concatenate([np.concatenate(gate, axis=-1) for gate in zip(*gates, strict=True)], axis=-1)


def _apart(arrays: Sequence[NDArray[np.float32]], like: Tensors) -> NDArray[np.float32]:
    """Put matrices along the diagonal, gate by gate, and zeros elsewhere."""
    rows = len(arrays[0])
    spread = [
        np.pad(array, ((at * rows, (len(arrays) - 1 - at) * rows), (0, 0))) for at, array in enumerate(arrays)
    ]
    return _beside(spread, like)
