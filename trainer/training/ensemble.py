"""Several networks as one: what each learns from, and their logits' mean, computed by one network as wide as all."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.data.sessions import Sessions, Splits, together_in
from trainer.data.splitting import fewest, fold_of
from trainer.training.calibration import DEFAULT_TARGET_FPR
from trainer.training.defaults import MEMBERS, Schedule
from trainer.training.network import GATES, Tensors

_STOPPING_SHARE: Final = 20
_STOPPING_SESSIONS: Final = 20_000


def pairs_for(parts: Splits, members: int | None, schedule: Schedule) -> list[tuple[Sessions, Sessions]]:
    """Return for each network the sessions that it learns from, and those that say when to end.

    Args:
        parts: of several, training and validation part are one: each leaves out a fold. One leaves out a part of the
            training sessions. What is left out has attacks and lawful sessions, or the validation part says when to end.
        members: how many, fewer where there are not as many of each kind. None takes one where the validation part can show DEFAULT_TARGET_FPR, and otherwise MEMBERS.
        schedule: of the fits.
    """
    can_show = (parts.valid.labels == 0).sum() * DEFAULT_TARGET_FPR >= 1
    members = members or (1 if can_show else MEMBERS)
    if members == 1 and not schedule.stops_early:
        return [(parts.train, parts.valid if len(parts.valid) else parts.test)]
    pool, count = parts.train, max(_STOPPING_SHARE, len(parts.train) // _STOPPING_SESSIONS)
    if members > 1:
        pool, count = together_in(parts.train, parts.valid), members
    count = min(count, fewest(pool))
    if count <= 1:
        return [(parts.train, parts.valid)]
    fold = fold_of(pool, count, schedule.seed)
    return [
        (pool.take(np.flatnonzero(fold != number)), pool.take(np.flatnonzero(fold == number)))
        for number in range(min(members, count))
    ]


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
        tuple(
            np.concatenate(tables, axis=1) for tables in zip(*(one.signals for one in members), strict=True)
        ),
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
