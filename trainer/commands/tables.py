"""Figures in the terminal."""

import click
from rich.console import Console
from rich.table import Table

from trainer.evaluation.figures import Figures
from trainer.evaluation.report import Section, sections


def show(console: Console, figures: Figures) -> None:
    """Print a model's figures."""
    for section in sections(figures):
        show_table(console, section)


def show_table(console: Console, section: Section) -> None:
    """Print a table: as such in a terminal, elsewhere plain lines, the first of them its header."""
    if console.is_terminal:
        table = Table(*section.header)
        for row in section.rows:
            table.add_row(*row)
        console.print(table)
        return
    for row in (section.header, *section.rows):
        click.echo(f"{row[0]}: {'  '.join(filter(None, row[1:]))}")
