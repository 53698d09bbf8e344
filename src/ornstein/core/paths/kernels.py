"""Paths of given kernels: a method that draws each step from a function of the state and the two
times."""

__all__ = ["Kernels"]

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Kernel, Method, Step


@dataclass(frozen=True)
class Kernels(Method):
    """``x_s ~ kernel(x_t, t, s)``; the equation that is simulated with it is not asked for
    anything.

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

    def noisy(self, sde: Any) -> bool:
        """Always."""
        return True

    def step(
        self, sde: Any, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """One draw."""
        law = self.kernel(x, t, s)
        z = stream.between(t, s)
        y = law.draw(z if self.widen == 1 else self.widen * z)
        return Step(y if self.through_path else y.detach(), lambda: law)
