"""The command line of the trainer."""

from importlib import import_module
from typing import NoReturn

import click

from detector.version import VERSION


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(VERSION)
def main() -> None:
    """Train the model that the detector scores with, and evaluate any."""


def _without_extra(name: str, missing: ModuleNotFoundError) -> click.Command:
    """Return what stands for a command where what it imports is not installed: it takes anything, and says so."""
    told = (
        f"{missing}: expected what training needs; run `make venv` in a checkout, or install "
        "session-fraud-detector[train]"
    )

    @click.command(
        name,
        help="Not installed: needs session-fraud-detector[train].",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True},
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def tell(**_: object) -> NoReturn:
        raise click.ClickException(told)

    return tell


for _name in ("train", "evaluate", "compare", "events"):
    try:
        _command: click.Command = getattr(import_module(f"trainer.commands.{_name}"), _name)
    except ModuleNotFoundError as error:
        _command = _without_extra(_name, error)
    main.add_command(_command)
