"""Errors that the library raises on purpose.

Each message states the value, the constraint that it breaks, and the usual fix, in one line that
can be shown to a user. All derive from `OrnsteinError`, so that a program can tell a mistake in its
input from a defect.
"""

__all__ = ["CheckpointError", "DataError", "OrnsteinError", "UnknownNameError"]

from collections.abc import Iterable
from difflib import get_close_matches


class OrnsteinError(ValueError):
    """Base class of every deliberate error, a ``ValueError`` that states the usual fix.

    Example:
        >>> try:
        ...     orn.Noise("zero")
        ... except orn.errors.OrnsteinError as error:
        ...     print(str(error)[:11])
        seed='zero'
    """


class DataError(OrnsteinError):
    """The data handed in cannot be learned from: NaN, infinite, empty, or of the wrong shape."""


class CheckpointError(OrnsteinError):
    """A run folder is missing, truncated, or was written for another model."""


class UnknownNameError(OrnsteinError):
    """A name (of a method, spacing, recipe, target ...) that is not registered.

    Args:
        kind: what was looked up, for the message ("method", "recipe").
        name: the name that was given.
        choices: the names that exist; the message suggests the closest.
    """

    def __init__(self, kind: str, name: str, choices: Iterable[str]) -> None:
        ordered = sorted(choices)
        closest = get_close_matches(str(name), ordered, n=1)
        guess = f" Did you mean {closest[0]!r}?" if closest else ""
        super().__init__(f"unknown {kind} {name!r}: choose one of {', '.join(ordered)}.{guess}")
