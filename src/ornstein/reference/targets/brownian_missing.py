"""Brownian motion observed with noise, with its middle third missing: a posterior in d = 32.

A standard test of samplers on time series, exact because 30 of the dimensions integrate out. Scales
``s_i`` of the steps and ``s_o`` of the noise, both ``LogNormal(0, 2)``; ``x_t ~ N(x_{t-1}, s_i^2)``
for t = 1..30, from ``x_0 = 0``; ``y_t ~ N(x_t, s_o^2)`` at the 20 times O. The covariance of x is
``s_i^2 K``, ``K_st = min(s, t)``. With the eigenvectors of ``K_OO = Q diag(lambda) Q^T``, ``c = Q^T
y``, ``s_i = e^a`` and ``s_o = e^{a + l}``,

    log p(y | a, l) = -1/2 sum_k [ log(lambda_k + e^{2l}) + c_k^2 e^{-2a} / (lambda_k + e^{2l}) ]
                      - 20 a - 10 log(2 pi),                                                     (1)

which times ``N(a; 0, 2^2) N(a + l; 0, 2^2)`` leaves one integral over a for each l, and one over l.
Given both scales x is Gaussian, and a draw of it is a draw ``(x*, y*)`` from the prior moved onto
the data (Matheron's rule),

    x = x* + K_.O Q diag(1 / (lambda + e^{2l})) Q^T (y - y*).                                    (2)

The model and its data are those of the Inference Gym (Sountsov et al. 2020),
`brownian_motion_missing_middle_observations`.
"""

__all__ = ["BrownianMissing"]

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.gaussian import LOG_2PI
from ornstein.core.numerics.tables import quantile
from ornstein.core.numerics.tabulated_density import Line
from ornstein.reference.common import require_batch, source

_DOUBLE = torch.float64
_STD = 2.0  # prior standard deviation of the log of each scale
_BLOCK = 4096  # ratios that are tabulated at once
_RATIO, _SCALE, _STEPS, _ERRORS = 0, 1, 2, 3  # keys of the random numbers of exact samples
_RATIO_END, _RATIO_NODES = 24.0, 4097  # table of the log ratio l of the scales


@dataclass(frozen=True)
class BrownianMissing:
    """The posterior of a noisy Brownian motion in ``z = (log s_i, log s_o, x_1, ..., x_30)``.

    The dimension is 32. ``log rho(z)`` is the log of prior times likelihood, both normalised, with
    the Jacobians of the two logs; so Z is the marginal likelihood of the data. Sountsov et al. 2020
    (Inference Gym).

    Example:
        >>> target = orn.targets.BrownianMissing()
        >>> target.log_prob(torch.zeros(5, 32)).shape
        torch.Size([5])
    """

    y: ClassVar[tuple[float, ...]] = (
        0.21592641,
        0.118771404,
        -0.07945447,
        0.037677474,
        -0.27885845,
        -0.1484156,
        -0.3250906,
        -0.22957903,
        -0.44110894,
        -0.09830782,
        -0.8786016,
        -0.83736074,
        -0.7384849,
        -0.8939254,
        -0.7774566,
        -0.70238715,
        -0.87771565,
        -0.51853573,
        -0.6948214,
        -0.6202789,
    )
    times: ClassVar[tuple[int, ...]] = (*range(1, 11), *range(21, 31))
    names: ClassVar[tuple[str, ...]] = ("s_i", "s_o", *(f"x[{t}]" for t in range(1, 31)))
    dim: ClassVar[int] = 32

    def log_prob(self, z: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """The unnormalised log-density at points ``(b, d)``, in nats."""
        require_batch(z, self.dim, "BrownianMissing")
        scales, x = z[:, :2], z[:, 2:]
        inner, outer = (-scales).exp().unbind(1)
        steps = torch.cat([x[:, :1], x.diff(dim=1)], 1) * inner[:, None]
        observed = torch.cat([x[:, :10], x[:, 20:]], 1)
        resid = (torch.tensor(self.y, dtype=z.dtype, device=z.device) - observed) * outer[:, None]
        squares = scales.square().sum(1) / _STD**2 + steps.square().sum(1) + resid.square().sum(1)
        return -squares / 2 - 30 * z[:, 0] - 20 * z[:, 1] - 26 * LOG_2PI - 2 * math.log(_STD)

    def parameters(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """The parameters ``(s_i, s_o, x_1..30)`` of points z, in the order of `names`."""
        require_batch(z, self.dim, "BrownianMissing")
        return torch.cat([z[:, :2].exp(), z[:, 2:]], 1)

    @cached_property
    def log_z(self) -> float:
        """The log marginal likelihood of the data, by quadrature over both scales."""
        return self._ratio.log_z

    def sample(
        self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n d"]:
        """Draw n exact samples z ``(n, 32)``; sample i depends on the seed and on i only.

        l, then a, by their inverse distribution functions, then x by (2).
        """
        ratio = self._ratio.quantile(source(seed, _RATIO).uniform((n,), _DOUBLE))
        a = self._scale_given_ratio(ratio, source(seed, _SCALE).uniform((n,), _DOUBLE))
        steps = source(seed, _STEPS).normal((n, 30), _DOUBLE)
        errors = source(seed, _ERRORS).normal((n, 20), _DOUBLE)
        values, vectors = self._eigen
        scale, var = a.exp()[:, None], (2 * ratio).exp()[:, None]
        free = scale * steps.cumsum(1)
        prior_y = free[:, self._observed] + scale * var.sqrt() * errors
        gap = torch.tensor(self.y, dtype=_DOUBLE) - prior_y
        times = torch.arange(1, 31, dtype=_DOUBLE)
        cross = torch.minimum(times[:, None], times[self._observed])
        x = free + ((gap @ vectors) / (values + var)) @ (cross @ vectors).mT  # (2)
        return torch.cat([a[:, None], (a + ratio)[:, None], x], 1).to(dtype)

    @property
    def _observed(self) -> Tensor:
        """The indices of the times at which the motion was observed."""
        return torch.tensor(self.times) - 1

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor]:
        """The eigenvalues and eigenvectors of the covariance at the observed times."""
        times = torch.tensor(self.times, dtype=_DOUBLE)
        values, vectors = torch.linalg.eigh(torch.minimum(times[:, None], times))
        return values, vectors

    def _log_joint(self, ratio: Tensor, a: Tensor) -> Tensor:
        """The log of (1) times the priors, ``(n, m)``, at log-ratios l ``(n,)`` and log-scales a.

        The values are ``(n, m)`` or ``(m,)``.
        """
        values, vectors = self._eigen
        c = torch.tensor(self.y, dtype=_DOUBLE) @ vectors
        total = values + (2 * ratio).exp()[:, None]
        squares, logs = (c.square() / total).sum(1, keepdim=True), total.log().sum(1, keepdim=True)
        likelihood = -(logs + squares * (-2 * a).exp()) / 2 - 20 * a - 10 * LOG_2PI  # (1)
        prior = (
            -(a.square() + (a + ratio[:, None]).square()) / (2 * _STD**2)
            - LOG_2PI
            - 2 * math.log(_STD)
        )
        return likelihood + prior

    @cached_property
    def _ratio(self) -> Line:
        """The tabulated posterior of the log-ratio l of the scales.

        To the left it falls like ``exp(-e^{-2a})``, to the right like ``e^{-20 a}``.
        """
        a = torch.linspace(-14.0, 10.0, 1201, dtype=_DOUBLE)

        def log_density(ratio: Tensor) -> Tensor:
            parts = [self._log_joint(block, a).logsumexp(1) for block in ratio.split(_BLOCK)]
            return torch.cat(parts) + math.log(float(a[1] - a[0]))

        return Line(log_density, -_RATIO_END, _RATIO_END, _RATIO_NODES)

    def _scale_given_ratio(self, ratio: Tensor, u: Tensor) -> Tensor:
        """The quantiles of ``a | l``, by a table for each sample around the mode of the likelihood.

        The mode is ``e^{2a} = sum_k c_k^2 / (lambda_k + e^{2l}) / 20``.
        """
        values, vectors = self._eigen
        squares = (
            (torch.tensor(self.y, dtype=_DOUBLE) @ vectors).square()
            / (values + (2 * ratio).exp()[:, None])
        ).sum(1)
        table = torch.linspace(-2.0, 4.0, 401, dtype=_DOUBLE)
        modes = (squares / 20).log() / 2
        offsets = []
        for block, mode, level in zip(*(v.split(_BLOCK) for v in (ratio, modes, u)), strict=True):
            mass = self._log_joint(block, mode[:, None] + table).softmax(1)
            offsets.append(quantile(table, mass, level[:, None])[:, 0])
        return modes + torch.cat(offsets)
