"""A log-Gaussian Cox process: counts in the cells of a grid whose log-rates are a Gaussian field.

A standard test of samplers in high dimension. On a grid of ``m x m`` cells on the unit square with
counts ``n_i`` and distances ``dist_ij`` between cells in units of cells, with z standard normal,
the field is

    f = mu + L z,    L L^T = K,    K_ij = v exp(-33 dist_ij / m),    mu = log N - v / 2,         (1)

with ``v = 1.91`` and N the number of points; the rate per cell is ``e^{f_i} / m^2``, and

    log rho(z) = log N(z; 0, I) + sum_i [ n_i f_i - e^{f_i} / m^2 ],                             (2)

the Poisson likelihood without the factor ``prod_i m^{-2 n_i} / n_i!``. Moller, Syversveen and
Waagepetersen 1998; the constants are those of Christensen, Roberts and Rosenthal 2005. The data
usual in benchmarks are 126 Finnish pines (``finpines`` of the R package spatstat.data, which is not
part of this one), for which ``log Z = 501.8 +- 0.1``; copies with a duplicated row, 127 points,
have another.
"""

__all__ = ["CoxProcess"]

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.gaussian import LOG_2PI
from ornstein.errors import OrnsteinError
from ornstein.reference.common import require_batch

_VARIANCE = 1.91  # v, the variance of the log-rate
_DECAY = 33.0  # decay rate of the correlation, per side of the square


@dataclass(frozen=True)
class CoxProcess:
    """The posterior of the whitened log-rate field of a point pattern, on 40 x 40 cells, d = 1600.

    K is factorised once, in float64; then a value is one matrix product and a gradient one more, in
    the dtype of z. In float32 a value is good to about 1e-3 nats.

    Args:
        points: in the unit square, ``(m, 2)``.
        log_z: the log of the normaliser in nats, where it is known.
        log_z_stderr: its standard error.

    Example:
        >>> process = orn.targets.CoxProcess(torch.rand(126, 2))
        >>> process.log_prob(torch.zeros(5, 1600)).shape
        torch.Size([5])
    """

    points: Float[Tensor, "m 2"]
    log_z: float = math.nan
    log_z_stderr: float = math.nan
    cells: ClassVar[int] = 40
    dim: ClassVar[int] = 1600

    def __post_init__(self) -> None:
        if not bool(((self.points >= 0) & (self.points <= 1)).all()) or len(self.points) == 0:
            raise OrnsteinError(
                "CoxProcess: points must lie in the unit square, and be one or more: scale them"
            )

    def log_prob(self, z: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """The unnormalised log-density at points ``(b, 1600)``, -inf where a rate overflows."""
        require_batch(z, self.dim, "CoxProcess")
        f = self.field(z)
        likelihood = f @ self.counts.to(f) - f.exp().sum(1) / self.dim
        return likelihood - z.square().sum(1) / 2 - self.dim / 2 * LOG_2PI  # (2)

    def field(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """The log-rate ``f = mu + L z`` per unit area, cell by cell, rows of the grid first."""
        return self.mean + z @ self._transposed(z)

    @property
    def mean(self) -> float:
        """The prior mean mu of the log-rate, ``log N - v / 2``."""
        return math.log(float(self.counts.sum())) - _VARIANCE / 2

    @cached_property
    def counts(self) -> Float[Tensor, " d"]:
        """The number of points in each cell, ``(1600,)``, float64."""
        cell = (self.points.double() * self.cells).floor().clamp(0, self.cells - 1).long()
        return torch.bincount(cell[:, 0] * self.cells + cell[:, 1], minlength=self.dim).double()

    @cached_property
    def covariance(self) -> Float[Tensor, "d d"]:
        """The prior covariance ``K_ij = v exp(-33 dist_ij / m)`` of the log-rates, float64."""
        axis = torch.arange(self.cells, dtype=torch.float64)
        cells = torch.cartesian_prod(axis, axis)
        return _VARIANCE * (-_DECAY / self.cells * torch.cdist(cells, cells)).exp()

    @cached_property
    def _factors(self) -> dict[object, Tensor]:
        """The transposed Cholesky factors ``L^T`` so far computed, by dtype and device."""
        transposed = torch.linalg.cholesky(self.covariance).mT.contiguous()
        return {(torch.float64, torch.device("cpu")): transposed}

    def _transposed(self, like: Tensor) -> Tensor:
        """The transposed Cholesky factor ``L^T`` in the dtype and on the device of a tensor."""
        key = like.dtype, like.device
        if key not in self._factors:
            self._factors[key] = self._factors[torch.float64, torch.device("cpu")].to(like)
        return self._factors[key]
