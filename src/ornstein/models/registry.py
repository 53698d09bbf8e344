"""The registry of classes that a run folder may name: processes, networks, codecs and conditions.

A run folder stores an object as ``{"class": "module:qualname", **arguments}`` with the arguments of
its constructor. What a file says is never trusted: `build` makes objects only of classes on an
allow-list, which holds the classes of ornstein and those that the running program has registered by
`register` or `allow`. Release 0.1 wrote short names such as "VP", which are still read.
"""

__all__ = [
    "allow",
    "build",
    "configuration",
    "is_own",
    "lookup",
    "name_of",
    "register",
    "registered",
    "same",
]

import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from ornstein.core import processes
from ornstein.core.processes import LinearSDE
from ornstein.errors import CheckpointError, OrnsteinError
from ornstein.models.analytic_networks import MixtureNetwork, ProductNetwork
from ornstein.models.codecs.affine import Codec, Levels
from ornstein.models.codecs.triangular import TriangularCodec
from ornstein.nets import MLP, UNet
from ornstein.nets.conditions import Label, Vector

_Class = TypeVar("_Class")
_classes: dict[str, type | None] = {}  # None for a name that is allowed and not yet imported
_names: dict[type, str] = {}
_short_names: dict[str, type] = {}


def register(cls: _Class) -> _Class:
    """Put a class on the allow-list of run folders; also usable as a decorator.

    The class may be a process (`LinearSDE`), a network, a codec, a condition, or a kind of data
    (`ornstein.training.datasets.DataKind`, which `ornstein.fit` then reads). Networks keep the
    arguments of their constructor in ``config``; dataclasses need nothing.

    Args:
        cls: a class that a program importing its module can find by its name.

    Returns:
        The class itself.

    Example:
        >>> import dataclasses
        >>> @orn.register
        ... @dataclasses.dataclass(frozen=True)
        ... class Slower(orn.VP):
        ...     beta_max: float = 8.0
    """
    if not isinstance(cls, type):
        raise OrnsteinError(f"register({cls!r}): pass a class, not an object")
    _classes[name_of(cls)] = cls
    return cls


def allow(name: str) -> None:
    """Put a class on the allow-list by its name; it is imported when a run folder needs it.

    Args:
        name: ``"package.module:Class"``.

    Raises:
        OrnsteinError: for a name that is not of this form.

    Example:
        >>> orn.allow("mypackage.networks:MyNet")
    """
    module, colon, qualname = str(name).partition(":")
    if not (module and colon and qualname):
        raise OrnsteinError(f"allow({name!r}): pass 'package.module:Class'")
    _classes.setdefault(name, None)


def registered(base: type) -> list[type]:
    """Return the registered classes that derive from ``base``, in the order of registration."""
    return [cls for cls in _classes.values() if cls is not None and issubclass(cls, base)]


def is_own(cls: type) -> bool:
    """Return whether a class is one of ornstein's own."""
    return cls in _names


def name_of(cls: type) -> str:
    """Return the name of a class in run folders, ``"module:qualname"``.

    A class of the program that was started is named by the file of the program, so that another
    program can import it.
    """
    if cls in _names:
        return _names[cls]
    module = cls.__module__
    main = sys.modules.get("__main__")
    if module == "__main__" and getattr(main, "__file__", None):
        module = Path(str(main.__file__)).stem  # type: ignore[union-attr]
    return f"{module}:{cls.__qualname__}"


def configuration(thing: object) -> dict[str, Any]:
    """Return the class and the constructor's arguments of an object, as JSON takes them.

    Raises:
        OrnsteinError: for an object without a configuration, or one that is made of functions.
    """
    return {"class": name_of(type(thing)), **_arguments(thing)}


def _arguments(thing: object) -> dict[str, Any]:
    """Return the constructor's arguments of an object: its ``config``, or its dataclass fields."""
    name = type(thing).__name__
    config = getattr(thing, "config", None)
    if callable(config):
        try:
            config = config()
        except TypeError:  # a process that is no dataclass has no fields to tell
            config = None
    if config is None and is_dataclass(thing):
        config = {f.name: getattr(thing, f.name) for f in fields(thing) if f.init}
    if not isinstance(config, Mapping):
        raise OrnsteinError(
            f"a {name} cannot be saved: make it a dataclass, or give it an attribute config, a"
            " dictionary of its constructor's arguments"
        )
    return {key: _json(value, name) for key, value in config.items()}


def _json(value: Any, owner: str) -> Any:
    """Return a value as JSON takes it, with objects of registered classes as configurations."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_json(v, owner) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _json(v, owner) for k, v in value.items()}
    if name_of(type(value)) in _classes or hasattr(value, "config") or is_dataclass(value):
        return configuration(value)
    if callable(value):
        raise OrnsteinError(
            f"a {owner} is made of functions and cannot be saved: use one made of numbers"
        )
    raise OrnsteinError(f"a {owner} with a {type(value).__name__} cannot be saved: use numbers")


def lookup(config: Any, base: type) -> tuple[type, dict[str, Any]]:
    """Return the class that a configuration names, and its arguments.

    Raises:
        CheckpointError: for a class that is not allowed or does not derive from ``base``.
    """
    if not isinstance(config, Mapping):
        raise CheckpointError(f"a configuration is an object with a class, got {config!r:.80}")
    key = "class" if "class" in config else "name"
    name = config.get(key)
    cls = _find(name)
    if not issubclass(cls, base):
        raise CheckpointError(f"{name!r} is no {base.__name__}")
    return cls, {k: _value(v) for k, v in config.items() if k != key}


def build(config: Any, base: type) -> Any:
    """Make the object that a `configuration` describes.

    Raises:
        CheckpointError: for a class that is not allowed or does not derive from ``base``.
    """
    cls, arguments = lookup(config, base)
    return cls(**arguments)


def same(config: Any, other: Any) -> bool:
    """Return whether two configurations are equal, one of them perhaps with a short name."""
    if not (isinstance(config, Mapping) and isinstance(other, Mapping)):
        return bool(config == other)
    first, second = ({**c, "class": c.get("class", c.get("name"))} for c in (config, other))
    short = _short_names.get(str(first["class"]))
    if short is not None:
        first["class"] = name_of(short)
        first.pop("name", None)
    return first == second


def _value(value: Any) -> Any:
    """Return an argument, with the objects of nested configurations made."""
    if isinstance(value, Mapping):
        if "class" in value:
            return build(value, object)
        return {k: _value(v) for k, v in value.items()}
    return [_value(v) for v in value] if isinstance(value, list) else value


def _find(name: Any) -> type:
    """Return the class of a name on the allow-list, imported if needed."""
    if name in _short_names:
        return _short_names[name]
    if not isinstance(name, str) or name not in _classes:
        raise CheckpointError(
            f"the class {name!r} is not registered: if you trust it, import its module and call"
            f' orn.register on it, or call orn.allow("{name}"), before loading'
        )
    cls = _classes[name]
    if cls is None:
        module, _, qualname = name.partition(":")
        try:
            imported: Any = import_module(module)
            for part in qualname.split("."):
                imported = getattr(imported, part)
        except (ImportError, AttributeError) as error:
            raise CheckpointError(f"the class {name!r} cannot be imported: {error}") from error
        cls = _classes[name] = register(imported)
    return cls


def _register_own() -> None:
    """Register the classes of ornstein under the names of the packages that export them."""
    own_classes: dict[str, list[type]] = {
        "ornstein.core.processes": [
            cls
            for name in processes.__all__
            if isinstance(cls := getattr(processes, name), type)
            and issubclass(cls, LinearSDE)
            and cls is not LinearSDE
        ],
        "ornstein.nets": [MLP, UNet],
        "ornstein.nets.conditions": [Label, Vector],
        "ornstein.models": [MixtureNetwork, ProductNetwork],
        "ornstein.models.codecs": [Codec, TriangularCodec, Levels],
    }
    for module, classes in own_classes.items():
        for cls in classes:
            _names[cls] = f"{module}:{cls.__name__}"
            _classes[_names[cls]] = _short_names[cls.__name__] = cls


_register_own()
