"""A Gaussian with a full covariance: where exploration starts, and the affine map that whitens."""

__all__ = ["Normal"]

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Normal:
    """``N(mean, factor factor^T)``: the start law, and the affine map ``x = mean + factor z`` that
    whitens."""

    mean: Float[Tensor, " d"]
    factor: Float[Tensor, "d d"]

    @classmethod
    def fit(cls, x: Float[Tensor, "n d"]) -> "Normal":
        """The Gaussian with the moments of ``x``; a ridge of 1e-6 of the mean variance keeps it
        proper."""
        mean, d = x.mean(0), x.shape[1]
        cov = torch.cov(x.mT).reshape(d, d)
        ridge = 1e-6 * cov.diagonal().mean().clamp(min=1e-30)
        return cls(mean, torch.linalg.cholesky(cov + ridge * torch.eye(d, dtype=x.dtype)))

    def map(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """``mean + factor z``."""
        return self.mean + z @ self.factor.mT

    def whiten(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """``factor^-1 (x - mean)``, the inverse of `map`; the factor is lower triangular."""
        return torch.linalg.solve_triangular(self.factor, (x - self.mean).mT, upper=False).mT

    @property
    def log_det(self) -> Tensor:
        """``log |det factor|``."""
        return self.factor.diagonal().log().sum()

    def log_prob(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The log-density in nats."""
        return (
            -self.whiten(x).square().sum(1) / 2
            - self.log_det
            - x.shape[1] / 2 * math.log(2 * math.pi)
        )
