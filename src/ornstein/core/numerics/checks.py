"""Checks on the numbers that a user passes, with errors that name the number."""

__all__ = ["require_finite", "require_integers", "require_positive"]

import math
from numbers import Integral
from typing import Any

from ornstein.errors import OrnsteinError


def require_positive(process: Any, *names: str) -> None:
    """Raise `OrnsteinError` unless these numbers of a process or a law are positive and finite."""
    for name in names:
        value = getattr(process, name)
        if not 0 < value < math.inf:
            raise OrnsteinError(
                f"{type(process).__name__}({name}={value}): {name} must be positive and finite"
            )


def require_integers(minimum: int, **arguments: Any) -> None:
    """Raise `OrnsteinError` unless these arguments are integers of at least ``minimum``."""
    for name, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise OrnsteinError(
                f"{name}={value!r} is a {type(value).__name__}: pass an integer of at least {minimum}"
            )
        if int(value) < minimum:
            raise OrnsteinError(f"{name}={value}: pass an integer, at least {minimum}")


def require_finite(positive: bool = False, **arguments: Any) -> None:
    """Raise `OrnsteinError` unless these arguments are finite numbers, and positive if asked."""
    for name, value in arguments.items():
        try:
            number = math.nan if isinstance(value, str) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number) or (positive and number <= 0):
            kind = "a positive" if positive else "a finite"
            raise OrnsteinError(f"{name}={value!r}: pass {kind} number, such as 1.0")
