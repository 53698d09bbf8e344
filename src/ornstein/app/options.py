"""Command-line options from the signature of the library call that a command makes.

A verb of the command line is a frozen dataclass, from which tyro builds a parser. The decorator
`takes` adds one option for each parameter of a Python call: its name, type and default come from
the signature, its help from the ``Args`` section of the docstring. A parameter that cannot be
written in a shell (an array, a function, an object) is declared by the command in another form, or
left out. So the shell and Python offer the same options, and a new parameter of
`ornstein.fit` is an option of ``ornstein train`` on the same day.
"""

__all__ = [
    "argument_help",
    "arguments",
    "check_numbers",
    "condition_values",
    "parameters",
    "shell_type",
    "takes",
]

import inspect
import math
import re
import types
from collections.abc import Callable, Collection
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import numpy as np
import torch
import tyro

from ornstein.errors import OrnsteinError

_Command = TypeVar("_Command")
_WRITTEN = (bool, int, float, str, Path, types.NoneType)  # types that an argument can be read as
_LARGEST = 2**63 - 1  # whole number that torch can hold
_FINITE = 1e100  # size of a number whose square and inverse square are finite in double precision


def parameters(call: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a function or method by name, without ``self``."""
    signature = inspect.signature(call, eval_str=True).parameters
    return {name: parameter for name, parameter in signature.items() if name != "self"}


def argument_help(call: Callable[..., Any]) -> dict[str, str]:
    """Return the ``Args`` section of a docstring, one line for each parameter."""
    text = inspect.getdoc(call) or ""
    section = re.search(r"^Args:\n((?: {4}.*\n?|\n)+)", text, re.MULTILINE)
    entries = re.findall(
        r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", section[1] if section else "", re.M
    )
    words: dict[str, str] = {}
    for names, description in entries:
        line = " ".join(description.replace("`", "").split())
        words |= {name.strip(): line[:1].upper() + line[1:] for name in names.split(",")}
    return words


def shell_type(annotation: Any) -> Any:
    """Return the part of an annotation that can be written in a shell, or None if no part can."""
    union = get_origin(annotation) in (Union, types.UnionType)
    members = get_args(annotation) if union else (annotation,)
    written = [m for m in members if m in _WRITTEN or get_origin(m) is Literal]
    if Path in written:
        written = [m for m in written if m is not str]
    if not set(written) - {types.NoneType}:
        return None
    return Union[tuple(written)]  # noqa: UP007  # a tuple of types that is known at run time only


def takes(
    call: Callable[..., Any],
    prefix: str = "",
    without: Collection[str] = (),
    see: Callable[..., Any] | None = None,
) -> Callable[[type[_Command]], type[_Command]]:
    """Return a class decorator that adds the parameters of a call as fields of a command.

    Fields that the class declares stay as they are. ``@dataclass`` is applied after it.

    Args:
        call: the function or method that the command calls.
        prefix: of the names of the options, where one command makes two calls.
        without: parameters to leave out.
        see: the function that the docstring of ``call`` refers to for some of its parameters.
    """

    def add(command: type[_Command]) -> type[_Command]:
        words = argument_help(see or call)
        words |= {k: v for k, v in argument_help(call).items() if not v.startswith("See ")}
        declared = command.__annotations__
        for name, parameter in parameters(call).items():
            kind = shell_type(parameter.annotation)
            required = parameter.default is inspect.Parameter.empty
            if prefix + name in declared or name in without or kind is None or required:
                continue
            declared[prefix + name] = Annotated[kind, tyro.conf.arg(help=words.get(name, ""))]
            setattr(command, prefix + name, parameter.default)
        return command

    return add


def arguments(
    command: Any, call: Callable[..., Any], prefix: str = "", **resolved: Any
) -> dict[str, Any]:
    """Return the keyword arguments of a call from the options of a command.

    Args:
        command: the instance that the parser has made.
        call: the function or method to call.
        prefix: see `takes`.
        resolved: arguments whose value is not what was typed: objects in place of their names.
    """
    option_names = {field.name for field in fields(command)}
    names = [name for name in parameters(call) if prefix + name in option_names]
    return {name: getattr(command, prefix + name) for name in names} | resolved


def condition_values(pairs: Collection[str] | None) -> dict[str, Any]:
    """Read conditions that are written as ``name=value``.

    A value is a number for all samples, numbers between commas for a vector or one number per
    sample, or an .npy file of rows.

    Raises:
        OrnsteinError: for text of another form.
    """
    values: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, text = pair.partition("=")
        try:
            if not (name and equals):
                raise ValueError("there is no name=")
            if name in values:
                raise ValueError(f"{name} is given twice")
            values[name] = _read_value(text)
        except (OSError, ValueError, TypeError, EOFError) as error:
            raise OrnsteinError(
                f"--conditions {pair}: {error}; write name=value, such as age=40, where=0.5,1 or"
                " y=rows.npy"
            ) from error
    return values


def _read_value(text: str) -> Any:
    """Return a text as a whole number, a real number, or a tensor."""
    if text.endswith(".npy"):
        return torch.from_numpy(np.load(text, allow_pickle=False))
    numbers = [float(word) if re.search(r"[.eEn]", word) else int(word) for word in text.split(",")]
    return numbers[0] if len(numbers) == 1 else torch.tensor(numbers)


def check_numbers(command: Any) -> None:
    """Raise for numbers with which no computation is possible, whatever the option.

    Raises:
        OrnsteinError: for a whole number beyond 64 bits, a NaN, or a number whose square is not
            finite in double precision.
    """
    for field in fields(command):
        value = getattr(command, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            option = f"--{field.name.replace('_', '-')} {number}"
            if isinstance(number, int) and abs(number) > _LARGEST:
                raise OrnsteinError(f"{option}: whole numbers go up to {_LARGEST}")
            if isinstance(number, float) and not _is_usable(number):
                raise OrnsteinError(
                    f"{option}: must be zero, infinite, or of a size between {1 / _FINITE:g} and"
                    f" {_FINITE:g}, so that its square is a number"
                )


def _is_usable(number: float) -> bool:
    """Return whether a number is zero, infinite, or has a square and an inverse square."""
    return number == 0 or math.isinf(number) or 1 / _FINITE <= abs(number) <= _FINITE
