"""The members of the family: each is two functions of time, with the closed forms that keep its
ends finite.

Their standard deviations start at 0, so ``x_0`` is the data itself and the last step leaves no
noise behind (`FromLogSNR` starts where its function does).
"""

__all__ = [
    "EDM",
    "VE",
    "VP",
    "Cosine",
    "Damped",
    "DiscreteVP",
    "FromCoefficients",
    "FromLogSNR",
    "RectifiedFlow",
    "SubVP",
]

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.core.numerics.checks import require_positive
from ornstein.core.processes.custom import Damped, DiscreteVP, FromCoefficients, FromLogSNR
from ornstein.core.processes.linear import LinearSDE, Time, as_time
from ornstein.errors import OrnsteinError


def softplus(x: Tensor) -> Tensor:
    """``log(1 + e^x)``, also where torch's own gives up on small x: 0 only at minus infinity."""
    return torch.where(x > 0, x, 0.0) + torch.log1p((-x.abs()).exp())


@dataclass(frozen=True)
class _LinearBeta(LinearSDE):
    """What VP and sub-VP share: ``beta(t)`` rises linearly, ``alpha^2 = exp(-int beta)``."""

    beta_min: float = 0.1
    beta_max: float = 20.0
    T: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, "beta_min", "beta_max", "T")

    def beta(self, t: Time) -> Tensor:
        """Noise rate, per unit of time."""
        return self.beta_min + (self.beta_max - self.beta_min) * as_time(t) / self.T

    def _integral(self, t: Tensor) -> Tensor:
        return t * (self.beta_min + (self.beta_max - self.beta_min) * t / (2 * self.T))

    def log_alpha(self, t: Tensor) -> Tensor:
        return -self._integral(t) / 2

    def f(self, t: Time) -> Tensor:
        return -self.beta(t) / 2


@dataclass(frozen=True)
class VP(_LinearBeta):
    """Variance preserving: ``dX = -beta X / 2 dt + sqrt(beta) dB``. Ho et al. 2020; Song et al.
    2021, eq. 11."""

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
    """``sigma = 1 - alpha^2``, at most the variance of `VP`. Song et al. 2021, eq. 12."""

    def log_sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(-self._integral(t))).log()

    def g2(self, t: Time) -> Tensor:
        t = as_time(t)
        return -self.beta(t) * torch.expm1(-2 * self._integral(t))


@dataclass(frozen=True)
class VE(LinearSDE):
    """Variance exploding, geometric: ``sigma^2 = sigma_min^2 ((sigma_max / sigma_min)^(2 t / T) -
    1)``.

    The exact variance of the SDE started in the data (Song et al. 2021, appendix B); many codes
    drop the ``- 1``.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    T: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, "sigma_min", "T")
        if self.sigma_max <= self.sigma_min:
            raise OrnsteinError(
                f"VE(sigma_max={self.sigma_max}): must exceed sigma_min={self.sigma_min}"
            )

    @property
    def _rate(self) -> float:
        return 2 * math.log(self.sigma_max / self.sigma_min) / self.T

    def log_alpha(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def log_sigma(self, t: Tensor) -> Tensor:
        return torch.expm1(self._rate * t).log() / 2 + math.log(self.sigma_min)

    def g2(self, t: Time) -> Tensor:
        return self.sigma_min**2 * self._rate * (self._rate * as_time(t)).exp()

    def time(self, log_snr: Tensor) -> Tensor:
        return (softplus(-log_snr.double() - 2 * math.log(self.sigma_min)) / self._rate).clamp(
            0, self.T
        )


@dataclass(frozen=True)
class EDM(LinearSDE):
    """``x_t = x_0 + t z``: time is the noise level, up to ``sigma_max``. Karras et al. 2022."""

    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        require_positive(self, "sigma_max")

    @property
    def T(self) -> float:  # type: ignore[override]
        """The largest noise level."""
        return self.sigma_max

    def log_alpha(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def log_sigma(self, t: Tensor) -> Tensor:
        return t.log()

    def g2(self, t: Time) -> Tensor:
        return 2 * as_time(t)

    def time(self, log_snr: Tensor) -> Tensor:
        return (-log_snr.double() / 2).exp().clamp(0, self.T)


@dataclass(frozen=True)
class Cosine(LinearSDE):
    """``alpha = cos(pi t / 2T)``, ``sigma = sin(pi t / 2T)``: no signal at T. Nichol and Dhariwal
    2021, without offset."""

    T: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, "T")

    def _angle(self, t: Tensor) -> Tensor:
        return math.pi / 2 * (t / self.T)

    def alpha(self, t: Time) -> Tensor:
        return (math.pi / 2 * (1 - as_time(t) / self.T)).sin()  # exactly 0 at T

    def log_alpha(self, t: Tensor) -> Tensor:
        return self.alpha(t).log()

    def log_sigma(self, t: Tensor) -> Tensor:
        return self._angle(t).sin().log()

    def f(self, t: Time) -> Tensor:
        t = as_time(t)
        return -math.pi / 2 / self.T * self._angle(t).sin() / self.alpha(t)

    def g2(self, t: Time) -> Tensor:
        t = as_time(t)
        return math.pi / self.T * self._angle(t).sin() / self.alpha(t)

    def time(self, log_snr: Tensor) -> Tensor:
        return (2 * self.T / math.pi * (-log_snr.double() / 2).exp().atan()).clamp(0, self.T)


@dataclass(frozen=True)
class RectifiedFlow(LinearSDE):
    """``x_t = (1 - t) x_0 + t z``: rectified flow, conditional optimal transport. Liu et al. 2022;
    Lipman et al. 2023."""

    @property
    def T(self) -> float:  # type: ignore[override]
        """Time runs from 0 to 1."""
        return 1.0

    def alpha(self, t: Time) -> Tensor:
        return 1 - as_time(t)

    def log_alpha(self, t: Tensor) -> Tensor:
        return torch.log1p(-t)

    def log_sigma(self, t: Tensor) -> Tensor:
        return t.log()

    def f(self, t: Time) -> Tensor:
        return -1 / (1 - as_time(t))

    def g2(self, t: Time) -> Tensor:
        t = as_time(t)
        return 2 * t / (1 - t)

    def time(self, log_snr: Tensor) -> Tensor:
        return 1 / (1 + (log_snr.double() / 2).exp())
