"""What explaining an alert on demand costs, beside scoring; and how far estimated values are off.

First table: the time to explain one window of so many actions, to the time that the same scorer takes for as many
windows as the explanation asked for, and to a scoring call of one window, round by round. Second table: the error of
estimated values against exact ones, in windows where both can be had, beside permutations.
"""

import uuid
from unittest.mock import patch

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.arguments import model_argument, rounds_argument
from benchmarks.timing import spread, timed
from detector.core import explaining
from detector.core.encoding import STEP_BYTES, Encoding
from detector.core.explaining import EXACT_ACTIONS, shapley_values
from detector.model.artifact import Model

_GAPS_MS = (300, 3_000, 30_000)
_ERROR_WINDOWS = 40
_ERROR_ACTIONS = 13


def window(encoding: Encoding, count: int, number: int) -> bytes:
    """Draw a window of so many actions."""
    rng = np.random.RandomState(number)
    times_ms = np.cumsum(rng.choice(_GAPS_MS, count)).tolist()
    return encoding.steps(rng.choice(encoding.vocabulary, count).tolist(), times_ms)


def cost(model: Model, rounds: int) -> Table:
    """Measure single explanations."""
    table = Table(title=f"One explanation, {rounds} rounds: median (lowest to highest)")
    for column in ("actions", "windows scored", "to scoring those alone", "to scoring one", "ms"):
        table.add_column(column, justify="right")
    encoding = model.encoding
    counts = (1, 2, 4, 8, EXACT_ACTIONS, EXACT_ACTIONS + 1, encoding.window)
    for count in sorted({min(count, encoding.window) for count in counts}):
        asked: list[NDArray[np.void]] = []

        def score(windows: NDArray[np.void], asked: list[NDArray[np.void]] = asked) -> NDArray[np.float32]:
            asked[:] = [windows]
            return model.score(windows)

        beside, single, took_ms = [], [], []
        for number in range(rounds):
            one = window(encoding, count, number)
            whole_s = timed(lambda one=one: shapley_values(one, encoding, score, uuid.UUID(int=1)))  # type: ignore[misc]
            alone_s = timed(lambda asked=asked: model.score(asked[0]))  # type: ignore[misc]
            one_s = timed(lambda asked=asked: model.score(asked[0][-1:]))  # type: ignore[misc]
            beside.append(whole_s / alone_s)
            single.append(whole_s / one_s)
            took_ms.append(whole_s * 1000)
        table.add_row(str(count), f"{len(asked[0]):,}", spread(beside), spread(single, 0), spread(took_ms, 1))
    return table


def errors(model: Model) -> Table:
    """Measure how far estimates are off, beside permutations in antithetic pairs that score as many coalitions."""
    count = min(_ERROR_ACTIONS, model.encoding.window)
    most = min(explaining.MAX_COALITIONS, 2**count // 4)
    table = Table(
        title=f"{_ERROR_WINDOWS} windows of {count} actions, {most:,} of {2**count:,} coalitions scored"
    )
    for column in ("estimate", "mean error", "largest error", "largest value"):
        table.add_column(column, justify="right")
    windows = [window(model.encoding, count, number) for number in range(_ERROR_WINDOWS)]

    def explained(one: bytes) -> list[float]:
        return shapley_values(one, model.encoding, model.score, uuid.UUID(int=2)).values

    with patch.object(explaining, "EXACT_ACTIONS", count):
        exact = np.array([explained(one) for one in windows])
    with patch.object(explaining, "EXACT_ACTIONS", 0), patch.object(explaining, "MAX_COALITIONS", most):
        kernel = np.array([explained(one) for one in windows])
    permutations = np.array([by_permutations(model, one, count, most) for one in windows])
    for name, estimated in (("Kernel SHAP, as shipped", kernel), ("permutations", permutations)):
        off = np.abs(estimated - exact)
        table.add_row(name, f"{off.mean():.5f}", f"{off.max():.4f}", f"{np.abs(exact).max():.2f}")
    return table


def by_permutations(model: Model, one: bytes, count: int, most: int) -> NDArray[np.float64]:
    """Estimate Shapley values by permutations and their reverses."""
    rng = np.random.RandomState(3)
    drawn = [rng.permutation(count) for _ in range(most // (2 * count))]
    orders = [order.tolist() for pair in drawn for order in (pair, pair[::-1])]
    steps = [one[at : at + STEP_BYTES] for at in range(0, len(one), STEP_BYTES)]
    coalitions = [
        b"".join(steps[at] for at in sorted(order[:size])) for order in orders for size in range(count + 1)
    ]
    scores = model.score(model.encoding.windows(coalitions)).astype(np.float64).reshape(-1, count + 1)
    values = np.zeros(count)
    for order, gains in zip(orders, np.diff(scores, axis=1), strict=True):
        values[order] += gains / len(orders)
    return values


@click.command(help=__doc__)
@model_argument(default="default")
@rounds_argument()
def main(model: Model, rounds: int) -> None:
    """Measure and print."""
    console = Console()
    for table in (cost(model, rounds), errors(model)):
        console.print(table)


if __name__ == "__main__":
    main()
