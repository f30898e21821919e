"""Shapley values (Shapley 1953) of the steps of a window: what each adds in the mean over all orders of arrival.

An absent step is taken out of the window: what is left moves together, and each step keeps the gap it had. Exact
values weigh every coalition; Kernel SHAP (Lundberg and Lee 2017) estimates them from all of the smallest and largest
coalitions and from pairs of complements of the sizes between (Covert and Lee 2021). Sums are exact or exactly rounded,
so that nothing depends on the batch, the worker or a BLAS, but only on the scores. ADR 0011 has the alternatives and
the errors measured.
"""

import functools
import itertools
import math
import uuid
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


def all_coalitions(steps: Sequence[bytes]) -> list[bytes]:
    """List the packed steps of every coalition: bit i of its number tells whether step i is in it."""
    coalitions = [b""]
    for step in steps:
        coalitions += [one + step for one in coalitions]
    return coalitions


def exact_values(scores: NDArray[np.float64], count: int) -> list[float]:
    """Weigh the gain of each of `count` steps over every coalition without it (Shapley's formula).

    Args:
        scores: of `all_coalitions`.
        count: of steps.
    """
    without, joined, weights = _pairs(count)
    gains = (scores[joined] - scores[without]) * weights
    return [math.fsum(of_one) for of_one in gains.tolist()]


@functools.cache  # for the few counts that are computed exactly
def _pairs(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """List for each step the coalitions without it, the same joined by it, and their weights.

    Returns:
        three arrays of shape (count, 2 ** (count - 1)).
    """
    numbers = np.arange(1 << count)
    sizes = np.sum([numbers >> bit & 1 for bit in range(count)], axis=0)
    by_size = np.array([1 / (count * math.comb(count - 1, size)) for size in range(count)])
    without = np.array([numbers[numbers >> bit & 1 == 0] for bit in range(count)])
    joined = without | 1 << np.arange(count)[:, None]
    return without, joined, by_size[sizes[without]]


class Layer(NamedTuple):
    """Coalitions of one size and their complements: all there are, or a sample that stands for them.

    Attributes:
        weight: Shapley kernel of one of them.
        members: shape (coalitions, steps).
    """

    weight: float
    members: NDArray[np.bool_]


def layers(count: int, seed: uuid.UUID, room: int) -> Iterator[Layer]:
    """Share `room` coalitions among the sizes by the kernel's weight, the smallest and largest first.

    Args:
        count: of steps, at least two.
        seed: decides which coalitions are drawn, where not all of a size fit.
        room: most coalitions.
    """
    # RandomState and not Generator: its stream is frozen for good (NEP 19).
    random = np.random.RandomState(np.frombuffer(seed.bytes, "<u4"))
    sizes = range(1, count // 2 + 1)
    kernel = {size: (count - 1) / (size * (count - size)) * (1 if 2 * size == count else 2) for size in sizes}
    for size in sizes:
        share = int(room * kernel[size] / math.fsum(kernel[other] for other in sizes[size - 1 :]))
        halves = 2 * size == count
        if math.comb(count, size) * (1 if halves else 2) <= share:
            drawn = np.array(list(itertools.combinations(range(count), size)))
        else:
            drawn = np.array([random.permutation(count)[:size] for _ in range(share // 2)])
            halves = False
        members = np.zeros((len(drawn), count), np.bool_)
        np.put_along_axis(members, drawn, values=True, axis=1)
        members = members if halves else np.concatenate([members, ~members])
        room -= len(members)
        yield Layer(kernel[size] / len(members), members)


def coalitions_of(steps: Sequence[bytes], sampled: Sequence[Layer]) -> list[bytes]:
    """List the packed steps of the layers' coalitions."""
    rows = itertools.chain.from_iterable(layer.members.tolist() for layer in sampled)
    return [b"".join(itertools.compress(steps, row)) for row in rows]


def estimated_values(
    scores: NDArray[np.float64], sampled: Sequence[Layer], baseline: float, whole: float
) -> list[float]:
    """Fit a sum to the scores by least squares under the kernel's weights, with the right sum for all steps.

    Args:
        scores: of `coalitions_of` these layers.
        sampled: the layers.
        baseline: score without any of the steps.
        whole: score with all of them.
    """
    count = sampled[0].members.shape[1]
    normal, right = np.zeros((count - 1, count - 1)), np.zeros(count - 1)
    begin = 0
    for weight, members in sampled:
        # The last step's value is the rest of the sum, which takes it out of the unknowns.
        rows = members[:, :-1].astype(np.float64) - members[:, -1:]
        seen = scores[begin : begin + len(rows)] - baseline - members[:, -1] * (whole - baseline)
        begin += len(rows)
        normal += weight * (rows.T @ rows)  # of whole numbers: exact, in whatever order they are added
        right += weight * np.array([math.fsum(column) for column in (rows.T * seen).tolist()])
    values = _solve(normal, right)
    return [*values, math.fsum([whole, -baseline, *(-value for value in values)])]


def _solve(matrix: NDArray[np.float64], right: NDArray[np.float64]) -> list[float]:
    """Solve a positive definite system, which needs no pivots; by elementwise steps, whose bits are no BLAS's."""
    size = len(right)
    for at in range(size):
        factors = matrix[at + 1 :, at] / matrix[at, at]
        matrix[at + 1 :] -= factors[:, None] * matrix[at]
        right[at + 1 :] -= factors * right[at]
    solution = np.zeros(size)
    for at in reversed(range(size)):
        known = math.fsum((matrix[at, at + 1 :] * solution[at + 1 :]).tolist())
        solution[at] = (right[at] - known) / matrix[at, at]
    values: list[float] = solution.tolist()
    return values
