"""Covariance matrices estimated from weighted points, and shrunk so that they stay regular.

Adaptive samplers fit Gaussian proposals with them, often to fewer points than dimensions.
"""

__all__ = ["covariance_factor", "shrunk_covariance", "weighted_covariance"]

import torch
from torch import Tensor


def weighted_covariance(centred: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted covariance ``sum_i w_i y_i y_i'`` of centred points, ``(d, d)``.

    Args:
        centred: ``(n, d)``, points minus their weighted mean.
        weights: ``(n,)``, adding up to 1.
    """
    return (centred * weights[:, None]).mT @ centred


def covariance_factor(cov: Tensor) -> Tensor:
    """Return a Cholesky factor of a covariance, or of its diagonal where that fails.

    A covariance whose entries overflow, or whose scales differ by more than its digits, has no
    factor in floating point; standard deviations then replace it.

    Args:
        cov: ``(d, d)``, symmetric.
    """
    factor, failed = torch.linalg.cholesky_ex(cov)
    if int(failed) == 0 and bool(factor.isfinite().all()):
        return factor
    largest = torch.finfo(cov.dtype).max ** 0.5
    variance = cov.diagonal().nan_to_num(largest, largest)
    return torch.diag(variance.clamp(1 / largest, largest).sqrt())


def shrunk_covariance(cov: Tensor, count: float | Tensor, diagonal: Tensor | None = None) -> Tensor:
    """Shrink a covariance towards a diagonal matrix by the factor ``n / (n + d)``.

    With n much larger than d nothing changes; with n below d the result is still regular, if every
    coordinate varies.

    Args:
        cov: ``(d, d)``, the covariance of n points of dimension d.
        count: n, or their effective number.
        diagonal: ``(d,)``, the variances that it is shrunk towards; None: those of ``cov``.
    """
    d = cov.shape[-1]
    if diagonal is not None:
        return cov * (count / (count + d)) + torch.diag(diagonal * (d / (count + d)))
    eye = torch.eye(d, dtype=cov.dtype, device=cov.device)
    return cov * (eye + (1 - eye) * count / (count + d))
