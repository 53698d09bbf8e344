"""Reference processes with a known stationary or pinned law: Ornstein-Uhlenbeck and the Brownian bridge.

They are the base processes of samplers for unnormalised densities: DDS (Vargas et al. 2023) starts from
the stationary law of an Ornstein-Uhlenbeck process, PIS (Zhang and Chen 2022) from the end of a bridge.
"""

__all__ = ["OU", "Bridge"]

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.numerics.checks import require_positive
from ornstein.core.processes.linear import LinearSDE, Time, as_time
from ornstein.core.processes.schedules import softplus


@dataclass(frozen=True)
class OU(LinearSDE):
    """Ornstein-Uhlenbeck: ``dX = -theta X dt + sigma dB``, stationary law ``N(0, sigma^2 / (2
    theta))``.

    Uhlenbeck and Ornstein 1930; for densities Vargas et al. 2023 (DDS).

    Args:
        theta: rate of return, per unit of time.
        sigma: the diffusion constant, kept as the field ``noise`` because `sigma` is, as
            everywhere, the noise level at t.
        T: end of time.
    """

    theta: float
    noise: float
    T: float = 1.0

    def __init__(self, theta: float = 1.0, sigma: float = 2**0.5, T: float = 1.0) -> None:
        object.__setattr__(self, "theta", theta)
        object.__setattr__(self, "noise", sigma)
        object.__setattr__(self, "T", T)
        require_positive(self, "theta", "noise", "T")

    def config(self) -> dict[str, Any]:
        return {"theta": self.theta, "sigma": self.noise, "T": self.T}

    def log_alpha(self, t: Tensor) -> Tensor:
        return -self.theta * t

    def log_sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(-2 * self.theta * t)).log() / 2 + math.log(
            self.noise / math.sqrt(2 * self.theta)
        )

    def f(self, t: Time) -> Tensor:
        return torch.full_like(as_time(t), -self.theta)

    def g2(self, t: Time) -> Tensor:
        return torch.full_like(as_time(t), self.noise**2)

    def time(self, log_snr: Tensor) -> Tensor:
        stationary = self.noise**2 / (2 * self.theta)
        return (softplus(-log_snr.double() - math.log(stationary)) / (2 * self.theta)).clamp(
            0, self.T
        )


@dataclass(frozen=True)
class Bridge(LinearSDE):
    """A Brownian motion of variance ``scale^2`` per unit of time, pinned to 0 at T: the reference
    process of PIS.

    ``alpha = 1 - t/T``, ``sigma^2 = scale^2 t (1 - t/T)``. Its start law is the point 0. Zhang and
    Chen 2022.
    """

    scale: float = 1.0
    T: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, "scale", "T")

    @property
    def pinned(self) -> bool:
        return True

    def alpha(self, t: Time) -> Tensor:
        return 1 - as_time(t) / self.T

    def log_alpha(self, t: Tensor) -> Tensor:
        return torch.log1p(-t / self.T)

    def log_sigma(self, t: Tensor) -> Tensor:
        return (t.log() + torch.log1p(-t / self.T)) / 2 + math.log(self.scale)

    def log_snr(self, t: Time) -> Tensor:
        t = as_time(t)
        return torch.log1p(-t / self.T) - t.log() - 2 * math.log(self.scale)

    def f(self, t: Time) -> Tensor:
        return -1 / (self.T - as_time(t))

    def g2(self, t: Time) -> Tensor:
        return torch.full_like(as_time(t), self.scale**2)
