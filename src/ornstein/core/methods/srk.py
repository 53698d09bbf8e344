"""Stochastic Runge-Kutta for additive noise: two evaluations, strong order 3/2.

For ``dX = a(X, t) dt + g(t) dB`` and a step of length h let ``dB`` be its Brownian increment and ``J = 1/h int (B - B_t)`` the mean of
the path over it, ``J = (dB + sqrt(h / 3) zeta) / 2`` with an independent standard normal zeta. Then

    y  = x + 3/4 h a(x, t) + 3/2 g(s) J,                                                                      (1)
    x' = x + h [a(x, t) / 3 + 2/3 a(y, t + 3/4 h)] + g(s) dB + (g(t) - g(s)) J.                               (2)

Roessler 2010 (Runge-Kutta methods for the strong approximation of solutions of SDEs), table 6.3: SRA1.
"""

__all__ = ["SRK"]

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ornstein.core.gaussian import per_sample
from ornstein.core.methods.ancestral import Ancestral
from ornstein.core.noise import Draws
from ornstein.core.sde import Equation, Reverse
from ornstein.core.solve import Method, Step


@dataclass(frozen=True)
class SRK(Method):
    """SRA1 (1), (2): strong order 3/2 for additive noise, weak order 2, and 2 without noise, where it is Ralston's method.

    For every equation whose diffusion does not depend on the state, such as the reverse SDE. A step that ends without noise, where
    the score is singular, is a step of `Ancestral`. On a `BrownianPath` dB is the path's and zeta is drawn beside it, so that runs on
    one path have strong order 1 with respect to it: 3/2 needs the mean of the same path.
    """

    order: int = 2

    def noisy(self, sde: Any) -> bool:
        """Unless the equation is an ODE."""
        return not getattr(sde, "deterministic", False)

    def start(self, sde: Any, times: Tensor) -> None:
        """Refuses grids that start without noise."""
        if isinstance(sde, Reverse):
            sde.check_step(times[:-1], times[1:], sde.eta)

    def step(self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: Draws, memory: Any) -> Step:
        """One step (2)."""
        if isinstance(sde, Reverse) and sde.ends_clean(s):
            return Ancestral().step(sde, x, t, s, stream, memory)
        h, middle = per_sample(s - t, x), t + 3 * (s - t) / 4
        first = sde.drift(x, t)
        if not self.noisy(sde):
            second = sde.drift(x + 3 / 4 * h * first, middle)
            return Step(x + h * (first / 3 + 2 / 3 * second), evaluations=2)
        jump = stream.increment(t, s)
        mean = (jump + per_sample(((s - t).abs() / 3).sqrt(), x) * stream.normal()) / 2
        g_t, g_s = sde.diffusion(x, t), sde.diffusion(x, s)
        second = sde.drift(x + 3 / 4 * h * first + 3 / 2 * g_s * mean, middle)  # (1)
        return Step(x + h * (first / 3 + 2 / 3 * second) + g_s * jump + (g_t - g_s) * mean, evaluations=2)  # (2)
