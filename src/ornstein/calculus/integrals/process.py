"""Stochastic processes as random variables that are functions of time: ``omega -> (t -> x)``.

A stochastic process is a function of two arguments. For a fixed seed omega it is a path, a function
of time; for a fixed time it is a random variable. Processes of the same omega are made of the same
random numbers, so that they can be compared and combined path by path.
"""

__all__ = ["StochasticProcess"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ornstein.core.processes.linear import Time
from ornstein.core.random.noise import Noise

Omega = int | Noise
Function = Callable[[Any], Any]


@dataclass(frozen=True)
class StochasticProcess:
    """A random variable whose value at a seed is a path, a function of time.

        B = StochasticProcess(lambda omega: BrownianPath((1000,), seed=omega))
        B(7)(0.5)                                 # the path of seed 7, at time 0.5: (1000,)
        X = B.map(lambda x, t: (x - t / 2).exp())     # geometric Brownian motion, on the same paths
        X(7)(0.5)

    Args:
        law: ``omega -> (t -> x)``.
    """

    law: Callable[[Omega], Function]

    def __call__(self, omega: Omega) -> Function:
        """The path at ``omega``, a function of time."""
        return self.law(omega)

    def at(self, t: Time) -> Callable[[Omega], Tensor]:
        """Return the random variable ``omega -> x`` of the process at one time."""
        return lambda omega: self.law(omega)(t)

    def map(self, f: Callable[[Any, Time], Any]) -> "StochasticProcess":
        """Return the process ``f(X_t, t)``, on the same paths."""

        def law(omega: Omega) -> Function:
            path = self.law(omega)
            return lambda t: f(path(t), t)

        return StochasticProcess(law)

    def then(self, functional: Callable[[Function], Any]) -> Callable[[Omega], Any]:
        """Return the random variable ``omega -> functional(path)``, such as a maximum."""
        return lambda omega: functional(self.law(omega))

    def through(self, operator: Callable[[Function], Function]) -> "StochasticProcess":
        """Return the process whose path is ``operator(path)``, such as a stopped path."""
        return StochasticProcess(self.then(operator))

    def combine(
        self, other: "StochasticProcess", f: Callable[[Any, Any], Any] = lambda x, y: (x, y)
    ) -> "StochasticProcess":
        """Return the process ``f(X_t, Y_t)`` of two processes at the same omega.

        Args:
            other: the process Y.
            f: of two values; by default the pair.
        """

        def law(omega: Omega) -> Function:
            x, y = self.law(omega), other.law(omega)
            return lambda t: f(x(t), y(t))

        return StochasticProcess(law)
