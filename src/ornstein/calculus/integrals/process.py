"""Random variables whose values are functions: ``omega -> (t -> x)``.

A stochastic process is a function of two arguments. Fix the seed omega and what is left is a path,
a function of time; fix the time and what is left is a random variable. Processes of the same omega
belong together: they are made of the same chance.
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
    """A random variable whose value at a seed is a path.

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
        """The random variable ``omega -> x`` at one time."""
        return lambda omega: self.law(omega)(t)

    def map(self, f: Callable[[Any, Time], Any]) -> "StochasticProcess":
        """The process ``f(X_t, t)``."""

        def law(omega: Omega) -> Function:
            path = self.law(omega)
            return lambda t: f(path(t), t)

        return StochasticProcess(law)

    def then(self, functional: Callable[[Function], Any]) -> Callable[[Omega], Any]:
        """The random variable ``omega -> functional(path)``: an integral, a maximum, a hitting
        time."""
        return lambda omega: functional(self.law(omega))

    def through(self, operator: Callable[[Function], Function]) -> "StochasticProcess":
        """The process whose path is ``operator(path)``: a running mean, a delayed or stopped
        path."""
        return StochasticProcess(self.then(operator))

    def combine(
        self, other: "StochasticProcess", f: Callable[[Any, Any], Any] = lambda x, y: (x, y)
    ) -> "StochasticProcess":
        """The process ``f(X_t, Y_t)`` of both at the same omega."""

        def law(omega: Omega) -> Function:
            x, y = self.law(omega), other.law(omega)
            return lambda t: f(x(t), y(t))

        return StochasticProcess(law)
