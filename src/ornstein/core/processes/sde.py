"""Stochastic differential equations ``dX = drift(X, t) dt + diffusion(X, t) dB``.

A method only asks for `drift` and `diffusion`; a step from t to s uses ``drift * (s - t) +
diffusion * sqrt(|s - t|) z``, so the same object is run forwards or backwards in time by the order
of the grid. The time reversal of a linear SDE is `ornstein.core.processes.reverse`.
"""

__all__ = ["SDE", "Equation", "Langevin"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.processes.linear import Time
from ornstein.core.processes.noise_type import ADDITIVE, NOISE_TYPES, NoiseType
from ornstein.errors import OrnsteinError

Batch = Float[Tensor, "b *event"]
CALCULI = ("ito", "stratonovich")


@runtime_checkable
class Equation(Protocol):
    """What a method can solve."""

    def drift(self, x: Tensor, t: Time) -> Tensor:
        """Change per unit of time, ``(b, *event)``."""
        ...

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        """Factor on the Brownian increment, broadcastable to ``(b, *event)``; 0 for an ODE."""
        ...


def no_diffusion(x: Tensor, t: Time) -> Tensor:
    return torch.zeros((), dtype=x.dtype)


@dataclass(frozen=True)
class SDE:
    """Any equation ``dX = drift dt + diffusion dB``, from two functions of ``(x, t)``; without a
    diffusion, an ODE.

    Args:
        drift_fn: ``(b, *event), t -> (b, *event)``.
        diffusion_fn: the same, broadcastable; for general noise ``(b, *event, m)``.
        noise: "diagonal", "additive", "scalar" or "general": the table of
            `ornstein.core.processes.noise_type`.
        calculus: "ito" or "stratonovich": how the product with dB is meant.

    Raises:
        OrnsteinError: for another noise or calculus.
    """

    drift_fn: Callable[[Tensor, Time], Tensor]
    diffusion_fn: Callable[[Tensor, Time], Tensor] = no_diffusion
    noise: str = "diagonal"
    calculus: str = "ito"

    def __post_init__(self) -> None:
        if self.noise not in NOISE_TYPES or self.calculus not in CALCULI:
            raise OrnsteinError(
                f"SDE(noise={self.noise!r}, calculus={self.calculus!r}): noise is"
                f" {', '.join(NOISE_TYPES)}; calculus {', '.join(CALCULI)}"
            )

    @property
    def deterministic(self) -> bool:
        """Whether this is an ODE."""
        return self.diffusion_fn is no_diffusion

    @property
    def driving(self) -> NoiseType:
        """Shape and action of the noise."""
        return ADDITIVE if self.deterministic else NOISE_TYPES[self.noise]

    def drift(self, x: Tensor, t: Time) -> Tensor:
        """``drift_fn(x, t)``."""
        return self.drift_fn(x, t)

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        """``diffusion_fn(x, t)``."""
        return self.diffusion_fn(x, t)


@dataclass(frozen=True)
class Langevin:
    """Overdamped Langevin dynamics ``dX = grad log rho(X) dt + sqrt(2) dB``, whose stationary
    density is proportional to rho.

    Args:
        score: ``(b, *event) -> (b, *event)``, the gradient of the log-density.
    """

    score: Callable[[Tensor], Tensor]

    @property
    def driving(self) -> NoiseType:
        """The diffusion is a constant."""
        return ADDITIVE

    def drift(self, x: Batch, t: Time) -> Batch:
        """``score(x)``."""
        return self.score(x)

    def diffusion(self, x: Batch, t: Time) -> Tensor:
        """``sqrt(2)``."""
        return torch.full((), 2.0, dtype=x.dtype).sqrt()
