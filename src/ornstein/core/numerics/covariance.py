"""Covariances from few points: weighted, and shrunk towards their diagonal so that they stay
regular."""

__all__ = ["shrunk_covariance", "weighted_covariance"]

import torch
from torch import Tensor


def weighted_covariance(centred: Tensor, weights: Tensor) -> Tensor:
    """``sum_i w_i y_i y_i'``, ``(d, d)``, of points ``(n, d)`` whose mean was taken off already, with
    weights ``(n,)`` that add up to 1."""
    return (centred * weights[:, None]).mT @ centred


def shrunk_covariance(cov: Tensor, count: float) -> Tensor:
    """Shrink the off-diagonal entries by ``n / (n + d)``, where n points of dimension d made the
    covariance.

    With n much larger than d nothing changes; with n below d the result is still regular, if every
    coordinate varies.
    """
    d = cov.shape[-1]
    eye = torch.eye(d, dtype=cov.dtype, device=cov.device)
    return cov * (eye + (1 - eye) * count / (count + d))
