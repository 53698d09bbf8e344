"""Gaussians with a full covariance matrix: start laws of exploration, and maps that whiten."""

__all__ = ["Normal"]

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Normal:
    """The law ``N(mean, factor factor^T)`` and the affine map ``x = mean + factor z`` of its draws.

    Args:
        mean: ``(d,)``.
        factor: ``(d, d)``, lower triangular with a positive diagonal: the Cholesky factor of the
            covariance.
    """

    mean: Float[Tensor, " d"]
    factor: Float[Tensor, "d d"]

    @classmethod
    def fit(cls, x: Float[Tensor, "n d"]) -> "Normal":
        """Return the Gaussian with the mean and the covariance of points ``(n, d)``.

        A ridge of 1e-6 of the mean variance makes the covariance regular.
        """
        mean = x.mean(0)
        d = x.shape[1]
        cov = torch.cov(x.mT).reshape(d, d)
        ridge = 1e-6 * cov.diagonal().mean().clamp(min=1e-30)
        return cls(mean, torch.linalg.cholesky(cov + ridge * torch.eye(d, dtype=x.dtype)))

    def map(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return ``mean + factor z``, which maps standard normal numbers to draws."""
        return self.mean + z @ self.factor.mT

    def whiten(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return ``factor^-1 (x - mean)``, the inverse of `map`."""
        return torch.linalg.solve_triangular(self.factor, (x - self.mean).mT, upper=False).mT

    @property
    def log_det(self) -> Tensor:
        """The log-determinant ``log |det factor|`` of the affine map."""
        return self.factor.diagonal().log().sum()

    def log_prob(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Return the log-density at points ``(n, d)``, in nats."""
        return (
            -self.whiten(x).square().sum(1) / 2
            - self.log_det
            - x.shape[1] / 2 * math.log(2 * math.pi)
        )
