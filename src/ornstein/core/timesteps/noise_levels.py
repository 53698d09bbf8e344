"""Time grids that are uniform in a function of the noise level, between ends that the user chooses.

``sigma_min`` and ``sigma_max`` are noise-to-signal ratios ``r = sigma / alpha``, as in EDM and
diffusers; ``sigma_max = None`` takes the ratio at T. A smaller one cuts the grid: the first step
goes from T, where the start law is defined, to the second level.
"""

__all__ = [
    "Balanced",
    "Beta",
    "Exponential",
    "Karras",
    "Lu",
    "Polyexponential",
    "Power",
]

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.core.numerics.checks import require_finite, require_positive
from ornstein.core.numerics.roots import bisect
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.timesteps.grid import (
    grid_in_levels,
    grid_in_log_snr,
    log_snr_ends,
    ramp,
    ratio_ends,
)
from ornstein.errors import OrnsteinError

_HALVINGS = 60  # bisections, enough for every digit of a double
_TERMS = 80  # terms of the beta integral's series, for every digit of a double at x = 1/2
_TERMS_PER_PARAMETER = 8  # further terms for each unit of a + b


@dataclass(frozen=True)
class Power:
    """A grid with equal steps in ``t^(1 / rho)`` from T to ``t_min T``, then a step to 0.

    With rho = 1 this is ``get_sigmas_vp`` in k-diffusion and the ``time_uniform`` of DPM-Solver (Lu
    et al. 2022), with rho = 2 its ``time_quadratic``; with ``t_min = 0`` these are `uniform` and
    `quadratic`.

    Args:
        rho: the power, positive.
        t_min: the last time before 0, as a fraction of T.
    """

    rho: float = 1.0
    t_min: float = 1e-3

    def __post_init__(self) -> None:
        require_finite(rho=self.rho, t_min=self.t_min)
        if not (self.rho > 0 and 0 <= self.t_min < 1):
            raise OrnsteinError(f"{self}: rho must be positive and t_min in [0, 1)")

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        u = ramp(n) if self.t_min == 0 else ramp(max(n - 1, 1))[:n] if n > 1 else ramp(n)[:n]
        times = sde.T * (1 - u * (1 - self.t_min ** (1 / self.rho))) ** self.rho
        return times if self.t_min == 0 else torch.cat([times, times.new_zeros(1)])


@dataclass(frozen=True)
class Lu:
    """A grid with equal steps in the log-SNR from T to ``t_min T``, then a step to 0.

    Lu et al. 2022 (DPM-Solver), section 3.3. On a chain of K steps with ``t_min = 1 / K`` this is
    the ``use_lu_lambdas`` of diffusers, which is its ``use_exponential_sigmas`` too.

    Args:
        t_min: the last time before 0, as a fraction of T.
    """

    t_min: float = 1e-3

    def __post_init__(self) -> None:
        require_finite(positive=True, t_min=self.t_min)

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        return grid_in_log_snr(sde, n, log_snr_ends(sde)[0], float(sde.log_snr(self.t_min * sde.T)))


@dataclass(frozen=True)
class _PowerOfRatio:
    """Base class of grids that are uniform in a power 1 / rho of a function of the ratio."""

    rho: float = 7.0
    sigma_min: float = 0.002
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        require_finite(positive=True, rho=self.rho)


@dataclass(frozen=True)
class Karras(_PowerOfRatio):
    """A grid with equal steps in ``r^(1 / rho)`` of the noise-to-signal ratio r, then 0.

    Karras et al. 2022 (EDM), eq. 5.

    Args:
        rho: the power; larger is denser near the data.
        sigma_min, sigma_max: smallest and largest ratio ``sigma / alpha``; None for that at T.
    """

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        high, low = ratio_ends(sde, self.sigma_min, self.sigma_max)
        first, last = high ** (1 / self.rho), low ** (1 / self.rho)
        return grid_in_levels(
            sde, n, -2 * math.log(low), lambda u: -2 * self.rho * (first + u * (last - first)).log()
        )


@dataclass(frozen=True)
class Exponential:
    """A grid with equal steps in ``log r`` of the noise-to-signal ratio r, then a step to 0.

    It is `log_snr` with ends of one's choice: ``get_sigmas_exponential`` in k-diffusion,
    ``use_exponential_sigmas`` in diffusers.

    Args:
        sigma_min, sigma_max: smallest and largest ratio ``sigma / alpha``; None for that at T.
    """

    sigma_min: float = 0.002
    sigma_max: float | None = None

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        high, low = ratio_ends(sde, self.sigma_min, self.sigma_max)
        return grid_in_log_snr(sde, n, -2 * math.log(high), -2 * math.log(low))


@dataclass(frozen=True)
class Polyexponential(_PowerOfRatio):
    """A grid with equal steps in ``log(r / sigma_min)^(1 / rho)``, then a step to 0.

    With rho = 1 it is `Exponential`, with a larger rho denser near the data:
    ``get_sigmas_polyexponential`` in k-diffusion, whose rho is 1 by default.

    Args:
        rho: the power.
        sigma_min, sigma_max: smallest and largest ratio ``sigma / alpha``; None for that at T.
    """

    rho: float = 1.5

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        high, low = ratio_ends(sde, self.sigma_min, self.sigma_max)
        last = -2 * math.log(low)
        span = 2 * math.log(high / low)
        return grid_in_levels(sde, n, last, lambda u: last - span * (1 - u) ** self.rho)


@dataclass(frozen=True)
class Beta:
    """A grid of noise-to-signal ratios at the quantiles of a beta law, then a step to 0.

    ``r = sigma_min + (sigma_max - sigma_min) F^{-1}(1 - u)`` for equidistant u, with the
    distribution function F of the beta law. Dense at both ends for alpha, beta < 1. Lee et al. 2024
    (Beta Sampling is All You Need); ``use_beta_sigmas`` in diffusers.
    """

    alpha: float = 0.6
    beta: float = 0.6
    sigma_min: float = 0.002
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        require_finite(alpha=self.alpha, beta=self.beta)
        if not (self.alpha > 0 and self.beta > 0):
            raise OrnsteinError(f"{self}: alpha and beta must be positive")

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        high, low = ratio_ends(sde, self.sigma_min, self.sigma_max)
        return grid_in_levels(
            sde,
            n,
            -2 * math.log(low),
            lambda u: -2 * (low + (high - low) * beta_quantile(1 - u, self.alpha, self.beta)).log(),
        )


@dataclass(frozen=True)
class Balanced:
    """A grid that is dense around the scale of the data, with pure noise and data as ends.

    Equal steps in u, where the noise-to-signal ratio is ``r = width u / (1 - u)^2``. It is linear
    in u below ``width``, where only rounding off is left to do, and an inverse square above, where
    the state is nearly noise. So the grid reaches both ends, the pure noise of u = 1 and the data
    of u = 0, without a cut. It is the grid of ``method="auto"``, with a width of 0.36 standard
    deviations for data in two dimensions.

    Args:
        width: noise-to-signal ratio, in the units of the data.
    """

    width: float = 0.36

    def __post_init__(self) -> None:
        usual = "about a third of the data's standard deviation"
        require_positive(self, "width", usual=usual)

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        first, last = (self._position(float(sde.ratio(t))) for t in (sde.T, 0.0))
        u = first + (last - first) * ramp(n)
        times = sde.time(2 * (2 * torch.log1p(-u) - u.log() - math.log(self.width)))
        times[0], times[-1] = sde.T, 0.0
        return times

    def _position(self, ratio: float) -> float:
        """Return the position u of a ratio: the root of ``r (1 - u)^2 = width u`` in [0, 1]."""
        q = ratio / self.width
        return 1.0 if math.isinf(q) else 2 * q / (1 + 2 * q + math.sqrt(1 + 4 * q))


def beta_quantile(p: Tensor, a: float, b: float) -> Tensor:
    """Return the quantiles of the beta distribution, the x with ``F(x) = p``.

    By bisection in the half of [0, 1] where x lies; the series of F converges there like 2^-k.

    Args:
        p: ``(n,)``, probabilities, float64.
        a, b: the parameters of the law, positive.
    """
    half = torch.tensor([0.5], dtype=torch.float64)
    lower, upper = _beta_integral(half, a, b), _beta_integral(half, b, a)
    total = lower + upper
    swap = p * total > lower
    return torch.where(swap, 1 - _root((1 - p) * total, b, a), _root(p * total, a, b))


def _root(target: Tensor, a: float, b: float) -> Tensor:
    """Return the x in [0, 1/2] at which the incomplete beta integral has a given value."""
    low, high = bisect(
        lambda x: _beta_integral(x, a, b) < target,
        torch.zeros_like(target),
        torch.full_like(target, 0.5),
        _HALVINGS,
    )
    return torch.where(target > 0, (low + high) / 2, 0.0)


def _beta_integral(x: Tensor, a: float, b: float) -> Tensor:
    """Return ``int_0^x u^(a-1) (1 - u)^(b-1) du`` for x in [0, 1/2], by a series.

    ``x^a (1 - x)^b / a sum_k (a + b)_k / (a + 1)_k x^k``, all terms positive (DLMF 8.17.8).
    """
    k = torch.arange(round(_TERMS + _TERMS_PER_PARAMETER * (a + b)), dtype=torch.float64)
    ratios = x[:, None] * (a + b + k) / (a + 1 + k)
    return x**a * (1 - x) ** b / a * (1 + ratios.cumprod(1).sum(1))
