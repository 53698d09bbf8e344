"""Simulation of given transition kernels: a method that draws each step from a function.

Path measures use it to run the simulation loop along kernels that are not those of an equation.
"""

__all__ = ["Kernels"]

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ornstein.core.methods.base import StochasticMethod
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Kernel, Step


@dataclass(frozen=True)
class Kernels(StochasticMethod):
    """A method that draws ``x_s ~ kernel(x_t, t, s)``, whatever the equation.

    Args:
        kernel: the law of the next state.
        through_path: whether gradients flow through the states, or only through the densities of
            their kernels.
        widen: factor on the standard normal numbers: above 1, states from tails of the kernels.
    """

    kernel: Kernel
    through_path: bool = True
    widen: float = 1.0
    order: int = 1

    def step(
        self, sde: Any, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Draw the state at s from the kernel at the state at t."""
        law = self.kernel(x, t, s)
        z = stream.between(t, s)
        y = law.draw(z if self.widen == 1 else self.widen * z)
        return Step(y if self.through_path else y.detach(), lambda: law)
