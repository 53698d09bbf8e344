"""Checks on the numbers that a user passes, with errors that name the number and the fix.

Constructors of processes and laws call `require_positive` and `require_range` on their fields;
functions call `require_integers` and `require_finite` on their arguments.
"""

__all__ = ["require_finite", "require_integers", "require_positive", "require_range"]

import math
from numbers import Integral
from typing import Any

from ornstein.errors import OrnsteinError


def require_positive(owner: Any, *names: str, usual: str = "such as 1.0") -> None:
    """Raise `OrnsteinError` unless these fields of a process or a law are positive and finite.

    Args:
        owner: the object; its class stands in the message.
        names: the fields.
        usual: values that are usually right, the end of the message.
    """
    for name in names:
        value = getattr(owner, name)
        if not 0 < _number(value) < math.inf:
            raise OrnsteinError(
                f"{type(owner).__name__}({name}={value!r}): {name} must be positive and finite,"
                f" {usual}"
            )


def require_range(owner: Any, low: float, high: float, fix: str, **quantities: float) -> None:
    """Raise `OrnsteinError` unless quantities of a process or a law lie in ``[low, high]``.

    Args:
        owner: the object; its class stands in the message.
        low, high: the limits, both allowed.
        fix: what the user may do about it, the end of the message.
        quantities: their values, by the name of a field or of a combination of fields.
    """
    for name, value in quantities.items():
        if not low <= value <= high:
            raise OrnsteinError(
                f"{type(owner).__name__}: {name} is {value:g} and must be between {low:g} and"
                f" {high:g}: {fix}"
            )


def require_integers(minimum: int, **arguments: Any) -> None:
    """Raise `OrnsteinError` unless these arguments are integers of at least ``minimum``."""
    for name, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise OrnsteinError(
                f"{name}={value!r} is a {type(value).__name__}: pass an integer, at least {minimum}"
            )
        if int(value) < minimum:
            raise OrnsteinError(f"{name}={value}: pass an integer, at least {minimum}")


def require_finite(positive: bool = False, **arguments: Any) -> None:
    """Raise `OrnsteinError` unless these arguments are finite numbers, and positive if asked."""
    for name, value in arguments.items():
        number = _number(value)
        if not math.isfinite(number) or (positive and number <= 0):
            kind = "a positive" if positive else "a finite"
            raise OrnsteinError(f"{name}={value!r}: pass {kind} number, such as 1.0")


def _number(value: Any) -> float:
    """Return a number as a float, and NaN for anything else."""
    try:
        return math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return math.nan
