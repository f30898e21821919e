"""Figures on the terminal."""

from typing import Any

import click
from rich.console import Console
from rich.table import Table

from trainer.evaluation.report import figure_rows, group_rows


def show(console: Console, figures: Any) -> None:
    """Print the figures: tables in a terminal, plain lines elsewhere."""
    families = [(name, count, share, before) for name, count, share, before in group_rows(figures.by_family)]
    lawful = list(group_rows(figures.by_lawful_kind))
    for header, rows in (
        (("on the sessions held out", "", "95 % interval"), list(figure_rows(figures))),
        (("attack family", "sessions", "blocked", "before the last large transfer"), families),
        (("lawful kind", "sessions", "false alarms", ""), lawful),
    ):
        if console.is_terminal:
            table = Table(*header)
            for row in rows:
                table.add_row(*row)
            console.print(table)
        else:
            for row in rows:
                click.echo(f"{row[0]}: {'  '.join(filter(None, row[1:]))}")
