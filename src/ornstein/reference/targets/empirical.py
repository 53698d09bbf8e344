"""The empirical measure of a data set and its exact denoiser, what unlimited training would reach.

A network of unlimited capacity would learn this denoiser. ``rho = 1/n sum_i delta(x_i)``; with
noise it is the mixture ``p_t = 1/n sum_i N(alpha_t x_i, sigma_t^2)`` of its kernels, so the
posterior is a softmax over the data. In polar coordinates ``y = c x_t = a x_0 + s z``:

    P(i | y) = softmax_i( -|y - a x_i|^2 / (2 s^2) ),                                            (1)
    E[x_0 | y] = sum_i P(i | y) x_i,      Var = sum_i P(i | y) (x_i - E[x_0 | y])^2.             (2)

As s goes to 0, (1) tends to the nearest data point, which is its value at t = 0. Sampling with it
returns the data: it is the memorising optimum of denoising score matching (Vincent 2011; Karras et
al. 2022, appendix B.3).
"""

__all__ = ["Empirical", "EmpiricalPosterior"]

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import NoReturn

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.gaussian import LOG_2PI, Gaussian
from ornstein.core.processes.linear import LinearSDE, Time
from ornstein.errors import DataError, OrnsteinError
from ornstein.reference.common import polar, root, source
from ornstein.reference.targets.base import ExactPosterior

# Numbers of the data set that are compared with every sample at once; fixed, so that sums have one
# order.
_CHUNK = 1 << 16
_ROWS = 0  # key of the random numbers that choose rows


@dataclass(frozen=True, eq=False)
class Empirical:
    """The empirical measure ``1/n sum_i delta(x_i)`` of data of any event shape.

    Args:
        data: ``(n, *event)``, floating point, finite.

    Raises:
        DataError: if the data are empty, not floating point, or have NaN or infinite entries.

    Example:
        >>> orn.targets.Empirical(torch.eye(3)).sample(5).shape
        torch.Size([5, 3])
    """

    data: Float[Tensor, "n *event"]

    def __post_init__(self) -> None:
        if self.data.ndim < 2 or not self.data.numel() or not self.data.is_floating_point():
            raise DataError(
                "an empirical measure needs floating-point data (n, *event) with n >= 1, got "
                f"{self.data.dtype} of shape {tuple(self.data.shape)}: convert with .float(); "
                "numbers need a last dimension of 1"
            )
        if not bool(self.data.isfinite().all()):
            bad = int((~self.data.isfinite()).sum())
            raise DataError(f"the data have {bad} NaN or infinite entries: drop these rows")

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one data point."""
        return tuple(self.data.shape[1:])

    @property
    def dim(self) -> int:
        """The number of coordinates of one data point."""
        return prod(self.event_shape)

    @property
    def variance(self) -> Tensor:
        """The variance of each coordinate over the data, ``(*event)``."""
        return self.data.var(0, correction=0)

    def log_prob(self, x: Tensor) -> NoReturn:
        """Raise `OrnsteinError`, since an empirical measure has no density."""
        raise OrnsteinError(
            "an empirical measure has no density: use .posterior(sde).log_prob(x, t) at a time"
            " t > 0"
        )

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n *event"]:
        """Draw n rows with replacement; sample i depends on the seed and on i only."""
        u = source(seed, _ROWS).uniform((n,), torch.float64)
        index = (u * len(self.data)).long().clamp(max=len(self.data) - 1)
        return self.data[index.to(self.data.device)]

    def posterior(self, sde: LinearSDE) -> "EmpiricalPosterior":
        """The exact law of x_0 given x_t, the minimiser of the denoising loss on these data.

        Args:
            sde: the process that adds the noise.
        """
        return EmpiricalPosterior(self, sde)


def _sum(terms: Iterable[Tensor]) -> Tensor:
    """The sum of tensors, added from left to right."""
    return reduce(torch.add, terms)


@dataclass(frozen=True, eq=False)
class EmpiricalPosterior(ExactPosterior):
    """The exact law of x_0 given x_t for an empirical measure: its mean and standard deviation.

    Each call costs ``3 b n d`` operations.

    Args:
        target: the law of x_0.
        sde: the process that adds the noise.

    Example:
        >>> posterior = orn.targets.Empirical(torch.eye(3)).posterior(orn.VP())
        >>> posterior(torch.zeros(5, 3), 0.5).mean.shape
        torch.Size([5, 3])
    """

    target: Empirical

    def __call__(self, x: Float[Tensor, "b *event"], t: Time) -> Gaussian:
        distance2, s2, _ = self._distances(x, t)
        excess = distance2 - distance2.amin(1, keepdim=True)
        s2 = s2.clamp_min(torch.finfo(x.dtype).tiny)  # at s = 0, the nearest
        p = (-excess / (2 * s2)).softmax(1)  # (1)
        pieces = self._pieces(x)
        weighted = list(zip(pieces, p[..., None].split(len(pieces[0]), 1), strict=True))
        mean = _sum((weight * piece).sum(1) for piece, weight in weighted)
        var = _sum((weight * (piece - mean[:, None]).square()).sum(1) for piece, weight in weighted)
        return Gaussian(mean.reshape(x.shape), root(var).reshape(x.shape))  # (2)

    def log_prob(self, x: Float[Tensor, "b *event"], t: Time) -> Float[Tensor, " b"]:
        """The log-density ``log 1/n sum_i N(x; alpha_t x_i, sigma_t^2)``, ``+inf`` if pinned.

        It is in nats, ``(b,)``.

        Raises:
            OrnsteinError: where there is no noise, at t = 0.
        """
        distance2, s2, jacobian = self._distances(x, t)
        if not bool((s2 > 0).all()):
            raise OrnsteinError(
                f"without noise (t={t}) an empirical measure has no density: ask at a time t > 0"
            )
        kernels = (-distance2 / (2 * s2)).logsumexp(1) - math.log(len(self.target.data))
        width = (s2.log() + LOG_2PI).reshape(jacobian.shape) / 2
        return kernels + self.target.dim * (jacobian - width).to(x)

    def _distances(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """The squared distances ``|y - a x_i|^2``, ``(b, n)``, with ``s^2`` and ``log c``."""
        if tuple(x.shape[1:]) != self.event_shape:
            raise OrnsteinError(
                f"the event shape is {self.event_shape}: pass x as (b, *event), got"
                f" {tuple(x.shape)}"
            )
        a, s2, y, jacobian = polar(self.sde, t, x.flatten(1)[:, None])
        distances = [(y - a * piece).square().sum(-1) for piece in self._pieces(x)]
        return torch.cat(distances, 1), s2.squeeze(-1) if s2.ndim else s2, jacobian

    def _pieces(self, x: Tensor) -> tuple[Tensor, ...]:
        """The data in pieces ``(m, d)``, the size of which depends on d only."""
        return self.target.data.to(x).flatten(1).split(max(1, _CHUNK // self.target.dim))
