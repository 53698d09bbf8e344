"""Import what a user's command names: objects ``module:name``, and ``--import module``.

A command never imports what a file says; it imports what the user typed.
"""

__all__ = ["ConditionValues", "Imports", "import_module", "import_modules", "import_object", "made"]

import importlib
import sys
from collections.abc import Callable, Collection
from types import ModuleType
from typing import Annotated, Any

import tyro

from ornstein.errors import OrnsteinError

Imports = Annotated[
    tuple[str, ...],
    tyro.conf.arg(
        aliases=["--import"],
        help="Modules to import first: those that register processes, networks or data of yours.",
    ),
]
"""The option ``--imports``, also written ``--import``."""

ConditionValues = Annotated[
    tuple[str, ...] | None,
    tyro.conf.arg(
        aliases=["--condition"],
        help="Conditions by name, such as age=40 where=0.5,1: a value for all samples; or"
        " name=rows.npy.",
    ),
]
"""The option ``--conditions``, also written ``--condition``."""


def import_modules(names: Collection[str]) -> None:
    """Import modules of the user, which register classes of their own.

    Raises:
        OrnsteinError: if one cannot be imported.
    """
    for name in names:
        import_module(name)


def import_module(name: str) -> ModuleType:
    """Import a module from the current folder or an installed package.

    Raises:
        OrnsteinError: if the text is no name of a module, or the module fails at its import.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        raise OrnsteinError(f"{name!r} is no name of a module: for mymodel.py write mymodel")
    sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except Exception as error:  # a module of the user's may fail in any way
        raise OrnsteinError(
            f"{name}: {type(error).__name__}: {error}. Name a module that Python can import from"
            " this folder"
        ) from error
    finally:
        sys.path.remove("")


def import_object(path: str) -> Any:
    """Import the object ``module:name``, from the current folder or an installed package.

    Raises:
        OrnsteinError: if the text has another form, or the module or the name cannot be imported.
    """
    module, _, name = path.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise OrnsteinError(f"{path}: write module:name, such as mymodel:log_prob for mymodel.py")
    try:
        return getattr(import_module(module), name)
    except AttributeError as error:
        raise OrnsteinError(f"{path}: {error}") from error


def made(text: str, named: Callable[[str], Any]) -> Any:
    """Return the object of a registered name or of ``module:name``; a class is called first.

    Args:
        text: what was typed.
        named: the function that resolves the names of the library.
    """
    if ":" not in text:
        return named(text)
    value = import_object(text)
    return value() if isinstance(value, type) else value
