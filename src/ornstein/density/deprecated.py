"""Accept names of the previous release for one release more, with a `DeprecationWarning`."""

__all__ = ["renamed_arguments", "warn_renamed"]

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from ornstein.errors import OrnsteinError

P = ParamSpec("P")
R = TypeVar("R")


def warn_renamed(old: str, new: str, stacklevel: int = 3) -> None:
    """Warn the caller's caller that something is now called otherwise.

    Args:
        old, new: the names, as a user writes them.
        stacklevel: which caller is shown, as for `warnings.warn`.
    """
    warnings.warn(
        f"{old} is now {new}; the old name goes with the next release",
        DeprecationWarning,
        stacklevel=stacklevel,
    )


def renamed_arguments(**new_names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function accept keywords of the previous release, each with a warning.

    Args:
        new_names: the present name by the old one: ``renamed_arguments(steps="training_steps")``.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def accept(*args: Any, **keywords: Any) -> R:
            for old in new_names.keys() & keywords.keys():
                new = new_names[old]
                if new in keywords:
                    raise OrnsteinError(f"{old}= is now {new}=: pass one of the two")
                warn_renamed(f"{old}=", f"{new}=")
                keywords[new] = keywords.pop(old)
            return function(*args, **keywords)

        return accept

    return decorate
