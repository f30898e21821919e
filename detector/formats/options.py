"""The two settings of a wire format, for commands that have not all the detector's; its variables count for them too."""

from collections.abc import Callable

import click

from detector.formats.wire import FIELD, INPUT_FORMAT, InputFormat, WireFormat

NAMES = ("input_format", "field")


def format_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options; it makes a WireFormat of them with `wire_format_of`."""
    for option in (
        click.option(
            "--field",
            envvar="DETECTOR_FIELD",
            multiple=True,
            metavar="FIELD=NAME",
            show_envvar=True,
            help=FIELD,
        ),
        click.option(
            "--input-format",
            envvar="DETECTOR_INPUT_FORMAT",
            type=click.Choice([one.value for one in InputFormat]),
            default=InputFormat.AUTO.value,
            show_default=True,
            show_envvar=True,
            help=INPUT_FORMAT,
        ),
    ):
        command = option(command)
    return command


def wire_format_of(input_format: str, field: tuple[str, ...]) -> WireFormat:
    """Return the wire format that the options name.

    Raises:
        click.UsageError: they don't.
    """
    try:
        return WireFormat.of(input_format, field)
    except ValueError as error:
        raise click.UsageError(f"--field {error}") from error
