"""The named noising processes of diffusion models: VE, EDM, cosine, rectified flow.

Each is a `LinearSDE` with the closed forms that keep its ends finite. The standard deviations start
at 0, so ``x_0`` is the data itself and the last step leaves no noise behind (`FromLogSNR` starts
where its function does). Processes from functions of the user are in
`ornstein.core.processes.custom`, VP and sub-VP in `ornstein.core.processes.linear_beta`.
Checkpoints name the processes that this file exports.
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

from ornstein.core.processes.constants import check_constants, check_noise
from ornstein.core.processes.custom import Damped, DiscreteVP, FromCoefficients, FromLogSNR
from ornstein.core.processes.linear import LinearSDE, Time, as_time
from ornstein.core.processes.linear_beta import VP, SubVP, softplus
from ornstein.errors import OrnsteinError


@dataclass(frozen=True)
class VE(LinearSDE):
    """The variance-exploding process with noise levels that grow geometrically.

    ``sigma^2 = sigma_min^2 ((sigma_max / sigma_min)^(2 t / T) - 1)`` is the exact variance of the
    SDE that starts in the data (Song et al. 2021, appendix B); many codes drop the ``- 1``.

    Args:
        sigma_min, sigma_max: noise levels, in the units of the data.
        T: end of time.

    Raises:
        OrnsteinError: unless ``0 < sigma_min < sigma_max`` and T > 0, of a size that can be
            computed with.

    Example:
        >>> ve = orn.VE(sigma_min=0.01, sigma_max=50.0)
        >>> float(ve.alpha(1.0)), round(float(ve.sigma(1.0)), 3)
        (1.0, 50.0)
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    T: float = 1.0

    def __post_init__(self) -> None:
        check_constants(self, "sigma_min", "sigma_max", "T")
        if self.sigma_max <= self.sigma_min:
            raise OrnsteinError(
                f"VE(sigma_max={self.sigma_max}): must exceed sigma_min={self.sigma_min}"
            )
        check_noise(self, sigma_min=self.sigma_min, sigma_max=self.sigma_max)

    @property
    def _rate(self) -> float:
        """The growth rate of the variance, per unit of time."""
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
    """The process ``x_t = x_0 + t z`` of EDM, in which time is the noise level.

    Karras et al. 2022.

    Args:
        sigma_max: the largest noise level, in the units of the data, which is T.

    Raises:
        OrnsteinError: unless it is positive and of a size that can be computed with.

    Example:
        >>> round(float(orn.EDM(sigma_max=80.0).sigma(3.0)), 6)
        3.0
    """

    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        check_constants(self, "sigma_max")
        check_noise(self, sigma_max=self.sigma_max)

    @property
    def T(self) -> float:  # type: ignore[override]
        """The end of time, which is the largest noise level ``sigma_max``."""
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
    """The cosine process ``alpha = cos(pi t / 2T)``, ``sigma = sin(pi t / 2T)``.

    No signal is left at T. Nichol and Dhariwal 2021, without their offset.

    Args:
        T: end of time.

    Raises:
        OrnsteinError: unless it is positive and of a size that can be computed with.

    Example:
        >>> float(orn.Cosine().alpha(1.0)), float(orn.Cosine().sigma(0.0))
        (0.0, 0.0)
    """

    T: float = 1.0

    def __post_init__(self) -> None:
        check_constants(self, "T")

    def _angle(self, t: Tensor) -> Tensor:
        """Return the angle ``pi t / 2T`` of the time t."""
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
    """The straight path ``x_t = (1 - t) x_0 + t z`` of rectified flow and flow matching.

    Liu et al. 2022; Lipman et al. 2023 (conditional optimal transport).

    Example:
        >>> flow = orn.RectifiedFlow()
        >>> float(flow.alpha(0.25)), float(flow.alpha(1.0))
        (0.75, 0.0)
    """

    @property
    def T(self) -> float:  # type: ignore[override]
        """The end of time, which is always 1."""
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
