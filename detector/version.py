"""The version of the whole distribution; `pyproject.toml` reads it here, so that a checkout knows it without installation."""

from typing import Final

VERSION: Final = "0.1.0"
