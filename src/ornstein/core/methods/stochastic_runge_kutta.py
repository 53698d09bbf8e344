"""Stochastic Runge-Kutta methods of strong order 3/2, for equations in Ito's sense.

They are the default of this library for additive noise, and the choice where single paths must be
accurate. For a step of length h let ``dB`` be the Brownian increment and ``J = 1/h int (B - B_t) =
dB / 2 + H`` the mean of the path over the step, with H its space-time Levy area. With additive
noise two evaluations are enough,

    y  = x + 3/4 h a(x, t) + 3/2 g(s) J,                                                         (1)
    x' = x + h [a(x, t) / 3 + 2/3 a(y, t + 3/4 h)] + g(s) dB + (g(t) - g(s)) J;                  (2)

with diagonal or scalar noise there are three drifts a_i and four diffusions g_i, at

    a_2 : x + h a_1,           a_3 : x + h/4 (a_1 + a_2) + (g_1 + g_2 / 2) J,
    g_2 : x + h/4 a_1 - r/2 g_1,                g_3 : x + h a_1 + r g_1,
    g_4 : x + h/4 a_3 + r (2 g_1 - g_2 + g_3 / 2),    r = sqrt|h|,                               (3)
    x'  = x + h (a_1 + a_2 + 4 a_3) / 6 + sum_i c_i g_i,
    c   = dB (-1, 4/3, 2/3, 0) + K (1, -4/3, 1/3, 0)
          + J (2, -4/3, -2/3, 0) + L (-2, 5/3, -2/3, 1),                                         (4)

with ``K = (dB^2 - |h|) / 2r`` and ``L = (dB^3 / |h| - 3 dB) / 6``. Roessler 2010 (Runge-Kutta
methods for the strong approximation of solutions of SDEs): SRA1 of table 6.3, and SRI2 of table
6.2, "SRIW2" or "SRID2" in other libraries, of order 3 without noise.
"""

__all__ = ["SRK"]

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ornstein.core.methods.ancestral import Ancestral
from ornstein.core.methods.base import ITO, STRONG_THREE_HALVES, SDEMethod, SolverOrders
from ornstein.core.numerics.gaussian import per_sample
from ornstein.core.processes.noise_type import ADDITIVE, driving
from ornstein.core.processes.reverse import Reverse
from ornstein.core.processes.sde import Equation
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step


@dataclass(frozen=True)
class SRK(SDEMethod):
    """Roessler's stochastic Runge-Kutta methods of strong order 3/2: SRA1 and SRI2.

    SRA1 is used for additive noise (weak order 2), SRI2 for diagonal and scalar noise; without
    noise the method is Ralston's, of order 2. On a `BrownianPath` the increment and the space-time
    area are those of the path. A step of the reverse SDE that ends without noise, where the score
    is singular, is a step of `Ancestral`. Roessler 2010, tables 6.2 and 6.3.

    Example:
        >>> sde = orn.SDE(lambda x, t: -x, lambda x, t: torch.ones_like(x), "additive")
        >>> orn.solve(sde, torch.zeros(3), [0.0, 1.0], orn.SRK(), dt=0.25).shape
        torch.Size([2, 3])
    """

    order: int = 2
    solves = SolverOrders(ITO, STRONG_THREE_HALVES, weak=1.5)

    def start(self, sde: Any, times: Tensor) -> None:
        """Raise for general or Stratonovich noise, and for reverse SDEs that start clean."""
        super().start(sde, times)
        if isinstance(sde, Reverse):
            sde.check_step(times[:-1], times[1:], sde.eta)

    def step(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Take one step of SRA1, SRI2 or Ralston's method, as the noise of the equation asks."""
        if isinstance(sde, Reverse) and sde.ends_clean(s):
            return Ancestral().step(sde, x, t, s, stream, memory)
        h = per_sample(s - t, x)
        later = t + 3 * (s - t) / 4
        a1 = sde.drift(x, t)
        if not self.noisy(sde):
            a2 = sde.drift(x + 3 / 4 * h * a1, later)
            return Step(x + h * (a1 / 3 + 2 / 3 * a2), evaluations=2)
        increment = stream.increment(t, s)
        mean = increment / 2 + stream.area(t, s)
        if driving(sde) != ADDITIVE:
            return self._multiplicative(sde, x, t, s, a1, increment, mean)
        g_t = sde.diffusion(x, t)
        g_s = sde.diffusion(x, s)
        a2 = sde.drift(x + 3 / 4 * h * a1 + 3 / 2 * g_s * mean, later)  # (1)
        y = x + h * (a1 / 3 + 2 / 3 * a2) + g_s * increment + (g_t - g_s) * mean
        return Step(y, evaluations=2)  # (2)

    def _multiplicative(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, a1: Tensor, dB: Tensor, mean: Tensor
    ) -> Step:
        """Take one step (4) of SRI2, for diagonal and scalar noise."""
        h = per_sample(s - t, x)
        size = per_sample((s - t).abs(), x)
        root = per_sample((s - t).abs().sqrt(), x)
        quarter = t + (s - t) / 4
        half = t + (s - t) / 2
        g1 = sde.diffusion(x, t)
        g2 = sde.diffusion(x + h / 4 * a1 - root / 2 * g1, quarter)
        g3 = sde.diffusion(x + h * a1 + root * g1, s)
        a2 = sde.drift(x + h * a1, s)
        a3 = sde.drift(x + h / 4 * (a1 + a2) + (g1 + g2 / 2) * mean, half)
        g4 = sde.diffusion(x + h / 4 * a3 + root * (2 * g1 - g2 + g3 / 2), quarter)  # (3)
        double = (dB.square() - size) / (2 * root)
        triple = (dB.pow(3) / size - 3 * dB) / 6
        noise = (2 * mean - dB + double - 2 * triple) * g1 + (
            4 / 3 * (dB - double - mean) + 5 / 3 * triple
        ) * g2
        noise = noise + (2 / 3 * (dB - mean - triple) + double / 3) * g3 + triple * g4
        return Step(x + h / 6 * (a1 + a2 + 4 * a3) + noise, evaluations=3)  # (4)
