"""Milstein's method: the first iterated integral of the noise as well.

For a diffusion whose product with itself needs no mixed integrals (diagonal, scalar, additive
noise), with h = |s - t|,

    x_s = x_t + a (s - t) + g dB + 1/2 (D_g g) (dB^2 - h)        (Ito),                          (1)

and without the ``- h`` in Stratonovich's sense. ``D_g g`` is the derivative of g along g, computed
by forward-mode differentiation. Milstein 1974; Kloeden and Platen 1992, eq. 10.3.1 and 10.3.20.
"""

__all__ = ["Milstein"]

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.methods.base import SDEMethod
from ornstein.core.numerics.gaussian import per_sample
from ornstein.core.processes.noise_type import ADDITIVE, driving
from ornstein.core.processes.sde import Equation
from ornstein.core.processes.solver_orders import calculus
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step


@dataclass(frozen=True)
class Milstein(SDEMethod):
    """(1): strong order 1 for diagonal, scalar and additive noise, in either calculus; weak order
    1. General noise is refused."""

    order: int = 1

    def step(
        self, sde: Equation, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """One step (1)."""
        mean = x + sde.drift(x, t) * per_sample(s - t, x)
        if not self.noisy(sde):
            return Step(mean)
        jump = stream.increment(t, s)
        if driving(sde) == ADDITIVE:
            return Step(mean + sde.diffusion(x, t) * jump)
        g, bend = self_product(sde, x, t)
        square = jump.square() - (
            per_sample((s - t).abs(), jump) if calculus(sde) == "ito" else 0.0
        )
        return Step(mean + g * jump + bend * square / 2)  # (1)


def self_product(sde: Equation, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """g and ``D_g g`` at (x, t)."""
    g = sde.diffusion(x, t).expand_as(x).contiguous()
    found = torch.func.jvp(lambda y: sde.diffusion(y, t).expand_as(y), (x.contiguous(),), (g,))
    return found[0], found[1]
