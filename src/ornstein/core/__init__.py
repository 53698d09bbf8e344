"""The shared core: processes, time grids, one simulation loop, its methods, and path measures."""

__all__ = ["mcmc", "methods", "paths", "processes", "random", "simulation", "solvers", "timesteps"]

from importlib import import_module
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    """Import a subpackage of the core at its first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
