"""What a benchmark comes to: rows and ratios with their spread, as JSON, Markdown and a plot."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import matplotlib as mpl
import msgspec

mpl.use("Agg")
from matplotlib import pyplot as plt  # after the choice of a backend without a screen

_T = TypeVar("_T")


class Row(msgspec.Struct):
    """One thing measured.

    Attributes:
        name: what.
        unit: of the runs.
        runs: one figure a repetition.
    """

    name: str
    unit: str
    runs: list[float]


class Ratio(msgspec.Struct):
    """Two things of the same repetition, one divided by the other.

    Attributes:
        name: what by what.
        runs: one quotient a repetition.
        target: what was to be reached; None where nothing was demanded.
        lower_is_better: the target is an upper bound.
    """

    name: str
    runs: list[float]
    target: float | None = None
    lower_is_better: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the median meets the target."""
        if self.target is None:
            return None
        median = statistics.median(self.runs)
        return median <= self.target if self.lower_is_better else median >= self.target


class Result(msgspec.Struct):
    """One benchmark's outcome.

    Attributes:
        name: of its files.
        title: of its section.
        how: what was run, under which conditions, in a sentence or two.
        rows: absolute figures, which hold for one machine.
        ratios: which carry over, and which the guard compares.
        targets: absolute targets by the row's name; a row of a unit of time is to stay below.
    """

    name: str
    title: str
    how: str
    rows: list[Row]
    ratios: list[Ratio]
    targets: dict[str, float] = {}


def repeated(contenders: Mapping[str, Callable[[], _T]], repetitions: int) -> dict[str, list[_T]]:
    """Let all take turns, so that each meets the same load; return the figures of each."""
    runs: dict[str, list[_T]] = {name: [] for name in contenders}
    for _ in range(repetitions):
        for name, measure in contenders.items():
            runs[name].append(measure())
    return runs


def quotients(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Divide pair by pair."""
    return [a / b for a, b in zip(above, below, strict=True)]


def _number(value: float) -> str:
    if abs(value) >= 100:  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"  # noqa: PLR2004


def _spread(runs: Sequence[float]) -> str:
    return f"{_number(min(runs))} to {_number(max(runs))}"


def markdown(result: Result, image: str) -> str:
    """Render a section: ratios first."""
    lines = [f"## {result.title}", "", result.how, ""]
    if result.ratios:
        lines += ["| ratio | median | range | target | |", "|---|---|---|---|---|"]
        for ratio in result.ratios:
            sign = "≤" if ratio.lower_is_better else "≥"
            target = "" if ratio.target is None else f"{sign} {_number(ratio.target)}"
            verdict = {None: "", True: "reached", False: "**not reached**"}[ratio.reached]
            middle = _number(statistics.median(ratio.runs))
            lines.append(f"| {ratio.name} | {middle} | {_spread(ratio.runs)} | {target} | {verdict} |")
        lines.append("")
    lines += ["| measured | median | range | unit | target | |", "|---|---|---|---|---|---|"]
    for row in result.rows:
        median, bound = statistics.median(row.runs), result.targets.get(row.name)
        below = row.unit in {"ms", "s"}
        limit, state = "", ""
        if bound is not None:
            limit = f"{'≤' if below else '≥'} {_number(bound)}"
            met = median <= bound if below else median >= bound
            state = "reached" if met else "**not reached**"
        lines.append(
            f"| {row.name} | {_number(median)} | {_spread(row.runs)} | {row.unit} | {limit} | {state} |"
        )
    lines += ["", f"![{result.title}]({image})", ""]
    return "\n".join(lines)


def plot(result: Result, path: Path) -> None:
    """Draw the rows as bars with their range, one panel a unit, on a logarithmic scale."""
    units = list(dict.fromkeys(row.unit for row in result.rows))
    heights = [sum(row.unit == unit for row in result.rows) for unit in units]
    figure, panels = plt.subplots(
        len(units),
        1,
        squeeze=False,
        figsize=(9, 0.32 * sum(heights) + 0.9 * len(units)),
        gridspec_kw={"height_ratios": [height + 1 for height in heights]},
        layout="constrained",
    )
    for (panel,), unit in zip(panels, units, strict=True):
        rows = [row for row in result.rows if row.unit == unit]
        medians = [statistics.median(row.runs) for row in rows]
        below = [max(0, median - min(row.runs)) for median, row in zip(medians, rows, strict=True)]
        above = [max(0, max(row.runs) - median) for median, row in zip(medians, rows, strict=True)]
        panel.barh(
            [row.name for row in rows], medians, xerr=[below, above], color="#3b6ea5", ecolor="#222222"
        )
        panel.invert_yaxis()
        panel.set_xlabel(unit)
        if min(medians) > 0 and max(medians) / min(medians) > 20:  # noqa: PLR2004
            panel.set_xscale("log")
    figure.suptitle(result.title)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


def read(path: Path) -> Result:
    """Read a result that `write` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=Result)


def write(result: Result, folder: Path) -> None:
    """Write a result's JSON and plot into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    document = msgspec.json.format(msgspec.json.encode(result), indent=1)
    (folder / f"{result.name}.json").write_bytes(document + b"\n")
    plot(result, folder / f"{result.name}.png")
