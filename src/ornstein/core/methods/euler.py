"""Euler's method: freeze drift and diffusion over the step.

    x_s ~ N(x_t + drift(x_t, t) (s - t), diffusion(x_t, t)^2 |s - t|).                                        (1)
"""

__all__ = ["EulerMaruyama"]

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ornstein.core.gaussian import Gaussian, per_sample
from ornstein.core.noise import Draws
from ornstein.core.sde import Equation
from ornstein.core.solve import Method, Step


@dataclass(frozen=True)
class EulerMaruyama(Method):
    """Euler-Maruyama (1): order 1 without noise, strong order 1/2 (1 for additive noise), weak order 1.

    Works on every equation; on the probability-flow ODE it is Euler's method in t ("euler" elsewhere). Maruyama 1955.
    """

    order: int = 1

    def noisy(self, sde: Any) -> bool:
        """Unless the equation is an ODE."""
        return not getattr(sde, "deterministic", False)

    def step(self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: Draws, memory: Any) -> Step:
        """One step (1)."""
        mean = x + sde.drift(x, t) * per_sample(s - t, x)
        if not self.noisy(sde):
            return Step(mean)
        g = sde.diffusion(x, t)
        kernel = Gaussian(mean, g * per_sample((s - t).abs().sqrt(), x))
        return Step(mean + g * stream.increment(t, s), kernel)  # (1)
