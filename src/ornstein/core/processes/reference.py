"""Reference processes with a simple law at T: Ornstein-Uhlenbeck and the Brownian bridge.

They are the base processes of samplers for unnormalised densities. DDS (Vargas et al. 2023) starts
from the stationary law of an Ornstein-Uhlenbeck process, PIS (Zhang and Chen 2022) from the pinned
end of a Brownian bridge.
"""

__all__ = ["OU", "Bridge"]

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.core.processes.constants import check_constants, check_noise, check_rate
from ornstein.core.processes.linear import LinearSDE, Time, as_time
from ornstein.core.processes.linear_beta import softplus
from ornstein.errors import OrnsteinError

_SQRT_2 = 2**0.5  # diffusion constant whose stationary law is N(0, 1) at theta = 1


@dataclass(frozen=True, init=False)
class OU(LinearSDE):
    """The Ornstein-Uhlenbeck process ``dX = -theta X dt + diffusion_constant dB``.

    Its stationary law is ``N(0, diffusion_constant^2 / (2 theta))``. Uhlenbeck and Ornstein 1930;
    for sampling from densities Vargas et al. 2023 (DDS).

    Args:
        theta: rate of return to the mean, per unit of time.
        diffusion_constant: standard deviation of the noise per root of time.
        T: end of time.
        sigma: deprecated spelling of ``diffusion_constant``, which this release still takes.

    Raises:
        OrnsteinError: unless all are positive and of a size that can be computed with.

    Example:
        >>> ou = orn.OU(theta=1.0, diffusion_constant=2**0.5)
        >>> bool(abs(ou.sigma(50.0) - 1.0) < 1e-12)
        True
    """

    theta: float
    diffusion_constant: float
    T: float = 1.0

    def __init__(
        self,
        theta: float = 1.0,
        diffusion_constant: float = _SQRT_2,
        T: float = 1.0,
        *,
        sigma: float | None = None,
    ) -> None:
        if sigma is not None:
            if diffusion_constant != _SQRT_2:
                raise OrnsteinError(
                    f"OU(diffusion_constant={diffusion_constant!r}, sigma={sigma!r}): these are two"
                    " spellings of one constant, pass diffusion_constant only"
                )
            warnings.warn(
                "orn.OU(sigma=...) is now orn.OU(diffusion_constant=...); the old spelling goes"
                " with the next release",
                DeprecationWarning,
                stacklevel=2,
            )
            diffusion_constant = sigma
        for name, value in (
            ("theta", theta),
            ("diffusion_constant", diffusion_constant),
            ("T", T),
        ):
            object.__setattr__(self, name, value)
        check_constants(self, "theta", "diffusion_constant", "T")
        check_rate(self, **{"theta * T": theta * T})
        check_noise(self, **{"the standard deviation at T": float(self.sigma(T))})

    @property
    def noise(self) -> float:
        """The diffusion constant, by the deprecated name of release 0.1."""
        warnings.warn(
            "orn.OU.noise is now orn.OU.diffusion_constant; the old name goes with the next"
            " release",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.diffusion_constant

    def log_alpha(self, t: Tensor) -> Tensor:
        return -self.theta * t

    def log_sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(-2 * self.theta * t)).log() / 2 + math.log(
            self.diffusion_constant / math.sqrt(2 * self.theta)
        )

    def f(self, t: Time) -> Tensor:
        return torch.full_like(as_time(t), -self.theta)

    def g2(self, t: Time) -> Tensor:
        return torch.full_like(as_time(t), self.diffusion_constant**2)

    def time(self, log_snr: Tensor) -> Tensor:
        stationary = self.diffusion_constant**2 / (2 * self.theta)
        return (softplus(-log_snr.double() - math.log(stationary)) / (2 * self.theta)).clamp(
            0, self.T
        )


@dataclass(frozen=True)
class Bridge(LinearSDE):
    """A Brownian motion that is pinned to the origin at T: the reference process of PIS.

    ``alpha = 1 - t / T`` and ``sigma^2 = scale^2 t (1 - t / T)``. The start law of generation is
    the point 0. Zhang and Chen 2022.

    Args:
        scale: standard deviation of the motion per root of time.
        T: end of time.

    Raises:
        OrnsteinError: unless both are positive and of a size that can be computed with.

    Example:
        >>> orn.Bridge().pinned, float(orn.Bridge().sigma(1.0))
        (True, 0.0)
    """

    scale: float = 1.0
    T: float = 1.0

    def __post_init__(self) -> None:
        check_constants(self, "scale", "T")
        check_noise(self, **{"scale * sqrt(T)": self.scale * math.sqrt(self.T)})

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
