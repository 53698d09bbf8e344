"""What the tests of the core share: every process with its closed form, exact posteriors, small
tools."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ornstein.core import processes as p
from ornstein.core.numerics.gaussian import Gaussian, per_sample
from ornstein.core.processes.linear import LinearSDE
from ornstein.reference.targets import GaussianMixture

Fn = Callable[[Tensor], Tensor]

BETAS = tuple(np.linspace(1e-3, 0.25, 40))


@dataclass(frozen=True)
class Law:
    """A process beside its coefficients and its signal and variance as they stand in the
    literature."""

    sde: LinearSDE
    f: Fn
    g2: Fn
    alpha: Fn
    var: Fn

    def inner(self, n: int = 9) -> Tensor:
        """Times strictly between the ends, and off the knots of a chain."""
        return self.sde.T * torch.linspace(0.0213, 0.9787, n, dtype=torch.float64)


def _constant(value: float) -> Fn:
    return lambda t: torch.full_like(t, value)


def _beta(t: Tensor) -> Tensor:
    return 0.2 + (9.0 - 0.2) * t / 2


def _int_beta(t: Tensor) -> Tensor:
    return 0.2 * t + (9.0 - 0.2) * t**2 / 4


def _damped_var(t: Tensor) -> Tensor:
    """``int_0^t e^{-2(t-u)} (1 + u)^2 du`` by parts."""
    return (1 + t) ** 2 / 2 - (1 + t) / 2 + 1 / 4 - torch.exp(-2 * t) / 4


def _rate(t: Tensor) -> Tensor:
    """Noise rate per unit of time of the chain ``BETAS``."""
    k = (t * len(BETAS)).floor().long()
    return -len(BETAS) * torch.tensor([math.log1p(-b) for b in BETAS], dtype=t.dtype)[k]


def _chain_alpha2(t: Tensor) -> Tensor:
    knots = np.cumsum([0.0, *np.log1p(-np.array(BETAS))])
    return torch.as_tensor(np.exp(np.interp(t.numpy() * len(BETAS), np.arange(len(knots)), knots)))


VP_COEFFICIENTS = (lambda t: -_beta(t) / 2, lambda t: _beta(t).sqrt())

LAWS: dict[str, Law] = {
    "VP": Law(
        p.VP(0.2, 9.0, T=2.0),
        lambda t: -_beta(t) / 2,
        _beta,
        lambda t: torch.exp(-_int_beta(t) / 2),
        lambda t: 1 - torch.exp(-_int_beta(t)),
    ),
    "SubVP": Law(
        p.SubVP(0.2, 9.0, T=2.0),
        lambda t: -_beta(t) / 2,
        lambda t: _beta(t) * (1 - torch.exp(-2 * _int_beta(t))),
        lambda t: torch.exp(-_int_beta(t) / 2),
        lambda t: (1 - torch.exp(-_int_beta(t))) ** 2,
    ),
    "VE": Law(
        p.VE(0.02, 30.0),
        _constant(0.0),
        lambda t: (0.02 * (30 / 0.02) ** t) ** 2 * 2 * math.log(30 / 0.02),
        _constant(1.0),
        lambda t: (0.02 * (30 / 0.02) ** t) ** 2 - 0.02**2,
    ),
    "EDM": Law(p.EDM(80.0), _constant(0.0), lambda t: 2 * t, _constant(1.0), lambda t: t**2),
    "Cosine": Law(
        p.Cosine(T=2.0),
        lambda t: -math.pi / 4 * torch.tan(math.pi * t / 4),
        lambda t: math.pi / 2 * torch.tan(math.pi * t / 4),
        lambda t: torch.cos(math.pi * t / 4),
        lambda t: torch.sin(math.pi * t / 4) ** 2,
    ),
    "RectifiedFlow": Law(
        p.RectifiedFlow(),
        lambda t: -1 / (1 - t),
        lambda t: 2 * t / (1 - t),
        lambda t: 1 - t,
        lambda t: t**2,
    ),
    "OU": Law(
        p.OU(theta=1.5, diffusion_constant=2.0, T=2.0),
        _constant(-1.5),
        _constant(4.0),
        lambda t: torch.exp(-1.5 * t),
        lambda t: 4 / 3 * (1 - torch.exp(-3 * t)),
    ),
    "Damped": Law(
        p.Damped(lambda u: 1 + u),
        _constant(-1.0),
        lambda t: (1 + t) ** 2,
        lambda t: torch.exp(-t),
        _damped_var,
    ),
    "Bridge": Law(
        p.Bridge(scale=1.5, T=2.0),
        lambda t: -1 / (2 - t),
        _constant(2.25),
        lambda t: 1 - t / 2,
        lambda t: 2.25 * t * (2 - t) / 2,
    ),
    "DiscreteVP": Law(
        p.DiscreteVP(BETAS),
        lambda t: -_rate(t) / 2,
        _rate,
        lambda t: _chain_alpha2(t).sqrt(),
        lambda t: 1 - _chain_alpha2(t),
    ),
    "FromCoefficients": Law(
        p.FromCoefficients(*VP_COEFFICIENTS, T=2.0),
        lambda t: -_beta(t) / 2,
        _beta,
        lambda t: torch.exp(-_int_beta(t) / 2),
        lambda t: 1 - torch.exp(-_int_beta(t)),
    ),
    # log-SNR 2 log((1 - t) / t): the signal-to-noise ratio of the straight path, at unit variance
    "FromLogSNR": Law(
        p.FromLogSNR(lambda t: 2 * (torch.log1p(-t) - t.log())),
        lambda t: -t / ((1 - t) * ((1 - t) ** 2 + t**2)),
        lambda t: 2 * t / ((1 - t) * ((1 - t) ** 2 + t**2)),
        lambda t: (1 - t) / torch.sqrt((1 - t) ** 2 + t**2),
        lambda t: t**2 / ((1 - t) ** 2 + t**2),
    ),
    "FromLogSNR, linear": Law(  # Kingma et al. 2021: noise at t = 0 too
        p.FromLogSNR(lambda t: 10 - 20 * t),
        lambda t: -10 * torch.sigmoid(20 * t - 10),
        lambda t: 20 * torch.sigmoid(20 * t - 10),
        lambda t: torch.sigmoid(10 - 20 * t).sqrt(),
        lambda t: torch.sigmoid(20 * t - 10),
    ),
}


def mixture(d: int = 2) -> GaussianMixture:
    """Two or three separated components of unequal widths and weights, with mean 0; float64."""
    means = torch.tensor([[-2.0, 0.5], [1.5, -1.5], [1.0, 1.7]], dtype=torch.float64)[:, :d]
    stds = torch.tensor([[0.4, 0.8], [0.6, 0.3], [0.5, 0.5]], dtype=torch.float64)[:, :d]
    weights = torch.tensor([0.3, 0.4, 0.3], dtype=torch.float64)
    return GaussianMixture(means - (weights[:, None] * means).sum(0), stds, weights)


@dataclass(frozen=True)
class NormalPosterior:
    """The exact ``x_0 | x_t`` for ``x_0 ~ N(mean, var)`` in every coordinate and any event
    shape."""

    sde: LinearSDE
    mean: float = 0.0
    var: float = 1.0

    def __call__(self, x: Tensor, t: Tensor | float) -> Gaussian:
        a, s, scale = (per_sample(v, x) for v in self.sde.polar(t))
        total = a**2 * self.var + s**2
        mean = (s**2 * self.mean + a * self.var * scale * x) / total
        return Gaussian(mean, (self.var * s**2 / total).sqrt().to(x.dtype).expand_as(x))


def slope(errors: list[float], sizes: list[int]) -> float:
    """The order seen between the two finest resolutions."""
    return math.log(errors[-2] / errors[-1]) / math.log(sizes[-1] / sizes[-2])


class Slope(NamedTuple):
    """An order of convergence, and its standard error."""

    slope: float
    stderr: float


def fitted_slope(errors: Tensor, steps: Sequence[float]) -> Slope:
    """The order by least squares in the logarithms of the mean errors, ``(steps, paths)``.

    Each path has an influence on every mean; its standard deviation gives the error of the slope.
    """
    x, means = torch.tensor(steps, dtype=torch.float64).log(), errors.mean(1)
    weights = (x.mean() - x) / (x - x.mean()).square().sum()
    influence = weights @ (errors / means[:, None])
    return Slope(float(weights @ means.log()), float(influence.std()) / math.sqrt(errors.shape[1]))


def relative_error(a: Tensor, b: Tensor) -> float:
    """Largest ``|a - b| / max(|a|, |b|)``; 0 where both are 0."""
    scale = torch.maximum(a.abs(), b.abs())
    return float(torch.where(scale > 0, (a - b).abs() / scale, scale).max())
