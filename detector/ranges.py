"""Ranges of numbers that commands take."""

import math
from typing import Any

import click


class NumberRange(click.FloatRange):
    """A range of numbers, as click's, but that NaN lies in none: it compares with no bound."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number; fail if it is none, or lies outside."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return number
