"""Accept names of the previous release for one release more, with a `DeprecationWarning`.

Keywords of functions, fields of dataclasses and methods have got the names of the literature. The
decorators of this file let the old names work as well, so that a program of the previous release
runs and says what to change.
"""

__all__ = ["renamed_arguments", "warn_renamed"]

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from ornstein.errors import OrnsteinError

F = TypeVar("F", bound=Callable[..., Any])


def warn_renamed(old: str, new: str, stacklevel: int = 3) -> None:
    """Warn the caller of the calling function that a name has changed.

    Args:
        old, new: the names, as a user writes them.
        stacklevel: which caller is shown, as for `warnings.warn`.
    """
    warnings.warn(
        f"{old} is now {new}; the old name goes with the next release",
        DeprecationWarning,
        stacklevel=stacklevel,
    )


def renamed_arguments(**new_names: str) -> Callable[[F], F]:
    """Let a function or a dataclass accept keywords of the previous release, each with a warning.

    A class is changed in place: only its ``__init__`` is wrapped, so that pickling, comparison and
    `dataclasses.replace` stay as they are.

    Args:
        new_names: the present name by the old one: ``renamed_arguments(steps="training_steps")``.

    Returns:
        The decorator. What it decorates raises `OrnsteinError` for a call with both names.
    """

    def decorate(target: Any) -> Any:
        if isinstance(target, type):
            target.__init__ = accept_old(target.__init__)  # type: ignore[misc]
            return target
        return accept_old(target)

    def accept_old(function: F) -> F:
        @wraps(function)
        def accept(*args: Any, **keywords: Any) -> Any:
            for old in new_names.keys() & keywords.keys():
                new = new_names[old]
                if new in keywords:
                    raise OrnsteinError(f"{old}= is now {new}=: pass one of the two")
                warn_renamed(f"{old}=", f"{new}=")
                keywords[new] = keywords.pop(old)
            return function(*args, **keywords)

        return accept  # type: ignore[return-value]

    return decorate
