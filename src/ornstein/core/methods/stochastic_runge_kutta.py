"""Stochastic Runge-Kutta methods of strong order 3/2, for Ito equations.

For a step of length h let ``dB`` be the Brownian increment and ``J = 1/h int (B - B_t) = dB / 2 +
H`` the mean of the path over it, with H its space-time Levy area. With additive noise two
evaluations are enough,

    y  = x + 3/4 h a(x, t) + 3/2 g(s) J,                                                         (1)
    x' = x + h [a(x, t) / 3 + 2/3 a(y, t + 3/4 h)] + g(s) dB + (g(t) - g(s)) J;                  (2)

with diagonal or scalar noise there are three drifts a_i and four diffusions g_i, at

    a_2 : x + h a_1,    a_3 : x + h/4 (a_1 + a_2) + (g_1 + g_2 / 2) J,    g_2 : x + h/4 a_1 - r/2
    g_1, g_3 : x + h a_1 + r g_1,    g_4 : x + h/4 a_3 + r (2 g_1 - g_2 + g_3 / 2),    r = sqrt|h|,  (3)
    x'  = x + h (a_1 + a_2 + 4 a_3) / 6 + sum_i c_i g_i,
    c   = dB (-1, 4/3, 2/3, 0) + K (1, -4/3, 1/3, 0) + J (2, -4/3, -2/3, 0) + L (-2, 5/3, -2/3, 1),  (4)

with ``K = (dB^2 - |h|) / 2r`` and ``L = (dB^3 / |h| - 3 dB) / 6``. Roessler 2010 (Runge-Kutta
methods for the strong approximation of solutions of SDEs): SRA1 of table 6.3, and SRI2 of table
6.2, "SRIW2" or "SRID2" elsewhere, of order 3 without noise.
"""

__all__ = ["SRK"]

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ornstein.core.methods.ancestral import Ancestral
from ornstein.core.methods.base import SDEMethod
from ornstein.core.numerics.gaussian import per_sample
from ornstein.core.processes.noise_type import ADDITIVE, driving
from ornstein.core.processes.reverse import Reverse
from ornstein.core.processes.sde import Equation
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step


@dataclass(frozen=True)
class SRK(SDEMethod):
    """(1), (2) for additive noise, (3), (4) for diagonal and scalar noise: strong order 3/2, weak
    order 2 (additive), 2 without noise.

    On a `BrownianPath` dB and H are the path's own. A step of the reverse SDE that ends without
    noise, where the score is singular, is one of `Ancestral`. Without noise it is Ralston's method.
    """

    order: int = 2

    def start(self, sde: Any, times: Tensor) -> None:
        """Refuses general noise, Stratonovich's sense, and grids of the reverse SDE that start
        without noise."""
        super().start(sde, times)
        if isinstance(sde, Reverse):
            sde.check_step(times[:-1], times[1:], sde.eta)

    def step(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """One step (2) or (4)."""
        if isinstance(sde, Reverse) and sde.ends_clean(s):
            return Ancestral().step(sde, x, t, s, stream, memory)
        h, middle = per_sample(s - t, x), t + 3 * (s - t) / 4
        first = sde.drift(x, t)
        if not self.noisy(sde):
            second = sde.drift(x + 3 / 4 * h * first, middle)
            return Step(x + h * (first / 3 + 2 / 3 * second), evaluations=2)
        jump = stream.increment(t, s)
        mean = jump / 2 + stream.area(t, s)
        if driving(sde) != ADDITIVE:
            return self._multiplicative(sde, x, t, s, first, jump, mean)
        g_t, g_s = sde.diffusion(x, t), sde.diffusion(x, s)
        second = sde.drift(x + 3 / 4 * h * first + 3 / 2 * g_s * mean, middle)  # (1)
        return Step(
            x + h * (first / 3 + 2 / 3 * second) + g_s * jump + (g_t - g_s) * mean, evaluations=2
        )  # (2)

    def _multiplicative(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, a1: Tensor, jump: Tensor, mean: Tensor
    ) -> Step:
        h, size, root = (
            per_sample(s - t, x),
            per_sample((s - t).abs(), x),
            per_sample((s - t).abs().sqrt(), x),
        )
        quarter, half = t + (s - t) / 4, t + (s - t) / 2
        g1 = sde.diffusion(x, t)
        g2 = sde.diffusion(x + h / 4 * a1 - root / 2 * g1, quarter)
        g3 = sde.diffusion(x + h * a1 + root * g1, s)
        a2 = sde.drift(x + h * a1, s)
        a3 = sde.drift(x + h / 4 * (a1 + a2) + (g1 + g2 / 2) * mean, half)
        g4 = sde.diffusion(x + h / 4 * a3 + root * (2 * g1 - g2 + g3 / 2), quarter)  # (3)
        double, triple = (jump.square() - size) / (2 * root), (jump.pow(3) / size - 3 * jump) / 6
        noise = (2 * mean - jump + double - 2 * triple) * g1 + (
            4 / 3 * (jump - double - mean) + 5 / 3 * triple
        ) * g2
        noise = noise + (2 / 3 * (jump - mean - triple) + double / 3) * g3 + triple * g4
        return Step(x + h / 6 * (a1 + a2 + 4 * a3) + noise, evaluations=3)  # (4)
