"""How one setting is declared, and how it is called on the command line and in the environment."""

from dataclasses import Field, field
from typing import Any


def setting(
    help_text: str,
    default: Any,
    *,
    env: str | None = None,
    unit: str = "",
    minimum: float = 1,
    maximum: float | None = None,
    decides: bool = False,
) -> Any:
    """Declare one setting: a dataclass field that also knows its help text, unit, environment variable and bounds.

    What `decides` on alerts is recorded in the model epochs, under the same name.
    """
    metadata = {
        "help": help_text,
        "env": env,
        "unit": unit,
        "minimum": minimum,
        "maximum": maximum,
        "decides": decides,
    }
    return field(default=default, metadata=metadata)


def flag_of(one: Field[Any]) -> str:
    """Return the command-line flag of a setting."""
    return "--" + one.name.replace("_", "-")


def environment_variable_of(one: Field[Any]) -> str:
    """Return the environment variable of a setting: DETECTOR_ and its name, unless it has one of its own."""
    return one.metadata["env"] or f"DETECTOR_{one.name.upper()}"
