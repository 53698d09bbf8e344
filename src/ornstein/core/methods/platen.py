"""Platen's explicit method of weak order 2, for expectations under Ito equations.

It reaches weak order 2 with two drifts and three diffusions per step, without derivatives. With
h = s - t, ``r = sqrt|h|``, ``y = x + a h + g dB`` and ``y+- = x + a h +- g r``,

    x' = x + h/2 [a(x, t) + a(y, s)] + 1/4 [g(y+, s) + g(y-, s) + 2 g(x, t)] dB
           + 1/4r [g(y+, s) - g(y-, s)] (dB^2 - |h|).                                            (1)

Kloeden and Platen 1992, eq. 15.1.1; Platen 1984.
"""

__all__ = ["PlatenWeak2"]

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ornstein.core.methods.base import ITO, STRONG_ONE, SDEMethod, SolverOrders
from ornstein.core.numerics.gaussian import per_sample
from ornstein.core.processes.noise_type import ADDITIVE, driving
from ornstein.core.processes.sde import Equation
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step


@dataclass(frozen=True)
class PlatenWeak2(SDEMethod):
    """Platen's explicit method of weak order 2 for diagonal, scalar and additive noise.

    On a single path it is no more accurate than `Milstein`: its strong order is 1. Kloeden and
    Platen 1992, eq. 15.1.1.
    """

    order: int = 2
    solves = SolverOrders(ITO, STRONG_ONE, weak=2)

    def step(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Take one step, two evaluations of the drift and up to three of the diffusion."""
        h = per_sample(s - t, x)
        drift_t = sde.drift(x, t)
        euler = x + h * drift_t
        if not self.noisy(sde):
            return Step(x + h / 2 * (drift_t + sde.drift(euler, s)), evaluations=2)
        g = sde.diffusion(x, t)
        increment = stream.increment(t, s)
        mean = x + h / 2 * (drift_t + sde.drift(euler + g * increment, s))
        if driving(sde) == ADDITIVE:
            return Step(mean + (g + sde.diffusion(x, s)) / 2 * increment, evaluations=2)
        root = per_sample((s - t).abs().sqrt(), x)
        g_plus = sde.diffusion(euler + root * g, s)
        g_minus = sde.diffusion(euler - root * g, s)
        square = (increment.square() - per_sample((s - t).abs(), increment)) / root
        noise = (g_plus + g_minus + 2 * g) / 4 * increment
        return Step(mean + noise + (g_plus - g_minus) / 4 * square, evaluations=2)  # (1)
