"""`python -m broker`: the embedded development broker from the command line."""

import logging
import signal
import sys
from pathlib import Path
from types import FrameType

import click

from broker.embedded import DEFAULT_PORT, EmbeddedBroker
from broker.errors import BrokerError
from broker.jars import KAFKA_VERSION, write_lock
from detector.version import VERSION

_LOOK_INTERVAL_S = 3600.0
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@click.group()
@click.version_option(VERSION, message=f"%(prog)s, version %(version)s, with Apache Kafka {KAFKA_VERSION}")
def main() -> None:
    """A real Apache Kafka for development and tests, with nothing but Python installed."""
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    logging.getLogger("broker").setLevel(logging.INFO)


def _properties(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    properties = {}
    for value in values:
        name, equals, setting = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{value!r}; expected NAME=VALUE, such as log.retention.ms=60000")
        properties[name] = setting
    return properties


def _stop(_number: int, _frame: FrameType | None) -> None:
    """Unwind, which stops the broker; a second signal must not interrupt that, which is bounded."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(0)


@main.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="TCP port on the loopback interface; 0 = a free one.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the data, kept and reused; without it a temporary one, removed at the end.",
)
@click.option(
    "--property",
    "properties",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_properties,
    help="A further broker property; may be given more than once.",
)
def up(port: int, data_dir: Path | None, properties: dict[str, str]) -> None:
    """Start the embedded broker and keep it until SIGTERM or SIGINT (Ctrl-C).

    Its bootstrap address is the one line on standard output, printed once it answers; the rest goes to standard
    error.
    """
    for number in _ENDING:
        signal.signal(number, _stop)
    try:
        with EmbeddedBroker(port=port, data_dir=data_dir, properties=properties) as broker:
            click.echo(
                f"Apache Kafka {KAFKA_VERSION} runs as process {broker.pid}, data and logs in {broker.data_dir};"
                " Ctrl-C stops it",
                err=True,
            )
            click.echo(broker.bootstrap_servers)
            while True:
                broker.wait(_LOOK_INTERVAL_S)
    except BrokerError as error:
        click.echo(f"broker: {error}", err=True)
        sys.exit(1)


@main.command()
def lock() -> None:
    """Resolve the broker's jars anew and rewrite their pinned checksums (after a change of version)."""
    click.echo(f"wrote {write_lock()}", err=True)


if __name__ == "__main__":
    main()
