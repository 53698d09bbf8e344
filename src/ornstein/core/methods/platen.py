"""A method for expectations: weak order 2 from two drifts and three diffusions, for Ito equations.

With h = s - t, ``r = sqrt|h|``, ``y = x + a h + g dB`` and ``y+- = x + a h +- g r``,

    x' = x + h/2 [a(x, t) + a(y, s)] + 1/4 [g(y+, s) + g(y-, s) + 2 g(x, t)] dB + 1/4r [g(y+, s) - g(y-, s)] (dB^2 - |h|).  (1)

Kloeden and Platen 1992, eq. 15.1.1; Platen 1984.
"""

__all__ = ["PlatenWeak2"]

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ornstein.core.methods.base import SDEMethod
from ornstein.core.numerics.gaussian import per_sample
from ornstein.core.processes.noise_type import ADDITIVE, driving
from ornstein.core.processes.sde import Equation
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step


@dataclass(frozen=True)
class PlatenWeak2(SDEMethod):
    """(1): weak order 2 for diagonal, scalar and additive noise; as a path no better than
    `Milstein`. Platen's explicit scheme."""

    order: int = 2

    def step(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """One step (1)."""
        h, first = per_sample(s - t, x), sde.drift(x, t)
        ahead = x + h * first
        if not self.noisy(sde):
            return Step(x + h / 2 * (first + sde.drift(ahead, s)), evaluations=2)
        g, jump = sde.diffusion(x, t), stream.increment(t, s)
        mean = x + h / 2 * (first + sde.drift(ahead + g * jump, s))
        if driving(sde) == ADDITIVE:
            return Step(mean + (g + sde.diffusion(x, s)) / 2 * jump, evaluations=2)
        root = per_sample((s - t).abs().sqrt(), x)
        up, down = sde.diffusion(ahead + root * g, s), sde.diffusion(ahead - root * g, s)
        bend = (jump.square() - per_sample((s - t).abs(), jump)) / root
        return Step(
            mean + (up + down + 2 * g) / 4 * jump + (up - down) / 4 * bend, evaluations=2
        )  # (1)
