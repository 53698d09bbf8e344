"""Base classes of numerical methods, and the declaration of which equations a method solves.

An equation ``dX = a dt + g dB`` is meant in Ito's or in Stratonovich's sense (its calculus), and is
driven by one of four kinds of noise (`ornstein.core.processes.noise_type`). A method solves certain
combinations of the two, each with an order of convergence in the step h:

    strong order p:  E|X_T - x_T| = O(h^p) on one path of B,
    weak order q:    |E f(X_T) - E f(x_T)| = O(h^q) for smooth f.

A `SDEMethod` states both in its class attribute `solves`. Subclasses inherit the statement, and the
tests hold every method of the library to it. With additive noise the two senses agree, so that the
calculus does not matter there. Kloeden and Platen 1992, sections 9.6 and 9.7.
"""

__all__ = [
    "BOTH",
    "ITO",
    "STRATONOVICH",
    "STRONG_HALF",
    "STRONG_ONE",
    "STRONG_ONE_COMMUTING",
    "STRONG_THREE_HALVES",
    "ODEMethod",
    "ReverseMethod",
    "SDEMethod",
    "SolverOrders",
    "StochasticMethod",
    "calculus_of",
    "methods_of_strong_order",
    "noise_name",
    "require_fit",
    "require_ode",
    "require_reverse",
]

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ornstein.core.processes.noise_type import ADDITIVE, NOISE_TYPES, driving
from ornstein.core.processes.reverse import Reverse
from ornstein.core.simulation.method import Method
from ornstein.errors import OrnsteinError

ITO = ("ito",)
"""Calculi of a method that solves Ito equations alone."""
STRATONOVICH = ("stratonovich",)
"""Calculi of a method that solves Stratonovich equations alone."""
BOTH = ITO + STRATONOVICH
"""Calculi of a method that solves equations of either calculus."""

STRONG_HALF = {"additive": 1.0, "diagonal": 0.5, "scalar": 0.5, "general": 0.5}
"""Strong orders, by the kind of noise, of Euler-Maruyama and its relatives."""
STRONG_ONE = {"additive": 1.0, "diagonal": 1.0, "scalar": 1.0}
"""Strong orders, by the kind of noise, of methods like Milstein's."""
STRONG_ONE_COMMUTING = STRONG_ONE | {"general": 0.5}
"""Strong orders, by the kind of noise, of methods of order 1 for commuting noise."""
STRONG_THREE_HALVES = {"additive": 1.5, "diagonal": 1.5, "scalar": 1.5}
"""Strong orders, by the kind of noise, of methods of order 3/2."""


@dataclass(frozen=True)
class SolverOrders:
    """The equations that a method solves, and its order of convergence on each of them.

    Args:
        calculi: senses of the equation, of "ito" and "stratonovich".
        strong: strong order for each kind of noise, of "additive", "diagonal", "scalar" and
            "general"; a kind that is missing is refused.
        weak: weak order, the smallest over these kinds.
    """

    calculi: tuple[str, ...]
    strong: Mapping[str, float]
    weak: float

    def strong_order(self, sde: Any) -> float | None:
        """Return the strong order on an equation, or None if its kind of noise is not solved."""
        return self.strong.get(noise_name(sde))

    def fits(self, sde: Any) -> bool:
        """Return whether both the calculus and the noise of an equation are solved."""
        sense = calculus_of(sde) in self.calculi or driving(sde) == ADDITIVE
        return sense and self.strong_order(sde) is not None


@dataclass(frozen=True)
class SDEMethod(Method):
    """Base class of methods for general equations, which declare in `solves` what they handle.

    A method of your own derives from it, states ``solves`` and ``order``, and implements ``step``.
    It then works in `ornstein.solve`, `ornstein.simulate` and the estimators of expectations. A
    subclass of a method of the library inherits both statements.
    """

    solves: ClassVar[SolverOrders]

    def noisy(self, sde: Any) -> bool:
        """Return True unless the equation is an ordinary differential equation."""
        return not getattr(sde, "deterministic", False)

    def start(self, sde: Any, times: Tensor) -> None:
        """Raise unless the method solves the equation, as its `solves` declares."""
        require_fit(self, sde)


@dataclass(frozen=True)
class ODEMethod(Method):
    """Base class of methods that never draw noise."""

    def noisy(self, sde: Any) -> bool:
        """Return False, for the method solves ordinary differential equations."""
        return False


@dataclass(frozen=True)
class StochasticMethod(Method):
    """Base class of methods that draw noise in every step, whatever the equation."""

    def noisy(self, sde: Any) -> bool:
        """Return True, for every step draws noise."""
        return True


@dataclass(frozen=True)
class ReverseMethod(Method):
    """Base class of methods for the generating process `Reverse` of a posterior."""

    def noisy(self, sde: Any) -> bool:
        """Return True if the eta of the `Reverse` process is positive."""
        return require_reverse(self, sde).eta > 0


def require_reverse(method: Any, sde: Any) -> Reverse:
    """Return ``sde``, or raise unless it is the generating process of a posterior."""
    if not isinstance(sde, Reverse):
        raise OrnsteinError(
            f"{method} solves orn.Reverse(posterior), got {type(sde).__name__}: use EulerMaruyama()"
            " or Heun()"
        )
    return sde


def require_ode(method: Any, sde: Any) -> None:
    """Raise unless ``sde`` is an ordinary differential equation."""
    if not getattr(sde, "deterministic", False):
        raise OrnsteinError(
            f"{method} solves an ODE: pass orn.Reverse(posterior, eta=0), or use Ancestral() for"
            " eta > 0"
        )


def calculus_of(sde: Any) -> str:
    """Return the calculus of an equation, "ito" where the equation does not say."""
    return getattr(sde, "calculus", "ito")


def noise_name(sde: Any) -> str:
    """Return the name of the kind of noise that drives an equation, such as "diagonal"."""
    noise = driving(sde)
    return next(name for name, value in NOISE_TYPES.items() if value == noise)


def require_fit(method: Any, sde: Any) -> None:
    """Raise unless a method declares that the method solves an equation.

    Raises:
        OrnsteinError: with the methods of the library that do; or if the method declares nothing.
    """
    solves = getattr(method, "solves", None)
    if solves is None:
        raise OrnsteinError(
            f"{type(method).__name__} does not declare which equations it solves: give the class an"
            " attribute such as solves = orn.methods.SolverOrders(('ito',), {'diagonal': 0.5},"
            " weak=1)"
        )
    if not solves.fits(sde):
        others = ", ".join(_solvers_of(sde))
        raise OrnsteinError(
            f"{method} does not solve {calculus_of(sde)} equations with {noise_name(sde)} noise:"
            f" those that do are {others}"
        )


def methods_of_strong_order(sde: Any, order: float) -> list[str]:
    """Return the names of the library's methods of at least this strong order on an equation."""
    return [
        method.__name__
        for method in _library_methods()
        if (method.solves.strong_order(sde) or 0.0) >= order
    ]


def _solvers_of(sde: Any) -> list[str]:
    """Return the names of the library's methods that solve an equation."""
    return [method.__name__ for method in _library_methods() if method.solves.fits(sde)]


def _library_methods() -> Iterator[type[SDEMethod]]:
    """Yield the subclasses that are defined in this library and declare what they solve."""
    classes = SDEMethod.__subclasses__()
    while classes:
        method = classes.pop(0)
        public = not method.__name__.startswith("_") and method.__module__.startswith("ornstein.")
        if public and hasattr(method, "solves"):
            yield method
        classes = method.__subclasses__() + classes
