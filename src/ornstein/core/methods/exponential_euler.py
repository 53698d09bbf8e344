"""Equations with a stiff linear part, and the method that solves that part exactly.

For ``dX = (r X + b(X, t)) dt + g(X, t) dB`` with rates r, entry by entry, and h = s - t,

    x_s = e^(r h) x_t + h phi(r h) b(x_t, t) + g sqrt(phi(2 r h)) dB,      phi(z) = (e^z - 1) / z:  (1)

exact in law for constant b and g, whatever the step. Lord and Rougemont 2004; Jentzen and Kloeden
2009.
"""

__all__ = ["ExponentialEuler", "Semilinear"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.methods.base import SDEMethod
from ornstein.core.numerics.gaussian import per_sample
from ornstein.core.processes.linear import Time
from ornstein.core.processes.noise_type import NOISE_TYPES, NoiseType, driving
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step
from ornstein.errors import OrnsteinError


@dataclass(frozen=True, eq=False)
class Semilinear:
    """``dX = (rate X + rest(X, t)) dt + diffusion(X, t) dB`` in Ito's sense.

    Args:
        rate: a number, or a tensor that broadcasts to the event; negative for decay, per unit of
            time.
        rest: ``(b, *event), t -> (b, *event)``.
        diffusion_fn: the same, broadcastable.
        noise: as in `SDE`, but not "general".
    """

    rate: float | Tensor
    rest: Callable[[Tensor, Time], Tensor]
    diffusion_fn: Callable[[Tensor, Time], Tensor]
    noise: str = "diagonal"

    @property
    def driving(self) -> NoiseType:
        """Shape and action of the noise."""
        return NOISE_TYPES[self.noise]

    def drift(self, x: Tensor, t: Time) -> Tensor:
        """``rate x + rest``."""
        return self.rate * x + self.rest(x, t)

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        """``diffusion_fn(x, t)``."""
        return self.diffusion_fn(x, t)


@dataclass(frozen=True)
class ExponentialEuler(SDEMethod):
    """(1) for a `Semilinear` equation: stable for every negative rate. Strong order 1/2, 1 for
    additive noise."""

    order: int = 1

    def start(self, sde: Any, times: Tensor) -> None:
        """Refuses equations that are not semilinear."""
        if not isinstance(sde, Semilinear):
            raise OrnsteinError(
                f"{self} solves Semilinear equations, which name their linear part, not"
                f" {type(sde).__name__}"
            )
        super().start(sde, times)

    def step(
        self, sde: Semilinear, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """One step (1)."""
        h = per_sample(s - t, x)
        z = torch.as_tensor(sde.rate, dtype=x.dtype, device=x.device) * h
        noise = driving(sde).apply(sde.diffusion(x, t) * _phi(2 * z).sqrt(), stream.increment(t, s))
        return Step(z.exp() * x + h * _phi(z) * sde.rest(x, t) + noise)  # (1)


def _phi(z: Tensor) -> Tensor:
    """``(e^z - 1) / z``."""
    return torch.where(z == 0, 1.0, torch.expm1(z) / torch.where(z == 0, 1.0, z))
