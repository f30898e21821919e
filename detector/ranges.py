"""Ranges of numbers that commands take."""

import math
from typing import Any

import click


class NumberRange(click.FloatRange):
    """A range of numbers, as click's, but that NaN and what is infinite lie in none: the one compares with no bound, the other is no number to count with."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number; fail if it is none, or lies outside."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return number
