"""Shallow models that try to tell attacks by what is not behaviour: length, duration, mean gap and first gap."""

import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from producer.behaviour.session import SimulatedSession

Floats = npt.NDArray[np.float64]


def shallow_features(some: list[SimulatedSession]) -> Floats:
    """Return (sessions of two actions or more, 4): logarithms of length, duration, mean gap and first gap."""
    rows = [
        (
            len(session.actions),
            session.duration_ms,
            session.duration_ms / (len(session.actions) - 1),
            session.gaps_ms[1],
        )
        for session in some
        if len(session.actions) > 1
    ]
    return np.log(np.array(rows, dtype=np.float64))


def squares(z: Floats) -> Floats:
    """Add the squares and products of the features, so that a peak can be cut out and not only a side."""
    pairs = itertools.combinations_with_replacement(range(z.shape[1]), 2)
    return np.column_stack([z, *(z[:, i] * z[:, j] for i, j in pairs)])


def logistic_scores(train: Floats, is_attack: Floats, test: Floats) -> Floats:
    """Fit a class-balanced ridge logistic regression by Newton's method, and score `test`."""
    weight = np.where(is_attack == 1, (1 - is_attack).sum() / is_attack.sum(), 1.0)
    design = np.column_stack([np.ones(len(train)), train])
    theta = np.zeros(design.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(design @ theta, -30, 30)))
        curvature = weight * np.maximum(p * (1 - p), 1e-9)
        hessian = (design * curvature[:, None]).T @ design + 1e-2 * np.eye(len(theta))
        theta += np.linalg.solve(hessian, design.T @ (weight * (is_attack - p)) - 1e-2 * theta)
    return np.asarray(np.column_stack([np.ones(len(test)), test]) @ theta)


def interval_recall(lawful: Floats, attack: Floats, false_alarms: float) -> float:
    """Return the best recall of one feature cut at two places, at most so many false alarms (seen on the data)."""
    best = 0.0
    for ours, theirs in zip(np.sort(lawful, axis=0).T, np.sort(attack, axis=0).T, strict=True):
        edges = np.quantile(theirs, np.linspace(0, 1, 41))
        for low, high in itertools.combinations_with_replacement(edges, 2):
            within = [
                (np.searchsorted(values, high, "right") - np.searchsorted(values, low)) / len(values)
                for values in (ours, theirs)
            ]
            if within[0] <= false_alarms:
                best = max(best, float(within[1]))
    return best


def shallow_recalls(lawful: list[SimulatedSession], attacks: list[SimulatedSession]) -> dict[str, float]:
    """Return what shallow models catch of `attacks`, fitted on one half of the data and measured on the other."""
    x, y = shallow_features(lawful), shallow_features(attacks)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    x, y = (x - mean) / scale, (y - mean) / scale
    train = np.concatenate([x[::2], y[::2]])
    is_attack = np.concatenate([np.zeros(len(x[::2])), np.ones(len(y[::2]))])

    def recall(expand: Callable[[Floats], Floats], false_alarms: float) -> float:
        test = expand(np.concatenate([x[1::2], y[1::2]]))
        scores = logistic_scores(expand(train), is_attack, test)
        ours, theirs = scores[: len(x[1::2])], scores[len(x[1::2]) :]
        return float(np.mean(theirs > np.quantile(ours, 1 - false_alarms)))

    return {
        "linear at 1 %": recall(lambda z: z, 0.01),
        "quadratic at 0.1 %": recall(squares, 0.001),
        "interval at 0.1 %": interval_recall(x, y, 0.001),
    }


BOUNDS = {"linear at 1 %": 0.5, "quadratic at 0.1 %": 0.15, "interval at 0.1 %": 0.1}
"""What a shallow model may reach: far below what makes a family an artefact, above what behaviour gives away."""
