"""The settings of the detector as options of its commands, and the configuration that was given by them."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import click

from detector.runtime.config import ConfigurationError, DetectorConfig
from detector.runtime.settings import environment_variable_of, flag_of


def settings(*names: str, **defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command an option for each of these fields of DetectorConfig; for all, if none.

    Args:
        names: of the fields.
        defaults: of fields that this command has others for.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for one in reversed(fields(DetectorConfig)):
            if names and one.name not in {*names, *defaults}:
                continue
            unit = one.metadata["unit"]
            flag = flag_of(one)
            switch, repeats = isinstance(one.default, bool), isinstance(one.default, tuple)
            command = click.option(
                f"{flag}/--no-{flag[2:]}" if switch else flag,
                one.name,
                type=str if repeats else type(one.default),
                multiple=repeats,
                default=defaults.get(one.name, one.default),
                envvar=environment_variable_of(one),
                show_envvar=True,
                metavar=None
                if switch
                else "FIELD=NAME"
                if repeats
                else f"<{unit or type(one.default).__name__}>",
                help=one.metadata["help"],
            )(command)
        return command

    return decorate


def config_of(given: Mapping[str, Any]) -> DetectorConfig:
    """Return the configuration with these settings.

    Raises:
        click.UsageError: one of them is out of its bounds.
    """
    try:
        return DetectorConfig(**given)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
