"""Processes whose noise rate rises linearly: VP, the process of DDPM, and sub-VP.

With ``beta(t) = beta_min + (beta_max - beta_min) t / T`` the factor on the data is ``alpha^2 =
exp(-int_0^t beta)`` for both. VP is the default process of the diffusion models of this library.
"""

__all__ = ["VP", "SubVP", "softplus"]

from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.core.processes.constants import check_constants, check_noise, check_rate
from ornstein.core.processes.linear import LinearSDE, Time, as_time


def softplus(x: Tensor) -> Tensor:
    """Return ``log(1 + e^x)``, also exact for small x, where torch's softplus is 0."""
    return torch.where(x > 0, x, 0.0) + torch.log1p((-x.abs()).exp())


@dataclass(frozen=True)
class _LinearBeta(LinearSDE):
    """The base class of VP and sub-VP: ``beta(t)`` rises linearly, ``alpha^2 = exp(-int beta)``."""

    beta_min: float = 0.1
    beta_max: float = 20.0
    T: float = 1.0

    def __post_init__(self) -> None:
        check_constants(self, "beta_min", "beta_max", "T")
        largest = max(self.beta_min, self.beta_max) * self.T
        check_rate(self, **{"beta * T": largest})
        check_noise(self, **{"the standard deviation at T": float(self.sigma(self.T))})

    def beta(self, t: Time) -> Tensor:
        """Return the noise rate ``beta(t)``, per unit of time."""
        return self.beta_min + (self.beta_max - self.beta_min) * as_time(t) / self.T

    def _integral(self, t: Tensor) -> Tensor:
        """Return the integral of the noise rate, ``int_0^t beta``."""
        return t * (self.beta_min + (self.beta_max - self.beta_min) * t / (2 * self.T))

    def log_alpha(self, t: Tensor) -> Tensor:
        return -self._integral(t) / 2

    def f(self, t: Time) -> Tensor:
        return -self.beta(t) / 2


@dataclass(frozen=True)
class VP(_LinearBeta):
    """The variance-preserving process ``dX = -beta X / 2 dt + sqrt(beta) dB`` of DDPM.

    ``beta(t)`` rises linearly from ``beta_min`` to ``beta_max``; ``alpha^2 + sigma^2 = 1``. Ho et
    al. 2020; Song et al. 2021, eq. 11.

    Args:
        beta_min, beta_max: noise rates at 0 and T, per unit of time.
        T: end of time.

    Raises:
        OrnsteinError: unless all are positive and of a size that can be computed with.

    Example:
        >>> vp = orn.VP()
        >>> t = torch.tensor(0.3)
        >>> bool(torch.isclose(vp.alpha(t) ** 2 + vp.sigma(t) ** 2, torch.tensor(1.0)))
        True
    """

    def log_sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(-self._integral(t))).log() / 2

    def g2(self, t: Time) -> Tensor:
        return self.beta(t)

    def time(self, log_snr: Tensor) -> Tensor:
        integral = softplus(-log_snr.double()).clamp(max=float(self._integral(as_time(self.T))))
        slope = (self.beta_max - self.beta_min) / self.T
        root = (self.beta_min**2 + 2 * slope * integral).clamp(min=0).sqrt()
        return (2 * integral / (self.beta_min + root)).clamp(0, self.T)


@dataclass(frozen=True)
class SubVP(_LinearBeta):
    """The sub-VP process, with a noise level ``sigma = 1 - alpha^2`` below the one of `VP`.

    Its arguments and errors are those of `VP`. Song et al. 2021, eq. 12.

    Example:
        >>> bool(orn.SubVP().sigma(0.5) < orn.VP().sigma(0.5))
        True
    """

    def log_sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(-self._integral(t))).log()

    def g2(self, t: Time) -> Tensor:
        t = as_time(t)
        return -self.beta(t) * torch.expm1(-2 * self._integral(t))
