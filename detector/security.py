"""The commands about security: `python -m detector permissions` and `pseudonym`."""

from pathlib import Path
from typing import Any

import click

from detector.options import config_of, settings
from detector.runtime.permissions import Role
from detector.runtime.permissions import permissions as needed
from detector.runtime.pseudonyms import KeyRefusedError, Pseudonyms


@click.command()
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default=Role.DETECTOR.value,
    help="Whose: of the detector, of `alerts` and `console`, of the producer, or of the command of that name.",
)
@click.option("--principal", help="Who that is to the brokers.  [default: User: and the role's name]")
@settings("group", "input_topic", "alerts_topic", "verdicts_topic", "create_topics", "shadow_model", "rules")
def permissions(*, role: str, principal: str | None, **given: Any) -> None:
    """Print what the detector, or another command, must be allowed, as calls of Kafka's kafka-acls.

    They lack --bootstrap-server and --command-config, which are yours.
    """
    for permission in needed(config_of(given), Role(role)):
        click.echo(f"{permission.command(principal or f'User:{role}')}  # {permission.reason}")


@click.command()
@click.option(
    "--key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="DETECTOR_PSEUDONYM_KEY_FILE",
    show_envvar=True,
    required=True,
    help="The key that the detector was started with.",
)
@click.argument("identifiers", metavar="ID...", nargs=-1, required=True)
def pseudonym(*, key_file: Path, identifiers: tuple[str, ...]) -> None:
    """Print what stands for the ids of sessions or accounts in the detector's log."""
    try:
        pseudonyms = Pseudonyms.from_file(key_file)
    except KeyRefusedError as error:
        raise click.ClickException(str(error)) from error
    for identifier in identifiers:
        click.echo(f"{pseudonyms.of(identifier)} {identifier}")
