"""The command line: `python -m producer simulate` and `python -m producer replay`."""

import click

from detector.version import VERSION
from producer.commands.replay import replay
from producer.commands.simulate import simulate


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION)
def main() -> None:
    """Publish session actions to Kafka: simulated, or recorded earlier.

    Every option can be given as an environment variable, named in its help.
    """


for command in (simulate, replay):
    main.add_command(command)
