"""The exponential Euler method for equations with a stiff linear part.

The linear part is solved exactly, so that fast decay does not limit the step. For
``dX = (r X + b(X, t)) dt + g(X, t) dB`` with rates r, entry by entry, and h = s - t,

    x_s = e^(r h) x_t + h phi(r h) b(x_t, t) + g sqrt(phi(2 r h)) dB,                            (1)

with ``phi(z) = (e^z - 1) / z``; exact in law for constant b and g, whatever the step. Lord and
Rougemont 2004; Jentzen and Kloeden 2009.
"""

__all__ = ["ExponentialEuler", "Semilinear"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.methods.base import ITO, STRONG_HALF, SDEMethod, SolverOrders
from ornstein.core.numerics.deprecated import renamed_arguments
from ornstein.core.numerics.gaussian import per_sample
from ornstein.core.processes.linear import Time
from ornstein.core.processes.noise_type import NOISE_TYPES, NoiseType, driving
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step
from ornstein.errors import OrnsteinError


@renamed_arguments(rest="remainder")
@dataclass(frozen=True, eq=False)
class Semilinear:
    """An Ito equation ``dX = (rate X + remainder(X, t)) dt + diffusion(X, t) dB``.

    Args:
        rate: a number, or a tensor that broadcasts to the event; negative for decay, per unit of
            time.
        remainder: the other part of the drift, ``(b, *event), t -> (b, *event)``.
        diffusion_fn: the diffusion, ``(b, *event), t``, to a shape that broadcasts to the state.
        noise: kind of noise, as in `SDE`, but not "general".
    """

    rate: float | Tensor
    remainder: Callable[[Tensor, Time], Tensor]
    diffusion_fn: Callable[[Tensor, Time], Tensor]
    noise: str = "diagonal"

    @property
    def driving(self) -> NoiseType:
        """The type of the noise: its shape and how the diffusion acts on it."""
        return NOISE_TYPES[self.noise]

    def drift(self, x: Tensor, t: Time) -> Tensor:
        """Return the whole drift, ``rate x + remainder(x, t)``."""
        return self.rate * x + self.remainder(x, t)

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        """Return the diffusion coefficient, ``diffusion_fn(x, t)``."""
        return self.diffusion_fn(x, t)


@dataclass(frozen=True)
class ExponentialEuler(SDEMethod):
    """The exponential Euler method for `Semilinear` equations, stable for every negative rate.

    ``x_s = e^(r h) x_t + h phi(r h) b(x_t, t) + g sqrt(phi(2 r h)) dB`` with ``phi(z) = (e^z - 1) /
    z``. Strong order 1/2, 1 for additive noise. Lord and Rougemont 2004.
    """

    order: int = 1
    solves = SolverOrders(ITO, STRONG_HALF, weak=1)

    def start(self, sde: Any, times: Tensor) -> None:
        """Raise unless the equation is a `Semilinear` one."""
        if not isinstance(sde, Semilinear):
            raise OrnsteinError(
                f"{self} solves Semilinear equations, which name their linear part, not"
                f" {type(sde).__name__}"
            )
        super().start(sde, times)

    def step(
        self, sde: Semilinear, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Take one step, exact in the linear part of the equation."""
        h = per_sample(s - t, x)
        z = torch.as_tensor(sde.rate, dtype=x.dtype, device=x.device) * h
        g = sde.diffusion(x, t) * _phi(2 * z).sqrt()
        noise = driving(sde).apply(g, stream.increment(t, s))
        return Step(z.exp() * x + h * _phi(z) * sde.remainder(x, t) + noise)  # (1)


def _phi(z: Tensor) -> Tensor:
    """Return the function ``(e^z - 1) / z`` of exponential integrators, 1 at z = 0."""
    return torch.where(z == 0, 1.0, torch.expm1(z) / torch.where(z == 0, 1.0, z))
