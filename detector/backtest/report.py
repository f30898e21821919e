"""What a backtest came to, for people: a table, who is blocked otherwise than before, and a drawing."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from detector.backtest.comparing import Blocked, Comparison, Group
from detector.backtest.running import EXPLAINED, Backtest
from detector.terminal import because, printable
from detector.writing import written_whole

_WIDTH = 160
"""Columns for the table, wherever it goes: a name that is cut short says nothing."""
_LABELS = {1: "attack", 0: "lawful", None: ""}
_GOOD, _BAD, _NEITHER = "#2a7f4f", "#c0392b", "#5b6b7f"


def show(outcome: Backtest, names: tuple[str, str], verdicts: str) -> None:
    """Print a backtest.

    Args:
        outcome: of the two sides.
        names: of the one in service, and of the other.
        verdicts: what is to be said of those in the history.
    """
    console, comparison = (
        Console(highlight=False, markup=False, soft_wrap=True, width=_WIDTH),
        outcome.comparison,
    )
    console.print(f"A  {names[0]}\nB  {names[1]}\n{verdicts}")
    console.print(_table(comparison))
    for total in comparison.totals:
        console.print(
            f"{total.name}, {total.sessions:,}: "
            + ", ".join(
                f"{side} {does} {number:,} ({number / (total.sessions or 1):.2%})"
                for does, numbers in (("challenges", total.challenged), ("blocks", total.blocked))
                for side, number in zip("AB", numbers, strict=True)
                if does == "blocks" or any(numbers)
            )
        )
    _list(console, "newly blocked", comparison.newly)
    _list(console, "no longer", comparison.no_longer)
    for name, count in outcome.matches.items():
        console.print(f"rule {name}: held at {count:,} events")
    console.print(
        f"{outcome.events:,} events in {outcome.elapsed_s:.1f} s, by both models: "
        f"{outcome.events / outcome.elapsed_s:,.0f} events/s, {outcome.times_real:,.0f} x real time"
    )


def _table(comparison: Comparison) -> Table:
    table = Table()
    for column in ("sessions", "label"):
        table.add_column(column, no_wrap=True)
    asks = any(any(group.challenged) for group in comparison.groups)
    asked = ("A challenges", "B challenges") if asks else ()
    for column in ("of", *asked, "A blocks", "B blocks", "newly", "no longer", "earlier", "later"):
        table.add_column(column, justify="right", no_wrap=True)
    for group in comparison.groups:
        table.add_row(
            printable(group.name),
            _LABELS[group.label],
            "" if group.sessions is None else f"{group.sessions:,}",
            *(f"{number:,}" for number in (*(group.challenged if asks else ()), *group.blocked)),
            f"+{group.newly:,}",
            f"-{group.no_longer:,}",
            f"{group.earlier:,}",
            f"{group.later:,}",
        )
    return table


def _list(console: Console, title: str, blocks: Sequence[Blocked]) -> None:
    for block in blocks[:EXPLAINED]:
        kind = " ".join(dict.fromkeys(filter(None, (_LABELS[block.label], block.type))))
        console.print(
            printable(
                f"{title}: {kind} session {block.session_id} at action {block.action_number}, {block.action}, "
                f"score {block.score:.4f}{because(block.explanation)}"
            )
        )
    if len(blocks) > EXPLAINED:
        console.print(f"{title}: and {len(blocks) - EXPLAINED:,} more; --json has all of them")


def draw(comparison: Comparison, names: tuple[str, str], path: Path) -> None:
    """Draw, by kind of session, how many are newly blocked (to the right) and how many no longer (to the left).

    Args:
        comparison: of the two sides.
        names: of the one in service, and of the other.
        path: of the PNG.

    Raises:
        ImportError: matplotlib is not installed; the detector itself never draws.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415

    by_label = [[one for one in comparison.groups if one.label == label] for label in (1, 0, None)]
    panels = [groups for groups in by_label if groups]
    rows = sum(map(len, panels))
    figure = Figure(figsize=(10, 1.6 + 0.8 * len(panels) + 0.32 * rows), layout="constrained")
    figure.suptitle(
        f"Blocked by B and not by A (right), by A and not by B (left)\nA  {names[0]}    B  {names[1]}"
    )
    axes = figure.subplots(
        max(1, len(panels)), squeeze=False, height_ratios=[len(one) + 1 for one in panels] or None
    )
    for (panel,), groups in zip(axes, panels, strict=False):
        label = groups[0].label
        newly, no_longer = {1: (_GOOD, _BAD), 0: (_BAD, _GOOD), None: (_NEITHER, _NEITHER)}[label]
        at = range(len(groups))
        gained = panel.barh(at, [one.newly for one in groups], color=newly)
        lost = panel.barh(at, [-one.no_longer for one in groups], color=no_longer)
        panel.bar_label(gained, [f"+{one.newly:,}" if one.newly else "" for one in groups], padding=3)
        panel.bar_label(
            lost, [f"\N{MINUS SIGN}{one.no_longer:,}" if one.no_longer else "" for one in groups], padding=3
        )
        panel.set_yticks(at, [_described(one) for one in groups])
        panel.invert_yaxis()
        panel.axvline(0, color="black", linewidth=0.8)
        panel.margins(x=0.15)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.set_title(
            {1: "Attacks", 0: "Lawful sessions", None: "Sessions without a label"}[label], loc="left"
        )
    with written_whole(path) as file:
        figure.savefig(file, dpi=110, format="png")


def _described(group: Group) -> str:
    return group.name if group.sessions is None else f"{group.name}  ({group.sessions:,})"
