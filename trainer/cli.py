"""The command line of the trainer."""

import sys

import click

from detector.version import VERSION

try:
    from trainer.commands.compare import compare
    from trainer.commands.evaluate import evaluate
    from trainer.commands.events import events
    from trainer.commands.train import train
except ModuleNotFoundError as error:
    sys.exit(
        f"Error: {error}: expected what training needs; run `make venv` in a checkout, or install "
        "session-fraud-detector[train]"
    )


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(VERSION)
def main() -> None:
    """Train the model that the detector scores with, and evaluate any."""


for command in (train, evaluate, compare, events):
    main.add_command(command)
