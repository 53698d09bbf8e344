"""A number that was estimated from random samples, with its standard error."""

__all__ = ["Estimate"]

from typing import NamedTuple


class Estimate(NamedTuple):
    """A number and its standard error, both in the units of the quantity."""

    value: float
    stderr: float
