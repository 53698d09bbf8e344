"""Checks on the numbers that a user passes, with errors that name the number."""

__all__ = ["require_positive"]

import math
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
