"""The errors that ornstein raises on purpose. Each states the value, the constraint and the usual
fix."""

__all__ = ["CheckpointError", "DataError", "OrnsteinError", "UnknownNameError"]

from collections.abc import Iterable
from difflib import get_close_matches


class OrnsteinError(ValueError):
    """Base of every deliberate error; a ``ValueError``, so that plain ``except ValueError`` catches
    it."""


class DataError(OrnsteinError):
    """The data handed in cannot be learned from: NaN, infinite, empty, or of the wrong shape."""


class CheckpointError(OrnsteinError):
    """A run folder is missing, truncated, or was written for another model."""


class UnknownNameError(OrnsteinError):
    """A name (of a method, spacing, recipe, target ...) that is not registered.

    Args:
        kind: what was being looked up, for the message ("method", "recipe").
        name: what was given.
        known: the names that exist.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = get_close_matches(str(name), known, n=1)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(f"unknown {kind} {name!r}: choose one of {', '.join(known)}.{guess}")
