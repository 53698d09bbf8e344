"""Stochastic differential equations ``dX = drift(X, t) dt + diffusion(X, t) dB``.

A numerical method asks an equation for its `drift` and its `diffusion` only. A step from t to s
uses ``drift * (s - t) + diffusion * sqrt(|s - t|) z``, so the order of the time grid decides
whether the same object is run forwards or backwards in time. The time reversal of a linear SDE is
in `ornstein.core.processes.reverse`.
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
    """A stochastic differential equation as methods see one: drift and diffusion."""

    def drift(self, x: Tensor, t: Time) -> Tensor:
        """Return the change of the state per unit of time, ``(b, *event)``."""
        ...

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        """Return the factor on the Brownian increment, 0 for an ODE.

        Broadcastable to ``(b, *event)``; with a last dimension more for general noise.
        """
        ...


def no_diffusion(x: Tensor, t: Time) -> Tensor:
    """Return the diffusion of an ordinary differential equation, which is 0."""
    return torch.zeros((), dtype=x.dtype)


@dataclass(frozen=True)
class SDE:
    """Any equation ``dX = drift dt + diffusion dB``, from two functions of the state and the time.

    Without a diffusion it is an ordinary differential equation.

    Args:
        drift_fn: ``(b, *event), t -> (b, *event)``.
        diffusion_fn: the same, broadcastable; for general noise ``(b, *event, m)``.
        noise: "diagonal", "additive", "scalar" or "general": see
            `ornstein.core.processes.noise_type`.
        calculus: "ito" or "stratonovich": how the product with dB is meant.

    Raises:
        OrnsteinError: for another noise or calculus, or for what is no function.

    Example:
        >>> geometric = orn.SDE(lambda x, t: 0.1 * x, lambda x, t: 0.2 * x)
        >>> orn.solve(geometric, torch.ones(5, 1), [0.0, 1.0], dt=0.1, seed=0).shape
        torch.Size([2, 5, 1])
    """

    drift_fn: Callable[[Tensor, Time], Tensor]
    diffusion_fn: Callable[[Tensor, Time], Tensor] = no_diffusion
    noise: str = "diagonal"
    calculus: str = "ito"

    def __post_init__(self) -> None:
        for name in ("drift_fn", "diffusion_fn"):
            value = getattr(self, name)
            if not callable(value):
                raise OrnsteinError(
                    f"SDE({name}={value!r}): pass a function of the state and the time, such as"
                    " lambda x, t: -x"
                )
        if self.noise not in NOISE_TYPES or self.calculus not in CALCULI:
            raise OrnsteinError(
                f"SDE(noise={self.noise!r}, calculus={self.calculus!r}): noise is"
                f" {', '.join(NOISE_TYPES)}; calculus {', '.join(CALCULI)}"
            )

    @property
    def deterministic(self) -> bool:
        """Whether the equation is an ordinary differential equation."""
        return self.diffusion_fn is no_diffusion

    @property
    def driving(self) -> NoiseType:
        """The shape of the driving Brownian motion and its action on the state."""
        return ADDITIVE if self.deterministic else NOISE_TYPES[self.noise]

    def drift(self, x: Tensor, t: Time) -> Tensor:
        """Return the drift ``drift_fn(x, t)``, per unit of time."""
        return self.drift_fn(x, t)

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        """Return the diffusion ``diffusion_fn(x, t)``, per root of time."""
        return self.diffusion_fn(x, t)


@dataclass(frozen=True)
class Langevin:
    """Overdamped Langevin dynamics ``dX = grad log rho(X) dt + 2^(1/2) dB`` of a density rho.

    The stationary density is proportional to rho.

    Args:
        score: ``(b, *event) -> (b, *event)``, the gradient of the log-density.

    Raises:
        OrnsteinError: if the score is no function.

    Example:
        >>> normal = orn.Langevin(lambda x: -x)
        >>> orn.solve(normal, torch.zeros(5, 2), [0.0, 1.0], dt=0.1, seed=0).shape
        torch.Size([2, 5, 2])
    """

    score: Callable[[Tensor], Tensor]

    def __post_init__(self) -> None:
        if not callable(self.score):
            raise OrnsteinError(
                f"Langevin(score={self.score!r}): pass the gradient of the log-density as a"
                " function, such as lambda x: -x"
            )

    @property
    def driving(self) -> NoiseType:
        """The type of the noise, additive, for the diffusion is a constant."""
        return ADDITIVE

    def drift(self, x: Batch, t: Time) -> Batch:
        """Return the drift, which is the score ``grad log rho(x)``."""
        return self.score(x)

    def diffusion(self, x: Batch, t: Time) -> Tensor:
        """Return the constant diffusion, the square root of 2, per root of time."""
        return torch.full((), 2.0, dtype=x.dtype).sqrt()
