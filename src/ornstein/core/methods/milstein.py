"""Milstein's method: Euler-Maruyama plus the first iterated integral of the noise.

It is the default method of this library for diagonal and scalar noise. For a diffusion g whose
product with itself needs no mixed integrals (diagonal, scalar, additive noise), with h = |s - t|,

    x_s = x_t + a (s - t) + g dB + 1/2 (D_g g) (dB^2 - h)        (Ito),                          (1)

and without the ``- h`` in Stratonovich's sense. ``D_g g`` is the derivative of g in the direction
g, computed by forward-mode differentiation. Milstein 1974; Kloeden and Platen 1992, eq. 10.3.1 and
10.3.20.
"""

__all__ = ["Milstein"]

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.methods.base import BOTH, STRONG_ONE, SDEMethod, SolverOrders, calculus_of
from ornstein.core.numerics.gaussian import per_sample
from ornstein.core.processes.noise_type import ADDITIVE, driving
from ornstein.core.processes.sde import Equation
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step


@dataclass(frozen=True)
class Milstein(SDEMethod):
    """Milstein's method ``x_s = x_t + a (s - t) + g dB + (D_g g) (dB^2 - |s - t|) / 2``.

    Strong and weak order 1 for diagonal, scalar and additive noise, in either calculus. General
    noise is refused, because its iterated integrals are not known.

    Example:
        >>> sde = orn.SDE(lambda x, t: 0.5 * x, lambda x, t: 0.8 * x)
        >>> orn.solve(sde, torch.ones(3), [0.0, 1.0], orn.Milstein(), dt=0.1).shape
        torch.Size([2, 3])
    """

    order: int = 1
    solves = SolverOrders(BOTH, STRONG_ONE, weak=1)

    def step(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Take one Milstein step, with one derivative of the diffusion."""
        mean = x + sde.drift(x, t) * per_sample(s - t, x)
        if not self.noisy(sde):
            return Step(mean)
        increment = stream.increment(t, s)
        if driving(sde) == ADDITIVE:
            return Step(mean + sde.diffusion(x, t) * increment)
        g, derivative = _self_product(sde, x, t)
        square = increment.square()
        square = square - (
            per_sample((s - t).abs(), increment) if calculus_of(sde) == "ito" else 0.0
        )
        return Step(mean + g * increment + derivative * square / 2)  # (1)


def _self_product(sde: Equation, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the diffusion g and the derivative ``D_g g`` of g along itself, at (x, t)."""
    g = sde.diffusion(x, t).expand_as(x).contiguous()
    pair = torch.func.jvp(lambda y: sde.diffusion(y, t).expand_as(y), (x.contiguous(),), (g,))
    return pair[0], pair[1]
