"""Errors that the library raises on purpose.

Each message states the value, the constraint that it breaks, and the usual fix, in one line that
can be shown to a user. All derive from `OrnsteinError`, so that a program can tell a mistake in its
input from a defect.
"""

__all__ = ["CheckpointError", "DataError", "OrnsteinError", "UnknownNameError", "look_up"]

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")


class OrnsteinError(ValueError):
    """The base class of all deliberate errors, a ``ValueError`` that states the usual fix.

    Example:
        >>> try:
        ...     orn.Noise("zero")
        ... except orn.errors.OrnsteinError as error:
        ...     print(str(error)[:11])
        seed='zero'
    """


class DataError(OrnsteinError):
    """The data cannot be learned from: NaN, infinite, empty, or of the wrong shape."""


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


def look_up(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Return the entry of a table by its name, or raise an error that lists the names.

    Args:
        kind: what is looked up, for the message ("method", "recipe").
        name: a key of the table.
        table: the entries by name.

    Raises:
        UnknownNameError: for a name that the table does not have.
    """
    if name not in table:
        raise UnknownNameError(kind, name, table)
    return table[name]
