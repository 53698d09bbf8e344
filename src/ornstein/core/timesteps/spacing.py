"""Time grids: where to put n steps between T and 0.

A spacing is a function ``(sde, n) -> times`` with ``n + 1`` decreasing times, T first (`Leading`
excepted) and 0 last. Apart from the ends, which are exact, most are uniform in some clock of the
process: t itself, a root of it, the angle ``atan(sigma / alpha)``, the log-SNR, or a power of the
noise-to-signal ratio ``r = sigma / alpha``. Clocks that are infinite at an end are cut: the first
time is then T itself, and the last step jumps from the cut to 0. A clock that is finite at 0 is
uniform down to there. Those that choose among the steps of a chain, take a table or move another
grid are in `ornstein.core.timesteps.chains`, the one that is computed from the data in
`ornstein.core.timesteps.align_your_steps`; all have their names here.

``sigma_min`` and ``sigma_max`` are ratios r, as EDM and diffusers have them; ``sigma_max = None``
takes what the process ends with. A smaller one is a cut as well: the first step goes from T, where
the start law is known, to the second level.
"""

__all__ = [
    "Aligned",
    "Balanced",
    "Beta",
    "Exponential",
    "Karras",
    "Leading",
    "Linspace",
    "Lu",
    "Polyexponential",
    "Power",
    "Shifted",
    "Spacing",
    "Table",
    "as_spacing",
    "cosine",
    "log_snr",
    "named",
    "names",
    "quadratic",
    "trailing",
    "uniform",
]

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.core.processes.linear import LinearSDE
from ornstein.core.timesteps.align_your_steps import Aligned
from ornstein.core.timesteps.chains import (
    LOG_SNR_RANGE,  # noqa: F401  # spacing.LOG_SNR_RANGE
    Leading,
    Linspace,
    Shifted,
    Spacing,
    Table,
    in_clock,
    log_snr_ends,
    ramp,
    ratio_ends,
    trailing,
)
from ornstein.errors import OrnsteinError, UnknownNameError


def uniform(sde: LinearSDE, n: int) -> Tensor:
    """Equal steps in t."""
    return sde.T * (1 - ramp(n))


def quadratic(sde: LinearSDE, n: int) -> Tensor:
    """Equal steps in sqrt(t). Song et al. 2021 (DDIM), appendix D.2."""
    return sde.T * (1 - ramp(n)).square()


def cosine(sde: LinearSDE, n: int) -> Tensor:
    """Equal steps in the angle ``atan(sigma / alpha)``, in which a cosine schedule is uniform.
    Nichol and Dhariwal 2021."""
    return sde.times(n)


def log_snr(sde: LinearSDE, n: int) -> Tensor:
    """Equal steps in the log-SNR, cut to `LOG_SNR_RANGE` where it is infinite, then a step to 0."""
    return _in_log_snr(sde, n, *log_snr_ends(sde))


@dataclass(frozen=True)
class Power:
    """Equal steps in ``t^(1 / rho)`` from T to ``t_min T``, then a step to 0.

    With rho = 1 ``get_sigmas_vp`` in k-diffusion and the ``time_uniform`` of DPM-Solver (Lu et al.
    2022), with 2 its ``time_quadratic``; with ``t_min = 0`` these are `uniform` and `quadratic`.
    """

    rho: float = 1.0
    t_min: float = 1e-3

    def __post_init__(self) -> None:
        if not (self.rho > 0 and 0 <= self.t_min < 1):
            raise OrnsteinError(f"{self}: rho must be positive and t_min in [0, 1)")

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        u = ramp(n) if self.t_min == 0 else ramp(max(n - 1, 1))[:n] if n > 1 else ramp(n)[:n]
        times = sde.T * (1 - u * (1 - self.t_min ** (1 / self.rho))) ** self.rho
        return times if self.t_min == 0 else torch.cat([times, times.new_zeros(1)])


@dataclass(frozen=True)
class Lu:
    """Equal steps in the log-SNR from T to ``t_min T``, then a step to 0. Lu et al. 2022
    (DPM-Solver), section 3.3.

    On a chain of K steps with ``t_min = 1 / K`` the ``use_lu_lambdas`` of diffusers, which is its
    ``use_exponential_sigmas`` too.
    """

    t_min: float = 1e-3

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        return _in_log_snr(sde, n, log_snr_ends(sde)[0], float(sde.log_snr(self.t_min * sde.T)))


@dataclass(frozen=True)
class Karras:
    """Equal steps in ``r^(1 / rho)``, then a step to 0. Karras et al. 2022 (EDM), eq. 5."""

    rho: float = 7.0
    sigma_min: float = 0.002
    sigma_max: float | None = None

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        high, low = ratio_ends(sde, self.sigma_min, self.sigma_max)
        first, last = high ** (1 / self.rho), low ** (1 / self.rho)
        return in_clock(
            sde, n, -2 * math.log(low), lambda u: -2 * self.rho * (first + u * (last - first)).log()
        )


@dataclass(frozen=True)
class Exponential:
    """Equal steps in ``log r``, then a step to 0: `log_snr` with ends of one's choice.

    ``get_sigmas_exponential`` in k-diffusion, ``use_exponential_sigmas`` in diffusers.
    """

    sigma_min: float = 0.002
    sigma_max: float | None = None

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        high, low = ratio_ends(sde, self.sigma_min, self.sigma_max)
        return _in_log_snr(sde, n, -2 * math.log(high), -2 * math.log(low))


@dataclass(frozen=True)
class Polyexponential:
    """Equal steps in ``log(r / sigma_min)^(1 / rho)``, then a step to 0; with rho = 1
    `Exponential`, above denser near the data.

    ``get_sigmas_polyexponential`` in k-diffusion, whose rho is 1 by default.
    """

    rho: float = 1.5
    sigma_min: float = 0.002
    sigma_max: float | None = None

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        high, low = ratio_ends(sde, self.sigma_min, self.sigma_max)
        last, span = -2 * math.log(low), 2 * math.log(high / low)
        return in_clock(sde, n, last, lambda u: last - span * (1 - u) ** self.rho)


@dataclass(frozen=True)
class Beta:
    """Ratios at the quantiles of a beta law, ``r = sigma_min + (sigma_max - sigma_min) F^{-1}(1 -
    u)``, u even; then a step to 0.

    Dense at both ends for alpha, beta < 1. Lee et al. 2024 (Beta Sampling is All You Need);
    ``use_beta_sigmas`` in diffusers.
    """

    alpha: float = 0.6
    beta: float = 0.6
    sigma_min: float = 0.002
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        if not (self.alpha > 0 and self.beta > 0):
            raise OrnsteinError(f"{self}: alpha and beta must be positive")

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        high, low = ratio_ends(sde, self.sigma_min, self.sigma_max)
        return in_clock(
            sde,
            n,
            -2 * math.log(low),
            lambda u: (
                -2 * (low + (high - low) * _beta_quantile(1 - u, self.alpha, self.beta)).log()
            ),
        )


@dataclass(frozen=True)
class Balanced:
    """Equal steps in u, where the noise-to-signal ratio is ``r = width u / (1 - u)^2``: dense
    around the data's own scale.

    Linear in the ratio below ``width``, where only rounding off is left to do, and an inverse
    square above, where the state is nearly noise; so it reaches both ends, the pure noise of u = 1
    and the data of u = 0, without a cut. The grid of ``method="auto"``, with a width of 0.36
    standard deviations for data in two dimensions.

    Args:
        width: noise-to-signal ratio, in the units of the data.
    """

    width: float = 0.36

    def __post_init__(self) -> None:
        if not 0 < self.width < math.inf:
            raise OrnsteinError(
                f"Balanced(width={self.width}): positive and finite, about a third of the data's"
                " standard deviation"
            )

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        first, last = (self._position(math.exp(-float(sde.log_snr(t)) / 2)) for t in (sde.T, 0.0))
        u = first + (last - first) * ramp(n)
        times = sde.time(2 * (2 * torch.log1p(-u) - u.log() - math.log(self.width)))
        times[0], times[-1] = sde.T, 0.0
        return times

    def _position(self, ratio: float) -> float:
        """u of a ratio: the root of ``r (1 - u)^2 = width u`` in [0, 1]."""
        q = ratio / self.width
        return 1.0 if math.isinf(q) else 2 * q / (1 + 2 * q + math.sqrt(1 + 4 * q))


def _in_log_snr(sde: LinearSDE, n: int, first: float, last: float) -> Tensor:
    return in_clock(sde, n, last, lambda u: first + u * (last - first))


def _beta_quantile(p: Tensor, a: float, b: float) -> Tensor:
    """The x with ``F(x) = p``: bisection in the half that holds it, where the series of F converges
    like 2^-k."""
    half = torch.tensor([0.5], dtype=torch.float64)
    lower, upper = _beta_integral(half, a, b), _beta_integral(half, b, a)
    total = lower + upper
    swap = p * total > lower
    return torch.where(swap, 1 - _root((1 - p) * total, b, a), _root(p * total, a, b))


def _root(target: Tensor, a: float, b: float) -> Tensor:
    """The x in [0, 1/2] at which the integral has this value."""
    low, high = torch.zeros_like(target), torch.full_like(target, 0.5)
    for _ in range(60):
        middle = (low + high) / 2
        below = _beta_integral(middle, a, b) < target
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return torch.where(target > 0, (low + high) / 2, 0.0)


def _beta_integral(x: Tensor, a: float, b: float) -> Tensor:
    """``int_0^x u^(a-1) (1 - u)^(b-1) du = x^a (1 - x)^b / a sum_k (a + b)_k / (a + 1)_k x^k``, all
    terms positive (DLMF 8.17.8)."""
    k = torch.arange(round(80 + 8 * (a + b)), dtype=torch.float64)
    ratios = x[:, None] * (a + b + k) / (a + 1 + k)
    return x**a * (1 - x) ** b / a * (1 + ratios.cumprod(1).sum(1))


_NAMES: dict[str, Spacing] = {
    "balanced": Balanced(),
    "beta": Beta(),
    "cosine": cosine,
    "exponential": Exponential(),
    "karras": Karras(),
    "leading": Leading(),
    "linspace": Linspace(),
    "log_snr": log_snr,
    "lu": Lu(),
    "polyexponential": Polyexponential(),
    "quadratic": quadratic,
    "trailing": trailing,
    "uniform": uniform,
}

names: tuple[str, ...] = tuple(_NAMES)
"""The names that `named` accepts."""


def named(name: str) -> Spacing:
    """The spacing of that name, for command lines and configurations."""
    if name not in _NAMES:
        raise UnknownNameError("spacing", name, _NAMES)
    return _NAMES[name]


def as_spacing(spacing: Spacing | str) -> Spacing:
    """Return the spacing that a name stands for; a spacing is returned as it is.

    Raises:
        UnknownNameError: for a name that no spacing has.
        OrnsteinError: for what is neither a name nor a function ``(sde, n) -> times``.
    """
    if isinstance(spacing, str):
        return named(spacing)
    if not callable(spacing):
        raise OrnsteinError(
            f"spacing={spacing!r}: pass a member of orn.spacing, its name, such as 'cosine', or a"
            " function (sde, n) -> times"
        )
    return spacing
